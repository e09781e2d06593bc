//! `--jobs`: a film in as many parts as there are processes, each this command with a range; then the parts are joined.

use super::Args;
use crate::clip::Clip;
use crate::output::{OutputFile, Workshop};
use crate::range::{Range, seconds};
use crate::{join, options, packets};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

pub fn run(args: &Args, picture: &Clip) -> Result<()> {
    // Before hours of work: can the film be written?
    drop(OutputFile::of(&args.output)?);
    let mut times = packets::times(&picture.path)?;
    times.retain(|time| args.range.contains(*time));
    ensure!(!times.is_empty(), "{}: no frame in it{}", picture.path.display(), args.range.told());
    let ranges = split(args.range, &times, args.jobs as usize);
    let workshop = Workshop::beside(&args.output)?;
    // The container is known by the end of the name.
    let kind = args.output.extension().unwrap_or_default().to_string_lossy();
    let pieces: Vec<_> = (1..=ranges.len()).map(|i| workshop.path().join(format!("{i}.{kind}"))).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (cores / ranges.len().max(1)).max(1).to_string();
    let workers = args.temporal.workers.is_none().then_some(&*workers);
    render(&pieces, &ranges, times.len() as u64, workers)?;
    let sound = (!args.no_sound && picture.has_sound).then_some(picture.path.as_path());
    join::join(&pieces, &args.output, sound)
}

/// `range` in at most `count` parts of about as many frames each, which start at `times`, in order. Cuts lie half-way between
/// two frames, so that a frame whose time is rounded otherwise falls on the same side.
fn split(range: Range, times: &[gst::ClockTime], count: usize) -> Vec<Range> {
    let count = count.min(times.len());
    let cut = |i: usize| {
        let next = i * times.len() / count;
        times[next - 1] + (times[next] - times[next - 1]) / 2
    };
    let starts = std::iter::once(range.start).chain((1..count).map(|i| Some(cut(i))));
    let stops = (1..count).map(|i| Some(cut(i))).chain([range.stop]);
    starts.zip(stops).map(|(start, stop)| Range { start, stop }).collect()
}

/// A process that doesn't outlive this value.
struct ShardProcess(Child);

impl Drop for ShardProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum News {
    /// So many frames are done.
    Frames(u64),
    Said(String),
    Closed,
}

/// `workers` for each process, where the user asked for none.
fn render(pieces: &[PathBuf], ranges: &[Range], expected: u64, workers: Option<&str>) -> Result<()> {
    let (tell, news) = channel();
    let mut jobs = Vec::new();
    for (i, (piece, range)) in pieces.iter().zip(ranges).enumerate() {
        let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
        // The later one of two equal options holds.
        command.args(std::env::args_os().skip(1)).args(["--jobs", "1", "--no-sound", "--count", "--output"]).arg(piece);
        command.args(workers.into_iter().flat_map(|workers| ["--workers", workers]));
        for (option, time) in [("--start", range.start), ("--stop", range.stop)] {
            command.args(time.map(|time| [option.to_owned(), seconds(time)]).into_iter().flatten());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut job = ShardProcess(command.spawn().context("can't start another process")?);
        listen(i, job.0.stdout.take(), &tell, |line| line.parse().ok().map(News::Frames));
        listen(i, job.0.stderr.take(), &tell, |line| Some(News::Said(line)));
        jobs.push(job);
    }
    drop(tell);
    follow(&mut jobs, &news, expected)
}

/// Tells what is in each line that `pipe` of job `i` gives.
fn listen(
    i: usize,
    pipe: Option<impl Read + Send + 'static>,
    tell: &Sender<(usize, News)>,
    read: impl Fn(String) -> Option<News> + Send + 'static,
) {
    let (pipe, tell) = (pipe.map(BufReader::new), tell.clone());
    thread::spawn(move || {
        for line in pipe.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            if let Some(news) = read(line) {
                let _ = tell.send((i, news));
            }
        }
        let _ = tell.send((i, News::Closed));
    });
}

/// Until all jobs are done, or one has failed: what it said last is the error.
fn follow(jobs: &mut [ShardProcess], news: &Receiver<(usize, News)>, expected: u64) -> Result<()> {
    let bar = options::progress(expected, "harmonizing");
    let mut done = vec![0; jobs.len()];
    let mut open = vec![2; jobs.len()];
    let mut last = vec![None::<String>; jobs.len()];
    let mut said = HashSet::new();
    // Jobs warn of the same things: once is enough. The last words are kept back, they may be an error.
    let mut pass_on = |line: String| {
        if said.insert(line.clone()) {
            bar.suspend(|| eprintln!("{line}"));
        }
    };
    for (i, news) in news {
        match news {
            News::Frames(frames) => {
                done[i] = frames;
                bar.set_position(done.iter().sum());
            }
            News::Said(line) => {
                if let Some(line) = last[i].replace(line) {
                    pass_on(line);
                }
            }
            News::Closed => {
                open[i] -= 1;
                if open[i] > 0 {
                    continue;
                }
                let status = jobs[i].0.wait().context("a process is lost")?;
                let words = last[i].take();
                if !status.success() {
                    bar.finish_and_clear();
                    let words = words.unwrap_or_else(|| format!("a process that rendered a part ended with {status}"));
                    bail!("{}", words.trim_start_matches("harmonize: "));
                }
                words.into_iter().for_each(&mut pass_on);
            }
        }
    }
    bar.finish_and_clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    #[test]
    fn parts_tile_the_range_and_hold_about_as_many_frames() {
        let times: Vec<_> = (0..10).map(|i| ms(40 * i)).collect();
        let whole = Range::default();
        let parts = split(whole, &times, 3);
        let bounds: Vec<_> = parts.iter().map(|part| (part.start, part.stop)).collect();
        let [a, b] = [ms(100), ms(220)].map(Some);
        assert_eq!(bounds, [(None, a), (a, b), (b, None)]);

        let part = Range { start: Some(ms(0)), stop: Some(ms(500)) };
        let parts = split(part, &times, 20);
        assert_eq!((parts[0].start, parts[9].stop, parts.len()), (part.start, part.stop, 10));
        for (part, time) in parts.iter().zip(&times) {
            assert_eq!(times.iter().filter(|time| part.contains(**time)).collect::<Vec<_>>(), [time]);
        }
    }
}
