//! Exact mode: a frame waits until nothing that is still to come can change its transfer, and leaves after those before it.

use super::super::infer::Job;
use super::super::inference::Newest;
use super::composite::{Frame, Outcome, Stop, Work, fallback};
use super::{CAT, Clock, Harmonize, lock};
use crate::engine::{self, Keyframes, Moment};
use crate::frame::Proxy;
use crate::transfer::Transfer;
use anyhow::Context;
use gst::subclass::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub(super) enum Waiting {
    Gap(gst::Buffer),
    /// With the running time at which it starts.
    Untouched(gst::Buffer, i64),
    Harmonized(gst::Buffer, i64),
    Frame(gst::Buffer, Box<Work>),
}

#[derive(Default)]
pub(super) struct Exact {
    pub keyframes: Keyframes<Arc<dyn Job>>,
    /// Keyframes with their running time and what the model sees of them, up to those that the next frame to leave lies between.
    seen: VecDeque<(engine::Place, i64, Arc<Proxy>)>,
    waiting: VecDeque<Waiting>,
    /// A frame that waited was dropped, or one that began a stream was none of it.
    pub discont: bool,
}

impl Exact {
    /// The next one to leave, if it may. All may at the `end`; else as many frames as `held` stay, for workers to be busy with.
    fn next(&mut self, end: bool, held: usize) -> Option<Waiting> {
        if let Waiting::Frame(_, work) = self.waiting.front()? {
            let Work { frame, at, .. } = &**work;
            let is_free = self.waiting.len() > held && self.keyframes.is_settled(*at, &frame.settings.temporal());
            if !(end || frame.place.is_lead || is_free) {
                return None;
            }
        }
        self.waiting.pop_front()
    }

    fn newest(&mut self, at: engine::Place, frame: &Frame) -> Option<Newest> {
        while self.seen.get(1).is_some_and(|(next, ..)| *next <= at) {
            self.seen.pop_front();
        }
        let (_, time, proxy) = self.seen.front()?;
        let (time, proxy) = (*time, proxy.clone());
        let transfer: Arc<Transfer> = self.keyframes.transfer(at, &frame.settings.temporal(), frame.size())?;
        Some(Newest { proxy, transfer, time })
    }
}

impl Harmonize {
    /// Takes up a frame, and begins the inference that it wants.
    pub(super) fn enter(&self, composite: &mut gst::Buffer, frame: Frame, begun: Instant) -> Result<Outcome, Stop> {
        let Some(engine) = self.inference.ready()? else { return Ok(self.not_ready(&frame.settings)) };
        self.ends(super::Episode::NotReady);
        let (settings, place) = (&frame.settings, frame.place);
        let temporal = settings.temporal();
        let view = engine.view(&frame.mask, settings.proxy_size);
        let shows_first = lock(&self.state).shows_first;
        let is_shown = shows_first && !place.is_lead;
        let read = frame.video.read(composite, |picture| {
            let background = self.describe(picture, &frame);
            let moment = Moment { time: place.time, background, begins: place.begins };
            let at = lock(&self.exact).keyframes.enter(&moment, &temporal);
            lock(&self.state).scene_begins = false;
            (at, moment.background, (at.is_keyframe || is_shown).then(|| self.see(picture, &frame, view)))
        });
        let (at, background, proxy) = read.context("Pad sink: can't read a composite")?;
        if at.begins {
            gst::debug!(CAT, imp = self, "A scene begins with the composite at {}", Clock(place.span.start));
        }
        if let Some(proxy) = proxy {
            let time = place.span.start;
            gst::debug!(CAT, imp = self, "The model sees {view} of the composite at {}", Clock(time));
            let job = if shows_first && place.is_lead {
                self.inference.put_off(engine, proxy.clone(), frame.request())
            } else {
                self.inference.queue(&*engine, proxy.clone(), frame.request(), time)
            };
            let job = job.ok_or(Stop::Flushed)?;
            if at.is_keyframe {
                let mut exact = lock(&self.exact);
                exact.keyframes.ask(at, background, job.clone());
                exact.seen.push_back((at, time, proxy.clone()));
            }
            if is_shown {
                return self.show(composite, &frame, (at, job, proxy), begun);
            }
        }
        Ok(Outcome::Waits(Box::new(Work { frame, at, took: begun.elapsed() })))
    }

