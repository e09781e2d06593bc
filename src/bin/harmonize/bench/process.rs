//! What the system tells of this process, and processes that keep its processors busy. Linux only: `None` elsewhere.

use anyhow::{Context, Result};
use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The kernel's unit of processor time in /proc, the same on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// Processes that wanted to run over the last minute.
pub fn load() -> Option<f64> {
    read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Resident memory in KiB.
pub fn resident() -> Option<u64> {
    let status = read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Processor time that this process has used, without its children.
pub fn own_time() -> Option<Duration> {
    let [user, system, ..] = times("self")?.1;
    Some(user + system)
}

/// Processor time that those of its children have used which have ended and been waited for.
pub fn children_time() -> Option<Duration> {
    let [.., user, system] = times("self")?.1;
    Some(user + system)
}

/// A process's name, and its time as user and system, its own and its children's.
fn times(process: &str) -> Option<(String, [Duration; 4])> {
    let stat = read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold spaces, and parentheses.
    let (name, fields) = stat.rsplit_once(')')?;
    let ticks: Vec<u32> = fields.split_whitespace().skip(11).map_while(|field| field.parse().ok()).collect();
    Some((name.split_once('(')?.1.to_owned(), ticks.first_chunk()?.map(|ticks| TICK * ticks)))
}

/// Every process that can be seen: its id, name, and processor time so far.
pub fn all() -> Vec<(u32, String, Duration)> {
    let ids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let process = |id: u32| times(&id.to_string()).map(|(name, [user, system, ..])| (id, name, user + system));
    ids.filter_map(process).collect()
}

/// Processor time that the whole machine has used.
pub fn machine_time() -> Option<Duration> {
    let stat = read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = *ticks.first_chunk()?;
    Some(Duration::from_millis(10 * (user + nice + system + irq + softirq + steal)))
}

/// How long the calling thread has been ready to run without a processor to run on.
pub fn waited() -> Option<Duration> {
    thread_local! {
        static SCHEDSTAT: Option<File> = File::open("/proc/thread-self/schedstat").ok();
    }
    SCHEDSTAT.with(|file| {
        let mut text = [0; 64];
        let read = file.as_ref()?.read_at(&mut text, 0).ok()?;
        let ns = std::str::from_utf8(&text[..read]).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(Duration::from_nanos(ns))
    })
}

/// Processes that do nothing as fast as they can, until this is dropped.
pub struct Busy(Vec<Child>);

impl Busy {
    pub fn new(count: u32) -> Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..count {
            // Ends with its standard input, and so with this process however that ends.
            let spin = "exec 3<&0; (read _ <&3; kill $$) & while :; do :; done";
            let child = Command::new("sh").args(["-c", spin]).stdin(Stdio::piped()).spawn();
            busy.0.push(child.context("can't start a busy process")?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
        for child in &mut self.0 {
            // One that is gone is what is wanted.
            let _ = child.wait();
        }
    }
}
