//! `harmonize bench live`: whether this machine carries a show, frame by frame at the clock's pace.

use super::process::{self, Busy};
use super::report::{Column, Report, Spread};
use super::rig::{FilmArgs, Pace, Rig};
use super::target;
use super::watch::{Seen, Watch};
use crate::options::{ModelArgs, progress};
use anyhow::{Context, Result, ensure};
use gst::prelude::*;
use gst_base::prelude::BaseSinkExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Play a live show and watch each frame
///
/// A moving foreground and its mask come at the clock's pace, as from two capture cards; the harmonized frames go to a sink that
/// wants each at its time, through x264 on the way if asked for.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  harmonize bench live
  harmonize bench live --minutes 10 --beside 2 --check
  harmonize bench live --rate 30 --encode --minutes 10 --json live.json
You should see a table, and under it each target with what was measured. With --beside, quiet and busy times take turns and
stand side by side. `element` is the time from a composite taken up to the frame pushed, of every frame; the part of it
without a processor is what other work on the machine took. `slack` is how long before its time a frame reaches the sink:
below 0 it is late.")]
pub struct Args {
    /// How long to play
    #[arg(long, value_name = "MINUTES", default_value = "1", value_parser = minutes)]
    minutes: Duration,

    /// Frames a second, such as 60 or 30000/1001
    #[arg(long, value_name = "RATE", default_value = "60", value_parser = rate)]
    rate: gst::Fraction,

    /// Encode the result: x264enc speed-preset=ultrafast tune=zerolatency
    #[arg(long)]
    encode: bool,

    /// Compare with times in which so many other processes are busy
    #[arg(long, value_name = "N", default_value_t = 0)]
    beside: u32,

    /// Set a property of the element, such as keyframe-interval=100000000
    #[arg(long, value_name = "PROPERTY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,

    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// End with an error if a target is missed
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    film: FilmArgs,

    #[command(flatten)]
    model: ModelArgs,
}

fn minutes(text: &str) -> Result<Duration> {
    let minutes = text.parse().ok().filter(|minutes: &f64| (0.05..=1e5).contains(minutes));
    Ok(Duration::from_secs_f64(60.0 * minutes.context("at least 0.05")?))
}

fn rate(text: &str) -> Result<gst::Fraction> {
    let (numer, denom) = text.split_once('/').unwrap_or((text, "1"));
    let [numer, denom] = [numer, denom].map(|text| text.parse().ok().filter(|&n: &i32| n > 0));
    numer.zip(denom).map(|(numer, denom)| gst::Fraction::new(numer, denom)).context("it reads 60 or 30000/1001")
}

fn setting(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("it reads PROPERTY=VALUE")?;
    Ok((name.into(), value.into()))
}

/// Seconds that a quiet or busy time lasts at most.
const TURN: f64 = 10.0;
/// The start, in which the model is loaded, is quiet.
const QUIET: usize = 0;
const BUSY: usize = 1;

/// The element's counters that are compared, as `stats` names them.
const COUNTERS: [&str; 9] = [
    "frames-in",
    "frames-out",
    "harmonized",
    "passed-through",
    "dropped",
    "not-ready",
    "stale-masks",
    "missing-masks",
    "transfers",
];

/// Counters and processor times at some instant.
struct Mark {
    at: Instant,
    own: Duration,
    machine: Duration,
    counters: [u64; COUNTERS.len()],
}

impl Mark {
    fn new(rig: &Rig) -> Self {
        Self {
            at: Instant::now(),
            own: process::own_time().unwrap_or_default(),
            machine: process::machine_time().unwrap_or_default(),
            counters: rig.counts(COUNTERS),
        }
    }
}

/// What the phases of one kind add up to.
#[derive(Default)]
struct Sum {
    time: Duration,
    own: Duration,
    machine: Duration,
    counters: [u64; COUNTERS.len()],
    /// Transfers in each second.
    renewed: Vec<u64>,
    ages: Vec<f64>,
}

