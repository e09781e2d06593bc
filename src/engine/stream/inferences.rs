//! The inferences under way, who waits for them, and the newest transfer, which nobody waits for.
//!
//! One mutex guards everything here, for moments only: a flush returns at once whatever inference is doing. A flush is remembered
//! until `resume`: none is lost between two frames.

use super::super::{Engine, Pending, PutOff, Request, RunningTime};
use crate::frame::Proxy;
use crate::transfer::Transfer;
use anyhow::Result;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// A transfer, and the proxy and running time of the frame that it was inferred from; of one that is made of several, of the
/// newest of them that is no later than its frame.
#[derive(Clone)]
pub struct Applied {
    pub proxy: Arc<Proxy>,
    pub transfer: Arc<Transfer>,
    pub time: i64,
}

/// How an inference ended: the time that it took, or why it failed.
pub type Ended = Result<Duration>;

/// A result's transfer, and how the inference ended.
pub(super) fn split<T>(result: Result<(T, Duration)>) -> (Option<T>, Ended) {
    match result {
        Ok((transfer, took)) => (Some(transfer), Ok(took)),
        Err(error) => (None, Err(error)),
    }
}

struct UnderWay {
    pending: Pending,
    proxy: Arc<Proxy>,
    /// The running time of its frame.
    time: i64,
}

#[derive(Default)]
struct Inner {
    flushing: bool,
    /// The one that no frame waits for, and the newest that it has found.
    under_way: Option<UnderWay>,
    newest: Option<Applied>,
    /// Those that frames wait for, and those of them that are to begin after another.
    queued: Vec<Pending>,
    put_off: Vec<PutOff>,
    shown: Option<Applied>,
}

#[derive(Default)]
pub(super) struct Inferences(Mutex<Inner>);

impl Inferences {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn flush(&self) {
        self.lock().flushing = true;
        self.forget();
    }

    pub fn resume(&self) {
        self.lock().flushing = false;
    }

    pub fn is_flushing(&self) -> bool {
        self.lock().flushing
    }

    /// Forgets the newest transfer and the inferences under way: what comes next has nothing to do with them.
    pub fn forget(&self) {
        let mut inner = self.lock();
        (inner.newest, inner.shown) = (None, None);
        let under_way = inner.under_way.take().map(|under_way| under_way.pending);
        let queued = std::mem::take(&mut inner.queued);
        let put_off = std::mem::take(&mut inner.put_off);
        drop(inner);
        under_way.into_iter().chain(queued).for_each(|pending| pending.cancel());
        drop(put_off);
    }

    /// Begins an inference for the frame at running time `time`, in the place of one under way. `None` while flushing.
    pub fn begin(&self, engine: &Engine, proxy: impl Into<Arc<Proxy>>, request: Request, time: i64) -> Option<Pending> {
        let proxy = proxy.into();
        let mut inner = self.lock();
        if inner.flushing {
            return None;
        }
        let pending = engine.submit(proxy.clone(), request);
        let before = inner.under_way.replace(UnderWay { pending: pending.clone(), proxy, time });
        drop(inner);
        log::debug!("inference {} begins, for the frame at {}", pending.id(), RunningTime(time));
        if let Some(before) = before {
            before.pending.cancel();
        }
        Some(pending)
    }

    /// Begins one that frames are to wait for, beside others. `None` while flushing.
    pub fn queue(&self, engine: &Engine, proxy: Arc<Proxy>, request: Request, time: i64) -> Option<Pending> {
        let mut inner = self.lock();
        if inner.flushing {
            return None;
        }
        let pending = engine.submit(proxy, request);
        inner.queued.push(pending.clone());
        drop(inner);
        log::debug!("inference {} begins, for the frame at {}", pending.id(), RunningTime(time));
        Some(pending)
    }

    /// The same, but that it begins when `begin_put_off` says so, or when somebody waits for one.
    pub fn put_off(&self, engine: &Engine, proxy: Arc<Proxy>, request: Request) -> Option<Pending> {
        let mut inner = self.lock();
        if inner.flushing {
            return None;
        }
        let (put_off, pending) = engine.put_off(proxy, request);
        inner.put_off.push(put_off);
        inner.queued.push(pending.clone());
        Some(pending)
    }

    /// Begins the inferences that were put off, in their order.
    pub fn begin_put_off(&self) {
        let put_off = std::mem::take(&mut self.lock().put_off);
        put_off.into_iter().for_each(PutOff::begin);
    }

    /// Waits for one of those that are queued; `None` if a flush came in between.
    pub fn finish(&self, pending: &Pending) -> Option<Result<(Arc<Transfer>, Duration)>> {
        self.begin_put_off();
        let transfer = pending.wait();
        self.lock().queued.retain(|queued| queued.id() != pending.id());
        Some(transfer?.map(|transfer| (transfer, pending.took().unwrap_or_default())))
    }

    /// One inference from end to end, which makes its transfer the newest; `None` if a flush came in between.
    pub fn infer(
        &self,
        engine: &Engine,
        proxy: impl Into<Arc<Proxy>>,
        request: Request,
        time: i64,
    ) -> Option<Result<(Applied, Duration)>> {
        let proxy = proxy.into();
        let pending = self.begin(engine, proxy.clone(), request, time)?;
        let transfer = pending.wait();
        let mut inner = self.lock();
        // A flush may have taken it away, and the newest transfer with it.
        let is_current = inner.under_way.as_ref().is_some_and(|current| current.pending.id() == pending.id());
        if is_current {
            inner.under_way = None;
        }
        Some(transfer?.map(|transfer| {
            let newest = Applied { proxy, transfer, time };
            if is_current {
                inner.newest = Some(newest.clone());
            }
            (newest, pending.took().unwrap_or_default())
        }))
    }

    /// Whether an inference is under way that no frame waits for, once `newest` has taken up one that is over.
    pub fn is_inferring(&self) -> bool {
        self.lock().under_way.is_some()
    }

    /// The newest transfer, and how an inference ended if one has since this was asked before. One that failed takes the
    /// transfer before it along. Never waits.
    pub fn newest(&self) -> (Option<Applied>, Option<Ended>) {
        let mut inner = self.lock();
        let polled = inner.under_way.as_ref().map(|under_way| under_way.pending.poll());
        let ended = match (polled, inner.under_way.take()) {
            (Some(Poll::Ready(result)), Some(UnderWay { pending, proxy, time })) => result.map(|result| {
                let (newest, ended) = match result {
                    Ok(transfer) => (Some(Applied { proxy, transfer, time }), Ok(pending.took().unwrap_or_default())),
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

    /// What the last harmonized frame took, for `current`.
    pub fn show(&self, shown: Applied) {
        let mut inner = self.lock();
        // A flush forgets it; the frame itself is on its way out.
        if !inner.flushing {
            inner.shown = Some(shown);
        }
    }

    pub fn current(&self) -> Option<Applied> {
        self.lock().shown.clone()
    }
}

#[cfg(test)]
mod tests;
