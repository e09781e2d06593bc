//! What makes and measures models: training, evaluation of pictures and films, and the conversion of PyTorch's files.

#[path = "../support/shared.rs"]
mod shared;
#[path = "../support/tools.rs"]
mod tools;
#[allow(dead_code, reason = "whole models are not saved here")]
#[path = "../support/torch_file.rs"]
mod torch_file;

mod convert;
mod eval;
mod eval_independent;
mod eval_tables;
mod eval_video;
mod reference;
mod train;
