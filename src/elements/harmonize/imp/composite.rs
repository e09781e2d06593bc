//! One composite's way through the element: its place in time, its mask, its transfer, and what the policies make of it where
//! one of these is missing.

use super::super::infer::Infer;
use super::super::inference::{Newest, Unavailable};
use super::super::masks::MaskFrame;
use super::super::pairing::{Clock, Pair, Span, nanoseconds};
use super::super::settings::Settings;
use super::super::video::Video;
use super::super::{Mode, OnError, OnMissingMask, OnNotReady};
use super::{CAT, Episode, Harmonize, NEED_DATA, lock};
use crate::engine::{self, Request};
use crate::frame::{self, Descriptor, Mask, MaskSettings, Picture, Proxy, View};
use crate::recycle::unused;
use crate::transfer::Transfer;
use anyhow::{Context, Error, Result, anyhow};
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) enum Outcome {
    Harmonized,
    /// For what comes after it.
    Waits(Box<Work>),
    Untouched(&'static str),
    Dropped(&'static str),
}

/// What is to be done to a frame that waits.
pub(super) struct Work {
    pub frame: Frame,
    pub at: engine::Place,
    /// What it has taken of the streaming thread.
    pub took: Duration,
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

/// A composite's place in time: in nanoseconds of running time, and as stream time within its segment.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub span: Span,
    pub stream_time: Option<gst::ClockTime>,
    /// Nanoseconds of stream time, before and after the segment too; of running time where there is none.
    pub time: i64,
    /// A scene begins here, whatever the picture says.
    pub begins: bool,
    /// It was asked for beside what a seek was for, and is no frame of the stream.
    pub is_lead: bool,
    /// Nothing of it lies within its segment.
    pub is_outside: bool,
}

/// What there is of something that a frame needs, or what becomes of the frame without it.
pub(super) type Or<T> = Result<T, Outcome>;

/// Proxies of frames: the newest transfer's, those that inference is at, one that it has given up, and one to read the next into.
pub(super) type Proxies = [Arc<Proxy>; 16];

/// A frame at work.
pub(super) struct Frame {
    pub settings: Settings,
    pub video: Video,
    pub mask: Arc<Mask>,
    pub place: Place,
}

impl Frame {
    pub fn size(&self) -> [usize; 2] {
        let (width, height) = self.video.size();
        [width, height]
    }

    /// How the model is to look at it.
    pub fn request(&self) -> Request {
        let Settings { seed, noise, noise_period, .. } = self.settings;
        Request { sampling: self.settings.sampling(), seed, noise: noise.mode(self.place.time, noise_period) }
    }
}

impl Harmonize {
    /// Where a composite belongs.
    pub(super) fn place(&self, composite: &gst::BufferRef) -> Result<Place> {
        let segment =
            self.sink.segment().downcast().map_err(|_| anyhow!("Pad sink: a composite came before its segment"))?;
        let (frame, last, lead) = {
            let state = lock(&self.state);
            (state.composite.as_ref().and_then(Video::frame_duration), state.last, state.lead)
        };
        let before = last.or_else(|| lead?.first().and_then(|first| Span::before(&segment, first)));
        let span = Span::new(&segment, composite, frame, before).context(
            "Pad sink: a composite has no timestamp, and neither the duration of the one before nor a frame rate tells its time",
        )?;
        // Without a timestamp it is where its running time says.
        let pts = composite.pts().or_else(|| span.position(&segment));
        let stream_time = pts.and_then(|pts| segment.to_stream_time(pts));
        let time = pts.and_then(|pts| segment.to_stream_time_full(pts)).and_then(nanoseconds);
        let time = time.unwrap_or(span.start);
        let duration = composite.duration().or(frame).unwrap_or_default();
        let is_lead = lead.is_some_and(|lead| lead.is_outside(time, duration.nseconds()));
        let is_outside = composite.pts().is_some_and(|pts| {
            let end = composite.duration().or(frame).and_then(|duration| pts.checked_add(duration));
            segment.clip(pts, end).is_none()
        });
        Ok(Place { span, stream_time, time, begins: false, is_lead, is_outside: is_outside && !is_lead })
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
            gst::trace!(CAT, imp = self, "The composite at {} waits for its mask", Clock(time));
            return Err(NEED_DATA);
        };
        let (at, pair) = (Clock(time), found.pair);
        match &found.frame {
            Some(mask) => {
                let from = Clock(mask.start());
                gst::debug!(CAT, imp = self, "The composite at {at} goes with the mask at {from}: {pair:?}");
            }
            None => gst::debug!(CAT, imp = self, "The composite at {at} goes with no mask: {pair:?}"),
        }
        Ok((found.frame, found.pair))
    }

    /// Harmonizes `composite` in place, or has it wait for that. `mask` is `None` without a mask pad, and holds `None` if there is no mask at its time.
    pub(super) fn harmonize(
        &self,
        composite: &mut gst::Buffer,
        place: Place,
        mask: Option<(Option<MaskFrame>, Pair)>,
        mode: Mode,
    ) -> Result<Outcome, Stop> {
        let start = Instant::now();
        let settings = lock(&self.settings).clone();
        let video = lock(&self.state).composite.clone().context("Pad sink: a composite came before its caps")?;
        for (whether, why) in [
            (settings.passthrough, "passthrough is set"),
            (composite.size() == 0, "it is empty"),
            (settings.strength == 0.0, "strength is 0"),
        ] {
            if whether {
                return Ok(Outcome::Untouched(why));
            }
        }
        let mask = match self.mask(composite, &settings, &video, place, mask)? {
            Ok(mask) => mask,
            Err(outcome) => return Ok(outcome),
        };
        if mask.is_empty() {
            return Ok(Outcome::Untouched("its mask is empty"));
        }
        let frame = Frame { settings, video, mask, place };
        let waited = Instant::now();
        if self.waits(&frame.settings, mode) {
            self.inference.wait_until_ready()?;
        }
        let start = start + waited.elapsed();
        if mode != Mode::Live {
            return self.enter(composite, frame, start);
        }
        Ok(match self.live_transfer(composite, &frame)? {
            Ok(newest) => {
                self.take(composite, &frame, newest, || start.elapsed())?;
                Outcome::Harmonized
            }
            Err(outcome) => outcome,
        })
    }

    /// Harmonizes a frame by `newest`; `took` is asked at the end for the time of the streaming thread.
    pub(super) fn take(
        &self,
        composite: &mut gst::Buffer,
        frame: &Frame,
        newest: Newest,
        took: impl FnOnce() -> Duration,
    ) -> Result<()> {
        self.apply(composite, frame, &newest.transfer)?;
        let mut stats = lock(&self.stats);
        stats.harmonized += 1;
        stats.transfer_age = Duration::from_nanos(frame.place.span.start.abs_diff(newest.time));
        stats.work.push(took());
        drop(stats);
        self.inference.show(newest);
        Ok(())
    }

    fn mask(
        &self,
        composite: &gst::BufferRef,
        settings: &Settings,
        video: &Video,
        place: Place,
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
                return Ok(Err(Outcome::Untouched("it has no alpha, and there is no mask pad")));
            }
            let own = MaskSettings {
                channel: frame::MaskChannel::Alpha,
                range: frame::MaskRange::Full,
                invert: settings.mask_invert,
            };
            let mask = video.read(composite, |picture| Mask::from_picture(picture, own, width, height));
            return Ok(Ok(Arc::new(mask.context("Pad sink: can't read a composite")?)));
        };
        if let Some(outcome) = self.missing_mask(settings, place, pair)? {
            return Ok(Err(outcome));
        }
        Ok(match frame {
            None => Err(Outcome::Untouched("there is no mask at its time")),
            Some(frame) if frame.is_gap() => Err(Outcome::Untouched("the mask stream has a gap at its time")),
            Some(frame) => Ok(lock(&self.masks).read(&frame, (width, height), settings.mask()).context("Pad mask")?),
        })
    }

    /// What becomes of a frame whose mask is missing, unless the last one serves it.
    fn missing_mask(&self, settings: &Settings, place: Place, pair: Pair) -> Result<Option<Outcome>, Stop> {
        let stale = pair == Pair::Stale;
        if !stale && pair != Pair::Missing {
            if self.ends(Episode::Maskless) {
                gst::debug!(CAT, imp = self, "Masks again from {} on", Clock(place.span.start));
            }
            return Ok(None);
        }
        {
            let mut stats = lock(&self.stats);
            *if stale { &mut stats.stale_masks } else { &mut stats.missing_masks } += 1;
        }
        let what = format!("No mask for the composite at running time {}", Clock(place.span.start));
        let (outcome, then) = match settings.on_missing_mask {
            OnMissingMask::Error => return Err(anyhow!("Pad mask: {what}").into()),
            OnMissingMask::Repeat if stale => (None, "the last mask stays in use until the next one comes"),
            OnMissingMask::Repeat | OnMissingMask::PassThrough => (
                Some(Outcome::Untouched("there is no mask at its time")),
                "frames pass untouched until the next one comes",
            ),
            OnMissingMask::Drop => {
                (Some(Outcome::Dropped("there is no mask at its time")), "frames are dropped until the next one comes")
            }
        };
        if self.begins(Episode::Maskless) {
            self.warn(&format!("{what}: {then}"));
        }
        Ok(outcome)
    }

    /// Whether frames are held until there is a model.
    pub(super) fn waits(&self, settings: &Settings, mode: Mode) -> bool {
        match settings.on_not_ready {
            OnNotReady::Wait => true,
            OnNotReady::Auto => mode != Mode::Live,
            _ => false,
        }
    }

    /// What a frame's background looks like, if anyone asks.
    pub(super) fn describe(&self, picture: &Picture, frame: &Frame) -> Descriptor {
        if frame.settings.temporal().looks() {
            lock(&self.describer).read(picture, &frame.mask)
        } else {
            Descriptor::NONE
        }
    }

    /// What the model is to see of a frame.
    pub(super) fn see(&self, picture: &Picture, frame: &Frame, view: View) -> Arc<Proxy> {
        let mut proxies = lock(&self.proxies);
        unused(&mut proxies).read(picture, &frame.mask, view);
        proxies[0].clone()
    }

    /// The same from the buffer.
    pub(super) fn look(&self, engine: &dyn Infer, composite: &gst::BufferRef, frame: &Frame) -> Result<Arc<Proxy>> {
        let view = engine.view(&frame.mask, frame.settings.proxy_size);
        gst::debug!(CAT, imp = self, "The model sees {view} of the composite at {}", Clock(frame.place.span.start));
        let proxy = frame.video.read(composite, |picture| self.see(picture, frame, view));
        proxy.context("Pad sink: can't read a composite")
    }

    fn apply(&self, composite: &mut gst::Buffer, frame: &Frame, transfer: &Transfer) -> Result<()> {
        let strength = frame.settings.strength as f32;
        frame
            .video
            .write(composite.make_mut(), |picture| lock(&self.plan).apply(picture, &frame.mask, transfer, strength))
            .context("Pad sink: can't write a composite")
    }

    pub(super) fn inferred(&self, took: Duration) {
        self.ends(Episode::Failing);
        let mut stats = lock(&self.stats);
        stats.transfers += 1;
        stats.inference.push(took);
    }

    pub(super) fn not_ready(&self, settings: &Settings) -> Outcome {
        lock(&self.stats).not_ready += 1;
        let drops = settings.on_not_ready == OnNotReady::Drop;
        // A cut is nobody's fault: the next transfer is on its way.
        if !lock(&self.state).had_transfer && self.begins(Episode::NotReady) {
            let then = if drops { "are dropped" } else { "pass untouched" };
            self.warn(&format!("The model is not ready: frames {then} until it is"));
        }
        let why = "the model is not ready";
        if drops { Outcome::Dropped(why) } else { Outcome::Untouched(why) }
    }

    pub(super) fn failed(&self, settings: &Settings, error: Error) -> Result<Outcome, Stop> {
        lock(&self.stats).errors += 1;
        let error = error.context("Can't harmonize a frame");
        let then = match settings.on_error {
            OnError::Error => return Err(error.into()),
            OnError::PassThrough => "frames pass untouched until one can be harmonized again",
            OnError::Drop => "frames are dropped until one can be harmonized again",
        };
        gst::debug!(CAT, imp = self, "{error:#}");
        if self.begins(Episode::Failing) {
            self.warn(&format!("{error:#}: {then}"));
        }
        Ok(fallback(settings.on_error))
    }
}

pub(super) fn fallback(on_error: OnError) -> Outcome {
    let why = "its inference failed";
    if on_error == OnError::Drop { Outcome::Dropped(why) } else { Outcome::Untouched(why) }
}

impl From<Unavailable> for Stop {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Flushing => Self::Flushed,
            Unavailable::Failed => Self::Reported,
        }
    }
}
