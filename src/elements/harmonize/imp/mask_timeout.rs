//! How long a composite waits for its mask in a pipeline that is not live. The base class waits there until every pad has
//! data, without a limit: a GAP on the mask pad in the place of the missing mask ends that.
//!
//! Composites are numbered as they arrive and as they are taken up, so that a time that is over for one that is no longer there
//! means nothing.

use super::super::settings::AUTOMATIC;
use super::{CAT, Episode, Harmonize, RunningTime, lock};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::time::Duration;

/// A wait without a limit is told of after this.
const HINT: Duration = Duration::from_secs(5);

/// How often a composite whose time is over is looked after until it is taken up.
const AGAIN: Duration = Duration::from_millis(10);

impl Harmonize {
    /// Counts a composite on its arrival, and looks after it when its time is over.
    pub(super) fn arrived(&self) {
        let (number, is_live) = {
            let mut state = lock(&self.state);
            state.arrived += 1;
            (state.arrived, state.is_live)
        };
        if !is_live && self.mask_pad().is_some() {
            self.look_after_in(self.mask_timeout().unwrap_or(HINT), number);
        }
    }

    /// Looks after the composite that waits while a property is set that may end its wait.
    pub(super) fn look_after_next(&self) {
        let next = lock(&self.state).taken + 1;
        if self.mask_timeout().is_some() {
            self.look_after_in(Duration::ZERO, next);
        }
    }

    /// How long a composite waits for its mask, if not without end.
    fn mask_timeout(&self) -> Option<Duration> {
        let settings = lock(&self.settings);
        match settings.mask_timeout {
            _ if settings.passthrough => Some(Duration::ZERO),
            AUTOMATIC => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    fn look_after_in(&self, time: Duration, number: u64) {
        let clock = gst::SystemClock::obtain();
        let ns = u64::try_from(time.as_nanos()).ok().and_then(|ns| ns.checked_add(clock.time().nseconds()));
        let Some(time) = ns.and_then(|ns| gst::ClockTime::try_from(ns).ok()) else { return };
        let element = self.obj().downgrade();
        // Refused only by a clock that is going away, and then so is the process.
        let _ = clock.new_single_shot_id(time).wait_async(move |_, _, _| {
            if let Some(element) = element.upgrade() {
                // The clock's thread serves everyone.
                element.call_async(move |element| element.imp().look_after(number));
            }
        });
    }

    /// What to do about composite `number`, whose time is over, if it has not been taken up yet.
    fn look_after(&self, number: u64) {
        let (is_there, is_next) = {
            let state = lock(&self.state);
            (state.is_started && !state.is_live && state.taken < number, state.taken + 1 == number)
        };
        let Some(mask) = self.mask_pad().filter(|mask| is_there && !mask.is_eos()) else { return };
        let waiting = if is_next && !mask.has_buffer() { self.sink.peek_buffer() } else { None };
        if let Some(place) = waiting.and_then(|composite| self.place(&composite).ok()) {
            let time = place.span.start;
            if self.mask_timeout().is_none() {
                return self.hint(time);
            }
            // Up to the GAP itself, so that a source that begins its own stream meanwhile, or a flush, comes before all of this
            // or after it: caps in the midst of a source's own would have every mask of it misread.
            let _stream = mask.stream_lock();
            if let Some(gap) = self.gap(&mask, time).filter(|&gap| lock(&self.masks).give_up(time, gap)) {
                gst::debug!(CAT, imp = self, "The composite at {} waits no longer for its mask", RunningTime(time));
                mask.send_event(gst::event::Gap::builder(gap).build());
            }
        }
        // It may have to wait for the one before it yet, or be offered masks that are over.
        self.look_after_in(AGAIN, number);
    }

    fn hint(&self, time: i64) {
        if self.begins(Episode::Waiting) {
            self.warn(&format!(
                "The composite at running time {} has been waiting for its mask for {HINT:?}: end a mask stream with EOS, or set \
                 mask-timeout",
                RunningTime(time)
            ));
        }
    }

    /// A PTS of the mask stream for running time `time`. A stream that has not begun is begun.
    fn gap(&self, mask: &gst_base::AggregatorPad, time: i64) -> Option<gst::ClockTime> {
        if mask.sticky_event::<gst::event::StreamStart>(0).is_none() {
            mask.send_event(gst::event::StreamStart::new("no-mask"));
        }
        if !mask.has_current_caps() {
            let still = gst_video::VideoCapsBuilder::new().format(gst_video::VideoFormat::Gray8).width(1).height(1);
            mask.send_event(gst::event::Caps::new(&still.framerate(gst::Fraction::new(0, 1)).build()));
        }
        if mask.sticky_event::<gst::event::Segment>(0).is_none() {
            mask.send_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        }
        let segment = mask.sticky_event::<gst::event::Segment>(0)?;
        let segment = segment.segment().downcast_ref::<gst::ClockTime>()?.clone();
        let time = gst::ClockTime::from_nseconds(u64::try_from(time).unwrap_or(0));
        // Where the segment does not reach, its beginning does as well: a GAP counts for nothing but its arrival.
        segment.position_from_running_time(time).or(segment.start())
    }
}
