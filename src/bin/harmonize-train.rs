//! Training alone, for a machine that has libtorch and nothing else of what the plugin needs:
//!
//!     cargo build --release --no-default-features --features trainer --bin harmonize-train

use clap::Parser;
use gstharmonize::lab::train;
use std::process::ExitCode;

/// Trains a model on a folder of photographs, as `harmonize train` does
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    args: train::Args,
}

fn main() -> ExitCode {
    match train::run(&Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("harmonize-train: {err:#}");
            ExitCode::FAILURE
        }
    }
}
