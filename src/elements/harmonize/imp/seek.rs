//! Seeks in exact mode: a frame's transfer depends on others around it, so more is asked for than the seek is for, and what comes
//! of that is seen by the model and leaves no frame. Inside and behind the element the segment is the one that was sought, at
//! upstream's running times: what else comes from the same source, such as sound, goes on with the picture.

use super::{CAT, Harmonize, Mode, lock};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;

type Segment = gst::FormattedSegment<gst::ClockTime>;

/// No seek asks for more than this many nanoseconds beside what it is for: events count them in 63 bits.
const MAX_MARGIN: u64 = 1 << 60;

/// What a seek was for, in stream time, and how it stands with the segments that follow it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Margin {
    number: gst::Seqnum,
    start: gst::ClockTime,
    stop: Option<gst::ClockTime>,
    /// Where composites without timestamps begin: the edge of the segment as the source has sent it.
    first: Option<gst::ClockTime>,
    composite: Stage,
    mask: Stage,
}

/// What has come of a seek to a pad.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Nothing,
    Flush,
    Segment,
}

impl Margin {
    /// Where composites without timestamps begin, if that is not the edge of their segment.
    pub fn first(&self) -> Option<gst::ClockTime> {
        self.first.filter(|_| self.composite == Stage::Segment)
    }

    /// Whether a frame that begins at stream time `time` and lasts for `duration`, in nanoseconds, is no part of what the seek
    /// was for.
    pub fn is_outside(&self, time: i64, duration: u64) -> bool {
        let nanoseconds = |time: gst::ClockTime| i64::try_from(time.nseconds()).unwrap_or(i64::MAX);
        if self.composite != Stage::Segment {
            return false;
        }
        time.saturating_add_unsigned(duration.max(1)) <= nanoseconds(self.start)
            || self.stop.is_some_and(|stop| time >= nanoseconds(stop))
    }
}

/// The stream time that playing begins at after a seek, if that tells it.
pub(super) fn begins_at(seek: &gst::EventRef) -> Option<gst::ClockTime> {
    let gst::EventView::Seek(seek) = seek.view() else { return None };
    let (rate, _, start_type, start, stop_type, stop) = seek.get();
    match if rate < 0.0 { (stop_type, stop) } else { (start_type, start) } {
        (gst::SeekType::Set, gst::GenericFormattedValue::Time(time)) => time,
        _ => None,
    }
}

/// The part of `segment` that was sought.
fn narrowed(segment: &Segment, margin: &Margin) -> Segment {
    let mut sought = segment.clone();
    let (start, stop) = (segment.start().unwrap_or_default(), segment.stop());
    // Edit lists have timestamps begin elsewhere than stream time.
    let at = |time| segment.position_from_stream_time_full(time).and_then(|position| position.positive());
    let to = stop.into_iter().chain(margin.stop.and_then(at)).min();
    let from = at(margin.start).map_or(start, |at| at.max(start));
    let from = to.map_or(from, |to| from.min(to));
    sought.set_start(from);
    sought.set_stop(to);
    // Stream time and running time go on as they were.
    let scaled =
        |time: gst::ClockTime, by: f64| gst::ClockTime::from_nseconds((time.nseconds() as f64 * by).round() as u64);
    sought.set_time(segment.time().map(|time| time + scaled(from - start, segment.applied_rate().abs())));
    let is_backwards = segment.rate() < 0.0;
    let cut =
        if is_backwards { stop.zip(to).map_or(gst::ClockTime::ZERO, |(stop, to)| stop - to) } else { from - start };
    sought.set_base(segment.base().map(|base| base + scaled(cut, 1.0 / segment.rate().abs())));
    sought.set_position(if is_backwards { to } else { Some(from) });
    sought
}

impl Harmonize {
    /// Whether the first frame after this seek is to be shown at once, by itself, where frames wait for others around them.
    pub(super) fn is_rough(&self, event: &gst::Event) -> bool {
        let gst::EventView::Seek(seek) = event.view() else { return false };
        let waits = self.mode() != Mode::Live && lock(&self.settings).temporal().ahead() > 0;
        waits && !seek.get().1.contains(gst::SeekFlags::ACCURATE)
    }

