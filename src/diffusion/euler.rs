//! Euler's method on the probability flow (Karras et al. 2022, Algorithm 1) in sigma: x = x0 + sigma eps. Deterministic.

use super::prediction::weighted_sum;
use super::{Prediction, Sampler, SchedulerConfig, TimestepSpacing};
use anyhow::Result;
use tch::Tensor;

/// Timesteps and noise levels, which Euler shares with its ancestral form.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub timesteps: Vec<f64>,
    /// One for each timestep, interpolated between the training timesteps', then 0.
    pub sigmas: Vec<f64>,
    pub init_noise_sigma: f64,
}

impl Grid {
    /// Linspace where `config` leaves the spacing open, as in diffusers.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let spacing = config.spacing.unwrap_or(TimestepSpacing::Linspace);
        let timesteps = config.timesteps(spacing, steps)?;
        let training: Vec<f64> = config.alphas_cumprod()?.into_iter().map(|a| ((1.0 - a) / a).sqrt()).collect();
        let sigma = |t: f64| {
            let below = training[t as usize];
            let above = training[(t as usize + 1).min(training.len() - 1)];
            below + (above - below) * t.fract()
        };
        let sigmas: Vec<f64> = timesteps.iter().map(|&t| sigma(t)).chain([0.0]).collect();
        let init_noise_sigma = match spacing {
            TimestepSpacing::Linspace | TimestepSpacing::Trailing => sigmas[0],
            TimestepSpacing::Leading => sigmas[0].hypot(1.0),
        };
        Ok(Self { timesteps, sigmas, init_noise_sigma })
    }

    pub fn scale_model_input(&self, i: usize) -> f64 {
        1.0 / self.sigmas[i].hypot(1.0)
    }
}

#[derive(Clone, Debug)]
pub struct Euler {
    prediction: Prediction,
    grid: Grid,
}

impl Euler {
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        Ok(Self { prediction: config.prediction, grid: Grid::new(config, steps)? })
    }
}

impl Sampler for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.grid.init_noise_sigma
    }

    fn scale_model_input(&self, i: usize) -> f64 {
        self.grid.scale_model_input(i)
    }

    fn step(&self, i: usize, model_output: &Tensor, x: &Tensor, _noise: Option<&Tensor>) -> Result<Tensor> {
        let (sigma, next) = (self.grid.sigmas[i], self.grid.sigmas[i + 1]);
        let eps = self.prediction.eps(model_output, x, 1.0, sigma)?;
        weighted_sum(x, 1.0, &eps, next - sigma)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::diffusion::scheduler_config::tests::sd;

    pub fn close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= tolerance), "{found:?} is not {expected:?}");
    }

    #[test]
    fn grid_is_stable_diffusion_s() {
        let grid = Grid::new(&SchedulerConfig { spacing: None, ..sd() }, 5).unwrap();
        assert_eq!(grid.timesteps, [999.0, 749.25, 499.5, 249.75, 0.0]);
        // The figures of Stable Diffusion's schedule, printed to six decimals; the reference's own are f32.
        close(&grid.sigmas, &[14.614641, 4.086088, 1.615583, 0.695150, 0.029167, 0.0], 2e-5);
        assert_eq!(grid.init_noise_sigma, grid.sigmas[0]);
        close(&[grid.scale_model_input(1)], &[1.0 / (4.086088f64.powi(2) + 1.0).sqrt()], 1e-6);
    }

    #[test]
    fn leading_starts_from_signal_and_noise() {
        let grid = Grid::new(&SchedulerConfig { spacing: Some(TimestepSpacing::Leading), ..sd() }, 5).unwrap();
        assert_eq!(grid.timesteps, [801.0, 601.0, 401.0, 201.0, 1.0]);
        assert_eq!(grid.init_noise_sigma, (grid.sigmas[0].powi(2) + 1.0).sqrt());
        let grid = Grid::new(&SchedulerConfig { spacing: Some(TimestepSpacing::Trailing), ..sd() }, 5).unwrap();
        close(&[grid.timesteps[0], grid.timesteps[4], grid.init_noise_sigma], &[999.0, 199.0, 14.614641], 2e-5);
    }

    #[test]
    fn a_perfect_network_is_followed_to_x0() {
        let (x0, eps) = (Tensor::from_slice(&[0.3f32, -0.7]), Tensor::from_slice(&[1.1f32, 0.2]));
        let euler = Euler::new(&SchedulerConfig { prediction: Prediction::Sample, ..sd() }, 5).unwrap();
        let mut x = &x0 + &eps * euler.grid.sigmas[0];
        for i in 0..5 {
            x = euler.step(i, &x0, &x, None).unwrap();
            let expected = &x0 + &eps * euler.grid.sigmas[i + 1];
            assert!((&x - expected).abs().max().double_value(&[]) < 1e-5, "step {i}");
        }
    }
}