impl Sum {
    fn add(&mut self, from: &Mark, to: &Mark) {
        self.time += to.at - from.at;
        self.own += to.own.saturating_sub(from.own);
        self.machine += to.machine.saturating_sub(from.machine);
        for (sum, (to, from)) in self.counters.iter_mut().zip(to.counters.iter().zip(&from.counters)) {
            *sum += to - from;
        }
    }

    fn count(&self, name: &str) -> u64 {
        COUNTERS.iter().zip(self.counters).find(|(counter, _)| **counter == name).map_or(0, |(_, count)| count)
    }

    /// `latency` is the whole pipeline's, also of the frames that came before it was settled.
    fn column(self, name: &'static str, seen: &Seen, latency: gst::ClockTime) -> Column {
        let seconds = self.time.as_secs_f64();
        let cores = |time: Duration| time.as_secs_f64() / seconds;
        let ms = |times: &[Duration]| Spread::new(times.iter().map(|time| 1e3 * time.as_secs_f64()).collect());
        let of = |&(time, arrival): &(gst::ClockTime, Duration)| {
            (time.seconds_f64(), 1e3 * (latency.seconds_f64() - arrival.as_secs_f64()))
        };
        let slack: Vec<(f64, f64)> = seen.arrival.iter().map(of).collect();
        let late_at_s: Vec<f64> = slack.iter().filter(|(_, slack)| *slack < 0.0).map(|(time, _)| *time).collect();
        Column {
            name,
            seconds,
            counters: COUNTERS.iter().map(|name| (*name, self.count(name))).collect(),
            shown_a_second: slack.len() as f64 / seconds,
            late: late_at_s.len(),
            late_at_s,
            element_ms: ms(&seen.element),
            at_work_ms: ms(&seen
                .element
                .iter()
                .zip(&seen.waited)
                .map(|(all, wait)| all.saturating_sub(*wait))
                .collect::<Vec<_>>()),
            without_processor_ms: ms(&seen.waited),
            source_behind_ms: ms(&seen.behind),
            // Upside down, so that its high end is the bad one, as everywhere.
            slack_ms: Spread::new(slack.iter().map(|(_, slack)| -slack).collect()).negated(),
            interval_ms: ms(&seen.intervals),
            transfers_a_second: self.count("transfers") as f64 / seconds,
            transfers_in_worst_second: self.renewed.iter().copied().min().unwrap_or_default(),
            transfer_age_ms: Spread::new(self.ages),
            own_cores: cores(self.own),
            other_cores: cores(self.machine.saturating_sub(self.own)),
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    gst::init()?;
    gstharmonize::plugin_register_static()?;
    let load = process::load();
    let rig = Rig::new(&args.film, args.rate, Pace::Live { encode: args.encode }, &args.model)?;
    for (name, value) in &args.set {
        let pspec = rig.harmonize.find_property(name).with_context(|| format!("harmonize has no property {name}"))?;
        let value = glib::Value::deserialize_with_pspec(value, &pspec).with_context(|| format!("{name}={value}"))?;
        rig.harmonize.set_property(name, value);
    }
    let start = Instant::now();
    let watch = Watch::new(&rig, start)?;
    rig.play()?;

    let bar = progress(args.minutes.as_secs(), "playing");
    let mut show = Show { rig: &rig, watch: &watch, sums: Default::default(), qos: 0 };
    // As many quiet turns as busy ones.
    let turns = if args.beside > 0 { 2 * (args.minutes.as_secs_f64() / (2.0 * TURN)).ceil() as u32 } else { 1 };
    for (phase, _) in [QUIET, BUSY].into_iter().cycle().zip(0..turns) {
        let _busy = (phase == BUSY).then(|| Busy::new(args.beside)).transpose()?;
        show.phase(phase, args.minutes / turns, || bar.set_position(start.elapsed().as_secs()))?;
    }
    bar.finish_and_clear();
    let latency = declared(&rig)?;
    let resident = [*super::lock(&watch.resident), process::resident()];
    rig.pipeline.send_event(gst::event::Eos::new());
    let ended = rig.listen(Duration::from_secs(10), |_| ())?;
    ensure!(ended, "the stream did not end within 10 seconds of its sources");

    let firsts = watch.firsts();
    let Show { sums, qos, .. } = show;
    let mut columns = Vec::new();
    for (phase, (sum, name)) in sums.into_iter().zip(["quiet", "busy"]).enumerate() {
        if phase == QUIET || args.beside > 0 {
            columns.push(sum.column(name, &watch.seen(phase), latency[1]));
        }
    }
    let [width, height] = args.film.size;
    let mut report = Report {
        model: args.model.model.clone(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load: [load, process::load()],
        film: format!("{width}x{height} {} at {} a second", args.film.format, args.rate),
        foreground_percent: args.film.foreground,
        encoded: args.encode,
        busy_processes: args.beside,
        first_frame_s: firsts.frame,
        first_harmonized_s: firsts.harmonized,
        frame_ms: 1e3 * f64::from(args.rate.denom()) / f64::from(args.rate.numer()),
        latency_ms: latency.map(|time| 1e3 * time.seconds_f64()),
        qos_messages: qos,
        resident_kib: resident,
        columns,
        targets: Vec::new(),
    };
    report.targets = report.targets();
    report.print();
    if let Some(path) = &args.json {
        super::write_json(path, &report)?;
    }
    if args.check { target::check(&report.targets) } else { Ok(()) }
}

/// Latency that the element adds, and that of the whole pipeline.
fn declared(rig: &Rig) -> Result<[gst::ClockTime; 2]> {
    let of = |pad: &gst::Pad| {
        let mut query = gst::query::Latency::new();
        pad.query(&mut query).then(|| query.result().1)
    };
    let upstream = rig.pad("sink")?.peer().as_ref().and_then(of).unwrap_or_default();
    let element = of(&rig.pad("src")?).context("harmonize declares no latency")?;
    Ok([element.saturating_sub(upstream), BaseSinkExt::latency(&rig.sink)])
}

struct Show<'a> {
    rig: &'a Rig,
    watch: &'a Watch,
    sums: [Sum; 2],
    qos: u64,
}

impl Show<'_> {
    /// Looks at the counters each second until `time` is over.
    fn phase(&mut self, phase: usize, time: Duration, tick: impl Fn()) -> Result<()> {
        self.watch.enter(phase);
        let sum = &mut self.sums[phase];
        let begun = Instant::now();
        let mut from = Mark::new(self.rig);
        while begun.elapsed() < time {
            let second = Duration::from_secs(1).min(time.saturating_sub(begun.elapsed()));
            let (is_whole, until) = (second == Duration::from_secs(1), Instant::now() + second);
            while Instant::now() < until {
                let nap = Duration::from_millis(100).min(until.saturating_duration_since(Instant::now()));
                let ended = self.rig.listen(nap, |message| {
                    if let gst::MessageView::Qos(_) = message.view() {
                        self.qos += 1;
                    }
                })?;
                ensure!(!ended, "the stream has ended by itself");
                let stats = self.rig.harmonize.property::<gst::Structure>("stats");
                if stats.get("harmonized").is_ok_and(|frames: u64| frames > 0) {
                    sum.ages.extend(stats.get::<f64>("transfer-age-ms"));
                }
            }
            let to = Mark::new(self.rig);
            let before = sum.count("transfers");
            sum.add(&from, &to);
            // Before the first transfer there is none to renew.
            if is_whole && from.counters[COUNTERS.len() - 1] > 0 {
                sum.renewed.push(sum.count("transfers") - before);
            }
            from = to;
            tick();
        }
        Ok(())
    }
}
