//! What went into the element and what came out of it, and whether that keeps its promises.
//!
//! Composites are numbered in their `offset`. An epoch is a time in which nothing may be lost: a flush, a stop or a seek
//! begins the next one.

use super::picture::{self, Side};
use super::watch::{lock, note, violated};
use gst::prelude::*;
use gst_video::VideoInfo;
use std::collections::BTreeMap;
use std::sync::Mutex;

type Segment = gst::FormattedSegment<gst::ClockTime>;

/// A composite as it went in.
struct Frame {
    epoch: u64,
    caps: gst::Caps,
    info: VideoInfo,
    segment: Segment,
    buffer: Attributes,
    /// Whether the element took it; not known while it is on its way into the pad.
    taken: Option<bool>,
    /// It may have been asked for beside what the last seek was for, and then it leaves no frame.
    may_be_lead: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Attributes {
    pts: Option<gst::ClockTime>,
    dts: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
    offset: u64,
    offset_end: u64,
    flags: gst::BufferFlags,
    size: usize,
    reference: Option<gst::ClockTime>,
}

impl Attributes {
    fn of(buffer: &gst::BufferRef) -> Self {
        let reference = buffer.meta::<gst::ReferenceTimestampMeta>().map(|meta| meta.timestamp());
        Self {
            pts: buffer.pts(),
            dts: buffer.dts(),
            duration: buffer.duration(),
            offset: buffer.offset(),
            offset_end: buffer.offset_end(),
            // Whether its memory has been exchanged is the buffer's own affair; the first one after a drop is a DISCONT.
            flags: buffer.flags() - gst::BufferFlags::TAG_MEMORY - gst::BufferFlags::DISCONT,
            size: buffer.size(),
            reference,
        }
    }
}

/// Frames since the last start, seen from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub out: u64,
    /// Those whose foreground had changed.
    pub changed: u64,
    /// Those that were lost without a flush or stop.
    pub lost: u64,
}

#[derive(Default)]
struct Inner {
    next: u64,
    epoch: u64,
    frames: BTreeMap<u64, Frame>,
    last: Option<u64>,
    caps: Option<gst::Caps>,
    segment: Option<Segment>,
    started: bool,
    eos: bool,
    /// Policies drop composites now, and may have dropped some of this epoch; `stats` tells how many.
    drops: bool,
    may_drop: bool,
    /// The side that the mask leaves alone, and the first composite of which that is certain.
    background: Option<(Side, u64)>,
    /// Where the last two flushing seeks went, and one that was refused: what is on its way may be of the one before.
    sought: [Option<gst::ClockTime>; 3],
    counts: Counts,
    total: Counts,
}

#[derive(Default)]
pub struct Ledger(Mutex<Inner>);

fn same(a: &Segment, b: &Segment) -> bool {
    let key = |s: &Segment| (s.start(), s.stop(), s.base(), s.time(), s.rate().to_bits());
    key(a) == key(b)
}

/// Whether `out` is what is left of `segment` from the place on that was sought.
fn is_rest(out: &Segment, segment: &Segment, sought: Option<gst::ClockTime>) -> bool {
    let mut rest = segment.clone();
    rest.set_start(sought);
    let Some(cut) = sought.zip(segment.start()).and_then(|(sought, start)| sought.checked_sub(start)) else {
        return false;
    };
    // Stream time and running time go on as they were, at a rate of 1.
    rest.set_time(segment.time().map(|time| time + cut));
    rest.set_base(segment.base().map(|base| base + cut));
    same(out, &rest)
}

impl Ledger {
    /// Watches all that leaves through `src`.
    pub fn watch(self: &std::sync::Arc<Self>, src: &gst::Pad) {
        use gst::PadProbeType as Kind;
        let ledger = self.clone();
        src.add_probe(
            Kind::BUFFER | Kind::BUFFER_LIST | Kind::EVENT_DOWNSTREAM | Kind::EVENT_FLUSH,
            move |src, info| {
                match &info.data {
                    Some(gst::PadProbeData::Buffer(buffer)) => ledger.buffer_out(buffer),
                    Some(gst::PadProbeData::Event(event)) => ledger.event_out(event, src),
                    _ => violated("A buffer list left".into()),
                }
                gst::PadProbeReturn::Ok
            },
        );
    }

