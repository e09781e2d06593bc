//! Noise schedules, samplers and the noise itself, after Ho et al. 2020 (DDPM) and Song et al. 2021 (DDIM).
//!
//! Nothing here holds state between calls: the same arguments give the same numbers on every device.

pub mod ddim;
pub mod noise;
pub mod schedule;

pub use ddim::{Ddim, Prediction};
pub use noise::{Noise, Philox};
pub use schedule::Schedule;
