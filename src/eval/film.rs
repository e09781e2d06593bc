//! A film harmonized without a pipeline: the pictures that the element's exact mode makes of the same frames, byte for byte, and
//! the transfer of each.

use super::still::{self, Settings};
use crate::diffusion::NoiseMode;
use crate::engine::{Engine, Keyframes, Moment, Pending, Place, Request, Temporal};
use crate::frame::{Describer, Descriptor, Mask, proxy};
use crate::transfer::{Transfer, apply};
use anyhow::{Result, anyhow};
use image::{GrayImage, RgbImage};
use std::collections::VecDeque;
use std::sync::Arc;

/// Frames go in by `push` and come out by `next`, in their order.
pub struct Film<'a> {
    engine: &'a Engine,
    settings: Settings,
    temporal: Temporal,
    noise: Box<dyn Fn(i64) -> NoiseMode + 'a>,
    describer: Describer,
    keyframes: Keyframes<Pending>,
    waiting: VecDeque<(RgbImage, Mask, Option<Place>)>,
}

impl<'a> Film<'a> {
    /// `noise` tells that of a frame by its stream time.
    pub fn new(
        engine: &'a Engine,
        settings: Settings,
        temporal: Temporal,
        noise: impl Fn(i64) -> NoiseMode + 'a,
    ) -> Self {
        let (describer, keyframes) = (Describer::default(), Keyframes::default());
        Self { engine, settings, temporal, noise: Box::new(noise), describer, keyframes, waiting: VecDeque::new() }
    }

    /// Takes the next frame, at `time` in nanoseconds, and begins its inference. `mask` is 0 background to 255 foreground.
    pub fn push(&mut self, composite: RgbImage, mask: &GrayImage, time: i64) {
        let mask = still::foreground(mask, composite.width() as usize, composite.height() as usize);
        let place = (!mask.is_empty()).then(|| self.enter(&composite, &mask, time));
        if place.is_none() {
            self.keyframes.pass(time);
        }
        self.waiting.push_back((composite, mask, place));
    }

    fn enter(&mut self, composite: &RgbImage, mask: &Mask, time: i64) -> Place {
        let picture = still::picture(composite);
        let background = if self.temporal.looks() { self.describer.read(&picture, mask) } else { Descriptor::NONE };
        let moment = Moment { time, background, begins: false };
        let place = self.keyframes.enter(&moment, &self.temporal);
        if place.is_keyframe {
            let proxy = proxy(&picture, mask, self.engine.view(mask, self.settings.proxy_size));
            let request = Request { noise: (self.noise)(time), ..self.settings.request };
            self.keyframes.ask(place, moment.background, self.engine.submit(proxy, request));
        }
        place
    }

    /// The next frame harmonized and its transfer (none where its mask is black), once enough has been pushed, or all is at the
    /// `end`.
    pub fn next(&mut self, end: bool) -> Result<Option<(RgbImage, Option<Arc<Transfer>>)>> {
        let Some((_, _, place)) = self.waiting.front() else { return Ok(None) };
        if place.is_some_and(|place| !end && !self.keyframes.is_settled(place, &self.temporal)) {
            return Ok(None);
        }
        let Some((mut picture, mask, place)) = self.waiting.pop_front() else { return Ok(None) };
        let Some(place) = place else { return Ok(Some((picture, None))) };
        while let Some((keyframe, pending)) = self.keyframes.wanted(place, &self.temporal) {
            let transfer = pending.wait().ok_or_else(|| anyhow!("the inference was cancelled"))??;
            self.keyframes.found(keyframe, Some(transfer));
        }
        let transfer = self.keyframes.transfer(place, &self.temporal, [mask.width, mask.height]);
        let transfer = transfer.ok_or_else(|| anyhow!("a frame without a transfer"))?;
        apply(&mut still::picture_mut(&mut picture), &mask, &transfer, self.settings.strength);
        Ok(Some((picture, Some(transfer))))
    }
}