    /// The next composite's number.
    pub fn number(&self) -> u64 {
        lock(&self.0).next
    }

    /// `buffer` is about to be pushed, and has the number that `number` gave.
    pub fn goes_in(&self, buffer: &gst::BufferRef, info: &VideoInfo, caps: &gst::Caps, segment: &Segment) {
        let mut inner = lock(&self.0);
        let number = inner.next;
        let buffer = Attributes::of(buffer);
        let (epoch, caps, info, segment) = (inner.epoch, caps.clone(), info.clone(), segment.clone());
        let end = buffer.pts.map(|pts| pts + buffer.duration.unwrap_or_default());
        let may_be_lead = inner.sought.iter().any(|&sought| segment.start() < sought && end <= sought);
        inner.frames.insert(number, Frame { epoch, caps, info, segment, buffer, taken: None, may_be_lead });
        inner.next += 1;
    }

    /// What became of the push of composite `number`.
    pub fn went_in(&self, number: u64, flow: Result<gst::FlowSuccess, gst::FlowError>) {
        if let Some(frame) = lock(&self.0).frames.get_mut(&number) {
            frame.taken = Some(flow.is_ok());
        }
    }

    /// A flushing seek is about to go to `start`: the element may ask for more, and then makes a segment of what was sought.
    pub fn seek(&self, start: gst::ClockTime) {
        let mut inner = lock(&self.0);
        inner.sought = [inner.sought[1], inner.sought[2], Some(start)];
    }

    /// The last seek was refused: what was on its way still is, and of those that are known it is the first to be forgotten.
    pub fn seek_was_refused(&self) {
        lock(&self.0).sought.rotate_right(1);
    }

    /// Composites from now on belong to another epoch than those before, which may be lost.
    pub fn begin_epoch(&self) {
        let mut inner = lock(&self.0);
        inner.epoch += 1;
        inner.may_drop = inner.drops;
        note(&format!("epoch {} begins with {}", inner.epoch, inner.next));
    }

    /// Whether policies drop composites from now on.
    pub fn allow_drops(&self, drops: bool) {
        let mut inner = lock(&self.0);
        inner.drops = drops;
        inner.may_drop |= drops;
    }

    /// Sets `mask-invert` by `set`.
    pub fn invert(&self, invert: bool, set: impl FnOnce()) {
        lock(&self.0).background = None;
        set();
        let mut inner = lock(&self.0);
        inner.background = Some((if invert { Side::Left } else { Side::Right }, inner.next));
    }

    /// The element starts anew.
    pub fn restart(&self) {
        let mut inner = lock(&self.0);
        let counts = std::mem::take(&mut inner.counts);
        inner.total.out += counts.out;
        inner.total.changed += counts.changed;
        inner.total.lost += counts.lost;
    }

    /// Those of all starts, the last one not included.
    pub fn total(&self) -> Counts {
        lock(&self.0).total
    }

    pub fn counts(&self) -> Counts {
        lock(&self.0).counts
    }

    /// The last composite that left.
    pub fn last(&self) -> Option<u64> {
        lock(&self.0).last
    }

    pub fn is_eos(&self) -> bool {
        lock(&self.0).eos
    }

    /// What was taken in this epoch has to be out by now.
    pub fn expect_all_out(&self) {
        let mut inner = lock(&self.0);
        let (end, epoch) = (inner.next, inner.epoch);
        inner.frames.retain(|_, frame| frame.epoch == epoch);
        inner.settle_until(end);
    }

    fn buffer_out(&self, buffer: &gst::BufferRef) {
        let mut inner = lock(&self.0);
        note(&format!("out {} pts {:?}", buffer.offset(), buffer.pts()));
        if let Err(why) = inner.buffer_out(buffer) {
            drop(inner);
            violated(format!("Buffer out {}, {buffer:?}: {why}", buffer.offset()));
        }
    }

