//! The exact policy: a frame waits until nothing that is still to come can change its transfer, and leaves after those before it.

use super::super::{FramePosition, Keyframes, Moment, Pending, RunningTime};
use super::inferences::{Applied, Ended, split};
use super::{Engine, Entry, Frame, Inner, Outcome, Queued, Ready, Stopped, Stream, Temporal, Waiting, describe, see};
use crate::frame::Proxy;
use anyhow::Result;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Exact {
    pub keyframes: Keyframes<Pending>,
    /// Keyframes with their running time and what the model sees of them, up to those that the next frame to leave lies between.
    seen: VecDeque<(FramePosition, i64, Arc<Proxy>)>,
}

impl Exact {
    /// The transfer of the frame at `place`, one of `size`, all whose inferences have ended.
    fn transfer(&mut self, place: FramePosition, temporal: &Temporal, size: [usize; 2]) -> Option<Applied> {
        while self.seen.get(1).is_some_and(|(next, ..)| *next <= place) {
            self.seen.pop_front();
        }
        let (_, time, proxy) = self.seen.front()?;
        let (time, proxy) = (*time, proxy.clone());
        let transfer = self.keyframes.transfer(place, temporal, size)?;
        Some(Applied { proxy, transfer, time })
    }
}

impl<F: Frame> Stream<F> {
    pub(super) fn push_exact(
        &self,
        engine: &Engine,
        mut entry: Entry<F>,
        shows_first: bool,
        ended: &mut dyn FnMut(Ended) -> Result<()>,
    ) -> Result<(), Stopped> {
        let begun = Instant::now();
        let (parameters, time) = (entry.parameters, entry.running_time);
        let view = engine.view(&entry.mask, parameters.proxy_size);
        let is_shown = shows_first && !entry.is_margin;
        let mut inner = self.lock();
        let Inner { describer, proxies, exact, .. } = &mut *inner;
        let (place, background, proxy) = entry.frame.read(|picture| {
            let background = describe(describer, picture, &entry.mask, &parameters.temporal);
            let moment = Moment { time: entry.time, background, begins: entry.begins };
            let place = exact.keyframes.enter(&moment, &parameters.temporal);
            let is_seen = place.is_keyframe || is_shown;
            (place, moment.background, is_seen.then(|| see(proxies, picture, &entry.mask, view)))
        })?;
        if place.begins {
            log::debug!("a scene begins with the frame at {}", RunningTime(time));
        }
        let Some(proxy) = proxy else {
            inner.queue.push_back(Queued::Waits(Waiting { entry, place, took: begun.elapsed() }));
            return Ok(());
        };
        log::debug!("the model sees {view} of the frame at {}", RunningTime(time));
        let pending = match shows_first && entry.is_margin {
            true => self.inferences.put_off(engine, proxy.clone(), parameters.request),
            false => self.inferences.queue(engine, proxy.clone(), parameters.request, time),
        };
        let pending = pending.ok_or(Stopped::Flushed)?;
        if place.is_keyframe {
            inner.exact.keyframes.ask(place, background, pending.clone());
            inner.exact.seen.push_back((place, time, proxy.clone()));
        }
        if !is_shown {
            inner.queue.push_back(Queued::Waits(Waiting { entry, place, took: begun.elapsed() }));
            return Ok(());
        }
        drop(inner);
        let outcome = self.show_first(&mut entry, (place, pending, proxy), ended)?;
        let ready = Ready { frame: entry.frame, outcome: Ok(outcome), took: begun.elapsed() };
        self.lock().queue.push_back(Queued::Ready(ready));
        Ok(())
    }

    /// The first frame after a seek that need not be accurate takes what the model finds in it alone. What others around it
    /// come to is for those after it.
    fn show_first(
        &self,
        entry: &mut Entry<F>,
        (place, pending, proxy): (FramePosition, Pending, Arc<Proxy>),
        ended: &mut dyn FnMut(Ended) -> Result<()>,
    ) -> Result<Outcome, Stopped> {
        let (transfer, end) = split(self.inferences.finish(&pending).ok_or(Stopped::Flushed)?);
        self.lock().exact.keyframes.found(place, transfer.clone());
        ended(end)?;
        let Some(transfer) = transfer else { return Ok(Outcome::Failed) };
        let applied = Applied { proxy, transfer, time: entry.running_time };
        Ok(self.apply(&mut self.lock(), entry, applied)?)
    }

    /// Waits for the inferences that a frame needs, and harmonizes it.
    pub(super) fn finish(
        &self,
        waiting: &mut Waiting<F>,
        ended: &mut dyn FnMut(Ended) -> Result<()>,
    ) -> Result<Outcome, Stopped> {
        let Waiting { entry, place, .. } = waiting;
        let temporal = entry.parameters.temporal;
        loop {
            let wanted = self.lock().exact.keyframes.wanted(*place, &temporal);
            let Some((keyframe, pending)) = wanted else { break };
            let (transfer, end) = split(self.inferences.finish(&pending).ok_or(Stopped::Flushed)?);
            ended(end)?;
            self.lock().exact.keyframes.found(keyframe, transfer);
        }
        let mut inner = self.lock();
        match inner.exact.transfer(*place, &temporal, entry.size()) {
            Some(applied) => Ok(self.apply(&mut inner, entry, applied)?),
            None => Ok(Outcome::Failed),
        }
    }
}
