//! How long a composite waits for its mask in a pipeline that is not live. The base class waits there until every pad has
//! data, without a limit: a GAP on the mask pad in the place of the missing mask ends that.
//!
//! Composites are numbered as they arrive and as they are taken up, so that a time that is over for one that is no longer there
//! means nothing.

use super::super::settings::AUTOMATIC;
use super::{CAT, Clock, Episode, Harmonize, lock};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::time::Duration;

/// A wait without a limit is told of after this.
const HINT: Duration = Duration::from_secs(5);

impl Harmonize {
    /// Counts a composite on its arrival, and looks after it when its time is over.
    pub(super) fn arrived(&self) {
        let number = {
            let mut state = lock(&self.state);
            state.arrived += 1;
            if state.is_live {
                return;
            }
            state.arrived
        };
        let patience = self.patience().unwrap_or(HINT);
        let Some(time) = self.mask_pad().and_then(|_| {
            let now = gst::SystemClock::obtain().time();
            now.checked_add(gst::ClockTime::from_nseconds(u64::try_from(patience.as_nanos()).ok()?))
        }) else {
            return;
        };
        let element = self.obj().downgrade();
        let id = gst::SystemClock::obtain().new_single_shot_id(time);
        // Refused for a clock that is going away: then so is the process.
        let _ = id.wait_async(move |_, _, _| {
            if let Some(element) = element.upgrade() {
                // The clock's thread serves everyone.
                element.call_async(move |element| element.imp().look_after(number));
            }
        });
    }

    /// How long a composite waits for its mask, if not without end.
    fn patience(&self) -> Option<Duration> {
        let settings = lock(&self.settings);
        match settings.mask_timeout {
            _ if settings.passthrough => Some(Duration::ZERO),
            AUTOMATIC => None,
            ns => Some(Duration::from_nanos(ns)),
        }
    }

    /// Looks after the composite that waits while a property is set that may end its wait.
    pub(super) fn look_after_next(&self) {
        let next = lock(&self.state).taken + 1;
        if self.patience().is_some() {
            self.obj().call_async(move |element| element.imp().look_after(next));
        }
    }

    /// What to do about composite `number` if it is still waiting.
    fn look_after(&self, number: u64) {
        let is_waiting = {
            let state = lock(&self.state);
            state.is_started && !state.is_live && state.taken + 1 == number
        };
        let Some(mask) = self.mask_pad().filter(|mask| is_waiting && !mask.has_buffer() && !mask.is_eos()) else {
            return;
        };
        let Some(time) = self.sink.peek_buffer().and_then(|composite| self.place(&composite).ok()) else { return };
        let time = time.span.start;
        if self.patience().is_none() {
            if self.begins(Episode::Waiting) {
                self.warn(&format!(
                    "The composite at running time {} has been waiting for its mask for {HINT:?}: end a mask stream with EOS, or \
                     set mask-timeout",
                    Clock(time)
                ));
            }
            return;
        }
        gst::debug!(CAT, imp = self, "The composite at {} waits no longer for its mask", Clock(time));
        if let Some(gap) = self.gap(&mask, time) {
            lock(&self.masks).give_up(time, gap);
            mask.send_event(gst::event::Gap::builder(gap).build());
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
