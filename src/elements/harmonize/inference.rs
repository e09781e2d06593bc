//! The element's side of the engine: its loading, waits (for it, for an inference) that a flush always ends, and the newest
//! transfer, which nobody waits for.
//!
//! One mutex guards everything here. It is never held while a model loads or infers, nor while GStreamer is called, so
//! `flush` returns at once whatever they do. A flush is remembered until `resume`: none is lost between two frames.

use super::infer::{Infer, Job};
use super::later::Later;
use super::pairing::Clock;
use super::{CAT, ModelState};
use crate::engine::Request;
use crate::frame::Proxy;
use crate::harmonizers::ModelSpec;
use crate::transfer::Transfer;
use anyhow::Result;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// Why there is no model to infer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    Flushing,
    /// Loading failed, which the loading thread has reported.
    Failed,
}

/// A model, and what it was asked for as.
#[derive(Clone)]
pub struct Loaded {
    pub engine: Arc<dyn Infer>,
    pub spec: ModelSpec,
    pub workers: usize,
}

#[derive(Default)]
enum Model {
    #[default]
    Unloaded,
    Loading,
    Ready(Loaded),
    Failed,
}

/// A transfer, and the proxy and running time of the frame that it was inferred from; of one that is made of several, of the
/// newest of them that is no later than its frame.
#[derive(Clone)]
pub struct Newest {
    pub proxy: Arc<Proxy>,
    pub transfer: Arc<Transfer>,
    pub time: i64,
}

/// How an inference ended: the time that it took, or why it failed.
pub type Ended = Result<Duration>;

struct UnderWay {
    job: Arc<dyn Job>,
    proxy: Arc<Proxy>,
    /// The running time of its frame.
    time: i64,
}

#[derive(Default)]
struct Inner {
    model: Model,
    /// Counts the loads, so that one that was given up can't put its model in the place of the next.
    load: u64,
    is_loading: bool,
    flushing: bool,
    under_way: Option<UnderWay>,
    newest: Option<Newest>,
    /// Inferences that frames wait for, beside the one that none does.
    queued: Vec<Arc<dyn Job>>,
    /// Those of them that are to begin after another.
    put_off: Vec<Arc<Later>>,
    shown: Option<Newest>,
}

impl Inner {
    fn ready(&self) -> Result<Option<Arc<dyn Infer>>, Unavailable> {
        match &self.model {
            _ if self.flushing => Err(Unavailable::Flushing),
            Model::Ready(loaded) => Ok(Some(loaded.engine.clone())),
            Model::Failed => Err(Unavailable::Failed),
            Model::Unloaded => Err(Unavailable::Flushing),
            Model::Loading => Ok(None),
        }
    }
}

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It had been given up before.
    GivenUp,
    Ready,
    Failed,
    /// It failed, and the model before it stays in use.
    Kept,
}

#[derive(Default)]
pub struct Inference {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Inference {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> ModelState {
        match self.lock().model {
            Model::Unloaded => ModelState::Unloaded,
            Model::Loading => ModelState::Loading,
            Model::Ready(_) => ModelState::Ready,
            Model::Failed => ModelState::Failed,
        }
    }

    /// The model in use.
    pub fn loaded(&self) -> Option<Loaded> {
        match &self.lock().model {
            Model::Ready(loaded) => Some(loaded.clone()),
            _ => None,
        }
    }

    /// Begins a load, during which a model that is there stays in use if `keep` says so; the number is for `is_current` and
    /// `finish_load`. True if that gives up another load.
    pub fn begin_load(&self, keep: bool) -> (u64, bool) {
        let mut inner = self.lock();
        if !(keep && matches!(inner.model, Model::Ready(_))) {
            inner.model = Model::Loading;
        }
        inner.load += 1;
        (inner.load, std::mem::replace(&mut inner.is_loading, true))
    }

    /// Whether `load` has not been given up.
    pub fn is_current(&self, load: u64) -> bool {
        self.lock().load == load
    }

    /// Ends a load, with `None` if it failed.
    pub fn finish_load(&self, load: u64, loaded: Option<Loaded>) -> Finish {
        let mut inner = self.lock();
        if inner.load != load {
            return Finish::GivenUp;
        }
        inner.is_loading = false;
        let finish = match (&inner.model, loaded) {
            (_, Some(loaded)) => {
                inner.model = Model::Ready(loaded);
                Finish::Ready
            }
            (Model::Ready(_), None) => Finish::Kept,
            (_, None) => {
                inner.model = Model::Failed;
                Finish::Failed
            }
        };
        self.changed.notify_all();
        finish
    }

    /// Gives up a load that is under way; true if there was one. A model that is loaded stays.
    pub fn give_up_load(&self) -> bool {
        let mut inner = self.lock();
        inner.load += 1;
        if !matches!(inner.model, Model::Ready(_)) {
            inner.model = Model::Unloaded;
        }
        self.changed.notify_all();
        std::mem::take(&mut inner.is_loading)
    }

    /// Lets go of the model.
    pub fn unload(&self) {
        let model = std::mem::take(&mut self.lock().model);
        drop(model);
    }

    /// Releases whoever waits in `wait_until_ready` or `infer`, now and until `resume`, and forgets the newest transfer.
    pub fn flush(&self) {
        let mut inner = self.lock();
        inner.flushing = true;
        self.changed.notify_all();
        drop(inner);
        self.forget();
    }

