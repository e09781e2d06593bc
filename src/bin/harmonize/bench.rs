//! `harmonize bench`: how long each part of a frame's way takes, and the whole element beside what people know.

mod element;
mod ffmpeg;
mod film;
mod live;
mod machine;
mod memory;
mod plot;
mod process;
mod ratios;
mod report;
mod rig;
mod rounds;
mod scene;
mod stages;
mod target;
mod watch;

use crate::options::{ModelArgs, progress};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use gst_video::VideoFormat;
use machine::Machine;
use ratios::Ratio;
use rounds::{BenchRow, Plan, Round};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use target::Target;

/// Measure how fast it runs on this machine
///
/// The parts of a frame's way by format and size, the whole element in a pipeline, and beside them a plain copy of the frame,
/// GStreamer's compositor and videobalance, ffmpeg's lut3d and lut3d with maskedmerge. All take turns in every round, and
/// ratios are the medians of each round's own. Whether it keeps up with a live show is what `live` tells.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  harmonize bench                                       # everything, some minutes
  harmonize bench apply proxy --size 1920x1080 --format I420,NV12
  harmonize bench --json bench.json --plot bench.png --check
  harmonize bench element --size 1920x1080 --rounds 9
  harmonize bench live --minutes 10 --beside 2
You should see a table of milliseconds a frame, the ratios, and under them each target that was measured, with what it came to.

