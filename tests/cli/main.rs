//! The command `harmonize`, run as its users run it.

#[path = "../support/films.rs"]
mod films;
#[allow(dead_code, reason = "one of its models does here")]
#[path = "../support/models.rs"]
mod models;
#[path = "../support/shared.rs"]
mod shared;
#[path = "../support/tools.rs"]
mod tools;
#[path = "../support/torch_file.rs"]
mod torch_file;

mod bench;
mod eval;
mod eval_video;
mod files;
mod look;
mod model;
mod reference;
mod shards;
mod usage;
mod video;
