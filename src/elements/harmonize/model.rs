//! The element's model: its loading, and waits for it, which a flush always ends.
//!
//! One mutex guards everything here. It is never held while a model loads, nor while GStreamer is called, so `flush` returns at
//! once. A flush is remembered until `resume`: none is lost between two frames.

use super::ModelState;
use crate::engine::Engine;
use crate::harmonizers::ModelSpec;
use anyhow::Result;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Loads a model for so many workers, and ends with an error soon after the last argument says that it is given up.
pub type Loader = dyn Fn(&ModelSpec, usize, &dyn Fn() -> bool) -> Result<Arc<Engine>> + Send + Sync;

/// The loader of every element that no test has touched.
fn load_engine(spec: &ModelSpec, workers: usize, is_given_up: &dyn Fn() -> bool) -> Result<Arc<Engine>> {
    Ok(Arc::new(Engine::load(spec, workers, is_given_up)?))
}

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
    pub engine: Arc<Engine>,
    pub spec: ModelSpec,
    pub workers: usize,
}

#[derive(Default)]
enum Phase {
    #[default]
    Unloaded,
    Loading,
    Ready(Loaded),
    Failed,
}

struct Inner {
    phase: Phase,
    loader: Arc<Loader>,
    /// Counts the loads, so that one that was given up can't put its model in the place of the next.
    load: u64,
    is_loading: bool,
    flushing: bool,
}

impl Inner {
    fn ready(&self) -> Result<Option<Arc<Engine>>, Unavailable> {
        match &self.phase {
            _ if self.flushing => Err(Unavailable::Flushing),
            Phase::Ready(loaded) => Ok(Some(loaded.engine.clone())),
            Phase::Failed => Err(Unavailable::Failed),
            Phase::Unloaded => Err(Unavailable::Flushing),
            Phase::Loading => Ok(None),
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

pub struct Model {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Default for Model {
    fn default() -> Self {
        let loader = Arc::new(load_engine);
        let inner = Inner { phase: Phase::Unloaded, loader, load: 0, is_loading: false, flushing: false };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }
}

impl Model {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> ModelState {
        match self.lock().phase {
            Phase::Unloaded => ModelState::Unloaded,
            Phase::Loading => ModelState::Loading,
            Phase::Ready(_) => ModelState::Ready,
            Phase::Failed => ModelState::Failed,
        }
    }

    /// The model in use.
    pub fn loaded(&self) -> Option<Loaded> {
        match &self.lock().phase {
            Phase::Ready(loaded) => Some(loaded.clone()),
            _ => None,
        }
    }

    /// Begins a load, during which a model that is there stays in use if `keep` says so; the number is for `is_current` and
    /// `finish_load`. True if that gives up another load.
    pub fn begin_load(&self, keep: bool) -> (u64, bool) {
        let mut inner = self.lock();
        if !(keep && matches!(inner.phase, Phase::Ready(_))) {
            inner.phase = Phase::Loading;
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
        let finish = match (&inner.phase, loaded) {
            (_, Some(loaded)) => {
                inner.phase = Phase::Ready(loaded);
                Finish::Ready
            }
            (Phase::Ready(_), None) => Finish::Kept,
            (_, None) => {
                inner.phase = Phase::Failed;
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
        if !matches!(inner.phase, Phase::Ready(_)) {
            inner.phase = Phase::Unloaded;
        }
        self.changed.notify_all();
        std::mem::take(&mut inner.is_loading)
    }

    /// Lets go of the model.
    pub fn unload(&self) {
        let phase = std::mem::take(&mut self.lock().phase);
        drop(phase);
    }

    /// What the next load goes by.
    pub fn loader(&self) -> Arc<Loader> {
        self.lock().loader.clone()
    }

    pub fn set_loader(&self, loader: Arc<Loader>) {
        self.lock().loader = loader;
    }

    /// Releases whoever waits in `wait_until_ready`, now and until `resume`.
    pub fn flush(&self) {
        self.lock().flushing = true;
        self.changed.notify_all();
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
    pub fn ready(&self) -> Result<Option<Arc<Engine>>, Unavailable> {
        self.lock().ready()
    }
}

#[cfg(test)]
mod tests;
