//! What a network's answer says about x = signal * x0 + noise * eps, whatever the sampler's scale of x.
//!
//! Everything is computed in f32: a network in half precision loses nothing more in the sampler.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What the network puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The clean sample x0.
    Sample,
    /// sqrt(a) eps - sqrt(1 - a) x0 (Salimans & Ho 2022), a the signal's share of the variance.
    #[serde(rename = "v_prediction")]
    Velocity,
}

impl Prediction {
    /// The clean sample.
    pub fn x0(self, output: &Tensor, x: &Tensor, signal: f64, noise: f64) -> Result<Tensor> {
        match self {
            Self::Epsilon => weighted_sum(x, 1.0 / signal, output, -noise / signal),
            Self::Sample => Ok(output.shallow_clone()),
            Self::Velocity => {
                let norm = signal.hypot(noise);
                weighted_sum(x, signal / norm.powi(2), output, -noise / norm)
            }
        }
    }

    /// The noise, of unit variance.
    pub fn eps(self, output: &Tensor, x: &Tensor, signal: f64, noise: f64) -> Result<Tensor> {
        match self {
            Self::Epsilon => Ok(output.shallow_clone()),
            Self::Sample => weighted_sum(x, 1.0 / noise, output, -signal / noise),
            Self::Velocity => {
                let norm = signal.hypot(noise);
                weighted_sum(output, signal / norm, x, noise / norm.powi(2))
            }
        }
    }
}

/// wp p + wq q in f32.
pub(super) fn weighted_sum(p: &Tensor, wp: f64, q: &Tensor, wq: f64) -> Result<Tensor> {
    let (p, q) = (p.f_to_kind(Kind::Float)?, q.f_to_kind(Kind::Float)?);
    Ok(p.f_mul_scalar(wp)?.f_add(&q.f_mul_scalar(wq)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_answer_gives_x0_and_eps_back_on_every_scale_of_x() {
        let x0 = Tensor::from_slice(&[0.3f32, -0.7, 0.1]);
        let eps = Tensor::from_slice(&[1.1f32, 0.2, -0.4]);
        // Variance kept at 1 as in DDIM, and signal kept at 1 as in Euler.
        for (signal, noise) in [(0.8, 0.6), (1.0, 4.086)] {
            let x = &x0 * signal + &eps * noise;
            let velocity = (&eps * signal - &x0 * noise) / f64::hypot(signal, noise);
            for (prediction, output) in
                [(Prediction::Epsilon, &eps), (Prediction::Sample, &x0), (Prediction::Velocity, &velocity)]
            {
                let error = |found: Tensor, expected: &Tensor| (found - expected).abs().max().double_value(&[]);
                let found = prediction.x0(output, &x, signal, noise).unwrap();
                assert!(error(found, &x0) < 2e-6, "{prediction:?}, noise {noise}: x0");
                let found = prediction.eps(output, &x, signal, noise).unwrap();
                assert!(error(found, &eps) < 2e-6, "{prediction:?}, noise {noise}: eps");
            }
        }
    }

    #[test]
    fn half_precision_is_raised_before_it_is_summed() {
        let fine = Tensor::from_slice(&[1.0f32 + f32::EPSILON]);
        let output = Tensor::from_slice(&[0.0f32]).to_kind(Kind::BFloat16);
        let x0 = Prediction::Epsilon.x0(&output, &fine, 1.0, 1.0).unwrap();
        assert_eq!((x0.kind(), x0.double_value(&[0])), (Kind::Float, 1.0 + f64::from(f32::EPSILON)));
        let sum = weighted_sum(&output, 1.0, &output, 1.0).unwrap();
        assert_eq!(sum.kind(), Kind::Float);
    }
}
