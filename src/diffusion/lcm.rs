//! Latent consistency models (Luo et al. 2023, Algorithm 3): every answer is a sample, noised again for the next step. For
//! networks distilled to it.

use super::prediction::weighted_sum;
use super::sampler::needed;
use super::{Prediction, Sampler, Scheduler, SchedulerConfig};
use anyhow::{Result, ensure};
use tch::Tensor;

/// Standard deviation of the data in the boundary condition's scalings.
const SIGMA_DATA: f64 = 0.5;

#[derive(Clone, Debug)]
pub struct Lcm {
    prediction: Prediction,
    clip: Option<f64>,
    timestep_scaling: f64,
    timesteps: Vec<f64>,
    /// alpha-bar of each timestep.
    alphas: Vec<f64>,
}

impl Lcm {
    /// Steps are picked evenly from the distillation's own; spacing and offset don't apply.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let (train, original) = (config.train_timesteps, config.original_inference_steps);
        ensure!(
            (1..=train).contains(&original),
            "original_inference_steps {original} doesn't fit a schedule of {train} timesteps: take 1 to {train}"
        );
        ensure!(
            (1..=original).contains(&steps),
            "{steps} sampler steps can't be picked from the {original} that the network was distilled on: take 1 to {original}"
        );
        let alphas_cumprod = config.alphas_cumprod()?;
        let indices = (0..steps).map(|i| (original - i * original / steps) * (train / original) - 1);
        let (timesteps, alphas) = indices.map(|t| (t as f64, alphas_cumprod[t])).unzip();
        let timestep_scaling = config.timestep_scaling;
        Ok(Self { prediction: config.prediction, clip: config.clip(false), timestep_scaling, timesteps, alphas })
    }

    /// Weights of x and of x0: all x at timestep 0, nearly all x0 anywhere else.
    fn skip_and_out(&self, timestep: f64) -> (f64, f64) {
        let t = timestep * self.timestep_scaling;
        let norm = t.powi(2) + SIGMA_DATA.powi(2);
        (SIGMA_DATA.powi(2) / norm, t / norm.sqrt())
    }
}

impl Sampler for Lcm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    fn needs_noise(&self, i: usize) -> bool {
        i + 1 < self.timesteps.len()
    }

    fn step(&self, i: usize, model_output: &Tensor, x: &Tensor, noise: Option<&Tensor>) -> Result<Tensor> {
        let a = self.alphas[i];
        let mut x0 = self.prediction.x0(model_output, x, a.sqrt(), (1.0 - a).sqrt())?;
        if let Some(range) = self.clip {
            x0 = x0.f_clamp(-range, range)?;
        }
        let (skip, out) = self.skip_and_out(self.timesteps[i]);
        let denoised = weighted_sum(&x0, out, x, skip)?;
        if !self.needs_noise(i) {
            return Ok(denoised);
        }
        let next = self.alphas[i + 1];
        weighted_sum(&denoised, next.sqrt(), needed(noise, Scheduler::Lcm, i)?, (1.0 - next).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::scheduler_config::tests::sd;

    #[test]
    fn timesteps_are_picked_from_the_distillation_s() {
        assert_eq!(Lcm::new(&sd(), 4).unwrap().timesteps(), [999.0, 759.0, 499.0, 259.0]);
        assert_eq!(Lcm::new(&sd(), 1).unwrap().timesteps(), [999.0]);
        assert_eq!(Lcm::new(&sd(), 50).unwrap().timesteps()[49], 19.0);
        let error = Lcm::new(&sd(), 51).unwrap_err().to_string();
        assert!(error.contains("51") && error.contains("50"), "{error}");
        assert!(Lcm::new(&sd(), 0).is_err());
        let config = SchedulerConfig { original_inference_steps: 1001, ..sd() };
        assert!(Lcm::new(&config, 4).unwrap_err().to_string().contains("original_inference_steps"));
    }

    #[test]
    fn boundary_condition_holds() {
        let lcm = Lcm::new(&sd(), 4).unwrap();
        assert_eq!(lcm.skip_and_out(0.0), (1.0, 0.0));
        let (skip, out) = lcm.skip_and_out(0.1);
        assert!((skip - 0.25 / 1.25).abs() < 1e-12 && (out - 1.0 / 1.25f64.sqrt()).abs() < 1e-12, "{skip} {out}");
    }

    #[test]
    fn last_step_weighs_x0_and_x() {
        let (x, x0) = (Tensor::from_slice(&[2f32]), Tensor::from_slice(&[1f32]));
        // A scaling at which both weigh: 999 becomes 1/2, the data's deviation.
        let config = SchedulerConfig { prediction: Prediction::Sample, timestep_scaling: 0.5 / 999.0, ..sd() };
        let last = Lcm::new(&config, 1).unwrap().step(0, &x0, &x, None).unwrap().double_value(&[0]);
        assert!((last - (0.5f64.sqrt() + 2.0 * 0.5)).abs() < 1e-6, "{last}");
    }

    #[test]
    fn clipping_is_off_unless_asked_for() {
        let (x, x0) = (Tensor::from_slice(&[0f32]), Tensor::from_slice(&[3f32]));
        let last = |clip_sample| {
            let config =
                SchedulerConfig { prediction: Prediction::Sample, clip_sample, clip_sample_range: 2.0, ..sd() };
            Lcm::new(&config, 1).unwrap().step(0, &x0, &x, None).unwrap().double_value(&[0])
        };
        assert!((last(None) - 3.0).abs() < 1e-6 && (last(Some(true)) - 2.0).abs() < 1e-6);
    }
}