    /// The first frame after a seek that need not be accurate takes what the model finds in it alone. What others around it
    /// come to is for those after it.
    fn show(
        &self,
        composite: &mut gst::Buffer,
        frame: &Frame,
        (at, job, proxy): (engine::Place, Arc<dyn Job>, Arc<Proxy>),
        begun: Instant,
    ) -> Result<Outcome, Stop> {
        self.inference.begin_put_off();
        let found = self.inference.finish(&job).ok_or(Stop::Flushed)?;
        let transfer = found.as_ref().ok().map(|(transfer, _)| transfer.clone());
        lock(&self.exact).keyframes.found(at, transfer);
        match found {
            Ok((transfer, took)) => {
                self.inferred(took);
                let newest = Newest { proxy, transfer, time: frame.place.span.start };
                self.take(composite, frame, newest, || begun.elapsed())?;
                Ok(Outcome::Harmonized)
            }
            Err(error) => self.failed(&frame.settings, error),
        }
    }

    /// Queues what is to leave after those that wait, and lets go what may leave.
    pub(super) fn wait(&self, next: Waiting) -> Result<gst::FlowSuccess, gst::FlowError> {
        lock(&self.exact).waiting.push_back(next);
        self.let_go(false)
    }

    /// Sends the frames that may leave; all of them at the `end` of a scene.
    pub(super) fn let_go(&self, end: bool) -> Result<gst::FlowSuccess, gst::FlowError> {
        let workers = self.inference.loaded().map_or(1, |loaded| loaded.workers);
        let held = if lock(&self.state).is_live { 0 } else { workers.saturating_sub(1) };
        loop {
            let next = lock(&self.exact).next(end, held);
            match next {
                None => return Ok(gst::FlowSuccess::Ok),
                Some(Waiting::Gap(gap)) => self.push_gap(&gap)?,
                Some(Waiting::Untouched(composite, start)) => {
                    lock(&self.stats).passed_through += 1;
                    self.send(composite, start)?
                }
                Some(Waiting::Harmonized(composite, start)) => self.send(composite, start)?,
                Some(Waiting::Frame(composite, work)) => self.leave(composite, &work)?,
            };
        }
    }

    /// Forgets the frames that wait, and all that came before them.
    pub(super) fn forget_waiting(&self) {
        let exact = std::mem::take(&mut *lock(&self.exact));
        lock(&self.stats).dropped +=
            exact.waiting.iter().filter(|waiting| !matches!(waiting, Waiting::Gap(_)) && !is_lead(waiting)).count()
                as u64;
    }

    fn leave(&self, mut composite: gst::Buffer, work: &Work) -> Result<gst::FlowSuccess, gst::FlowError> {
        let place = work.frame.place;
        if place.is_lead {
            return Ok(gst::FlowSuccess::Ok);
        }
        let time = Clock(place.span.start);
        match self.finish(&mut composite, work) {
            Ok(Outcome::Dropped(why)) => {
                gst::debug!(CAT, imp = self, "The composite at {time} is dropped: {why}");
                lock(&self.stats).dropped += 1;
                lock(&self.exact).discont = true;
                return Ok(gst::FlowSuccess::Ok);
            }
            Ok(Outcome::Untouched(why)) => {
                gst::debug!(CAT, imp = self, "The composite at {time} passes untouched: {why}");
                lock(&self.stats).passed_through += 1;
            }
            Ok(_) => gst::debug!(CAT, imp = self, "The composite at {time} is harmonized"),
            Err(stop) => return Err(self.stopped(stop, place)),
        }
        self.send(composite, place.span.start)
    }

    fn send(&self, mut composite: gst::Buffer, start: i64) -> Result<gst::FlowSuccess, gst::FlowError> {
        if std::mem::take(&mut lock(&self.exact).discont) {
            composite.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        self.post_stats(start);
        self.push(composite)
    }

    /// Waits for the inferences that a frame needs, and harmonizes it.
    fn finish(&self, composite: &mut gst::Buffer, work: &Work) -> Result<Outcome, Stop> {
        let Work { frame, at, took } = work;
        let (begun, temporal) = (Instant::now(), frame.settings.temporal());
        loop {
            let wanted = lock(&self.exact).keyframes.wanted(*at, &temporal);
            let Some((keyframe, job)) = wanted else { break };
            let found = match self.inference.finish(&job).ok_or(Stop::Flushed)? {
                Ok((transfer, took)) => {
                    self.inferred(took);
                    Some(transfer)
                }
                Err(error) => {
                    self.failed(&frame.settings, error)?;
                    None
                }
            };
            lock(&self.exact).keyframes.found(keyframe, found);
        }
        let newest = lock(&self.exact).newest(*at, frame);
        let Some(newest) = newest else { return Ok(fallback(frame.settings.on_error)) };
        self.take(composite, frame, newest, || *took + begun.elapsed())?;
        Ok(Outcome::Harmonized)
    }
}

fn is_lead(waiting: &Waiting) -> bool {
    matches!(waiting, Waiting::Frame(_, work) if work.frame.place.is_lead)
}
