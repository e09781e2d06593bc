//! `harmonize bench memory`: whether memory grows with the frames, many small ones as fast as they go.

use super::rig::{FilmArgs, Pace, Rig};
use super::{lock, process};
use crate::options::{ModelArgs, progress};
use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Count memory over many frames
///
/// The same pipeline as `live`, without a clock: frames go through as fast as they can, while the model works on the newest.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  harmonize bench memory
  harmonize bench memory --frames 1000000 --size 640x360
You should see the process's resident memory after 1,000 frames, at every tenth of the way, and at the end.")]
pub struct Args {
    /// Frames to play
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(i32).range(2000..))]
    frames: i32,

    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// End with an error if memory grows by more than 2 %
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    film: FilmArgs,

    #[command(flatten)]
    model: ModelArgs,
}

/// Resident memory after so many frames.
#[derive(Clone, Copy, Debug, Serialize)]
struct Mark {
    frames: u64,
    resident_kib: u64,
}

#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    transfers: u64,
    marks: Vec<Mark>,
    growth_percent: f64,
}

/// The rate by which frames are stamped; none is waited for.
const RATE: i32 = 60;

pub fn run(args: &Args) -> Result<()> {
    gst::init()?;
    gstharmonize::plugin_register_static()?;
    let rig = Rig::new(&args.film, gst::Fraction::new(RATE, 1), Pace::Fast { frames: args.frames }, &args.model)?;
    rig.harmonize.set_property_from_str("on-not-ready", "wait");
    let marks = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::new(AtomicU64::new(0));
    let (frames, noted, counted) = (args.frames as u64, marks.clone(), seen.clone());
    let pad = rig.sink.static_pad("sink").context("a sink without pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let count = counted.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 1000 || count == frames || count > 1000 && count.is_multiple_of(frames.div_ceil(10)) {
            lock(&noted).extend(process::resident().map(|resident_kib| Mark { frames: count, resident_kib }));
        }
        gst::PadProbeReturn::Ok
    });
    rig.play()?;
    let bar = progress(frames, "frames");
    while !rig.listen(Duration::from_millis(200), |_| ())? {
        bar.set_position(seen.load(Ordering::Relaxed));
    }
    bar.finish_and_clear();
    let out = seen.load(Ordering::Relaxed);
    ensure!(out == frames, "{out} of {frames} frames came out");

    let marks = lock(&marks).clone();
    let [first, .., last] = marks[..] else { bail!("the system doesn't tell how much memory is in use") };
    let growth_percent = 100.0 * (last.resident_kib as f64 / first.resident_kib as f64 - 1.0);
    let [transfers] = rig.counts(["transfers"]);
    let figures = Figures { model: args.model.model.clone(), transfers, marks, growth_percent };
    println!("model {}, {} transfers", figures.model, figures.transfers);
    println!("{:>10} {:>14}", "frames", "resident MiB");
    for Mark { frames, resident_kib } in &figures.marks {
        println!("{frames:>10} {:>14.1}", *resident_kib as f64 / 1024.0);
    }
    let met = growth_percent.abs() <= 2.0;
    println!("{} memory: {growth_percent:+.2} %, wanted within 2 %", if met { "met   " } else { "MISSED" });
    if let Some(path) = &args.json {
        super::write_json(path, &figures)?;
    }
    ensure!(met || !args.check, "memory has grown by {growth_percent:.2} %");
    Ok(())
}
