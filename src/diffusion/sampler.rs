//! What all samplers have in common, and the choice between them.

use super::{Ddim, Euler, EulerAncestral, Lcm, SchedulerConfig};
use anyhow::{Context, Result, bail};
use std::fmt::{self, Debug, Display};
use std::str::FromStr;
use tch::Tensor;

/// From noise to a sample, in as many steps as there are timesteps:
///
/// ```text
/// x = init_noise_sigma * noise
/// for each (i, t) of timesteps: x = step(i, network(scale_model_input(i) * x, t), x, a draw where needs_noise(i))
/// ```
pub trait Sampler: Debug + Send + Sync {
    /// What the network is told, from noise to signal: training timesteps from 0 on, between two of them for Euler.
    fn timesteps(&self) -> &[f64];

    /// Standard deviation of the noise to start from.
    fn init_noise_sigma(&self) -> f64;

    /// What x is multiplied by before the network sees it at step `i`.
    fn scale_model_input(&self, _i: usize) -> f64 {
        1.0
    }

    /// Whether step `i` adds noise; where it doesn't, a draw that is given has no effect.
    fn needs_noise(&self, _i: usize) -> bool {
        false
    }

    /// From x at step `i` of the timesteps to the next: `model_output` is the network's answer in any kind, `noise` standard normal,
    /// all of one shape. Computed and returned in f32. An error where a draw is needed and not given.
    fn step(&self, i: usize, model_output: &Tensor, x: &Tensor, noise: Option<&Tensor>) -> Result<Tensor>;
}

/// The samplers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    EulerAncestral,
    Euler,
    Ddim,
    Lcm,
}

impl Scheduler {
    pub const ALL: [Self; 4] = [Self::EulerAncestral, Self::Euler, Self::Ddim, Self::Lcm];

    pub fn name(self) -> &'static str {
        match self {
            Self::EulerAncestral => "euler-ancestral",
            Self::Euler => "euler",
            Self::Ddim => "ddim",
            Self::Lcm => "lcm",
        }
    }

    /// The sampler for `steps` steps of a network trained under `config`.
    pub fn sampler(self, config: &SchedulerConfig, steps: usize) -> Result<Box<dyn Sampler>> {
        let sampler = || -> Result<Box<dyn Sampler>> {
            Ok(match self {
                Self::EulerAncestral => Box::new(EulerAncestral::new(config, steps)?),
                Self::Euler => Box::new(Euler::new(config, steps)?),
                Self::Ddim => Box::new(Ddim::new(config, steps)?),
                Self::Lcm => Box::new(Lcm::new(config, steps)?),
            })
        };
        sampler().with_context(|| format!("sampler {self}"))
    }
}

impl FromStr for Scheduler {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let Some(scheduler) = Self::ALL.into_iter().find(|scheduler| scheduler.name() == name) else {
            bail!("there is no sampler {name}: take one of {}", Self::ALL.map(Self::name).join(", "));
        };
        Ok(scheduler)
    }
}

impl Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The draw of a step that can't do without.
pub(super) fn needed(noise: Option<&Tensor>, scheduler: Scheduler, i: usize) -> Result<&Tensor> {
    noise.ok_or_else(|| anyhow::anyhow!("sampler {scheduler} needs a draw of noise at step {i} and got none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{TimestepSpacing, scheduler_config::tests::sd};

    #[test]
    fn names_lead_back_to_their_sampler() {
        for scheduler in Scheduler::ALL {
            assert_eq!(scheduler.to_string().parse::<Scheduler>().unwrap(), scheduler);
        }
        let error = "heun".parse::<Scheduler>().unwrap_err().to_string();
        assert!(error.contains("heun") && error.contains("euler-ancestral, euler, ddim, lcm"), "{error}");
    }

    #[test]
    fn a_needed_draw_that_is_missing_is_an_error_and_one_too_many_has_no_effect() {
        let (x, model_output, draw) =
            (Tensor::from_slice(&[1.0f32]), Tensor::from_slice(&[0.5f32]), Tensor::from_slice(&[9f32]));
        for scheduler in Scheduler::ALL {
            let sampler = scheduler.sampler(&sd(), 4).unwrap();
            for i in 0..4 {
                let (without, with) =
                    (sampler.step(i, &model_output, &x, None), sampler.step(i, &model_output, &x, Some(&draw)));
                if sampler.needs_noise(i) {
                    assert!(without.unwrap_err().to_string().contains(scheduler.name()), "{scheduler} {i}");
                } else {
                    assert_eq!(without.unwrap(), with.unwrap(), "{scheduler} {i}");
                }
            }
            assert_eq!(
                sampler.needs_noise(0),
                matches!(scheduler, Scheduler::EulerAncestral | Scheduler::Lcm),
                "{scheduler}"
            );
            assert!(!sampler.needs_noise(3), "{scheduler}");
        }
    }

    #[test]
    fn steps_that_a_sampler_has_no_timesteps_for_are_an_error_with_its_name() {
        for scheduler in [Scheduler::Euler, Scheduler::EulerAncestral] {
            let spaced = |spacing| SchedulerConfig { spacing, ..sd() };
            let error = format!("{:#}", scheduler.sampler(&spaced(Some(TimestepSpacing::Linspace)), 1).unwrap_err());
            assert!(error.contains(&format!("sampler {scheduler}: ")) && error.contains("take 2 or more"), "{error}");
            assert!(scheduler.sampler(&spaced(Some(TimestepSpacing::Trailing)), 1).is_ok());
            assert!(scheduler.sampler(&spaced(Some(TimestepSpacing::Linspace)), 2).is_ok());
        }
    }
}
