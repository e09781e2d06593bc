//! The live policy: no frame waits; it takes what the model has found by now, while that is at work on the newest frame.

use super::super::{Moment, RunningTime};
use super::inferences::{Applied, Ended, split};
use super::{Engine, Entry, Frame, Inner, Outcome, Queued, Ready, Stopped, Stream, describe, see};
use crate::frame::Proxy;
use anyhow::Result;
use std::sync::Arc;
use std::time::Instant;

impl<F: Frame> Stream<F> {
    pub(super) fn push_live(
        &self,
        engine: &Engine,
        mut entry: Entry<F>,
        waits: bool,
        ended: &mut dyn FnMut(Ended) -> Result<()>,
    ) -> Result<(), Stopped> {
        let begun = Instant::now();
        let newest = self.newest(engine, &entry, waits, ended)?;
        let mut inner = self.lock();
        let outcome = match newest {
            Some(newest) => {
                let eased = inner.follow.transfer(entry.size()).unwrap_or_else(|| newest.transfer.clone());
                self.apply(&mut inner, &mut entry, Applied { transfer: eased, ..newest })?
            }
            None => Outcome::NotReady,
        };
        let ready = Ready { frame: entry.frame, outcome: Ok(outcome), took: begun.elapsed() };
        inner.queue.push_back(Queued::Ready(ready));
        Ok(())
    }

    /// What has been found by now. Where the model is free, it is set to work on this frame.
    fn newest(
        &self,
        engine: &Engine,
        entry: &Entry<F>,
        waits: bool,
        ended: &mut dyn FnMut(Ended) -> Result<()>,
    ) -> Result<Option<Applied>, Stopped> {
        let Entry { running_time, parameters, .. } = entry;
        let (temporal, size) = (&parameters.temporal, entry.size());
        if self.follow(entry)? {
            log::debug!("a scene begins with the frame at {}", RunningTime(*running_time));
            // What is under way is of the scene before.
            self.inferences.forget();
        }
        let (newest, end) = self.inferences.newest();
        let has_failed = matches!(end, Some(Err(_)));
        if let Some(end) = end {
            match &newest {
                Some(newest) => self.lock().follow.found(newest.transfer.clone(), temporal, size),
                None => self.lock().follow.clear(),
            }
            ended(end)?;
        }
        if newest.is_none() && !has_failed && waits {
            let proxy = self.look(engine, entry)?;
            let found = self.inferences.infer(engine, proxy, parameters.request, *running_time);
            let (newest, end) = split(found.ok_or(Stopped::Flushed)?);
            ended(end)?;
            if let Some(newest) = &newest {
                let mut inner = self.lock();
                inner.follow.begun();
                inner.follow.found(newest.transfer.clone(), temporal, size);
            }
            return Ok(newest);
        }
        if !self.inferences.is_inferring() && self.lock().follow.is_due(temporal.interval) {
            let proxy = self.look(engine, entry)?;
            let begun = self.inferences.begin(engine, proxy, parameters.request, *running_time);
            begun.ok_or(Stopped::Flushed)?;
            self.lock().follow.begun();
        }
        Ok(newest)
    }

    /// Takes up a frame; true if a scene begins with it.
    fn follow(&self, entry: &Entry<F>) -> Result<bool> {
        let (mut inner, temporal) = (self.lock(), &entry.parameters.temporal);
        let Inner { describer, follow, .. } = &mut *inner;
        let background = entry.frame.read(|picture| describe(describer, picture, &entry.mask, temporal))?;
        let moment = Moment { time: entry.time, background, begins: entry.begins };
        Ok(follow.enter(&moment, temporal.detection))
    }

    /// What the model is to see.
    fn look(&self, engine: &Engine, entry: &Entry<F>) -> Result<Arc<Proxy>> {
        let view = engine.view(&entry.mask, entry.parameters.proxy_size);
        log::debug!("the model sees {view} of the frame at {}", RunningTime(entry.running_time));
        let mut inner = self.lock();
        entry.frame.read(|picture| see(&mut inner.proxies, picture, &entry.mask, view))
    }
}
