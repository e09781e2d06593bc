//! Seeks in exact mode: a frame's transfer depends on others around it, so more is asked for than the seek is for, and what comes
//! of that is seen by the model and leaves no frame. Inside and behind the element the segment is the one that was sought.

use super::{CAT, Harmonize, Mode, lock};
use gst::prelude::*;
use gst::subclass::prelude::*;

type Segment = gst::FormattedSegment<gst::ClockTime>;

/// No seek asks for more than this many nanoseconds beside what it is for: events count them in 63 bits.
const LONGEST: u64 = 1 << 60;

/// What a seek was for, in stream time, and how it stands with the segments that follow it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lead {
    start: gst::ClockTime,
    stop: Option<gst::ClockTime>,
    /// Whether the composite's and the mask's segments are still to come.
    awaits_composite: bool,
    awaits_mask: bool,
    /// By how much upstream's running time is ahead of the one here.
    shift: gst::ClockTime,
}

impl Lead {
    /// Whether a frame that begins at stream time `time` and lasts for `duration`, in nanoseconds, is no part of what the seek
    /// was for.
    pub fn is_outside(&self, time: i64, duration: u64) -> bool {
        let nanoseconds = |time: gst::ClockTime| i64::try_from(time.nseconds()).unwrap_or(i64::MAX);
        time.saturating_add_unsigned(duration.max(1)) <= nanoseconds(self.start)
            || self.stop.is_some_and(|stop| time >= nanoseconds(stop))
    }
}

/// The part of `segment` that was sought, and what that takes off its running time.
fn narrowed(segment: &Segment, lead: &Lead) -> (Segment, gst::ClockTime) {
    let mut sought = segment.clone();
    let (start, stop) = (segment.start().unwrap_or_default(), segment.stop());
    // Edit lists have timestamps begin elsewhere than stream time.
    let at = |time| segment.position_from_stream_time_full(time).and_then(|position| position.positive());
    let (from, to) =
        (at(lead.start).map_or(start, |at| at.max(start)), stop.into_iter().chain(lead.stop.and_then(at)).min());
    sought.set_start(from);
    sought.set_stop(to);
    // Stream time goes on as it was.
    let applied = segment.applied_rate().abs();
    let later = (from - start).nseconds() as f64 * applied;
    sought.set_time(segment.time().map(|time| time + gst::ClockTime::from_nseconds(later.round() as u64)));
    sought.set_position(if segment.rate() < 0.0 { to } else { Some(from) });
    let cut = if segment.rate() < 0.0 {
        stop.zip(to).map_or(gst::ClockTime::ZERO, |(stop, to)| stop - to)
    } else {
        from - start
    };
    let shift = cut.nseconds() as f64 / segment.rate().abs();
    (sought, gst::ClockTime::from_nseconds(shift.round() as u64))
}

impl Harmonize {
    /// The seek that is to go upstream for `event`. Seeks to key units go where the source likes, and others that don't flush go on
    /// from what is there: they stay as they are.
    pub(super) fn widened(&self, event: gst::Event) -> gst::Event {
        lock(&self.state).lead = None;
        let gst::EventView::Seek(seek) = event.view() else { return event };
        let (rate, flags, start_type, start, stop_type, stop) = seek.get();
        let (gst::GenericFormattedValue::Time(start), gst::GenericFormattedValue::Time(stop)) = (start, stop) else {
            return event;
        };
        let is_plain = flags.contains(gst::SeekFlags::FLUSH)
            && !flags
                .intersects(gst::SeekFlags::KEY_UNIT | gst::SeekFlags::TRICKMODE | gst::SeekFlags::INSTANT_RATE_CHANGE);
        let to_end = stop_type == gst::SeekType::None || stop.is_none();
        let (Some(start), true) = (start, is_plain && start_type == gst::SeekType::Set) else { return event };
        let lead = self.lead_time();
        if lead.is_zero() || !(to_end || stop_type == gst::SeekType::Set) {
            return event;
        }
        let wide = (start.saturating_sub(lead), stop.map(|stop| stop.saturating_add(lead)));
        gst::debug!(CAT, imp = self, "A seek to {start} asks for as much from {} on", wide.0);
        lock(&self.state).lead = Some(Lead {
            start,
            stop: stop.filter(|_| !to_end),
            awaits_composite: true,
            awaits_mask: true,
            shift: gst::ClockTime::ZERO,
        });
        gst::event::Seek::builder(rate, flags, start_type, Some(wide.0), stop_type, wide.1)
            .seqnum(event.seqnum())
            .build()
    }