    /// The seek that is to go upstream for `event`. Seeks to key units go where the source likes, and others that don't flush go on
    /// from what is there: they stay as they are.
    pub(super) fn widened(&self, event: gst::Event) -> gst::Event {
        lock(&self.state).margin = None;
        let gst::EventView::Seek(seek) = event.view() else { return event };
        let (rate, flags, start_type, start, stop_type, stop) = seek.get();
        let (gst::GenericFormattedValue::Time(start), gst::GenericFormattedValue::Time(stop)) = (start, stop) else {
            return event;
        };
        let is_plain = flags.contains(gst::SeekFlags::FLUSH)
            && !flags.intersects(
                gst::SeekFlags::KEY_UNIT
                    | gst::SeekFlags::TRICKMODE
                    | gst::SeekFlags::TRICKMODE_KEY_UNITS
                    | gst::SeekFlags::INSTANT_RATE_CHANGE,
            );
        let to_end = stop_type == gst::SeekType::None || stop.is_none();
        let (Some(start), true) = (start, is_plain && start_type == gst::SeekType::Set) else { return event };
        let margin = self.margin_time();
        if margin.is_zero() || !(to_end || stop_type == gst::SeekType::Set) {
            return event;
        }
        let wide = (start.saturating_sub(margin), stop.map(|stop| stop.saturating_add(margin)));
        gst::debug!(CAT, imp = self, "A seek to {start} asks for as much from {} on", wide.0);
        let (number, stop_of_seek) = (event.seqnum(), stop.filter(|_| !to_end));
        let margin =
            Margin { number, start, stop: stop_of_seek, first: None, composite: Stage::Nothing, mask: Stage::Nothing };
        lock(&self.state).margin = Some(margin);
        gst::event::Seek::builder(rate, flags, start_type, Some(wide.0), stop_type, wide.1)
            .seqnum(event.seqnum())
            .build()
    }

    /// Ahead of EOS where no segment has come since a seek: the base class would send the one that it has made of the seek as that
    /// went upstream.
    pub(super) fn narrow_output(&self) {
        let Some(margin) = lock(&self.state).margin else { return };
        let segment = self.obj().src_pad().downcast_ref::<gst_base::AggregatorPad>().map(|src| src.segment());
        if let Some(segment) = segment.and_then(|segment| segment.downcast::<gst::ClockTime>().ok()) {
            self.obj().update_segment(&narrowed(&segment, &margin));
        }
    }

    /// How much is asked for on either side of what a seek is for: whole frames, so that a source whose frames begin where it is
    /// sought to keeps its grid.
    fn margin_time(&self) -> gst::ClockTime {
        if self.mode() == Mode::Live {
            return gst::ClockTime::ZERO;
        }
        let margin = lock(&self.settings).temporal().margin().min(MAX_MARGIN);
        let fps = lock(&self.state).composite.as_ref().map(|video| video.info.fps());
        let whole_frames = fps.filter(|fps| fps.numer() > 0).and_then(|fps| {
            let (frames, seconds) = (fps.numer() as u64, fps.denom() as u64 * 1_000_000_000);
            margin.mul_div_ceil(frames, seconds)?.mul_div_ceil(seconds, frames)
        });
        gst::ClockTime::from_nseconds(whole_frames.unwrap_or(margin).min(MAX_MARGIN))
    }

    /// A flush has begun on a pad: the next segment is that of the seek with this number.
    pub(super) fn is_flushed_for(&self, is_composite: bool, number: gst::Seqnum) {
        let mut state = lock(&self.state);
        let Some(margin) = &mut state.margin else { return };
        let is_its_own = margin.number == number;
        let stage = if is_composite { &mut margin.composite } else { &mut margin.mask };
        match *stage {
            _ if is_its_own => *stage = Stage::Flush,
            // Another one, ahead of the seek's segment: what comes now has nothing to do with the seek.
            Stage::Flush if is_composite => state.margin = None,
            Stage::Flush => *stage = Stage::Nothing,
            _ => (),
        }
    }

