//! Live mode: no frame waits; it takes what the model has found by now.

use super::super::inference::Newest;
use super::composite::{Frame, Or, Stop, fallback};
use super::{CAT, Clock, Episode, Harmonize, Mode, lock};
use crate::engine::Moment;
use crate::transfer::Transfer;
use anyhow::Context;
use gst::subclass::prelude::*;
use std::sync::Arc;

impl Harmonize {
    /// What a frame takes. Where the model is free, it is set to work on this frame first. Waits if `on-not-ready` says so and
    /// there is nothing yet, and never else.
    pub(super) fn live_transfer(&self, composite: &gst::BufferRef, frame: &Frame) -> Result<Or<Newest>, Stop> {
        let temporal = frame.settings.temporal();
        let begins = self.follow(composite, frame)?;
        if begins {
            // What is under way is of the scene before.
            self.inference.forget();
        }
        let (newest, ended) = self.inference.newest();
        let failed = match (ended, &newest) {
            (Some(Ok(took)), Some(newest)) => {
                self.inferred(took);
                lock(&self.follow).found(newest.transfer.clone(), &temporal, frame.size());
                None
            }
            (Some(Err(error)), _) => {
                lock(&self.follow).clear();
                Some(self.failed(&frame.settings, error)?)
            }
            _ => None,
        };
        let Some(engine) = self.inference.ready()? else { return Ok(Err(self.not_ready(&frame.settings))) };
        let is_due = !self.inference.is_inferring() && lock(&self.follow).is_due(temporal.interval);
        if newest.is_none() && failed.is_none() && self.waits(&frame.settings, Mode::Live) {
            return self.first_transfer(composite, frame);
        }
        if is_due {
            let proxy = self.look(&*engine, composite, frame)?;
            let begun = self.inference.begin(&*engine, proxy, frame.request(), frame.place.span.start);
            begun.ok_or(Stop::Flushed)?;
            lock(&self.follow).begun();
        }
        Ok(match (newest, failed) {
            (Some(newest), _) => {
                self.ends(Episode::NotReady);
                lock(&self.state).had_transfer = true;
                Ok(self.eased(newest, frame))
            }
            (None, Some(outcome)) => Err(outcome),
            (None, None) if lock(&self.state).is_in(Episode::Failing) => Err(fallback(frame.settings.on_error)),
            (None, None) => Err(self.not_ready(&frame.settings)),
        })
    }

    /// Takes up a frame; true if a scene begins with it.
    fn follow(&self, composite: &gst::BufferRef, frame: &Frame) -> Result<bool, Stop> {
        let read = frame.video.read(composite, |picture| self.describe(picture, frame));
        let background = read.context("Pad sink: can't read a composite")?;
        let moment = Moment { time: frame.place.time, background, begins: frame.place.begins };
        let begins = lock(&self.follow).enter(&moment, frame.settings.scene_detection);
        lock(&self.state).scene_begins = false;
        if begins {
            gst::debug!(CAT, imp = self, "A scene begins with the composite at {}", Clock(frame.place.span.start));
        }
        Ok(begins)
    }

    /// The first transfer of a scene, which the frame waits for.
    fn first_transfer(&self, composite: &gst::BufferRef, frame: &Frame) -> Result<Or<Newest>, Stop> {
        let Some(engine) = self.inference.ready()? else { return Ok(Err(self.not_ready(&frame.settings))) };
        self.ends(Episode::NotReady);
        let proxy = self.look(&*engine, composite, frame)?;
        let inferred = self.inference.infer(&*engine, proxy, frame.request(), frame.place.span.start);
        match inferred.ok_or(Stop::Flushed)? {
            Ok((newest, took)) => {
                self.inferred(took);
                let mut follow = lock(&self.follow);
                follow.begun();
                follow.found(newest.transfer.clone(), &frame.settings.temporal(), frame.size());
                drop(follow);
                Ok(Ok(self.eased(newest, frame)))
            }
            Err(error) => self.failed(&frame.settings, error).map(Err),
        }
    }

    fn eased(&self, newest: Newest, frame: &Frame) -> Newest {
        let eased: Option<Arc<Transfer>> = lock(&self.follow).transfer(frame.size());
        Newest { transfer: eased.unwrap_or(newest.transfer), ..newest }
    }
}
