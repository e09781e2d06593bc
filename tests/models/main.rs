//! Model folders: what the built-in ones promise on photographs and film, what loading takes, and that nothing else is loaded.

#[allow(dead_code, reason = "no model runs in an element here")]
#[path = "../support/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "one of its models does here")]
#[path = "../support/models.rs"]
mod models;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/shared.rs"]
mod shared;

mod corrupt;
mod fuzz;
mod look;
mod memory;
mod star;
mod steady;
mod weights;