    /// The segment event that is to come to the pad for `event`, which the source sent there.
    pub(super) fn sought(&self, is_composite: bool, event: gst::Event) -> gst::Event {
        let gst::EventView::Segment(segment) = event.view() else { return event };
        let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>() else { return event };
        let mut state = lock(&self.state);
        let Some(margin) = &mut state.margin else { return event };
        let stage = if is_composite { &mut margin.composite } else { &mut margin.mask };
        if *stage != Stage::Flush {
            if is_composite && *stage == Stage::Segment {
                // It has nothing to do with the seek any more.
                state.margin = None;
            }
            return event;
        }
        *stage = Stage::Segment;
        let sought = narrowed(segment, margin);
        let first = if segment.rate() < 0.0 { segment.stop() } else { segment.start() };
        if is_composite {
            margin.first = first;
        }
        drop(state);
        if !is_composite {
            lock(&self.masks).first = first;
        }
        gst::event::Segment::builder(&sought)
            .seqnum(event.seqnum())
            .running_time_offset(event.running_time_offset())
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    fn margin(start: u64, stop: Option<u64>) -> Margin {
        let (start, stop) = (ms(start), stop.map(ms));
        Margin {
            number: gst::Seqnum::next(),
            start,
            stop,
            first: None,
            composite: Stage::Segment,
            mask: Stage::Segment,
        }
    }

    fn segment(rate: f64, start: u64, stop: Option<u64>) -> Segment {
        gst::init().unwrap();
        let mut segment = Segment::new();
        segment.set_rate(rate);
        segment.set_start(ms(start));
        segment.set_stop(stop.map(ms));
        segment.set_time(ms(start));
        segment
    }

    #[test]
    fn the_sought_part_keeps_stream_time_and_running_time() {
        for (rate, at, running) in [(1.0, 5000, 1000), (0.5, 5000, 2000), (-1.0, 7000, 1500), (-2.0, 7000, 750)] {
            let wide = segment(rate, 4000, Some(8500));
            let sought = narrowed(&wide, &margin(5000, Some(7000)));
            assert_eq!((sought.start(), sought.stop()), (Some(ms(5000)), Some(ms(7000))), "{rate}");
            assert_eq!(sought.to_running_time(ms(at)), Some(ms(running)), "{rate}");
            for time in [5000, 6000, 7000].map(ms) {
                assert_eq!(sought.to_running_time(time), wide.to_running_time(time), "{rate}");
                assert_eq!(sought.to_stream_time(time), Some(time), "{rate}");
            }
        }
    }

    #[test]
    fn what_was_sought_is_found_where_timestamps_begin_elsewhere_than_stream_time() {
        // As behind an edit list: timestamps are 80 ms ahead.
        let mut shifted = segment(1.0, 4080, Some(8580));
        shifted.set_time(ms(4000));
        let sought = narrowed(&shifted, &margin(5000, Some(7000)));
        assert_eq!((sought.start(), sought.stop()), (Some(ms(5080)), Some(ms(7080))));
        assert_eq!(sought.to_stream_time(ms(6080)), Some(ms(6000)));
    }

    #[test]
    fn a_source_that_begins_later_or_ends_earlier_keeps_its_ends() {
        let ends = |start, stop, margin| {
            let sought = narrowed(&segment(1.0, start, stop), &margin);
            (sought.start().unwrap().mseconds(), sought.stop().map(gst::ClockTime::mseconds))
        };
        assert_eq!(ends(6000, Some(6500), margin(5000, Some(7000))), (6000, Some(6500)));
        assert_eq!(ends(0, None, margin(5000, None)), (5000, None));
        assert_eq!(ends(0, Some(3000), margin(5000, None)), (3000, Some(3000)), "a seek beyond the end");
    }

    #[test]
    fn frames_that_touch_the_sought_part_belong_to_it() {
        let margin = margin(5000, Some(7000));
        let outside = |time: i64, duration: u64| margin.is_outside(time * 1_000_000, duration * 1_000_000);
        assert!(outside(4960, 40) && outside(0, 40) && outside(7000, 40) && outside(9000, 40));
        assert!(!outside(4961, 40) && !outside(5000, 40) && !outside(6990, 40));
    }
}
