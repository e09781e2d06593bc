//! Targets: what was measured beside what is wanted, as a line of text and in JSON.

use anyhow::{Result, ensure};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Target {
    what: String,
    measured: String,
    wanted: String,
    met: bool,
}

impl Target {
    pub fn new(what: impl Into<String>, measured: impl Into<String>, wanted: impl Into<String>, met: bool) -> Self {
        Self { what: what.into(), measured: measured.into(), wanted: wanted.into(), met }
    }
}

pub fn print(targets: &[Target]) {
    for Target { what, measured, wanted, met } in targets {
        println!("{} {what}: {measured}, wanted {wanted}", if *met { "met   " } else { "MISSED" });
    }
}

/// An error if one is missed, or if there is none.
pub fn check(targets: &[Target]) -> Result<()> {
    ensure!(!targets.is_empty(), "nothing was measured that has a target");
    let missed = targets.iter().filter(|target| !target.met).count();
    ensure!(missed == 0, "{missed} of {} targets missed", targets.len());
    Ok(())
}
