//! The mask stream as the element sees it: the frame that goes with a composite, and that frame as a `Mask`.

use super::pairing::{Head, Pair, Span, pair};
use super::video::Video;
use crate::frame::{Mask, MaskSettings};
use anyhow::{Context, Result, anyhow};
use gst_base::prelude::*;
use std::sync::Arc;

/// A buffer of the mask stream. Empty where the stream says that it has no mask.
#[derive(Clone)]
pub struct MaskFrame {
    buffer: gst::Buffer,
    video: Video,
    span: Span,
}

impl MaskFrame {
    /// In running time.
    pub fn start(&self) -> i64 {
        self.span.start
    }

    pub fn is_gap(&self) -> bool {
        self.buffer.size() == 0
    }
}

/// The mask read last, to be had again by the next composite of the same mask buffer.
struct Read {
    buffer: gst::Buffer,
    size: (usize, usize),
    settings: MaskSettings,
    mask: Arc<Mask>,
}

#[derive(Default)]
pub struct Masks {
    video: Option<Video>,
    /// The frame taken from the pad last, how far the one before it began ahead of it, and how many the stream has had.
    held: Option<MaskFrame>,
    interval: Option<i64>,
    frames: u64,
    stream: Option<String>,
    read: Option<Read>,
    /// Where the first mask begins if it has no timestamp, other than at the edge of its segment.
    pub first: Option<gst::ClockTime>,
    /// No segment has come since the last flush: what is still taken off the pad is from before it.
    pub is_flushed: bool,
    /// The running time of a composite that waits no longer, and the PTS of the GAP that tells so.
    given_up: Option<(i64, gst::ClockTime)>,
}

/// A composite's mask.
pub struct FoundMask {
    pub frame: Option<MaskFrame>,
    pub pair: Pair,
}

impl Masks {
    pub fn set_video(&mut self, video: Video) {
        self.video = Some(video);
    }

    /// Forgets all frames, as after a flush. A stream that has had more than one is no still for that, wherever it goes on.
    pub fn forget(&mut self) {
        let frames = if self.frames > 1 { self.frames } else { 0 };
        let (video, stream) = (self.video.take(), self.stream.take());
        *self = Self { video, stream, frames, is_flushed: true, ..Self::default() };
    }

    /// A stream begins: another one, or the same once more after a seek.
    pub fn begin_stream(&mut self, id: &str) {
        if self.stream.as_deref() != Some(id) {
            (self.stream, self.frames) = (Some(id.to_owned()), 0);
        }
    }

    fn hold(&mut self, frame: MaskFrame) {
        self.interval = self.held.as_ref().map(|held| frame.span.start - held.span.start).filter(|&apart| apart > 0);
        (self.held, self.frames) = (Some(frame), self.frames + 1);
    }

    /// The span of the frame taken last: at the stream's end, one without a duration lasts as long as the one before it.
    fn held_span(&self, is_over: bool) -> Option<Span> {
        let span = self.held.as_ref()?.span;
        let lasts = self.interval.filter(|_| is_over && span.end.is_none());
        Some(lasts.map_or(span, |interval| Span { end: Some(span.start.saturating_add(interval)), ..span }))
    }

    /// Takes all frames off `pad`, and holds the last one.
    pub fn hold_last(&mut self, pad: &gst_base::AggregatorPad) {
        while let Some(buffer) = pad.pop_buffer() {
            if let Ok(frame) = self.frame(pad, buffer) {
                self.hold(frame);
            }
        }
    }

    /// Lets the composite at `time` go without its mask once a GAP of PTS `gap` has come; false if that is on its way.
    pub fn give_up(&mut self, time: i64, gap: gst::ClockTime) -> bool {
        self.given_up.replace((time, gap)) != Some((time, gap))
    }

    /// The mask of the composite that starts at running time `time`; `None` if it may be still to come.
    pub fn find(&mut self, pad: &gst_base::AggregatorPad, time: i64, timeout: bool) -> Result<Option<FoundMask>> {
        let mut advanced = false;
        let timeout = timeout || self.given_up.is_some_and(|(given_up, _)| given_up == time);
        loop {
            let head = pad.peek_buffer().filter(|_| !self.is_flushed);
            if head.as_ref().is_some_and(|head| head.size() == 0 && self.given_up.map(|(_, gap)| gap) == head.pts()) {
                pad.drop_buffer();
                continue;
            }
            let head = head.map(|buffer| self.frame(pad, buffer)).transpose()?;
            let offer = match &head {
                Some(frame) => Head::Mask(frame.span),
                None if pad.is_eos() && self.frames > 1 => Head::Eos,
                None if pad.is_eos() => Head::Still,
                None => Head::Empty,
            };
            // Behind a frame just taken may lie an event, which the base class has to handle before anything is late.
            let pair = pair(time, self.held_span(offer == Head::Eos), offer, timeout && !advanced);
            let frame = match pair {
                Pair::Wait => return Ok(None),
                Pair::Advance => {
                    pad.drop_buffer();
                    head.into_iter().for_each(|head| self.hold(head));
                    advanced = true;
                    continue;
                }
                Pair::Head => head,
                Pair::Held | Pair::Stale => self.held.clone(),
                Pair::Missing => None,
            };
            return Ok(Some(FoundMask { frame, pair }));
        }
    }

    fn frame(&self, pad: &gst_base::AggregatorPad, buffer: gst::Buffer) -> Result<MaskFrame> {
        let segment = pad.segment().downcast().map_err(|_| anyhow!("a mask came before its segment"))?;
        let video = self.video.clone().context("a mask came before its caps")?;
        let held = self.held.as_ref().map(|held| held.span);
        let before = held.or_else(|| Span::before(&segment, self.first?));
        let span = Span::new(&segment, &buffer, video.frame_duration(), before).context(
            "a mask has no timestamp, and neither the duration of the one before nor a frame rate tells its time",
        )?;
        Ok(MaskFrame { buffer, video, span })
    }

    /// `frame` as the mask of a composite of `size`.
    pub fn read(&mut self, frame: &MaskFrame, size: (usize, usize), settings: MaskSettings) -> Result<Arc<Mask>> {
        if let Some(read) = &self.read
            && read.buffer.as_ptr() == frame.buffer.as_ptr()
            && (read.size, read.settings) == (size, settings)
        {
            return Ok(read.mask.clone());
        }
        settings.check(frame.video.format)?;
        // The memory of the mask before, which no frame is at work with any more.
        let mut mask = self.read.take().and_then(|read| Arc::into_inner(read.mask)).unwrap_or_default();
        let read = frame.video.read(&frame.buffer, |picture| mask.read(picture, settings, size.0, size.1));
        read.context("can't read a mask")?;
        let mask = Arc::new(mask);
        self.read = Some(Read { buffer: frame.buffer.clone(), size, settings, mask: mask.clone() });
        Ok(mask)
    }
}
