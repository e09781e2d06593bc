//! DDIM (Song et al. 2021, eq. 12) with eta 0 and trailing timesteps: the start noise decides everything.

use super::Schedule;
use anyhow::{Result, ensure};
use tch::Tensor;

/// What the network puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The clean sample x0.
    Sample,
    /// sqrt(a) eps - sqrt(1 - a) x0 (Salimans & Ho 2022).
    Velocity,
}

/// A deterministic sampler over `steps` of the schedule's timesteps.
#[derive(Clone, Debug)]
pub struct Ddim {
    alphas_cumprod: Vec<f64>,
    /// alpha-bar behind the last step: 1 where the last step lands on x0, alpha-bar 0 in Stable Diffusion's configuration.
    final_alpha: f64,
    prediction: Prediction,
    timesteps: Vec<usize>,
}

impl Ddim {
    /// `set_alpha_to_one`: whether the last step lands on x0 itself.
    pub fn new(
        schedule: Schedule,
        train_timesteps: usize,
        steps: usize,
        prediction: Prediction,
        set_alpha_to_one: bool,
    ) -> Result<Self> {
        ensure!(
            (1..=train_timesteps).contains(&steps),
            "{steps} sampler steps don't fit a schedule of {train_timesteps} timesteps: take 1 to {train_timesteps}"
        );
        let alphas_cumprod = schedule.alphas_cumprod(train_timesteps)?;
        let stride = train_timesteps as f64 / steps as f64;
        let timesteps =
            (0..steps).map(|i| (train_timesteps as f64 - i as f64 * stride).round_ties_even() as usize - 1).collect();
        let final_alpha = if set_alpha_to_one { 1.0 } else { alphas_cumprod[0] };
        Ok(Self { alphas_cumprod, final_alpha, prediction, timesteps })
    }

    /// Trailing timesteps, from noise to signal: the first is the last of training.
    pub fn timesteps(&self) -> &[usize] {
        &self.timesteps
    }

    /// alpha-bar of a training timestep.
    pub fn alpha(&self, timestep: usize) -> f64 {
        self.alphas_cumprod[timestep]
    }

    /// From x_t at step `i` to the sample before it; `output` is the network's answer for x_t. Any shape.
    pub fn step(&self, i: usize, output: &Tensor, x: &Tensor) -> Result<Tensor> {
        let a = self.alphas_cumprod[self.timesteps[i]];
        let a_prev = self.timesteps.get(i + 1).map_or(self.final_alpha, |&t| self.alphas_cumprod[t]);
        let (signal, noise) = (a.sqrt(), (1.0 - a).sqrt());
        let sum = |p: &Tensor, wp: f64, q: &Tensor, wq: f64| -> Result<Tensor> {
            Ok(p.f_mul_scalar(wp)?.f_add(&q.f_mul_scalar(wq)?)?)
        };
        let (x0, eps) = match self.prediction {
            Prediction::Epsilon => (sum(x, 1.0 / signal, output, -noise / signal)?, output.shallow_clone()),
            Prediction::Sample => (output.shallow_clone(), sum(x, 1.0 / noise, output, -signal / noise)?),
            Prediction::Velocity => (sum(x, signal, output, -noise)?, sum(output, signal, x, noise)?),
        };
        sum(&x0, a_prev.sqrt(), &eps, (1.0 - a_prev).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SD: Schedule = Schedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 };

    #[test]
    fn trailing_timesteps_start_at_the_end_of_training() {
        let ddim = Ddim::new(SD, 1000, 5, Prediction::Epsilon, false).unwrap();
        assert_eq!(ddim.timesteps(), [999, 799, 599, 399, 199]);
        assert_eq!(Ddim::new(SD, 1000, 1, Prediction::Epsilon, false).unwrap().timesteps(), [999]);
        assert!(Ddim::new(SD, 1000, 0, Prediction::Epsilon, false).is_err());
        assert!(Ddim::new(SD, 1000, 1001, Prediction::Epsilon, false).is_err());
    }

    #[test]
    fn every_parameterization_recovers_the_same_step() {
        let x0 = Tensor::from_slice(&[0.3f64, -0.7, 0.1]);
        let eps = Tensor::from_slice(&[1.1f64, 0.2, -0.4]);
        let step = |prediction: Prediction| {
            let ddim = Ddim::new(Schedule::Cosine, 1000, 4, prediction, true).unwrap();
            let a = ddim.alpha(ddim.timesteps()[1]);
            let x = &x0 * a.sqrt() + &eps * (1.0 - a).sqrt();
            let output = match prediction {
                Prediction::Epsilon => eps.shallow_clone(),
                Prediction::Sample => x0.shallow_clone(),
                Prediction::Velocity => &eps * a.sqrt() - &x0 * (1.0 - a).sqrt(),
            };
            let b = ddim.alpha(499);
            let expected = &x0 * b.sqrt() + &eps * (1.0 - b).sqrt();
            (ddim.step(1, &output, &x).unwrap() - expected).abs().max().double_value(&[])
        };
        for prediction in [Prediction::Epsilon, Prediction::Sample, Prediction::Velocity] {
            assert!(step(prediction) < 1e-9, "{prediction:?}: {}", step(prediction));
        }
    }

    #[test]
    fn last_step_lands_on_x0() {
        let ddim = Ddim::new(Schedule::Cosine, 1000, 2, Prediction::Sample, true).unwrap();
        let (x, x0) = (Tensor::from_slice(&[0.5f64, 2.0]), Tensor::from_slice(&[0.25f64, -1.0]));
        let last = ddim.step(1, &x0, &x).unwrap();
        assert!((last - x0).abs().max().double_value(&[]) < 1e-12);
    }
}
