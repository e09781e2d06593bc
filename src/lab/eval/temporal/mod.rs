//! How steady a harmonized film is, and how close to the truth: figures of sequences of frames.
//!
//! Frames are 8-bit RGB of one size with a mask each; nothing here knows where they come from. Motion is data
//! ([`flow::Flow`]): OpenCV's ([`opencv::Dis`]) for real films, an exact one in tests. [`Measuring`] takes frames as they come and
//! makes a [`Course`] for each way of harmonizing them; [`Report`] says what they come to.

pub mod correction;
mod course;
pub mod cut;
pub mod flow;
pub mod opencv;
mod report;
pub mod warp;

pub use course::{Course, Frame, Made, Measuring, Motion, mean};
pub use report::{Report, Row};
