//! DDIM (Song et al. 2021, eq. 12) with eta 0: the start noise decides everything.

use super::prediction::weighted_sum;
use super::{Prediction, Sampler, SchedulerConfig, TimestepSpacing};
use anyhow::Result;
use tch::Tensor;

#[derive(Clone, Debug)]
pub struct Ddim {
    prediction: Prediction,
    clip: Option<f64>,
    timesteps: Vec<f64>,
    /// alpha-bar of each step and of where it leads.
    alphas: Vec<(f64, f64)>,
}

impl Ddim {
    /// Defaults where `config` leaves them open, as in diffusers: leading, the last step lands on x0, x0 clipped.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let alphas_cumprod = config.alphas_cumprod()?;
        let spacing = config.spacing.unwrap_or(TimestepSpacing::Leading);
        let timesteps: Vec<f64> = config.timesteps(spacing, steps)?.into_iter().map(f64::round_ties_even).collect();
        let final_alpha = if config.set_alpha_to_one.unwrap_or(true) { 1.0 } else { alphas_cumprod[0] };
        let stride = (config.train_timesteps / steps) as f64;
        let alphas = (0..steps)
            .map(|i| {
                // diffusers goes back by the stride whatever the spacing. Linspace steps are wider than that, and the
                // reference is followed; elsewhere it is the next timestep.
                let previous = match spacing {
                    TimestepSpacing::Linspace => Some(timesteps[i] - stride).filter(|t| *t >= 0.0),
                    TimestepSpacing::Leading | TimestepSpacing::Trailing => timesteps.get(i + 1).copied(),
                };
                let previous = previous.map_or(final_alpha, |t| alphas_cumprod[t as usize]);
                (alphas_cumprod[timesteps[i] as usize], previous)
            })
            .collect();
        Ok(Self { prediction: config.prediction, clip: config.clip(true), timesteps, alphas })
    }
}

impl Sampler for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    fn step(&self, i: usize, model_output: &Tensor, x: &Tensor, _noise: Option<&Tensor>) -> Result<Tensor> {
        let (a, a_prev) = self.alphas[i];
        let (signal, noise) = (a.sqrt(), (1.0 - a).sqrt());
        let mut x0 = self.prediction.x0(model_output, x, signal, noise)?;
        if let Some(range) = self.clip {
            x0 = x0.f_clamp(-range, range)?;
        }
        let eps = self.prediction.eps(model_output, x, signal, noise)?;
        weighted_sum(&x0, a_prev.sqrt(), &eps, (1.0 - a_prev).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::scheduler_config::tests::sd;

    fn ddim(spacing: TimestepSpacing, steps: usize) -> Ddim {
        Ddim::new(&SchedulerConfig { spacing: Some(spacing), ..sd() }, steps).unwrap()
    }

    #[test]
    fn timesteps_are_the_spacing_s() {
        assert_eq!(ddim(TimestepSpacing::Leading, 5).timesteps(), [801.0, 601.0, 401.0, 201.0, 1.0]);
        assert_eq!(ddim(TimestepSpacing::Trailing, 5).timesteps(), [999.0, 799.0, 599.0, 399.0, 199.0]);
        assert_eq!(ddim(TimestepSpacing::Trailing, 3).timesteps(), [999.0, 666.0, 332.0]);
        assert_eq!(ddim(TimestepSpacing::Trailing, 1).timesteps(), [999.0]);
        assert_eq!(ddim(TimestepSpacing::Linspace, 5).timesteps(), [999.0, 749.0, 500.0, 250.0, 0.0]);
        assert_eq!(Ddim::new(&SchedulerConfig { spacing: None, ..sd() }, 5).unwrap().timesteps()[0], 801.0);
    }

    #[test]
    fn steps_lead_where_the_reference_s_lead() {
        let alphas = sd().alphas_cumprod().unwrap();
        let leads_to = |ddim: Ddim| ddim.alphas.into_iter().map(|(_, previous)| previous).collect::<Vec<_>>();
        let at = |timesteps: [usize; 4]| [timesteps.map(|t| alphas[t]).as_slice(), &alphas[..1]].concat();
        assert_eq!(leads_to(ddim(TimestepSpacing::Leading, 5)), at([601, 401, 201, 1]));
        assert_eq!(leads_to(ddim(TimestepSpacing::Trailing, 5)), at([799, 599, 399, 199]));
        assert_eq!(leads_to(ddim(TimestepSpacing::Linspace, 5)), at([799, 549, 300, 50]));
    }

    #[test]
    fn last_step_lands_on_x0_where_alpha_is_set_to_one() {
        let (x, eps) = (Tensor::from_slice(&[0.5f32, 2.0]), Tensor::from_slice(&[0.25f32, -1.0]));
        let land = |set_alpha_to_one, clip_sample| {
            let ddim = Ddim::new(&SchedulerConfig { set_alpha_to_one, clip_sample, ..sd() }, 2).unwrap();
            let (a, _) = ddim.alphas[1];
            let x0 = (&x - &eps * (1.0 - a).sqrt()) / a.sqrt();
            ((ddim.step(1, &eps, &x, None).unwrap() - x0).abs().max()).double_value(&[])
        };
        assert!(land(Some(true), Some(false)) < 1e-6);
        assert!(land(None, Some(false)) < 1e-6, "diffusers' default");
        assert!(land(Some(false), Some(false)) > 1e-2);
        assert!(land(Some(true), None) > 0.5, "x0 beyond 1 is clipped by diffusers' default");
    }
}
