//! How much of the signal is left at each training timestep.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Far beyond any model's, so that a file that lies can't ask for memory.
const MAX_TIMESTEPS: usize = 100_000;

/// Family of the betas.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Nichol & Dhariwal 2021, eq. 17, betas clipped at 0.999.
    Cosine,
    /// Ho et al. 2020.
    Linear { beta_start: f64, beta_end: f64 },
    /// Rombach et al. 2022: linear in the square root of beta.
    ScaledLinear { beta_start: f64, beta_end: f64 },
}

impl Schedule {
    /// Cumulative products alpha-bar, decreasing, one for each of `timesteps` training timesteps.
    pub fn alphas_cumprod(&self, timesteps: usize) -> Result<Vec<f64>> {
        ensure!(
            (2..=MAX_TIMESTEPS).contains(&timesteps),
            "a schedule of {timesteps} training timesteps is not supported: it must have 2 to {MAX_TIMESTEPS}"
        );
        if let Self::Linear { beta_start, beta_end } | Self::ScaledLinear { beta_start, beta_end } = *self {
            ensure!(
                0.0 < beta_start && beta_start <= beta_end && beta_end < 1.0,
                "beta_start {beta_start} and beta_end {beta_end} must lie between 0 and 1, in this order"
            );
        }
        let n = timesteps as f64;
        let beta = |i: usize| match *self {
            Self::Cosine => {
                let signal = |u: f64| ((u + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
                (1.0 - signal((i as f64 + 1.0) / n) / signal(i as f64 / n)).min(0.999)
            }
            Self::Linear { beta_start, beta_end } => beta_start + (beta_end - beta_start) * i as f64 / (n - 1.0),
            Self::ScaledLinear { beta_start, beta_end } => {
                let (a, b) = (beta_start.sqrt(), beta_end.sqrt());
                (a + (b - a) * i as f64 / (n - 1.0)).powi(2)
            }
        };
        let mut product = 1.0;
        Ok((0..timesteps)
            .map(|i| {
                product *= 1.0 - beta(i);
                product
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_linear_is_stable_diffusion_s() {
        let schedule = Schedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 };
        let alphas = schedule.alphas_cumprod(1000).unwrap();
        for (t, expected) in [(0, 0.99915), (201, 0.75214), (501, 0.27500), (801, 0.036547), (999, 0.0046601)] {
            assert!((alphas[t] / expected - 1.0).abs() < 2e-5, "alpha-bar {t} is {}, not {expected}", alphas[t]);
        }
    }

    #[test]
    fn linear_is_ddpm_s() {
        let alphas = Schedule::Linear { beta_start: 1e-4, beta_end: 0.02 }.alphas_cumprod(1000).unwrap();
        assert!((alphas[0] - 0.9999).abs() < 1e-12 && (alphas[999] / 4.0358e-5 - 1.0).abs() < 1e-3, "{}", alphas[999]);
    }

    #[test]
    fn impossible_schedules_are_errors() {
        for (beta_start, beta_end) in [(0.0, 0.02), (0.02, 1e-4), (1e-4, 1.0), (f64::NAN, 0.02)] {
            assert!(Schedule::Linear { beta_start, beta_end }.alphas_cumprod(1000).is_err(), "{beta_start} {beta_end}");
        }
        assert!(Schedule::Cosine.alphas_cumprod(1).is_err() && Schedule::Cosine.alphas_cumprod(1 << 60).is_err());
    }

    #[test]
    fn cosine_falls_from_signal_to_noise() {
        let alphas = Schedule::Cosine.alphas_cumprod(1000).unwrap();
        assert!(alphas.windows(2).all(|w| w[1] < w[0]));
        // cos^2 at the middle of the schedule, normalized by its value at 0.
        assert!((alphas[499] - 0.4938).abs() < 1e-3, "{}", alphas[499]);
        assert!(alphas[0] > 0.9999 && alphas[999] < 1e-6);
    }
}
