//! `harmonize bench`: how long each part of a frame's way takes, and the whole element beside what people know.

mod element;
mod film;
mod live;
mod memory;
mod process;
mod report;
mod rig;
mod scene;
mod stages;
mod watch;

use crate::options::ModelArgs;
use anyhow::{Context, Result};
use clap::ValueEnum;
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Measure how fast it runs on this machine
///
/// Frames of 1280x720 and 1920x1080 as I420 and RGBA, with a soft-edged ellipse of 30 % of the picture as foreground.
/// Whether it keeps up with a live show is what `live` tells.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  harmonize bench
  harmonize bench apply --json apply.json
  taskset -c 0,1 harmonize bench element --rounds 9
  harmonize bench live --minutes 10 --beside 2
You should see milliseconds a frame: the median and the 95th percentile of each part. `element` runs whole pipelines,
in turns: harmonize, GStreamer's compositor with two layers, and ffmpeg's lut3d (33 cubed, tetrahedral, two threads; I420
goes to RGB and back for it). The ratios at the end are the medians of each round's own. Other work on the machine spoils figures: look at the load."
)]
pub struct Args {
    #[command(subcommand)]
    long: Option<Long>,

    /// What to measure; everything without it
    #[arg(value_enum)]
    stage: Option<Stage>,

    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Frames measured a round, after an eighth as many to warm up
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u32).range(2..))]
    frames: u32,

    /// Rounds in which the pipelines of `element` take turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

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
    /// The whole element in a pipeline, beside compositor and lut3d
    Element,
}

/// Milliseconds a frame.
#[derive(Clone, Debug, Serialize)]
struct Row {
    what: &'static str,
    /// `1280x720`
    size: String,
    /// GStreamer's name; none where it makes no difference.
    format: Option<&'static str>,
    median_ms: f64,
    p95_ms: f64,
}

impl Row {
    fn new(what: &'static str, size: [usize; 2], format: Option<&'static str>, times: &[Duration]) -> Self {
        let mut ms: Vec<f64> = times.iter().map(|time| 1000.0 * time.as_secs_f64()).collect();
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| ms[((ms.len() - 1) as f64 * share).round() as usize];
        let [width, height] = size;
        Self { what, size: format!("{width}x{height}"), format, median_ms: at(0.5), p95_ms: at(0.95) }
    }
}

/// The element's time over another's in the same round, median over rounds.
#[derive(Clone, Debug, Serialize)]
struct Ratio {
    to: &'static str,
    size: String,
    format: &'static str,
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    cores: usize,
    /// Processes that wanted to run over the last minute, before and after.
    load: [Option<f64>; 2],
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
}

const SIZES: [[usize; 2]; 2] = [[1280, 720], [1920, 1080]];

pub fn run(args: &Args) -> Result<()> {
    match &args.long {
        Some(Long::Live(args)) => return live::run(args),
        Some(Long::Memory(args)) => return memory::run(args),
        None => (),
    }
    gst::init()?;
    gstharmonize::plugin_register_static()?;
    let before = process::load();
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    let wanted = |stage| args.stage.is_none_or(|only| only == stage);
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    stages::measure(args, wanted, &bar, &mut rows)?;
    if wanted(Stage::Element) {
        element::measure(args, &bar, &mut rows, &mut ratios)?;
    }
    bar.finish_and_clear();

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let figures = Figures { model: args.model.model.clone(), cores, load: [before, process::load()], rows, ratios };
    print(&figures);
    if let Some(path) = &args.json {
        write_json(path, &figures)?;
    }
    Ok(())
}

fn write_json(path: &Path, figures: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(figures)?;
    std::fs::write(path, json + "\n").with_context(|| path.display().to_string())
}

/// No code that can leave it half changed runs under a lock here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn print(figures: &Figures) {
    let [before, after] = figures.load.map(|load| load.map_or("unknown".into(), |load| format!("{load:.2}")));
    println!("model {}, {} cores, load {before} before and {after} after", figures.model, figures.cores);
    println!("{:<12} {:<10} {:<6} {:>10} {:>10}", "ms a frame", "size", "format", "median", "p95");
    for row in &figures.rows {
        let format = row.format.unwrap_or("");
        println!("{:<12} {:<10} {format:<6} {:>10.3} {:>10.3}", row.what, row.size, row.median_ms, row.p95_ms);
    }
    for Ratio { to, size, format, ratio } in &figures.ratios {
        println!("harmonize takes {ratio:.2} times as long as {to} at {size} {format}");
    }
}
