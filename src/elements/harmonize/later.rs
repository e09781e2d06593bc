//! An inference that is put off until another, which somebody is waiting for, has been begun.

use super::infer::{Infer, Job};
use crate::engine::Request;
use crate::frame::Proxy;
use crate::transfer::Transfer;
use anyhow::Result;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

enum State {
    PutOff(Arc<Proxy>),
    Begun(Arc<dyn Job>),
    Cancelled,
}

pub struct Later {
    engine: Arc<dyn Infer>,
    request: Request,
    state: Mutex<State>,
}

impl Later {
    pub fn new(engine: Arc<dyn Infer>, proxy: Arc<Proxy>, request: Request) -> Self {
        Self { engine, request, state: Mutex::new(State::PutOff(proxy)) }
    }

    /// Begins it, if that has not been done; `None` once cancelled.
    pub fn begin(&self) -> Option<Arc<dyn Job>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match &*state {
            State::PutOff(proxy) => self.engine.submit(proxy.clone(), self.request),
            State::Begun(job) => job.clone(),
            State::Cancelled => return None,
        };
        *state = State::Begun(job.clone());
        Some(job)
    }

    fn begun(&self) -> Option<Arc<dyn Job>> {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Begun(job) => Some(job.clone()),
            _ => None,
        }
    }
}

impl Job for Later {
    fn id(&self) -> u64 {
        self.begun().map_or(0, |job| job.id())
    }

    fn wait(&self) -> Option<Result<Arc<Transfer>>> {
        self.begin()?.wait()
    }

    fn poll(&self) -> Poll<Option<Result<Arc<Transfer>>>> {
        self.begin().map_or(Poll::Ready(None), |job| job.poll())
    }

    fn took(&self) -> Option<Duration> {
        self.begun()?.took()
    }

    fn cancel(&self) {
        let state =
            std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Cancelled);
        if let State::Begun(job) = state {
            job.cancel();
        }
    }
}
