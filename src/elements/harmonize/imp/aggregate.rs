//! One call of the base class: a composite is taken from its pad, finds its mask, and leaves, or waits for what comes after it.

use super::composite::{Composite, FrameTime, Or, Otherwise, Prepared, Stop};
use super::output::is_gap;
use super::{CAT, Episode, FLUSH_RETRY, Harmonize, Mode, NEED_DATA, RunningTime, lock};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::time::Duration;

impl Harmonize {
    /// The base class comes here until every pad with data has been served; one call takes one composite.
    pub(super) fn aggregate(&self, timeout: bool) -> Result<gst::FlowSuccess, gst::FlowError> {
        match self.take_composite(timeout) {
            Err(gst::FlowError::Eos) => self.end(),
            taken => taken,
        }
    }

    fn take_composite(&self, timeout: bool) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.stream.is_flushing() || lock(&self.state).is_seeking {
            // What is queued belongs to the flush that is about to reach the pads.
            std::thread::sleep(FLUSH_RETRY);
            return Err(NEED_DATA);
        }
        if lock(&self.state).is_over {
            return Err(gst::FlowError::Eos);
        }
        if let Some(flow) = lock(&self.state).flow.take() {
            return Err(flow);
        }
        let Some(composite) = self.sink.peek_buffer() else {
            if !self.sink.is_eos() {
                return Err(NEED_DATA);
            }
            self.drain(true)?;
            return Err(gst::FlowError::Eos);
        };
        if lock(&self.state).is_flushed {
            return Err(NEED_DATA);
        }
        let place = self.place(&composite).map_err(|error| self.fail(&error))?;
        let passthrough = lock(&self.settings).passthrough;
        let find = |pad| self.find_mask(&pad, place.span.start, timeout || passthrough);
        let mask = self.mask_pad().filter(|_| !place.is_outside).map(find).transpose()?;
        drop(composite);
        let Some(composite) = self.sink.pop_buffer() else { return Err(NEED_DATA) };
        {
            let mut state = lock(&self.state);
            state.last = Some(place.span);
            // GAPs come by no probe.
            state.taken += u64::from(!is_gap(&composite));
        }
        self.ends(Episode::Waiting);
        if is_gap(&composite) {
            let duration = composite.duration().unwrap_or_default().nseconds();
            let gap = Composite { buffer: composite, place, video: None, took: Duration::ZERO };
            self.stream.pass(gap, place.time.saturating_add_unsigned(duration));
            return self.drain(false);
        }
        self.count_in(place);
        // Nothing but a bad control binding fails here, which it says itself.
        let _ = self.obj().sync_values(gst::ClockTime::from_nseconds(place.time.max(0) as u64));
        let mode = self.mode();
        let worked_in = lock(&self.state).worked_in;
        if worked_in.is_some_and(|before| before != mode) {
            // What the other mode has found and begun is over.
            if let Err(flow) = self.drain(true) {
                lock(&self.stats).dropped += u64::from(!place.is_margin);
                return Err(flow);
            }
            self.forget_scene();
        }
        lock(&self.state).worked_in = Some(mode);
        let place = FrameTime { begins: self.is_told_to_begin(&composite, mode), ..place };
        let prepared = if place.is_margin && mode == Mode::Live {
            Ok(Err(Otherwise::Dropped("it belongs to the margin of a seek")))
        } else if place.is_outside {
            Ok(Err(Otherwise::Dropped("it lies outside its segment")))
        } else if self.is_late(&composite, place) {
            Ok(Err(Otherwise::Dropped("it is late")))
        } else if self.has_no_time_left(place, mode, timeout) {
            Ok(Err(Otherwise::Untouched("its time was up when its mask had not come")))
        } else {
            self.prepare(&composite, place, mask, mode)
        };
        let taken = self.take_up(composite, place, mode, prepared);
        if !place.is_margin && std::mem::take(&mut lock(&self.state).shows_first) {
            self.stream.begin_put_off();
        }
        taken.map_err(|stop| self.stopped(stop, place))?;
        self.drain(false)
    }

    /// A composite that belongs to a margin is no frame of the stream.
    fn count_in(&self, place: FrameTime) {
        if !place.is_margin {
            lock(&self.stats).frames_in += 1;
            self.measure();
        }
    }

    /// Has the stream take a composite up, or let it pass, as `prepared` says.
    fn take_up(
        &self,
        mut buffer: gst::Buffer,
        place: FrameTime,
        mode: Mode,
        prepared: Result<Or<Prepared>, Stop>,
    ) -> Result<(), Stop> {
        let time = RunningTime(place.span.start);
        let is_dropped = place.is_margin || matches!(prepared, Ok(Err(Otherwise::Dropped(_))));
        if !is_dropped && std::mem::take(&mut lock(&self.state).discont) {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        if place.is_margin && buffer.flags().contains(gst::BufferFlags::DISCONT) {
            lock(&self.state).leaves_discont = true;
        }
        let otherwise = match prepared {
            Ok(Ok(prepared)) => return self.enter(buffer, place, mode, prepared),
            Ok(Err(otherwise)) => otherwise,
            Err(stop) => {
                self.stream.skip(place.time);
                return Err(stop);
            }
        };
        match otherwise {
            Otherwise::Untouched(_) if place.is_margin => self.stream.skip(place.time),
            Otherwise::Untouched(why) => {
                gst::debug!(CAT, imp = self, "The composite at {time} passes untouched: {why}");
                self.stream.pass(Composite { buffer, place, video: None, took: Duration::ZERO }, place.time);
            }
            Otherwise::Dropped(why) => {
                gst::debug!(CAT, imp = self, "The composite at {time} is dropped: {why}");
                self.stream.skip(place.time);
                if !place.is_margin {
                    lock(&self.stats).dropped += 1;
                    lock(&self.state).discont = true;
                }
            }
        }
        Ok(())
    }

    /// What the base class is told of a frame that goes no further.
    pub(super) fn stopped(&self, stop: Stop, place: FrameTime) -> gst::FlowError {
        gst::debug!(CAT, imp = self, "The composite at {} goes no further", RunningTime(place.span.start));
        lock(&self.stats).dropped += u64::from(!place.is_margin);
        match stop {
            Stop::Flushed => NEED_DATA,
            Stop::Reported => gst::FlowError::Error,
            Stop::Failed(error) => self.fail(&error),
        }
    }

    /// Whether a scene begins with this composite, whatever it looks like. In live mode a source that loses frames is no reason:
    /// a new scene has no transfer at first. Nor is one played backwards, which sources do in pieces.
    fn is_told_to_begin(&self, composite: &gst::BufferRef, mode: Mode) -> bool {
        let scene = lock(&self.settings).scene;
        let mut state = lock(&self.state);
        let is_another = state.scene.replace(scene).is_some_and(|before| before != scene);
        let is_hole = composite.flags().contains(gst::BufferFlags::DISCONT) && self.sink.segment().rate() > 0.0;
        // Until a frame is looked at: those before that pass untouched belong to no scene.
        state.scene_begins |= is_another || (is_hole && mode != Mode::Live);
        state.scene_begins
    }
}
