//! How steady a harmonized film is, and how close to the truth: figures of sequences of frames.
//!
//! Frames are 8-bit RGB of one size with a mask each; nothing here knows where they come from. Motion is data
//! ([`flow::Flow`]): OpenCV's ([`opencv::Dis`]) for real films, an exact one in tests. [`Measuring`] takes frames as they come and
//! makes a [`VideoMetrics`] for each way of harmonizing them; [`Report`] says what they come to.

pub mod correction;
pub mod cut;
pub mod flow;
mod metrics;
pub mod opencv;
mod report;
pub mod warp;

pub use metrics::{Frame, Made, Measuring, Motion, VideoMetrics, mean};
pub use report::{Report, VideoRow};
