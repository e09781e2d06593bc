//! What a network was trained under, as far as a sampler has to know it.

use super::{Prediction, Schedule};
use anyhow::{Result, ensure};
use serde::Deserialize;

/// How the steps spread over the training timesteps (Lin et al. 2023, Table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Multiples of a whole stride from `steps_offset` on: never reaches the noisiest timestep.
    Leading,
    /// Both ends and evenly between.
    Linspace,
    /// Back from the noisiest timestep: never reaches timestep 0.
    Trailing,
}

/// The noise schedule and what samplers need to know of it. None: the sampler's own default, as in diffusers.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    pub schedule: Schedule,
    pub train_timesteps: usize,
    pub prediction: Prediction,
    pub spacing: Option<TimestepSpacing>,
    /// Of leading timesteps.
    pub steps_offset: usize,
    /// Whether DDIM's last step lands on x0 itself or, as Stable Diffusion's, on timestep 0.
    pub set_alpha_to_one: Option<bool>,
    /// Whether DDIM and LCM hold x0 to `clip_sample_range` either side of 0.
    pub clip_sample: Option<bool>,
    pub clip_sample_range: f64,
    /// Steps that a network for LCM was distilled on.
    pub original_inference_steps: usize,
    /// Sharpness of LCM's boundary condition.
    pub timestep_scaling: f64,
}

impl SchedulerConfig {
    /// A network that predicts noise, everything else at diffusers' defaults.
    pub fn new(schedule: Schedule, train_timesteps: usize) -> Self {
        Self {
            schedule,
            train_timesteps,
            prediction: Prediction::Epsilon,
            spacing: None,
            steps_offset: 0,
            set_alpha_to_one: None,
            clip_sample: None,
            clip_sample_range: 1.0,
            original_inference_steps: 50,
            timestep_scaling: 10.0,
        }
    }

    /// A network of this project's: it predicts x0, and its sampler starts at the last timestep.
    pub fn x0(schedule: Schedule, train_timesteps: usize) -> Self {
        Self {
            prediction: Prediction::Sample,
            spacing: Some(TimestepSpacing::Trailing),
            set_alpha_to_one: Some(true),
            clip_sample: Some(false),
            ..Self::new(schedule, train_timesteps)
        }
    }

    pub(super) fn alphas_cumprod(&self) -> Result<Vec<f64>> {
        self.schedule.alphas_cumprod(self.train_timesteps)
    }

    /// How far x0 may lie from 0, where it is held.
    pub(super) fn clip(&self, default: bool) -> Option<f64> {
        self.clip_sample.unwrap_or(default).then_some(self.clip_sample_range)
    }

    /// From noise to signal; whole numbers but for linspace.
    pub(super) fn timesteps(&self, spacing: TimestepSpacing, steps: usize) -> Result<Vec<f64>> {
        let (train, offset) = (self.train_timesteps, self.steps_offset);
        ensure!(
            (1..=train).contains(&steps),
            "{steps} sampler steps don't fit a schedule of {train} timesteps: take 1 to {train}"
        );
        match spacing {
            TimestepSpacing::Leading => {
                let stride = train / steps;
                ensure!(
                    ((steps - 1) * stride).saturating_add(offset) < train,
                    "{steps} leading sampler steps with steps_offset {offset} go beyond {train} timesteps: take fewer"
                );
                Ok((0..steps).rev().map(|i| (i * stride + offset) as f64).collect())
            }
            TimestepSpacing::Linspace => {
                ensure!(
                    steps > 1,
                    "one linspace step would see no noise at all: take 2 or more, or a sampler with trailing timesteps such as ddim"
                );
                let stride = (train - 1) as f64 / (steps - 1) as f64;
                Ok((0..steps).rev().map(|i| i as f64 * stride).collect())
            }
            TimestepSpacing::Trailing => {
                let stride = train as f64 / steps as f64;
                Ok((0..steps).map(|i| (train as f64 - i as f64 * stride).round_ties_even() - 1.0).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::scheduler_config::tests::sd;

    #[test]
    fn step_counts_that_the_schedule_has_no_room_for_are_errors() {
        let sd = sd();
        for (spacing, steps) in [
            (TimestepSpacing::Trailing, 0),
            (TimestepSpacing::Trailing, 1001),
            (TimestepSpacing::Linspace, 1),
            // Timestep 1000 would be asked for.
            (TimestepSpacing::Leading, 1000),
        ] {
            assert!(sd.timesteps(spacing, steps).is_err(), "{spacing:?} {steps}");
        }
        assert!(
            SchedulerConfig { steps_offset: usize::MAX, ..sd.clone() }.timesteps(TimestepSpacing::Leading, 5).is_err()
        );
        assert_eq!(sd.timesteps(TimestepSpacing::Trailing, 1000).unwrap()[999], 0.0);
    }
}
