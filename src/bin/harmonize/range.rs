//! A part of a film, and what a piece of a film says of its place in the whole.
//!
//! Times are stream times: zero is where the film starts to play. A frame belongs to the part that holds its start, so parts
//! that touch share no frame and lose none.

use crate::clip::{self, Clip};
use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gst_pbutils::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `[start, stop)`; all of the film by default.
#[derive(clap::Args, Clone, Copy, Default)]
pub struct Range {
    /// Render from here on: seconds or H:MM:SS, with as many decimals as you like
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub start: Option<gst::ClockTime>,

    /// Render up to here; a frame that starts at this time is the next shard's
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub stop: Option<gst::ClockTime>,
}

impl Range {
    pub fn is_whole(self) -> bool {
        self.start.is_none() && self.stop.is_none()
    }

    pub fn begin(self) -> gst::ClockTime {
        self.start.unwrap_or_default()
    }

    pub fn is_over(self, time: gst::ClockTime) -> bool {
        self.stop.is_some_and(|stop| time >= stop)
    }

    pub fn contains(self, time: gst::ClockTime) -> bool {
        self.begin() <= time && !self.is_over(time)
    }

    /// About how many frames of `clip` are in it.
    pub fn frames_of(self, clip: &Clip) -> u64 {
        let stop = self.stop.map_or(clip.duration, |stop| stop.min(clip.duration));
        let length = stop.saturating_sub(self.begin());
        (length.nseconds() + clip.frame().nseconds() / 2) / clip.frame().nseconds()
    }

    /// For a sentence about a film: " from 1 s on", or nothing for all of it.
    pub fn told(self) -> String {
        match (self.start, self.stop) {
            (None, None) => String::new(),
            (start, None) => format!(" from {} s on", seconds(start.unwrap_or_default())),
            (start, Some(stop)) => format!(" from {} s to {} s", seconds(start.unwrap_or_default()), seconds(stop)),
        }
    }

    /// Refuses a range that holds nothing.
    pub fn check(self) -> Result<()> {
        ensure!(
            !self.is_over(self.begin()),
            "--start {} leaves nothing before --stop {}: give a later --stop",
            seconds(self.begin()),
            self.stop.map(seconds).unwrap_or_default()
        );
        Ok(())
    }
}

/// Seconds, as `time` reads them.
pub fn seconds(time: gst::ClockTime) -> String {
    let (whole, part) = (time.nseconds() / 1_000_000_000, time.nseconds() % 1_000_000_000);
    let text = format!("{whole}.{part:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads `12.5`, `1:02.5` or `0:01:02.5`; what lies beyond nanoseconds is cut off.
fn time(text: &str) -> Result<gst::ClockTime> {
    let wrong = || "write seconds, like 83.2, or H:MM:SS, like 0:01:23.2";
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let fields: Vec<&str> = whole.split(':').collect();
    ensure!(fields.len() <= 3 && digits(decimals) && fields.iter().all(|f| !f.is_empty() && digits(f)), wrong());
    let mut seconds = 0u64;
    for (i, field) in fields.iter().enumerate() {
        let field: u64 = field.parse().with_context(wrong)?;
        ensure!(i == 0 || field < 60, wrong());
        seconds = seconds.checked_mul(60).and_then(|s| s.checked_add(field)).with_context(wrong)?;
    }
    let decimals: u64 = format!("{decimals:0<9}")[..9].parse().with_context(wrong)?;
    let time = seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(decimals)).with_context(wrong)?;
    // Half of what fits: times are added up.
    ensure!(time < u64::MAX / 4, wrong());
    Ok(gst::ClockTime::from_nseconds(time))
}

/// What a piece says of itself in its comment tag, as JSON; in nanoseconds of the whole film.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub start: u64,
    /// None up to the film's end.
    pub stop: Option<u64>,
    /// Where the piece's own time is zero: its first frame, or a little before.
    pub zero: u64,
    /// Frames a second of the whole film, which a short piece can't tell.
    pub rate: (i32, i32),
}

#[derive(Serialize, Deserialize)]
struct Comment {
    shard: Place,
}

impl Place {
    pub fn new(range: Range, zero: gst::ClockTime, rate: gst::Fraction) -> Self {
        let [start, zero] = [range.begin(), zero].map(gst::ClockTime::nseconds);
        Self { start, stop: range.stop.map(gst::ClockTime::nseconds), zero, rate: (rate.numer(), rate.denom()) }
    }

    /// Has `muxer`, which has written nothing yet, write it.
    pub fn write(&self, muxer: &gst::Element) -> Result<()> {
        let setter = muxer.dynamic_cast_ref::<gst::TagSetter>().context("a muxer without tags")?;
        let comment = serde_json::to_string(&Comment { shard: self.clone() })?;
        setter.add_tag::<gst::tags::Comment>(&comment.as_str(), gst::TagMergeMode::Replace);
        Ok(())
    }

    /// The place of the piece `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let (_, info) = clip::discover(path)?;
        let container = info.stream_info().and_downcast::<gst_pbutils::DiscovererContainerInfo>();
        let streams = info.stream_list();
        for tags in container.and_then(|c| c.tags()).into_iter().chain(streams.iter().filter_map(|s| s.tags())) {
            for comment in tags.iter_tag::<gst::tags::Comment>() {
                if let Ok(Comment { shard }) = serde_json::from_str(comment.get()) {
                    return Ok(shard);
                }
            }
        }
        bail!("{}: not a piece, render it with `harmonize video --start or --stop`", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        let ns = |text| time(text).map(gst::ClockTime::nseconds).ok();
        assert_eq!(ns("0"), Some(0));
        assert_eq!(ns("33.366666667"), Some(33_366_666_667));
        assert_eq!(ns("1:02.5"), Some(62_500_000_000));
        assert_eq!(ns("90:00"), Some(5_400_000_000_000));
        assert_eq!(ns("1:02:03.0000000019"), Some(3_723_000_000_001));
        for text in ["", "-1", "1:60", "1:2:3:4", "1.2.3", "1e3", ":1", "99999999999999999999", "9999999999"] {
            assert_eq!(ns(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_are_read_back_as_the_same_time() {
        for ns in [0, 1, 40_000_000, 1_000_000_000, 33_366_666_667] {
            assert_eq!(time(&seconds(gst::ClockTime::from_nseconds(ns))).unwrap().nseconds(), ns);
        }
    }
}
