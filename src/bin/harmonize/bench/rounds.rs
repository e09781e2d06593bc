//! Rounds in which all that is measured takes turns, so that what one round compares was measured within the same minute.

use super::machine::Others;
use anyhow::{Context, Result};
use gst_video::VideoFormat;
use indicatif::ProgressBar;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchPart {
    pub what: &'static str,
    /// `1280x720`
    pub size: String,
    /// GStreamer's name; none where it makes no difference.
    pub format: Option<&'static str>,
}

impl BenchPart {
    pub fn new(what: &'static str, [width, height]: [u32; 2], format: Option<VideoFormat>) -> Self {
        Self { what, size: format!("{width}x{height}"), format: format.map(|format| format.to_str().as_str()) }
    }
}

impl std::fmt::Display for BenchPart {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let format = self.format.unwrap_or_default();
        write!(f, "{} {}{}{format}", self.what, self.size, if format.is_empty() { "" } else { " " })
    }
}

/// Milliseconds a frame.
#[derive(Clone, Debug, Serialize)]
pub struct BenchRow {
    #[serde(flatten)]
    pub part: BenchPart,
    /// Of the rounds' figures.
    pub median_ms: f64,
    /// Of all frames of all rounds.
    pub p95_ms: f64,
    /// Each round's figure: of a stage its median frame, of a pipeline, whose frames overlap, the mean.
    pub rounds_ms: Vec<f64>,
    /// Rounds, from 0, in which others were at work beside it.
    pub disturbed: Vec<usize>,
}

/// What a round was like.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    pub seconds: f64,
    /// Cores that others used on average; none where the system doesn't tell.
    pub other_cores: Option<f64>,
    /// Turns that were taken again, because others were at work.
    pub repeated: usize,
}

/// Times of so many frames, warmed up.
pub type Turn<'a> = Box<dyn FnMut(u32) -> Result<Vec<Duration>> + 'a>;

/// One that takes its turn in every round.
pub struct Entrant<'a> {
    part: BenchPart,
    is_pipeline: bool,
    turn: Turn<'a>,
}

impl<'a> Entrant<'a> {
    pub fn stage(part: BenchPart, turn: impl FnMut(u32) -> Result<Vec<Duration>> + 'a) -> Self {
        Self { part, is_pipeline: false, turn: Box::new(turn) }
    }

    pub fn pipeline(part: BenchPart, turn: impl FnMut(u32) -> Result<Vec<Duration>> + 'a) -> Self {
        Self { part, is_pipeline: true, turn: Box::new(turn) }
    }

    fn take(&mut self, frames: u32) -> Result<Vec<Duration>> {
        (self.turn)(frames).with_context(|| self.part.to_string())
    }
}

/// How often, and under what conditions.
pub struct Plan {
    pub rounds: u32,
    pub frames: u32,
    /// Work of others is no reason to repeat a turn.
    pub busy: bool,
}

/// A turn of slow frames has fewer of them: as many as this takes, but not less than `FEW`.
const TURN: Duration = Duration::from_millis(500);
const FEW: u32 = 8;
/// A turn beside which others have used more of a core than this is taken again,
const DISTURBED: f64 = 0.25;
/// where it is more than what the system's clock ticks may feign.
const TICKS: Duration = Duration::from_millis(30);
const REPEATS: usize = 3;

/// What an entrant's turns have come to.
struct Record {
    /// Of a turn.
    frames: u32,
    rounds_ms: Vec<f64>,
    times: Vec<Duration>,
    disturbed: Vec<usize>,
}

/// Takes all turns: a round to warm up, which also tells how slow each is, and those that count.
pub fn measure(entrants: &mut [Entrant], plan: &Plan, bar: &ProgressBar) -> Result<(Vec<BenchRow>, Vec<Round>)> {
    bar.set_length(entrants.len() as u64 * u64::from(plan.rounds + 1));
    let mut records = Vec::new();
    for entrant in entrants.iter_mut() {
        bar.set_message(format!("warming up, {}", entrant.part));
        let fitting = (TURN.as_secs_f64() / mean(&entrant.take(plan.frames.min(FEW))?)) as u32;
        let frames = fitting.clamp(FEW.min(plan.frames), plan.frames);
        records.push(Record { frames, rounds_ms: Vec::new(), times: Vec::new(), disturbed: Vec::new() });
        bar.inc(1);
    }
    let mut rounds = Vec::new();
    // Where the others never rest, it takes about twice as long and no longer.
    let mut repeats = if plan.busy { 0 } else { entrants.len() * plan.rounds as usize };
    for number in 0..plan.rounds as usize {
        let (start, others, repeats_before) = (Instant::now(), Others::new(), repeats);
        for (entrant, record) in entrants.iter_mut().zip(&mut records) {
            bar.set_message(format!("round {} of {}, {}", number + 1, plan.rounds, entrant.part));
            let (times, is_disturbed) = take_undisturbed(entrant, record.frames, &mut repeats)?;
            record.disturbed.extend(is_disturbed.then_some(number));
            record.rounds_ms.push(1e3 * if entrant.is_pipeline { mean(&times) } else { percentile(&times, 0.5) });
            record.times.extend(times);
            bar.inc(1);
        }
        let share = |(used, time): (Duration, Duration)| used.as_secs_f64() / time.as_secs_f64();
        rounds.push(Round {
            seconds: start.elapsed().as_secs_f64(),
            other_cores: others.and_then(|others| others.used()).map(share),
            repeated: repeats_before - repeats,
        });
    }
    let rows = entrants.iter().zip(records).map(|(entrant, record)| BenchRow {
        part: entrant.part.clone(),
        median_ms: median(&record.rounds_ms),
        p95_ms: 1e3 * percentile(&record.times, 0.95),
        rounds_ms: record.rounds_ms,
        disturbed: record.disturbed,
    });
    Ok((rows.collect(), rounds))
}

/// A turn, the last of those taken, and whether others were at work beside that one too.
fn take_undisturbed(entrant: &mut Entrant, frames: u32, repeats: &mut usize) -> Result<(Vec<Duration>, bool)> {
    let mut again = 0;
    loop {
        let others = Others::new();
        let times = entrant.take(frames)?;
        let (used, time) = others.and_then(|others| others.used()).unwrap_or_default();
        let is_disturbed = used > TICKS.max(time.mul_f64(DISTURBED));
        if !is_disturbed || again == REPEATS || *repeats == 0 {
            return Ok((times, is_disturbed));
        }
        again += 1;
        *repeats -= 1;
    }
}

/// In seconds; never 0, so that it can be divided by.
fn mean(times: &[Duration]) -> f64 {
    (times.iter().sum::<Duration>().as_secs_f64() / times.len().max(1) as f64).max(1e-9)
}

/// In seconds; never 0.
fn percentile(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).map_or(0.0, Duration::as_secs_f64).max(1e-9)
}

/// Of an odd number the middle one, of an even number the upper of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
