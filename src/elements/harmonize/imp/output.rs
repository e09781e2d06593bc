//! What leaves the element: events ahead of a frame, frames, GAPs, and the statistics.

use super::super::video::Video;
use super::{Harmonize, lock};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::time::{Duration, Instant};

/// A GAP event, which the base class has made a buffer.
pub(super) fn is_gap(buffer: &gst::BufferRef) -> bool {
    buffer.size() == 0 && buffer.flags().contains(gst::BufferFlags::GAP | gst::BufferFlags::DROPPABLE)
}

impl Harmonize {
    /// Sends caps and tags ahead of the next output, and hands out the segment, which the base class sends with a buffer.
    pub(super) fn announce(&self) -> Option<gst::Event> {
        let (caps, segment, tags) = {
            let mut state = lock(&self.state);
            let segment = state.segment.take();
            if segment.is_some() {
                state.announced.clone_from(&segment);
            }
            (state.caps.take(), segment, std::mem::take(&mut state.tags))
        };
        if let Some(caps) = caps {
            self.obj().set_src_caps(&caps);
        }
        for event in tags {
            self.obj().src_pad().push_event(event);
        }
        segment
    }

    pub(super) fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        if let Some(segment) = self.announce().or_else(|| self.overtaken())
            && let gst::EventView::Segment(segment) = segment.view()
            && let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>()
        {
            // Once more: a seek changes the base class's at once, ahead of the frames that were on their way.
            self.obj().update_segment(segment);
        }
        let position = self.position_after(&buffer);
        self.obj().selected_samples(buffer.pts(), buffer.dts(), buffer.duration(), None);
        let flow = self.obj().finish_buffer(buffer);
        // In the midst of a flush the base class drops the frame and calls that a success.
        let is_out = flow.is_ok() && !self.stream.is_flushing();
        if is_out && position.is_some() {
            lock(&self.state).position = position;
        }
        let mut stats = lock(&self.stats);
        *if is_out { &mut stats.frames_out } else { &mut stats.dropped } += 1;
        flow
    }

    /// The segment of the frames that leave, where a seek has put its own in its place: one that doesn't flush comes ahead of them.
    fn overtaken(&self) -> Option<gst::Event> {
        let announced = lock(&self.state).announced.clone()?;
        let gst::EventView::Segment(segment) = announced.view() else { return None };
        let place = |segment: &gst::FormattedSegment<gst::ClockTime>| {
            (segment.rate(), segment.start(), segment.stop(), segment.time(), segment.base())
        };
        let own = self.obj().src_pad().downcast_ref::<gst_base::AggregatorPad>()?.segment();
        let is_own = place(own.downcast_ref()?) == place(segment.segment().downcast_ref()?);
        (!is_own).then_some(announced)
    }

    /// The stream time that downstream has come to with this frame.
    fn position_after(&self, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
        let frame = lock(&self.state).composite.as_ref().and_then(Video::frame_duration);
        let segment = self.obj().src_pad().downcast_ref::<gst_base::AggregatorPad>()?.segment();
        let segment = segment.downcast::<gst::ClockTime>().ok()?;
        let (start, stop) = (buffer.pts()?, segment.stop());
        // Played backwards, a frame ends where it begins in the stream.
        let lasts = buffer.duration().or(frame).filter(|_| segment.rate() > 0.0).unwrap_or_default();
        let end = start.saturating_add(lasts);
        segment.to_stream_time(stop.map_or(end, |stop| end.min(stop)).max(segment.start().unwrap_or_default()))
    }

    /// Posts `stats` where their time has come.
    pub(super) fn post_stats(&self, time: i64) {
        let interval = lock(&self.settings).stats_interval;
        if interval == 0 {
            return;
        }
        {
            let mut state = lock(&self.state);
            let now = Instant::now();
            if now.duration_since(*state.posted.get_or_insert(now)) < Duration::from_nanos(interval) {
                return;
            }
            state.posted = Some(now);
        }
        let mut stats = self.stats();
        stats.set("running-time", time.max(0) as u64);
        // Refused only while the element has no bus.
        let _ = self.obj().post_message(gst::message::Element::builder(stats).src(&*self.obj()).build());
    }

    pub(super) fn push_gap(&self, gap: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let segment = self.announce();
        let src = self.obj().src_pad().clone();
        if let (Some(pts), true) = (gap.pts(), src.has_current_caps()) {
            segment.map(|segment| src.push_event(segment));
            src.push_event(gst::event::Gap::builder(pts).duration(gap.duration()).build());
        }
        Ok(gst::FlowSuccess::Ok)
    }
}
