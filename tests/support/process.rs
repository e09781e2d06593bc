//! Tests that need a process of their own: to measure its memory, or to end it.

use std::process::Command;

/// The test `name` of the module whose `module_path!()` is given, by itself in a new process.
pub fn of_its_own(module: &str, name: &str) -> Command {
    // Tests are named from the binary's root.
    let (_, module) = module.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{module}::{name}"), "--nocapture"]);
    command
}