    fn event_out(&self, event: &gst::EventRef, src: &gst::Pad) {
        use gst::EventView::*;
        let mut inner = lock(&self.0);
        note(&format!("out {:?} {:?}", event.type_(), event.seqnum()));
        match event.view() {
            StreamStart(_) => {
                // Caps stick to the pad until it is deactivated, and the base class sends the same ones only once.
                (inner.started, inner.eos, inner.caps, inner.segment) = (true, false, src.current_caps(), None);
            }
            Caps(caps) => inner.caps = Some(caps.caps_owned()),
            Segment(segment) => inner.segment = segment.segment().downcast_ref().cloned(),
            FlushStop(_) => (inner.eos, inner.segment) = (false, None),
            Gap(_) if inner.segment.is_none() || inner.caps.is_none() => {
                violated("A GAP event left before caps and segment".into());
            }
            Eos(_) => inner.eos = true,
            _ => (),
        }
    }
}

impl Inner {
    fn buffer_out(&mut self, buffer: &gst::BufferRef) -> Result<(), String> {
        let number = buffer.offset();
        let frame = self.frames.get(&number).ok_or("nothing like it went in, or it left before")?;
        let epoch = frame.epoch;
        let what = Attributes::of(buffer);
        if what != frame.buffer {
            return Err(format!("it went in as {:?} and left as {what:?}", frame.buffer));
        }
        if let Some(last) = self.last.filter(|&last| last >= number) {
            return Err(format!("{last} has left already"));
        }
        if !self.started || self.eos {
            return Err(if self.eos { "it comes after EOS" } else { "it comes before STREAM_START" }.into());
        }
        if self.caps.as_ref() != Some(&frame.caps) {
            return Err(format!("it went in with caps {} and left with {:?}", frame.caps, self.caps));
        }
        let belongs = |out: &Segment| {
            same(out, &frame.segment) || self.sought.iter().any(|&sought| is_rest(out, &frame.segment, sought))
        };
        if !self.segment.as_ref().is_some_and(belongs) {
            return Err(format!("it went in with {:?} and left with {:?}", frame.segment, self.segment));
        }
        if buffer.size() > 0 {
            self.check_bytes(number, buffer)?;
        }
        self.counts.out += 1;
        self.last = Some(number);
        // What has been lost before an epoch was over, a flush has taken.
        self.frames.retain(|&n, frame| n >= number || frame.epoch >= epoch);
        self.settle_until(number);
        self.frames.remove(&number);
        Ok(())
    }

    fn check_bytes(&mut self, number: u64, buffer: &gst::BufferRef) -> Result<(), String> {
        let map = buffer.map_readable().map_err(|error| error.to_string())?;
        let info = &self.frames[&number].info;
        if map.len() < info.size() {
            // Too short for its caps: nothing that could be looked at has been changed.
            return match map.as_slice() == &picture::composite(info, number)[..map.len()] {
                true => Ok(()),
                false => Err("it is too short, and changed".into()),
            };
        }
        let [left, right] = [Side::Left, Side::Right].map(|side| picture::touched(info, number, &map, side));
        self.counts.changed += u64::from(left.is_some() || right.is_some());
        let touched = match self.background {
            Some((Side::Left, since)) if number >= since => left,
            Some((Side::Right, since)) if number >= since => right,
            _ => left.and(right),
        };
        let caps = &self.frames[&number].caps;
        touched.map_or(Ok(()), |what| {
            Err(format!("outside the mask {what}; the mask's background is {:?}; {caps}", self.background))
        })
    }

    /// All that was taken before `end` and has not left is lost.
    fn settle_until(&mut self, end: u64) {
        let epoch = self.epoch;
        let lost: Vec<_> =
            self.frames.range(..end).filter(|(_, frame)| frame.taken == Some(true) && !frame.may_be_lead).collect();
        let lost: Vec<_> = lost.into_iter().map(|(&number, frame)| (number, frame.epoch)).collect();
        if !lost.is_empty() {
            self.counts.lost += lost.len() as u64;
            if !self.may_drop {
                violated(format!("Lost: {lost:?} (number, epoch), before {end}; now it is epoch {epoch}"));
            }
        }
        self.frames.retain(|&n, _| n >= end);
    }
}
