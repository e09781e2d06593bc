//! `lite0` learns what `compact` learns, and how far off its answer is likely to be.

use super::{Lite0, Lite0Config};
use crate::harmonizers::training::{Drawn, Forward, Recipe, Trainee, foreground_loss};
use crate::nets::Path;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Weight of the loss that teaches the network to expect its own error.
const EXPECTATION: f64 = 0.02;
/// Mean squared errors below this, on 0..1, are as good as none.
const FLOOR: f64 = 1e-5;

struct Trained {
    net: Lite0,
    recipe: Recipe,
}

/// A new one on the student's parameters; it has no teacher.
pub fn new([p, _]: [&Path; 2], recipe: Recipe, device: Device) -> Result<Box<dyn Trainee>> {
    Ok(Box::new(Trained { net: Lite0::new(p, Lite0Config::default(), device)?, recipe }))
}

impl Trained {
    /// Squared difference of the logarithms of the error that there is and the one expected.
    fn surprise(log_error: &Tensor, change: &Tensor, drawn: &Drawn) -> Result<Tensor> {
        let error = drawn.fmse(&change.f_detach()?.f_sub(&drawn.change()?)?)?;
        let log = error.f_add_scalar(FLOOR)?.f_log()?;
        Ok(log_error.f_flatten(0, 1)?.f_sub(&log)?.f_square()?.f_mean(Kind::Float)?)
    }
}

impl Trainee for Trained {
    fn forward(&self, drawn: &mut Drawn, _stage: usize) -> Result<Forward> {
        let Lite0Config { schedule, train_timesteps, residual_scale, .. } = self.net.config;
        let (x, timesteps) = drawn.noisy_change(schedule, train_timesteps, residual_scale)?;
        let scene = self.net.look(&drawn.composite, &drawn.mask, self.recipe.kind)?;
        let answer = self.net.answer(&scene, &x, &timesteps, self.recipe.kind)?;
        let change = answer.change.f_mul(&drawn.mask)?;
        let surprise = Self::surprise(&answer.log_error, &change, drawn)?;
        let loss = foreground_loss(&change, drawn, self.recipe.power)?;
        Ok(Forward { loss: loss.f_add(&surprise.f_mul_scalar(EXPECTATION)?)?, change })
    }
}
