//! What leaves the stream: harmonized, or as the policies have it, and in the order in which it came.

use super::composite::{Composite, Otherwise};
use super::output::is_gap;
use super::{CAT, Episode, Harmonize, Mode, RunningTime, lock};
use crate::engine::{Applied, Outcome, Ready};
use gst::subclass::prelude::*;
use std::time::Duration;

impl Harmonize {
    /// Sends the frames that may leave; all of them at the `end` of a scene.
    pub(super) fn drain(&self, end: bool) -> Result<gst::FlowSuccess, gst::FlowError> {
        let workers = self.model.loaded().map_or(1, |loaded| loaded.workers);
        let held = if lock(&self.state).is_live { 0 } else { workers.saturating_sub(1) };
        while let Some(ready) = self.stream.next(end, held, &mut |ended| self.ended(ended)) {
            self.leave(ready)?;
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Forgets the frames that wait and all that has been found: what comes next has nothing to do with them.
    pub(super) fn forget_scene(&self) {
        let dropped = self.stream.reset().filter(|composite| !is_gap(&composite.buffer)).count();
        lock(&self.stats).dropped += dropped as u64;
    }

    fn leave(&self, ready: Ready<Composite>) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Ready { frame: Composite { buffer, place, took, .. }, outcome, took: in_stream } = ready;
        let (start, time) = (place.span.start, RunningTime(place.span.start));
        let otherwise = match outcome {
            Ok(Outcome::Margin) => return Ok(gst::FlowSuccess::Ok),
            Ok(Outcome::Passed) if is_gap(&buffer) => return self.push_gap(&buffer),
            Ok(Outcome::Passed) => {
                lock(&self.stats).passed_through += 1;
                return self.send(buffer, start);
            }
            Ok(Outcome::Harmonized(applied)) => {
                gst::debug!(CAT, imp = self, "The composite at {time} is harmonized");
                self.count_harmonized(start, &applied, took + in_stream);
                return self.send(buffer, start);
            }
            Ok(Outcome::Failed) => self.without_inference(),
            Ok(Outcome::NotReady) if lock(&self.state).is_in(Episode::Failing) => self.without_inference(),
            Ok(Outcome::NotReady) => self.not_ready(),
            Err(stopped) => return Err(self.stopped(stopped.into(), place)),
        };
        match otherwise {
            Otherwise::Dropped(why) => {
                gst::debug!(CAT, imp = self, "The composite at {time} is dropped: {why}");
                lock(&self.stats).dropped += 1;
                lock(&self.state).leaves_discont = true;
                Ok(gst::FlowSuccess::Ok)
            }
            Otherwise::Untouched(why) => {
                gst::debug!(CAT, imp = self, "The composite at {time} passes untouched: {why}");
                lock(&self.stats).passed_through += 1;
                self.send(buffer, start)
            }
        }
    }

    fn count_harmonized(&self, start: i64, applied: &Applied, took: Duration) {
        if lock(&self.state).worked_in == Some(Mode::Live) {
            self.ends(Episode::NotReady);
            lock(&self.state).had_transfer = true;
        }
        let mut stats = lock(&self.stats);
        stats.harmonized += 1;
        stats.transfer_age = Duration::from_nanos(start.abs_diff(applied.time));
        stats.work.push(took);
    }

    fn send(&self, mut buffer: gst::Buffer, start: i64) -> Result<gst::FlowSuccess, gst::FlowError> {
        if std::mem::take(&mut lock(&self.state).leaves_discont) {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        self.post_stats(start);
        self.push(buffer)
    }
}
