//! What `harmonize bench live` found, and the targets of a live show beside it.

use super::target::{self, Target};
use serde::Serialize;
use std::collections::BTreeMap;

/// Of all values of a run, not of a window at its end.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    pub median: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// All 0 of no values.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (values.len() as f64 * share).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { median: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }

    pub fn negated(self) -> Self {
        Self { median: -self.median, p95: -self.p95, p99: -self.p99, max: -self.max }
    }
}

/// The figures of all quiet or all busy times.
#[derive(Debug, Serialize)]
pub struct Column {
    pub name: &'static str,
    pub seconds: f64,
    /// As the element's `stats` count them.
    pub counters: BTreeMap<&'static str, u64>,
    pub shown_a_second: f64,
    /// Frames that reached the sink after their time.
    pub late: usize,
    /// Their running times.
    pub late_at_s: Vec<f64>,
    /// From the composite taken up to the frame pushed.
    pub element_ms: Spread,
    /// The same without the next.
    pub at_work_ms: Spread,
    /// The part of it in which the thread was ready to run and had no processor.
    pub without_processor_ms: Spread,
    pub source_behind_ms: Spread,
    /// Its high percentiles are those of the frames with the least.
    pub slack_ms: Spread,
    pub interval_ms: Spread,
    pub transfers_a_second: f64,
    pub transfers_in_worst_second: u64,
    pub transfer_age_ms: Spread,
    /// Processors in use on average, by this process and by all else.
    pub own_cores: f64,
    pub other_cores: f64,
}

impl Column {
    fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub model: String,
    pub cores: usize,
    /// Processes that wanted to run over the last minute, before and after.
    pub load: [Option<f64>; 2],
    pub film: String,
    pub foreground_percent: f64,
    pub encoded: bool,
    pub busy_processes: u32,
    /// Since the pipeline was set from NULL to PLAYING.
    pub first_frame_s: Option<f64>,
    pub first_harmonized_s: Option<f64>,
    pub frame_ms: f64,
    /// Declared: what the element adds, and the whole.
    pub latency_ms: [f64; 2],
    pub qos_messages: u64,
    /// After 1,000 frames and at the end.
    pub resident_kib: [Option<u64>; 2],
    pub columns: Vec<Column>,
    pub targets: Vec<Target>,
}

impl Report {
    /// What a show needs, and whether it was there: what a run of this kind can tell of it.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut add = |what: &str, measured: String, wanted: &str, met| {
            targets.push(Target::new(what, measured, wanted, met));
        };
        let [quiet, busy @ ..] = &self.columns[..] else { return targets };
        let lost: u64 = self.columns.iter().map(|column| column.count("dropped") + column.late as u64).sum();
        add("frames dropped or late", lost.to_string(), "0", lost == 0);
        let p99 = quiet.element_ms.p99;
        add("element p99", format!("{p99:.2} ms"), "under 8 ms", p99 < 8.0);
        for busy in busy {
            let ratio = busy.element_ms.p99 / p99;
            add("element p99, busy over quiet", format!("{ratio:.2}"), "at most 3", ratio <= 3.0);
        }
        let renewed = self.columns.iter().map(|column| column.transfers_a_second).fold(f64::INFINITY, f64::min);
        add("transfers", format!("{renewed:.1} a second"), "at least 5", renewed >= 5.0);
        let shown = self.columns.iter().map(|column| column.shown_a_second).fold(f64::INFINITY, f64::min);
        let rate = 1e3 / self.frame_ms;
        // A phase ends between two frames.
        let met = self.columns.iter().all(|column| column.shown_a_second >= rate - 2.0 / column.seconds);
        add("frames out", format!("{shown:.2} a second"), &format!("{rate:.2}"), met);
        let [added, _] = self.latency_ms;
        let wanted = format!("at most {:.2} ms, a frame", self.frame_ms);
        add("latency added", format!("{added:.2} ms"), &wanted, added <= self.frame_ms + 0.001);
        let first = self.first_harmonized_s;
        let measured = first.map_or("never".into(), |first| format!("after {first:.2} s"));
        add("first harmonized frame", measured, "within 1.0 s", first.is_some_and(|first| first <= 1.0));
        targets
    }
    pub fn print(&self) {
        let [before, after] = self.load.map(|load| load.map_or("unknown".into(), |load| format!("{load:.2}")));
        let encoded = if self.encoded { ", encoded" } else { "" };
        println!(
            "model {}, {} cores, load {before} before and {after} after; {}, {} % foreground{encoded}",
            self.model, self.cores, self.film, self.foreground_percent
        );
        self.columns_row("", |column| column.name.into());
        self.columns_row("seconds", |column| format!("{:.0}", column.seconds));
        for name in self.columns.iter().take(1).flat_map(|column| column.counters.keys()) {
            self.columns_row(name, |column| column.count(name).to_string());
        }
        self.columns_row("late", |column| column.late.to_string());
        self.columns_row("shown a second", |column| format!("{:.2}", column.shown_a_second));
        self.columns_row("transfers a second", |column| format!("{:.1}", column.transfers_a_second));
        self.columns_row("  in the worst second", |column| column.transfers_in_worst_second.to_string());
        self.columns_row("processors, own", |column| format!("{:.2}", column.own_cores));
        self.columns_row("processors, all else", |column| format!("{:.2}", column.other_cores));
        println!();
        self.columns_row("ms", |_| format!("{:>8} {:>8} {:>8} {:>8}", "median", "p95", "p99", "max"));
        self.spread("element", |column| column.element_ms);
        self.spread("  at work", |column| column.at_work_ms);
        self.spread("  without a processor", |column| column.without_processor_ms);
        self.spread("source behind", |column| column.source_behind_ms);
        self.spread("slack (least last)", |column| column.slack_ms);
        self.spread("interval shown", |column| column.interval_ms);
        self.spread("transfer age", |column| column.transfer_age_ms);
        println!();
        let seconds = |time: Option<f64>| time.map_or("never".into(), |time| format!("{time:.3} s"));
        println!(
            "first frame {}, first harmonized {}; latency {:.2} ms of {:.2} in all; {} QOS messages",
            seconds(self.first_frame_s),
            seconds(self.first_harmonized_s),
            self.latency_ms[0],
            self.latency_ms[1],
            self.qos_messages
        );
        for column in self.columns.iter().filter(|column| column.late > 0) {
            let times = column.late_at_s.iter().take(8).map(|time| format!("{time:.2}")).collect::<Vec<_>>().join(", ");
            let more = if column.late > 8 { " and later" } else { "" };
            println!("late frames, {}: at {times}{more} s", column.name);
        }
        let [early, end] =
            self.resident_kib.map(|kib| kib.map_or("unknown".into(), |k| format!("{:.1} MiB", k as f64 / 1024.0)));
        println!("resident memory {early} after 1,000 frames, {end} at the end");
        target::print(&self.targets);
    }

    fn columns_row(&self, what: &str, cell: impl Fn(&Column) -> String) {
        print!("{what:<24}");
        for column in &self.columns {
            print!("{:>38}", cell(column));
        }
        println!();
    }

    fn spread(&self, what: &str, of: impl Fn(&Column) -> Spread) {
        self.columns_row(what, |column| {
            let Spread { median, p95, p99, max } = of(column);
            format!("{median:>8.2} {p95:>8.2} {p99:>8.2} {max:>8.2}")
        });
    }
}
