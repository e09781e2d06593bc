//! One composite's way into the stream: its place in time, its mask, the model, and what the policies make of it where one of
//! these or its transfer is missing.

use super::super::masks::MaskFrame;
use super::super::model::Unavailable;
use super::super::pairing::{Pair, Span, nanoseconds};
use super::super::settings::Settings;
use super::super::video::Video;
use super::super::{Mode, OnError, OnMissingMask, OnNotReady};
use super::{CAT, Episode, Harmonize, NEED_DATA, lock};
use crate::engine::{Ended, Engine, Entry, Frame, Policy, RunningTime, Stopped};
use crate::frame::{self, Mask, MaskSettings, Picture, PictureMut};
use anyhow::{Context, Error, Result, anyhow};
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A composite on its way through the stream, or a GAP in its place.
pub(super) struct Composite {
    pub buffer: gst::Buffer,
    pub place: FrameTime,
    pub video: Option<Video>,
    /// What it has taken of the streaming thread before it was pushed.
    pub took: Duration,
}

impl Frame for Composite {
    fn read<R>(&self, f: impl FnOnce(&Picture) -> R) -> Result<R> {
        let video = self.video.as_ref().context("no caps")?;
        video.read(&self.buffer, f).context("Pad sink: can't read a composite")
    }

    fn write<R>(&mut self, f: impl FnOnce(&mut PictureMut) -> R) -> Result<R> {
        let video = self.video.as_ref().context("no caps")?;
        video.write(self.buffer.make_mut(), f).context("Pad sink: can't write a composite")
    }
}

/// What becomes of a frame that is not harmonized, and why.
pub(super) enum Otherwise {
    Untouched(&'static str),
    Dropped(&'static str),
}

/// Why a frame goes no further, or its stream with it.
pub(super) enum Stop {
    Flushed,
    Reported,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Stopped> for Stop {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Flushed => Self::Flushed,
            Stopped::Failed(error) => Self::Failed(error),
        }
    }
}

/// A composite's place in time: in nanoseconds of running time, and as stream time within its segment.
#[derive(Clone, Copy)]
pub(super) struct FrameTime {
    pub span: Span,
    pub stream_time: Option<gst::ClockTime>,
    /// Nanoseconds of stream time, before and after the segment too; of running time where there is none.
    pub time: i64,
    /// A scene begins here, whatever the picture says.
    pub begins: bool,
    /// It was asked for beside what a seek was for, and is no frame of the stream.
    pub is_margin: bool,
    /// Nothing of it lies within its segment.
    pub is_outside: bool,
}

/// What there is of something that a frame needs, or what becomes of the frame without it.
pub(super) type Or<T> = Result<T, Otherwise>;

/// What a composite is harmonized with.
pub(super) struct Prepared {
    engine: Arc<Engine>,
    mask: Arc<Mask>,
    settings: Settings,
    video: Video,
    took: Duration,
}

impl Harmonize {
    /// Where a composite belongs.
    pub(super) fn place(&self, composite: &gst::BufferRef) -> Result<FrameTime> {
        let segment =
            self.sink.segment().downcast().map_err(|_| anyhow!("Pad sink: a composite came before its segment"))?;
        let (frame, last, margin) = {
            let state = lock(&self.state);
            (state.composite.as_ref().and_then(Video::frame_duration), state.last, state.margin)
        };
        let before = last.or_else(|| margin?.first().and_then(|first| Span::before(&segment, first)));
        let span = Span::new(&segment, composite, frame, before).context(
            "Pad sink: a composite has no timestamp, and neither the duration of the one before nor a frame rate tells its time",
        )?;
        // Without a timestamp it is where its running time says.
        let pts = composite.pts().or_else(|| span.position(&segment));
        let stream_time = pts.and_then(|pts| segment.to_stream_time(pts));
        let time = pts.and_then(|pts| segment.to_stream_time_full(pts)).and_then(nanoseconds);
        let time = time.unwrap_or(span.start);
        let duration = composite.duration().or(frame).unwrap_or_default();
        let is_margin = margin.is_some_and(|margin| margin.is_outside(time, duration.nseconds()));
        let is_outside = composite.pts().is_some_and(|pts| {
            let end = composite.duration().or(frame).and_then(|duration| pts.checked_add(duration));
            segment.clip(pts, end).is_none()
        });
        Ok(FrameTime { span, stream_time, time, begins: false, is_margin, is_outside: is_outside && !is_margin })
    }