Stages are timed as their caller waits for them, `apply` on the ellipse and `apply full` on a mask that is all foreground.
Frames come as in a pipeline: each is copied into one of four buffers that take turns, three frames before its own turn, so
none is warmer in the caches than a decoder's would be. Pipelines read frames that are written into recycled buffers
beside them, and their time is the mean between two frames at the sink: `element` infers each frame's own transfer, `element,
no inference` infers once, `compositor` blends two layers with the mask as alpha. lut3d is 33 cubed and tetrahedral; Y'CbCr goes to
RGB and back for it.

Other work on the machine spoils figures: it is looked for first, and in every turn; a turn beside it is taken again."
)]
pub struct Args {
    #[command(subcommand)]
    long: Option<Long>,

    /// What to measure; everything without it
    #[arg(value_enum)]
    stages: Vec<Stage>,

    /// Sizes of the frames
    #[arg(
        long,
        value_name = "WIDTHxHEIGHT,...",
        default_value = "1280x720,1920x1080,3840x2160",
        value_delimiter = ','
    )]
    #[arg(value_parser = rig::size)]
    size: Vec<[u32; 2]>,

    /// Formats of the frames, by GStreamer's names [default: one of each kind for the stages, I420 and RGBA for the pipelines]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = format)]
    format: Vec<VideoFormat>,

    /// Share of the picture that is foreground, an ellipse
    #[arg(long, value_name = "PERCENT", default_value_t = FOREGROUND, value_parser = rig::percent)]
    foreground: f64,

    /// Frames measured a turn, after an eighth as many to warm up; fewer where they'd take more than half a second
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u32).range(2..))]
    frames: u32,

    /// Rounds in which all that is measured takes turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Threads for the rows of a frame, ours, compositor's and ffmpeg's alike
    #[arg(long, value_name = "N", default_value_t = THREADS, value_parser = clap::value_parser!(u32).range(1..=8))]
    threads: u32,

    /// Measure although other work keeps the machine busy
    #[arg(long)]
    busy: bool,

    /// Also write the figures as JSON, every round's
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Also draw them as PNG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// End with an error if a target is missed
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    model: ModelArgs,
}

/// Measurements of a pipeline that runs for minutes.
#[derive(clap::Subcommand)]
enum Long {
    Live(live::Args),
    Memory(memory::Args),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Averaging composite and mask down to the proxy
    Proxy,
    /// Inference of one transfer on one thread, its fit included
    Model,
    /// Fitting the transfer to a harmonized proxy
    Fit,
    /// Applying the transfer to the frame
    Apply,
    /// The whole element in a pipeline, beside others
    Element,
}

/// What the targets are for: in percent, and threads.
const FOREGROUND: f64 = 30.0;
const THREADS: u32 = 2;

/// One of each kind: planar and semi-planar Y'CbCr, more bits, with alpha, RGB, more bits, grey.
const FORMATS: [VideoFormat; 7] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::P01010le,
    VideoFormat::Ayuv,
    VideoFormat::Rgba,
    VideoFormat::Rgba64Le,
    VideoFormat::Gray8,
];

fn format(text: &str) -> Result<VideoFormat> {
    let format = rig::format(text)?;
    scene::frame_format(format).context("harmonize takes it only through a conversion")?;
    Ok(format)
}

impl Args {
    fn wants(&self, stage: Stage) -> bool {
        self.stages.is_empty() || self.stages.contains(&stage)
    }

    /// Whether a copy of the frame is among what is measured: wherever a frame is.
    fn copies(&self) -> bool {
        [Stage::Proxy, Stage::Apply, Stage::Element].into_iter().any(|stage| self.wants(stage))
    }

    fn formats(&self) -> Vec<VideoFormat> {
        if self.format.is_empty() { FORMATS.to_vec() } else { self.format.clone() }
    }

    fn pipeline_formats(&self) -> Vec<VideoFormat> {
        if self.format.is_empty() { vec![VideoFormat::I420, VideoFormat::Rgba] } else { self.format.clone() }
    }
}

#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    #[serde(flatten)]
    machine: Machine,
    /// Processes that wanted to run over the last minute, before and after.
    load: [Option<f64>; 2],
    /// Cores that others used in the second before the measurement, and whether that was to be no reason not to begin.
    other_cores: Option<f64>,
    busy: bool,
    foreground_percent: f64,
    threads: u32,
    rounds: Vec<Round>,
    rows: Vec<BenchRow>,
    ratios: Vec<Ratio>,
    targets: Vec<Target>,
}

pub fn run(args: &Args) -> Result<()> {
    match &args.long {
        Some(Long::Live(args)) => return live::run(args),
        Some(Long::Memory(args)) => return memory::run(args),
        None => (),
    }
    gst::init()?;
    gstharmonize::plugin_register_static()?;
    let load = process::load();
    let other_cores = machine::look_around(args.busy)?;
    gstharmonize::bands::set_threads(args.threads as usize);
    let plan = Plan { rounds: args.rounds, frames: args.frames, busy: args.busy };
    let bar = progress(0, "painting");
    let (rows, rounds) = rounds::measure(&mut entrants(args)?, &plan, &bar)?;
    bar.finish_and_clear();

    let ratios = ratios::all(&rows);
    let targets = if (args.foreground, args.threads) == (FOREGROUND, THREADS) {
        ratios::targets(&rows, &ratios)
    } else {
        Vec::new()
    };
    let figures = Figures {
        model: args.model.model.clone(),
        machine: Machine::new(),
        load: [load, process::load()],
        other_cores,
        busy: args.busy,
        foreground_percent: args.foreground,
        threads: args.threads,
        rounds,
        rows,
        ratios,
        targets,
    };
    figures.print();
    if let Some(path) = &args.json {
        write_json(path, &figures)?;
    }
    if let Some(path) = &args.plot {
        plot::draw(&figures, path)?;
    }
    if args.check { target::check(&figures.targets) } else { Ok(()) }
}

/// All that takes turns, size by size.
fn entrants(args: &Args) -> Result<Vec<rounds::Entrant<'_>>> {
    let mut entrants = Vec::new();
    let stages = stages::Stages::new(args)?;
    let ffmpeg = if args.wants(Stage::Element) { ffmpeg::Ffmpeg::new()?.map(Rc::new) } else { None };
    if args.wants(Stage::Element) && ffmpeg.is_none() {
        eprintln!("harmonize: ffmpeg is not installed, so lut3d and maskedmerge are left out");
    }
    for size in &args.size {
        let painting = scene::Painting::new(*size, args.foreground / 100.0);
        stages.enter(&painting, &mut entrants)?;
        if args.wants(Stage::Element) {
            element::enter(args, &painting, ffmpeg.as_ref(), &mut entrants)?;
        }
    }
    ensure!(!entrants.is_empty(), "there is nothing to measure");
    Ok(entrants)
}

fn write_json(path: &Path, figures: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(figures)?;
    std::fs::write(path, json + "\n").with_context(|| path.display().to_string())
}

/// No code that can leave it half changed runs under a lock here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Figures {
    fn print(&self) {
        let known = |value: Option<f64>| value.map_or("unknown".into(), |value| format!("{value:.2}"));
        let [before, after] = self.load.map(known);
        println!(
            "model {}, {} threads, {}; load {before} before and {after} after",
            self.model, self.threads, self.machine
        );
        let during: Vec<_> = self.rounds.iter().map(|round| known(round.other_cores)).collect();
        let busy = if self.busy { " (--busy: measured all the same)" } else { "" };
        println!("processors in other use: {} before, by rounds {}{busy}", known(self.other_cores), during.join(" "));
        println!(
            "\n{:<22} {:<10} {:<10} {:>9} {:>9} {:>9}",
            "ms a frame", "size", "format", "median", "p95", "/ memcpy"
        );
        for row in &self.rows {
            let (part, format) = (&row.part, row.part.format.unwrap_or(""));
            let copies = self.ratios.iter().find(|ratio| ratio.of == *part && ratio.to.what == "memcpy");
            let copies = copies.map_or(String::new(), |ratio| format!("{:.2}", ratio.ratio));
            let disturbed = if row.disturbed.is_empty() { "" } else { "  beside other work" };
            println!(
                "{:<22} {:<10} {format:<10} {:>9.3} {:>9.3} {copies:>9}{disturbed}",
                part.what, part.size, row.median_ms, row.p95_ms
            );
        }
        println!("\ntimes as long, median of {} rounds", self.rounds.len());
        for ratio in self.ratios.iter().filter(|ratio| ratio.to.what != "memcpy") {
            println!("{:>8.2} {}", ratio.ratio, ratios::name(ratio));
        }
        println!();
        target::print(&self.targets);
    }
}
