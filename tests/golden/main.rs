//! Networks, samplers and DiffHarmony against what the reference implementation recorded, in `golden/` of the reference data.

#[path = "../support/process.rs"]
mod process;
#[path = "../support/shared.rs"]
mod shared;

mod diffharmony;
mod harmonizer;
mod nets;
mod samplers;
