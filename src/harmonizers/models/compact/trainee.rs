//! `compact` learns to answer noise, most of the time nothing but noise, with the change that the foreground needs.

use super::{Compact, CompactConfig};
use crate::harmonizers::training::{Drawn, Forward, Recipe, Trainee, foreground_loss};
use crate::nets::Path;
use anyhow::Result;
use tch::Device;

struct Trained {
    net: Compact,
    recipe: Recipe,
}

/// A new one on the student's parameters; it has no teacher.
pub fn new([p, _]: [&Path; 2], recipe: Recipe, device: Device) -> Result<Box<dyn Trainee>> {
    Ok(Box::new(Trained { net: Compact::new(p, CompactConfig::default(), device)?, recipe }))
}

impl Trainee for Trained {
    fn forward(&self, drawn: &mut Drawn, _stage: usize) -> Result<Forward> {
        let CompactConfig { schedule, train_timesteps, residual_scale, .. } = self.net.config;
        let (x, timesteps) = drawn.noisy_change(schedule, train_timesteps, residual_scale)?;
        let change = self.net.forward(&x, &drawn.composite, &drawn.mask, &timesteps, self.recipe.kind)?;
        let change = change.f_mul(&drawn.mask)?;
        Ok(Forward { loss: foreground_loss(&change, drawn, self.recipe.power)?, change })
    }
}
