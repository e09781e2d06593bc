//! The element's side of the engine: its loading, and waits (for it, for an inference) that a flush always ends.
//!
//! One mutex guards everything here. It is never held while a model loads or infers, nor while GStreamer is called, so
//! `flush` returns at once whatever they do. A flush is remembered until `resume`: none is lost between two frames.

use super::ModelState;
use crate::engine::{Engine, Pending, Request};
use crate::frame::{Mask, Proxy, View};
use crate::harmonizers::Precision;
use crate::transfer::Transfer;
use anyhow::Result;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What the element asks of a loaded model. `Engine` is the one there is; tests put a quick, slow or failing one in its place.
pub trait Infer: Send + Sync {
    /// What the model is to see of a frame with `mask`; `long_side` of the proxy 0 takes the model's own.
    fn view(&self, mask: &Mask, long_side: u32) -> View;
    fn device(&self) -> &str;
    fn precision(&self) -> Precision;
    /// Queues an inference; returns at once.
    fn submit(&self, proxy: Proxy, request: Request) -> Arc<dyn Job>;
}

/// An inference under way.
pub trait Job: Send + Sync {
    /// Blocks until the transfer is there; `None` once cancelled.
    fn wait(&self) -> Option<Result<Transfer>>;
    /// Releases everyone who waits.
    fn cancel(&self);
}

impl Infer for Engine {
    fn view(&self, mask: &Mask, long_side: u32) -> View {
        self.view(mask, long_side)
    }

    fn device(&self) -> &str {
        self.device()
    }

    fn precision(&self) -> Precision {
        self.precision()
    }

    fn submit(&self, proxy: Proxy, request: Request) -> Arc<dyn Job> {
        Arc::new(self.submit(proxy, request))
    }
}

impl Job for Pending {
    fn wait(&self) -> Option<Result<Transfer>> {
        self.wait()
    }

    fn cancel(&self) {
        self.cancel()
    }
}

/// Why there is no model to infer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    Flushing,
    /// Loading failed, which the loading thread has reported.
    Failed,
}

#[derive(Default)]
enum Model {
    #[default]
    Unloaded,
    Loading,
    Ready(Arc<dyn Infer>),
    Failed,
}

#[derive(Default)]
struct Inner {
    model: Model,
    /// Counts the loads, so that one that was given up can't put its model in the place of the next.
    load: u64,
    flushing: bool,
    job: Option<Arc<dyn Job>>,
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

    /// The device of the loaded model, and the kind of its weights.
    pub fn device(&self) -> Option<(String, Precision)> {
        match &self.lock().model {
            Model::Ready(engine) => Some((engine.device().to_owned(), engine.precision())),
            _ => None,
        }
    }

    /// Begins a load; its number is for `is_current` and `finish_load`.
    pub fn begin_load(&self) -> u64 {
        let mut inner = self.lock();
        inner.model = Model::Loading;
        inner.load += 1;
        inner.load
    }

    /// Whether `load` has not been given up.
    pub fn is_current(&self, load: u64) -> bool {
        self.lock().load == load
    }

    /// Ends a load, with `None` if it failed; false if it had been given up.
    pub fn finish_load(&self, load: u64, engine: Option<Arc<dyn Infer>>) -> bool {
        let mut inner = self.lock();
        if inner.load != load {
            return false;
        }
        inner.model = engine.map_or(Model::Failed, Model::Ready);
        self.changed.notify_all();
        true
    }

    /// Lets go of the model, or of its loading; true in the latter case.
    pub fn unload(&self) -> bool {
        let mut inner = self.lock();
        inner.load += 1;
        let model = std::mem::take(&mut inner.model);
        self.changed.notify_all();
        drop(inner);
        matches!(model, Model::Loading)
    }

    /// Releases whoever waits in `engine` or `infer`, now and until `resume`.
    pub fn flush(&self) {
        let mut inner = self.lock();
        inner.flushing = true;
        let job = inner.job.take();
        self.changed.notify_all();
        drop(inner);
        if let Some(job) = job {
            job.cancel();
        }
    }

    pub fn is_flushing(&self) -> bool {
        self.lock().flushing
    }

    pub fn resume(&self) {
        self.lock().flushing = false;
    }

    /// The loaded model, once it is there.
    pub fn engine(&self) -> Result<Arc<dyn Infer>, Unavailable> {
        let mut inner = self.lock();
        loop {
            match &inner.model {
                _ if inner.flushing => return Err(Unavailable::Flushing),
                Model::Ready(engine) => return Ok(engine.clone()),
                Model::Failed => return Err(Unavailable::Failed),
                Model::Unloaded => return Err(Unavailable::Flushing),
                Model::Loading => inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// One inference from end to end; `None` if a flush came in between.
    pub fn infer(&self, engine: &dyn Infer, proxy: Proxy, request: Request) -> Option<Result<Transfer>> {
        let job = {
            let mut inner = self.lock();
            if inner.flushing {
                return None;
            }
            let job = engine.submit(proxy, request);
            inner.job = Some(job.clone());
            job
        };
        let transfer = job.wait();
        self.lock().job = None;
        transfer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at once.
    struct Quick;

    impl Infer for Quick {
        fn view(&self, _mask: &Mask, _long_side: u32) -> View {
            View::whole(1, 1)
        }

        fn device(&self) -> &str {
            "cpu"
        }

        fn precision(&self) -> Precision {
            Precision::F32
        }

        fn submit(&self, _proxy: Proxy, _request: Request) -> Arc<dyn Job> {
            Arc::new(Self)
        }
    }

    impl Job for Quick {
        fn wait(&self) -> Option<Result<Transfer>> {
            Some(Ok(Transfer::identity()))
        }

        fn cancel(&self) {}
    }

    fn infer(inference: &Inference) -> bool {
        let proxy = Proxy { width: 1, height: 1, region: None, rgb: vec![0.0; 3], mask: vec![1.0] };
        inference.infer(&Quick, proxy, Request::default()).is_some()
    }

    #[test]
    fn a_flush_that_nobody_waited_for_is_remembered_until_the_resume() {
        let inference = Inference::default();
        let load = inference.begin_load();
        assert!(inference.finish_load(load, Some(Arc::new(Quick))));
        inference.flush();
        assert_eq!(inference.engine().err(), Some(Unavailable::Flushing));
        assert!(!infer(&inference));
        inference.resume();
        assert!(inference.engine().is_ok() && infer(&inference));
    }

    #[test]
    fn a_load_that_was_given_up_changes_nothing() {
        let inference = Inference::default();
        let first = inference.begin_load();
        assert!(inference.unload(), "it was loading");
        let second = inference.begin_load();
        assert!(!inference.finish_load(first, Some(Arc::new(Quick))));
        assert_eq!(inference.state(), ModelState::Loading);
        assert!(inference.finish_load(second, None));
        assert_eq!((inference.state(), inference.engine().err()), (ModelState::Failed, Some(Unavailable::Failed)));
        assert!(!inference.unload(), "it was not loading any more");
    }
}
