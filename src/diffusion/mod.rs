//! Noise schedules, samplers and the noise itself, after Ho et al. 2020 (DDPM), Song et al. 2021 (DDIM), Karras et al. 2022
//! (Euler in sigma) and Luo et al. 2023 (LCM).
//!
//! Nothing here holds state between calls or draws a random number: the same arguments give the same numbers on every device.

pub mod config;
pub mod ddim;
pub mod euler;
pub mod euler_ancestral;
pub mod lcm;
pub mod noise;
pub mod prediction;
pub mod sampler;
pub mod schedule;
mod scheduler_config;

pub use config::{SchedulerConfig, TimestepSpacing};
pub use ddim::Ddim;
pub use euler::Euler;
pub use euler_ancestral::EulerAncestral;
pub use lcm::Lcm;
pub use noise::{Noise, NoiseMode, Philox};
pub use prediction::Prediction;
pub use sampler::{Sampler, Scheduler};
pub use schedule::Schedule;
