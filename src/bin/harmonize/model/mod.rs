//! `harmonize model`: what a model folder holds, and making one of what was downloaded.

mod convert;
mod info;

use anyhow::Result;
use clap::Subcommand;

/// Look into a model folder, or make one of downloaded weights
#[derive(clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  harmonize model convert DiffHarmony/checkpoints
  harmonize model info DiffHarmony/checkpoints
You should see a line for each file, then one for each part of the model. models/diffharmony/README.md goes from download to first frame."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Info(info::Args),
    Convert(convert::Args),
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Info(args) => info::run(args),
        Command::Convert(args) => convert::run(args),
    }
}
