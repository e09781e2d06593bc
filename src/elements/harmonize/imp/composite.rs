//! One composite's way through the element: its place in time, its mask, and what is done to it.

use super::super::inference::Unavailable;
use super::super::masks::MaskFrame;
use super::super::pairing::{Pair, Span};
use super::super::video::Video;
use super::{CAT, Harmonize, NEED_DATA, lock};
use crate::engine::Request;
use crate::frame::{self, Mask, MaskSettings};
use crate::harmonizers::Sampling;
use anyhow::{Context, anyhow};
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::sync::Arc;
use std::time::Instant;

pub(super) enum Outcome {
    Harmonized,
    Untouched(&'static str),
}

/// Why a frame goes no further.
pub(super) enum Stop {
    Flushed,
    Reported,
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Harmonize {
    /// The composite's segment, and its place in running time.
    pub(super) fn place(
        &self,
        composite: &gst::BufferRef,
    ) -> anyhow::Result<(gst::FormattedSegment<gst::ClockTime>, Span)> {
        let segment =
            self.sink.segment().downcast().map_err(|_| anyhow!("Pad sink: a composite came before its segment"))?;
        let (frame, last) = {
            let state = lock(&self.state);
            (state.composite.as_ref().and_then(Video::frame_duration), state.last)
        };
        let span = Span::new(&segment, composite, frame, last).context(
            "Pad sink: a composite has no timestamp, and neither the duration of the one before nor a frame rate tells its time",
        )?;
        Ok((segment, span))
    }

    /// The mask of the composite that starts at `time`; `NEED_DATA` if it may be still to come.
    pub(super) fn find_mask(
        &self,
        pad: &gst_base::AggregatorPad,
        time: i64,
        timeout: bool,
    ) -> Result<Option<MaskFrame>, gst::FlowError> {
        let found = lock(&self.masks).find(pad, time, timeout);
        let Some(found) = found.context("Pad mask").map_err(|error| self.fail(&error))? else {
            gst::trace!(CAT, imp = self, "The composite at {time} ns waits for its mask");
            return Err(NEED_DATA);
        };
        gst::trace!(CAT, imp = self, "The composite at {time} ns goes with mask {:?}", found.pair);
        if found.pair == Pair::Stale {
            lock(&self.stats).stale_masks += 1;
        }
        let at = gst::ClockTime::from_nseconds(time.max(0) as u64);
        match found.pair {
            _ if !found.news => (),
            Pair::Stale => gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("No mask for the composite at running time {at}: the last mask stays in use until the next one comes")
            ),
            Pair::Missing => gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("No mask for the composite at running time {at}: frames pass untouched until the first mask comes")
            ),
            _ => gst::debug!(CAT, imp = self, "Masks again from {at} on"),
        }
        Ok(found.frame)
    }

    /// Tells once that without a mask pad and without alpha nothing will be harmonized.
    pub(super) fn warn_unmasked(&self) {
        if !std::mem::replace(&mut lock(&self.state).warned, true) {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("Frames pass untouched: link a mask to the pad mask, or give the composite an alpha channel")
            );
        }
    }

    /// Harmonizes `composite` of running time `time` in place. `mask` is `None` without a mask pad, and holds `None` if there is
    /// no mask at its time.
    pub(super) fn harmonize(
        &self,
        composite: &mut gst::Buffer,
        time: i64,
        mask: Option<Option<MaskFrame>>,
    ) -> Result<Outcome, Stop> {
        let settings = lock(&self.settings).clone();
        let video = lock(&self.state).composite.clone().context("Pad sink: a composite came before its caps")?;
        let (width, height) = video.size();
        if composite.size() == 0 {
            return Ok(Outcome::Untouched("it is empty"));
        }
        if settings.strength == 0.0 {
            return Ok(Outcome::Untouched("strength is 0"));
        }
        let mask = match mask {
            Some(None) => return Ok(Outcome::Untouched("there is no mask at its time")),
            Some(Some(frame)) if frame.is_gap() => {
                return Ok(Outcome::Untouched("the mask stream has a gap at its time"));
            }
            Some(Some(frame)) => lock(&self.masks).read(&frame, video.size(), settings.mask()).context("Pad mask")?,
            None if video.has_alpha() => {
                let own = MaskSettings {
                    channel: frame::MaskChannel::Alpha,
                    range: frame::MaskRange::Full,
                    invert: settings.mask_invert,
                };
                let mask = video.read(composite, |picture| Mask::from_picture(picture, own, width, height));
                Arc::new(mask.context("Pad sink: can't read a composite")?)
            }
            None => {
                self.warn_unmasked();
                return Ok(Outcome::Untouched("it has no alpha, and there is no mask pad"));
            }
        };
        if mask.is_empty() {
            return Ok(Outcome::Untouched("its mask is empty"));
        }
        let engine = self.inference.engine().map_err(|why| match why {
            Unavailable::Flushing => Stop::Flushed,
            Unavailable::Failed => Stop::Reported,
        })?;
        let start = Instant::now();
        let view = engine.view(&mask, settings.proxy_size);
        gst::debug!(CAT, imp = self, "The model sees {view} of the composite at {time} ns");
        let proxy = video
            .read(composite, |picture| frame::proxy(picture, &mask, view))
            .context("Pad sink: can't read a composite")?;
        let sampling = Sampling { method: settings.sampler.into(), steps: settings.steps };
        let request = Request { sampling, seed: settings.seed };
        let transfer = self.inference.infer(&*engine, proxy, request).ok_or(Stop::Flushed)?;
        let transfer = transfer.context("Can't harmonize a frame")?;
        video
            .write(composite.make_mut(), |picture| frame::apply(picture, &mask, &transfer, settings.strength as f32))
            .context("Pad sink: can't write a composite")?;
        lock(&self.stats).harmonized(start.elapsed());
        Ok(Outcome::Harmonized)
    }
}
