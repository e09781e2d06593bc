//! The machine that is measured on, and whether others are at work on it.

use super::process;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};

#[derive(Debug, Serialize)]
pub struct Machine {
    /// Those that this process may run on.
    pub cores: usize,
    /// As the system names it.
    pub processor: Option<String>,
    /// The loops in use.
    pub simd: String,
}

impl Machine {
    pub fn new() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model.map(|(_, name)| name.to_owned()),
            simd: gstharmonize::simd::level().to_string(),
        }
    }
}

/// Others may use so much of a core before a measurement begins.
const QUIET: f64 = 0.1;
/// What is asked of a machine to be quiet: for so long.
const LOOK: Duration = Duration::from_secs(1);

/// Counts what other processes, and a virtual machine's other guests, use of the processors.
pub struct Others {
    since: Instant,
    machine: Duration,
    own: Duration,
}

impl Others {
    /// `None` where the system doesn't tell.
    pub fn new() -> Option<Self> {
        let own = process::own_time()? + process::children_time()?;
        Some(Self { since: Instant::now(), machine: process::machine_time()?, own })
    }

    /// Processor time since, and wall-clock time.
    pub fn used(&self) -> Option<(Duration, Duration)> {
        let now = Self::new()?;
        let (machine, own) = (now.machine.saturating_sub(self.machine), now.own.saturating_sub(self.own));
        Some((machine.saturating_sub(own), now.since - self.since))
    }
}

/// Cores that others use on average over a second; an error if it is too much, unless `busy` allows it. `None` where the
/// system doesn't tell.
pub fn look_around(busy: bool) -> Result<Option<f64>> {
    let before: HashMap<u32, Duration> = process::all().into_iter().map(|(id, _, time)| (id, time)).collect();
    let Some(others) = Others::new() else { return Ok(None) };
    std::thread::sleep(LOOK);
    let Some((used, time)) = others.used() else { return Ok(None) };
    let share = used.as_secs_f64() / time.as_secs_f64();
    ensure!(
        busy || share <= QUIET,
        "other work uses {:.0} % of a processor{}, and figures taken beside it say little: end it and start again, or measure all \
         the same with --busy",
        100.0 * share,
        most_active(&before)
    );
    Ok(Some(share))
}

/// The processes that have used most since, in parentheses.
fn most_active(before: &HashMap<u32, Duration>) -> String {
    let used = |(id, name, time): (u32, String, Duration)| {
        let used = time.saturating_sub(before.get(&id).copied().unwrap_or_default());
        (used, format!("{name}, process {id}: {:.0} %", 100.0 * used.as_secs_f64() / LOOK.as_secs_f64()))
    };
    let mut active: Vec<_> =
        process::all().into_iter().filter(|(id, ..)| *id != std::process::id()).map(used).collect();
    active.retain(|(used, _)| *used >= LOOK / 50);
    active.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
    let names: Vec<_> = active.into_iter().take(3).map(|(_, name)| name).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join("; ")) }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { cores, processor, simd } = self;
        write!(f, "{cores} cores of {} ({simd})", processor.as_deref().unwrap_or("an unknown processor"))
    }
}
