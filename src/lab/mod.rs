//! What makes and measures models, and what no plugin needs to play: training, evaluation, and reading PyTorch's files.
//!
//! `harmonize-train` (feature `trainer`) has the training alone.

#[cfg(feature = "lab")]
pub mod convert;
#[cfg(feature = "lab")]
pub mod eval;
pub mod train;