    /// Forgets the newest transfer and the inferences under way: what comes next has nothing to do with them.
    pub fn forget(&self) {
        let mut inner = self.lock();
        (inner.newest, inner.shown) = (None, None);
        let under_way = inner.under_way.take().map(|under_way| under_way.job);
        let queued = std::mem::take(&mut inner.queued);
        inner.put_off.clear();
        drop(inner);
        under_way.into_iter().chain(queued).for_each(|job| job.cancel());
    }

    pub fn is_flushing(&self) -> bool {
        self.lock().flushing
    }

    pub fn resume(&self) {
        self.lock().flushing = false;
    }

    /// Waits until the model is loaded.
    pub fn wait_until_ready(&self) -> Result<(), Unavailable> {
        let mut inner = self.lock();
        while inner.ready()?.is_none() {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// The loaded model; `None` while it is loading.
    pub fn ready(&self) -> Result<Option<Arc<dyn Infer>>, Unavailable> {
        self.lock().ready()
    }

    /// Begins an inference for the frame at running time `time`, in the place of one under way. `None` while flushing.
    pub fn begin(
        &self,
        engine: &dyn Infer,
        proxy: impl Into<Arc<Proxy>>,
        request: Request,
        time: i64,
    ) -> Option<Arc<dyn Job>> {
        let proxy = proxy.into();
        let mut inner = self.lock();
        if inner.flushing {
            return None;
        }
        let job = engine.submit(proxy.clone(), request);
        let before = inner.under_way.replace(UnderWay { job: job.clone(), proxy, time });
        drop(inner);
        gst::debug!(CAT, "Inference {} begins, for the composite at {}", job.id(), Clock(time));
        if let Some(before) = before {
            before.job.cancel();
        }
        Some(job)
    }

    /// Begins an inference that frames are to wait for, beside others, for the frame at running time `time`. `None` while
    /// flushing.
    pub fn queue(&self, engine: &dyn Infer, proxy: Arc<Proxy>, request: Request, time: i64) -> Option<Arc<dyn Job>> {
        let mut inner = self.lock();
        if inner.flushing {
            return None;
        }
        let job = engine.submit(proxy, request);
        inner.queued.push(job.clone());
        drop(inner);
        gst::debug!(CAT, "Inference {} begins, for the composite at {}", job.id(), Clock(time));
        Some(job)
    }

    /// The same, but that it begins when `begin_put_off` says so, or when somebody waits for it.
    pub fn put_off(&self, engine: Arc<dyn Infer>, proxy: Arc<Proxy>, request: Request) -> Option<Arc<dyn Job>> {
        let mut inner = self.lock();
        if inner.flushing {
            return None;
        }
        let later = Arc::new(Later::new(engine, proxy, request));
        inner.put_off.push(later.clone());
        inner.queued.push(later.clone());
        Some(later)
    }

    /// Begins the inferences that were put off, in their order.
    pub fn begin_put_off(&self) {
        let put_off = std::mem::take(&mut self.lock().put_off);
        put_off.iter().for_each(|later| drop(later.begin()));
    }

    /// Waits for one of those; `None` if a flush came in between.
    pub fn finish(&self, job: &Arc<dyn Job>) -> Option<Result<(Arc<Transfer>, Duration)>> {
        let transfer = job.wait();
        self.lock().queued.retain(|queued| !Arc::ptr_eq(queued, job));
        Some(transfer?.map(|transfer| (transfer, job.took().unwrap_or_default())))
    }

    /// What the last harmonized frame took, for `current`.
    pub fn show(&self, shown: Newest) {
        self.lock().shown = Some(shown);
    }

    /// One inference from end to end, which makes its transfer the newest; `None` if a flush came in between.
    pub fn infer(
        &self,
        engine: &dyn Infer,
        proxy: impl Into<Arc<Proxy>>,
        request: Request,
        time: i64,
    ) -> Option<Result<(Newest, Duration)>> {
        let proxy = proxy.into();
        let job = self.begin(engine, proxy.clone(), request, time)?;
        let transfer = job.wait();
        let mut inner = self.lock();
        // A flush may have taken it away, and the newest transfer with it.
        let is_current = inner.under_way.as_ref().is_some_and(|current| Arc::ptr_eq(&current.job, &job));
        if is_current {
            inner.under_way = None;
        }
        Some(transfer?.map(|transfer| {
            let newest = Newest { proxy, transfer, time };
            if is_current {
                inner.newest = Some(newest.clone());
            }
            (newest, job.took().unwrap_or_default())
        }))
    }

    /// Whether an inference is under way, once `newest` has taken up one that is over.
    pub fn is_inferring(&self) -> bool {
        self.lock().under_way.is_some()
    }

    /// What the last harmonized frame took, since the last flush.
    pub fn current(&self) -> Option<Newest> {
        self.lock().shown.clone()
    }

    /// The newest transfer, and how an inference ended if one has since this was asked before. One that failed takes the
    /// transfer before it along. Never waits.
    pub fn newest(&self) -> (Option<Newest>, Option<Ended>) {
        let mut inner = self.lock();
        let polled = inner.under_way.as_ref().map(|under_way| under_way.job.poll());
        let ended = match (polled, inner.under_way.take()) {
            (Some(Poll::Ready(result)), Some(UnderWay { job, proxy, time })) => result.map(|result| {
                let (newest, ended) = match result {
                    Ok(transfer) => {
                        let newest = Newest { proxy, transfer, time };
                        (Some(newest), Ok(job.took().unwrap_or_default()))
                    }
                    Err(error) => (None, Err(error)),
                };
                inner.newest = newest;
                ended
            }),
            (_, under_way) => {
                inner.under_way = under_way;
                None
            }
        };
        (inner.newest.clone(), ended)
    }
}

#[cfg(test)]
mod tests;