    /// The mask of the composite that starts at `time`; `NEED_DATA` if it may be still to come.
    pub(super) fn find_mask(
        &self,
        pad: &gst_base::AggregatorPad,
        time: i64,
        timeout: bool,
    ) -> Result<(Option<MaskFrame>, Pair), gst::FlowError> {
        let found = lock(&self.masks).find(pad, time, timeout);
        let Some(found) = found.context("Pad mask").map_err(|error| self.fail(&error))? else {
            gst::trace!(CAT, imp = self, "The composite at {} waits for its mask", RunningTime(time));
            return Err(NEED_DATA);
        };
        let (at, pair) = (RunningTime(time), found.pair);
        match &found.frame {
            Some(mask) => {
                let from = RunningTime(mask.start());
                gst::debug!(CAT, imp = self, "The composite at {at} goes with the mask at {from}: {pair:?}");
            }
            None => gst::debug!(CAT, imp = self, "The composite at {at} goes with no mask: {pair:?}"),
        }
        Ok((found.frame, found.pair))
    }

    /// What is needed to harmonize `composite`. `mask` is `None` without a mask pad, and holds `None` if there is no mask at its time.
    pub(super) fn prepare(
        &self,
        composite: &gst::BufferRef,
        place: FrameTime,
        mask: Option<(Option<MaskFrame>, Pair)>,
        mode: Mode,
    ) -> Result<Or<Prepared>, Stop> {
        let start = Instant::now();
        let settings = lock(&self.settings).clone();
        let video = lock(&self.state).composite.clone().context("Pad sink: a composite came before its caps")?;
        for (whether, why) in [
            (settings.passthrough, "passthrough is set"),
            (composite.size() == 0, "it is empty"),
            (settings.strength == 0.0, "strength is 0"),
        ] {
            if whether {
                return Ok(Err(Otherwise::Untouched(why)));
            }
        }
        let mask = match self.mask(composite, &settings, &video, place, mask)? {
            Ok(mask) => mask,
            Err(otherwise) => return Ok(Err(otherwise)),
        };
        if mask.is_empty() {
            return Ok(Err(Otherwise::Untouched("its mask is empty")));
        }
        let waited = Instant::now();
        if waits(&settings, mode) {
            self.model.wait_until_ready()?;
        }
        let waited = waited.elapsed();
        let Some(engine) = self.model.ready()? else { return Ok(Err(self.not_ready())) };
        if mode != Mode::Live {
            self.ends(Episode::NotReady);
        }
        Ok(Ok(Prepared { engine, mask, settings, video, took: start.elapsed() - waited }))
    }

    /// Has the stream take a composite up.
    pub(super) fn enter(
        &self,
        buffer: gst::Buffer,
        place: FrameTime,
        mode: Mode,
        prepared: Prepared,
    ) -> Result<(), Stop> {
        let Prepared { engine, mask, settings, video, took } = prepared;
        let shows_first = {
            let mut state = lock(&self.state);
            state.scene_begins = false;
            state.shows_first
        };
        let policy = match mode {
            Mode::Live => Policy::Live { waits: waits(&settings, mode) },
            _ => Policy::Exact { shows_first },
        };
        let entry = Entry {
            frame: Composite { buffer, place, video: Some(video), took },
            mask,
            time: place.time,
            running_time: place.span.start,
            begins: place.begins,
            is_margin: place.is_margin,
            parameters: settings.parameters(place.time),
        };
        Ok(self.stream.push(&engine, entry, policy, &mut |ended| self.ended(ended))?)
    }

    fn mask(
        &self,
        composite: &gst::BufferRef,
        settings: &Settings,
        video: &Video,
        place: FrameTime,
        found: Option<(Option<MaskFrame>, Pair)>,
    ) -> Result<Or<Arc<Mask>>, Stop> {
        let (width, height) = video.size();
        let Some((frame, pair)) = found else {
            if !video.has_alpha() {
                if self.begins(Episode::Unmasked) {
                    self.warn(
                        "Frames pass untouched: link a mask to the pad mask, or give the composite an alpha channel",
                    );
                }
                return Ok(Err(Otherwise::Untouched("it has no alpha, and there is no mask pad")));
            }
            let own = MaskSettings {
                channel: frame::MaskChannel::Alpha,
                range: frame::MaskRange::Full,
                invert: settings.mask_invert,
            };
            let mask = video.read(composite, |picture| Mask::from_picture(picture, own, width, height));
            return Ok(Ok(Arc::new(mask.context("Pad sink: can't read a composite")?)));
        };
        if let Some(otherwise) = self.missing_mask(settings, place, pair)? {
            return Ok(Err(otherwise));
        }
        Ok(match frame {
            None => Err(Otherwise::Untouched("there is no mask at its time")),
            Some(frame) if frame.is_gap() => Err(Otherwise::Untouched("the mask stream has a gap at its time")),
            Some(frame) => Ok(lock(&self.masks).read(&frame, (width, height), settings.mask()).context("Pad mask")?),
        })
    }

