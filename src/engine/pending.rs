//! The two ends of one inference: the caller's, which waits or cancels, and the worker's, which keeps its promise or breaks it.

use crate::transfer::Transfer;
use anyhow::{Result, anyhow};
use once_cell::sync::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

enum Progress {
    Waiting,
    Done(Result<Arc<Transfer>>),
    /// Cancelled, or taken by an earlier `wait`.
    Over,
}

/// Numbers of inferences, for the log.
static IDS: AtomicU64 = AtomicU64::new(1);

struct Slot {
    id: u64,
    begun: OnceCell<Instant>,
    state: Mutex<Progress>,
    /// Set before `state` leaves `Waiting`.
    took: OnceCell<Duration>,
    changed: Condvar,
}

impl Slot {
    /// No code that can panic runs under this lock, so a poisoned one holds a sound state.
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, state: Progress) {
        let mut current = self.lock();
        if matches!(*current, Progress::Waiting) {
            // No one else sets it: this is the first settlement.
            let _ = self.took.set(self.begun.get().map(Instant::elapsed).unwrap_or_default());
            *current = state;
            self.changed.notify_all();
        }
    }
}

/// An inference under way. Clones stand for the same one; its result is handed out once.
#[derive(Clone)]
pub struct Pending(Arc<Slot>);

impl Pending {
    /// A promise and the view of it that a caller waits on.
    pub(super) fn new() -> (Promise, Self) {
        let (begun, state) = (OnceCell::new(), Mutex::new(Progress::Waiting));
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot { id, begun, state, took: OnceCell::new(), changed: Condvar::new() });
        (Promise(slot.clone()), Self(slot))
    }

    /// What the log calls it.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Blocks until the transfer is there or inference has failed; `None` once cancelled.
    pub fn wait(&self) -> Option<Result<Arc<Transfer>>> {
        let mut state = self.0.lock();
        loop {
            match std::mem::replace(&mut *state, Progress::Over) {
                Progress::Waiting => {
                    *state = Progress::Waiting;
                    state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Progress::Done(result) => return Some(result),
                Progress::Over => return None,
            }
        }
    }

    /// The transfer if it is there, without waiting; like `wait`, it hands out a result once.
    pub fn poll(&self) -> Poll<Option<Result<Arc<Transfer>>>> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, Progress::Over) {
            Progress::Waiting => {
                *state = Progress::Waiting;
                Poll::Pending
            }
            Progress::Done(result) => Poll::Ready(Some(result)),
            Progress::Over => Poll::Ready(None),
        }
    }

    /// How long it took from being queued to its end.
    pub fn took(&self) -> Option<Duration> {
        self.0.took.get().copied()
    }

    /// Releases everyone who waits. A result that comes later is thrown away.
    pub fn cancel(&self) {
        let mut state = self.0.lock();
        *state = Progress::Over;
        self.0.changed.notify_all();
    }
}

/// The worker's end. Dropped without a result (a worker that died, an engine that went) it reports that to who waits.
pub(super) struct Promise(Arc<Slot>);

impl Promise {
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// It is queued now.
    pub fn begin(&self) {
        // Once is enough: nobody begins twice.
        let _ = self.0.begun.set(Instant::now());
    }

    pub fn keep(self, result: Result<Arc<Transfer>>) {
        self.0.settle(Progress::Done(result));
    }

    /// Whether nobody waits any more.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.0.lock(), Progress::Over)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.settle(Progress::Done(Err(anyhow!("the engine was closed before this inference began"))));
    }
}