    /// How much is asked for on either side of what a seek is for: whole frames, so that a source whose frames begin where it is
    /// sought to keeps its grid.
    fn lead_time(&self) -> gst::ClockTime {
        if self.mode() == Mode::Live {
            return gst::ClockTime::ZERO;
        }
        let lead = lock(&self.settings).temporal().lead().min(LONGEST);
        let fps = lock(&self.state).composite.as_ref().map(|video| video.info.fps());
        let whole_frames = fps.filter(|fps| fps.numer() > 0).and_then(|fps| {
            let (frames, seconds) = (fps.numer() as u64, fps.denom() as u64 * 1_000_000_000);
            lead.mul_div_ceil(frames, seconds)?.mul_div_ceil(seconds, frames)
        });
        gst::ClockTime::from_nseconds(whole_frames.unwrap_or(lead).min(LONGEST))
    }

    /// The segment event that is to come to the pad for `event`, which the source sent there.
    pub(super) fn sought(&self, is_composite: bool, event: gst::Event) -> gst::Event {
        let gst::EventView::Segment(segment) = event.view() else { return event };
        let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>() else { return event };
        let mut state = lock(&self.state);
        let Some(lead) = &mut state.lead else { return event };
        let awaits = if is_composite { &mut lead.awaits_composite } else { &mut lead.awaits_mask };
        if !std::mem::take(awaits) {
            if is_composite {
                // It has nothing to do with the seek any more.
                state.lead = None;
            }
            return event;
        }
        let (sought, shift) = narrowed(segment, lead);
        if is_composite {
            lead.shift = shift;
        }
        drop(state);
        gst::event::Segment::builder(&sought)
            .seqnum(event.seqnum())
            .running_time_offset(event.running_time_offset())
            .build()
    }

    /// What upstream is to hear of downstream's time, in its own running time.
    pub(super) fn shifted(&self, event: gst::Event) -> gst::Event {
        let shift = lock(&self.state).lead.map_or(gst::ClockTime::ZERO, |lead| lead.shift);
        let gst::EventView::Qos(qos) = event.view() else { return event };
        if shift.is_zero() {
            return event;
        }
        let (type_, proportion, diff, timestamp) = qos.get();
        gst::event::Qos::builder(type_, proportion, diff)
            .timestamp(timestamp.map(|timestamp| timestamp.saturating_add(shift)))
            .seqnum(event.seqnum())
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    fn lead(start: u64, stop: Option<u64>) -> Lead {
        let (start, stop) = (ms(start), stop.map(ms));
        Lead { start, stop, awaits_composite: true, awaits_mask: true, shift: gst::ClockTime::ZERO }
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
    fn the_sought_part_begins_at_running_time_zero_and_keeps_stream_time() {
        for (rate, at, shift) in [(1.0, 5000, 1000), (0.5, 5000, 2000), (-1.0, 7000, 1500), (-2.0, 7000, 750)] {
            let (sought, cut) = narrowed(&segment(rate, 4000, Some(8500)), &lead(5000, Some(7000)));
            assert_eq!((sought.start(), sought.stop()), (Some(ms(5000)), Some(ms(7000))), "{rate}");
            assert_eq!(sought.to_running_time(ms(at)), Some(gst::ClockTime::ZERO), "{rate}");
            assert_eq!(sought.to_stream_time(ms(6000)), Some(ms(6000)), "{rate}");
            assert_eq!(cut, ms(shift), "{rate}");
        }
    }

    #[test]
    fn a_source_that_begins_later_or_ends_earlier_keeps_its_ends() {
        let (sought, cut) = narrowed(&segment(1.0, 6000, Some(6500)), &lead(5000, Some(7000)));
        assert_eq!((sought.start(), sought.stop(), cut), (Some(ms(6000)), Some(ms(6500)), gst::ClockTime::ZERO));
        let (sought, _) = narrowed(&segment(1.0, 0, None), &lead(5000, None));
        assert_eq!((sought.start(), sought.stop()), (Some(ms(5000)), None));
    }

    #[test]
    fn what_was_sought_is_found_where_timestamps_begin_elsewhere_than_stream_time() {
        // As behind an edit list: timestamps are 80 ms ahead.
        let mut shifted = segment(1.0, 4080, Some(8580));
        shifted.set_time(ms(4000));
        let (sought, cut) = narrowed(&shifted, &lead(5000, Some(7000)));
        assert_eq!((sought.start(), sought.stop(), cut), (Some(ms(5080)), Some(ms(7080)), ms(1000)));
        assert_eq!(sought.to_stream_time(ms(6080)), Some(ms(6000)));
    }

    #[test]
    fn frames_that_touch_the_sought_part_belong_to_it() {
        let lead = lead(5000, Some(7000));
        let outside = |time: i64, duration: u64| lead.is_outside(time * 1_000_000, duration * 1_000_000);
        assert!(outside(4960, 40) && outside(0, 40) && outside(7000, 40) && outside(9000, 40));
        assert!(!outside(4961, 40) && !outside(5000, 40) && !outside(6990, 40));
    }
}