    /// What becomes of a frame whose mask is missing, unless the last one serves it.
    fn missing_mask(&self, settings: &Settings, place: FrameTime, pair: Pair) -> Result<Option<Otherwise>, Stop> {
        let stale = pair == Pair::Stale;
        if !stale && pair != Pair::Missing {
            if self.ends(Episode::Maskless) {
                gst::debug!(CAT, imp = self, "Masks again from {} on", RunningTime(place.span.start));
            }
            return Ok(None);
        }
        {
            let mut stats = lock(&self.stats);
            *if stale { &mut stats.stale_masks } else { &mut stats.missing_masks } += 1;
        }
        let what = format!("No mask for the composite at running time {}", RunningTime(place.span.start));
        let (otherwise, then) = match settings.on_missing_mask {
            OnMissingMask::Error => return Err(anyhow!("Pad mask: {what}").into()),
            OnMissingMask::Repeat if stale => (None, "the last mask stays in use until the next one comes"),
            OnMissingMask::Repeat | OnMissingMask::PassThrough => (
                Some(Otherwise::Untouched("there is no mask at its time")),
                "frames pass untouched until the next one comes",
            ),
            OnMissingMask::Drop => (
                Some(Otherwise::Dropped("there is no mask at its time")),
                "frames are dropped until the next one comes",
            ),
        };
        if self.begins(Episode::Maskless) {
            self.warn(&format!("{what}: {then}"));
        }
        Ok(otherwise)
    }

    /// How an inference ended.
    pub(super) fn ended(&self, ended: Ended) -> Result<()> {
        let took = match ended {
            Ok(took) => took,
            Err(error) => return self.failed(error),
        };
        self.ends(Episode::Failing);
        let mut stats = lock(&self.stats);
        stats.transfers += 1;
        stats.inference.push(took);
        Ok(())
    }

    fn failed(&self, error: Error) -> Result<()> {
        lock(&self.stats).errors += 1;
        let error = error.context("Can't harmonize a frame");
        let on_error = lock(&self.settings).on_error;
        let then = match on_error {
            OnError::Error => return Err(error),
            OnError::PassThrough => "frames pass untouched until one can be harmonized again",
            OnError::Drop => "frames are dropped until one can be harmonized again",
        };
        gst::debug!(CAT, imp = self, "{error:#}");
        if self.begins(Episode::Failing) {
            self.warn(&format!("{error:#}: {then}"));
        }
        Ok(())
    }

    /// What becomes of a frame whose inference failed, as `on-error` says by now.
    pub(super) fn without_inference(&self) -> Otherwise {
        let why = "its inference failed";
        match lock(&self.settings).on_error {
            OnError::Drop => Otherwise::Dropped(why),
            _ => Otherwise::Untouched(why),
        }
    }

    /// What becomes of a frame for which there is no model or no transfer yet, as `on-not-ready` says by now.
    pub(super) fn not_ready(&self) -> Otherwise {
        lock(&self.stats).not_ready += 1;
        let drops = lock(&self.settings).on_not_ready == OnNotReady::Drop;
        // A cut is nobody's fault: the next transfer is on its way.
        if !lock(&self.state).had_transfer && self.begins(Episode::NotReady) {
            let then = if drops { "are dropped" } else { "pass untouched" };
            self.warn(&format!("The model is not ready: frames {then} until it is"));
        }
        let why = "the model is not ready";
        if drops { Otherwise::Dropped(why) } else { Otherwise::Untouched(why) }
    }
}

/// Whether frames are held until there is a model.
fn waits(settings: &Settings, mode: Mode) -> bool {
    match settings.on_not_ready {
        OnNotReady::Wait => true,
        OnNotReady::Auto => mode != Mode::Live,
        _ => false,
    }
}

impl From<Unavailable> for Stop {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Flushing => Self::Flushed,
            Unavailable::Failed => Self::Reported,
        }
    }
}
