//! The command line `harmonize`: pictures, films, figures, measurements and models, without writing a pipeline.
//!
//! Every command ends in one sentence on stderr and exit code 1 when something fails.

mod bench;
mod canvas;
mod clip;
mod eval;
mod film;
mod image;
mod join;
mod model;
mod options;
mod output;
mod packets;
mod playing;
mod range;
mod video;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Makes a composited foreground look as if it had been filmed in the scene behind it.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Start with a picture:
  harmonize image composite.jpg mask.png -o harmonized.png --sheet sheet.png
and look at sheet.png: composite, mask and result side by side. The foreground has taken on the light and
colour of its surroundings, its detail is as it was, and the background is untouched.

`harmonize COMMAND --help` explains each command with examples. In a pipeline of your own, use the GStreamer
element itself: gst-inspect-1.0 harmonize";

const TRAIN_EXAMPLES: &str = "\
Examples:
  harmonize train --photos photographs --out out/train
  harmonize eval iHarmony4 --model out/train
  harmonize train --photos photographs --from compact --learning-rate 2e-4 --steps 2000 --patience 5
  harmonize train --class gift --photos photographs --device cuda --batch 128 --steps 30000
The photographs need no masks: where they have none, ellipses and the silhouettes in masks/ are recoloured; with masks of
people, say, a model learns people. You should see a bar that counts steps and, in page.png in the folder, a loss that goes
down and eight composites of photographs that are kept out of training, mask, result and truth under each. Run the
same command again to go on after an interruption.";

#[derive(Subcommand)]
enum Command {
    Image(image::Args),
    Video(video::Args),
    Join(join::Args),
    Eval(eval::Args),
    Bench(bench::Args),
    /// Train a model on a folder of photographs: its own composites, made on the fly
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(gstharmonize::lab::train::Args),
    Model(model::Args),
}

fn main() -> ExitCode {
    let code = match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("harmonize: {err:#}");
            ExitCode::FAILURE
        }
    };
    gstharmonize::engine::settle();
    code
}

fn run(command: Command) -> Result<()> {
    output::clean_up_at_signals()?;
    match command {
        Command::Image(args) => image::run(&args),
        Command::Video(args) => video::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Train(args) => gstharmonize::lab::train::run(&args),
        Command::Model(args) => model::run(&args),
    }
}
