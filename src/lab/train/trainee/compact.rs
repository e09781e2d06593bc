//! `compact` learns to answer noise, most of the time nothing but noise, with the change that the foreground needs.

use super::{Forward, Recipe, Trainee, foreground_loss};
use crate::harmonizers::compact::{Compact, Config};
use crate::lab::train::draw::Drawn;
use crate::nets::Path;
use anyhow::Result;
use tch::Device;

pub struct Trained {
    net: Compact,
    recipe: Recipe,
}

impl Trained {
    pub fn new(config: Config, p: &Path, recipe: Recipe, device: Device) -> Result<Self> {
        Ok(Self { net: Compact::new(p, config, device)?, recipe })
    }
}

impl Trainee for Trained {
    fn forward(&self, drawn: &mut Drawn, _stage: usize) -> Result<Forward> {
        let Config { schedule, train_timesteps, residual_scale, .. } = self.net.config;
        let (x, timesteps) = drawn.noisy_change(schedule, train_timesteps, residual_scale)?;
        let change = self.net.forward(&x, &drawn.composite, &drawn.mask, &timesteps, self.recipe.kind)?;
        let change = change.f_mul(&drawn.mask)?;
        Ok(Forward { loss: foreground_loss(&change, drawn, self.recipe.power)?, change })
    }
}
