//! Euler's method with fresh noise at every step (k-diffusion's ancestral sampler): the sampler DiffHarmony was published with.

use super::euler::Grid;
use super::prediction::weighted_sum;
use super::sampler::needed;
use super::{Prediction, Sampler, Scheduler, SchedulerConfig};
use anyhow::Result;
use tch::Tensor;

#[derive(Clone, Debug)]
pub struct EulerAncestral {
    prediction: Prediction,
    grid: Grid,
}

impl EulerAncestral {
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Ok(Self { prediction: config.prediction, grid: Grid::new(config, steps)? })
    }

    /// Noise added at step `i` and the level stepped down to before that; their squares sum to the next sigma's.
    fn up_and_down(&self, i: usize) -> (f64, f64) {
        let (sigma, next) = (self.grid.sigmas[i], self.grid.sigmas[i + 1]);
        let up = (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).sqrt();
        (up, (next.powi(2) - up.powi(2)).sqrt())
    }
}

impl Sampler for EulerAncestral {
    fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.grid.init_noise_sigma
    }

    fn scale_model_input(&self, i: usize) -> f64 {
        self.grid.scale_model_input(i)
    }

    /// Not the last, which leads to sigma 0; the original draws there as well and multiplies by 0.
    fn needs_noise(&self, i: usize) -> bool {
        self.grid.sigmas[i + 1] > 0.0
    }

    fn step(&self, i: usize, model_output: &Tensor, x: &Tensor, noise: Option<&Tensor>) -> Result<Tensor> {
        let sigma = self.grid.sigmas[i];
        let (up, down) = self.up_and_down(i);
        let eps = self.prediction.eps(model_output, x, 1.0, sigma)?;
        let x = weighted_sum(x, 1.0, &eps, down - sigma)?;
        if !self.needs_noise(i) {
            return Ok(x);
        }
        weighted_sum(&x, 1.0, needed(noise, Scheduler::EulerAncestral, i)?, up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::euler::tests::close;
    use crate::diffusion::scheduler_config::tests::sd;

    #[test]
    fn noise_up_and_down_is_stable_diffusion_s() {
        let sampler = EulerAncestral::new(&SchedulerConfig { spacing: None, ..sd() }, 5).unwrap();
        let found: Vec<f64> = (0..5).flat_map(|i| <[f64; 2]>::from(sampler.up_and_down(i))).collect();
        let expected = [3.92313, 1.14242, 1.48394, 0.63878, 0.62751, 0.29911, 0.02914, 0.00122, 0.0, 0.0];
        close(&found, &expected, 1e-5);
    }

    #[test]
    fn a_perfect_network_is_followed_at_the_next_noise_level() {
        let sampler = EulerAncestral::new(&SchedulerConfig { prediction: Prediction::Sample, ..sd() }, 5).unwrap();
        let draw = Tensor::from_slice(&[1.5f32]);
        for i in 0..5 {
            let x0 = Tensor::from_slice(&[0.25f32]);
            let x = &x0 + sampler.grid.sigmas[i] * 0.5;
            let (up, down) = sampler.up_and_down(i);
            let found = sampler.step(i, &x0, &x, Some(&draw)).unwrap().double_value(&[0]);
            close(&[found], &[0.25 + 0.5 * down + 1.5 * up], 1e-6);
        }
    }
}
