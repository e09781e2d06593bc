//! Bands of rows, shared between the caller and a few threads of our own.
//!
//! Which thread does a band changes nothing of its result. One caller at a time has the threads; another does its bands alone rather
//! than wait, and nobody allocates. The threads sleep where there is nothing to do: a thread that spins would take time from inference.
//!
//! Not rayon's (1.12 was tried): its scopes wait for helpers that were asked and have not come yet, though no band is left for them.
//! With both processors busy otherwise, work of 2.2 ms took 2.2 ms in the median here and 5 to 10 in a scope or a parallel iterator;
//! and both allocate now and then, a scope each time.

use once_cell::sync::Lazy;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

/// More threads than this gain nothing: memory is what a large frame waits for.
const MAX_THREADS: usize = 8;

/// Bands of a caller, done in any order by whoever takes the next.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    bands: usize,
    next: AtomicUsize,
}

impl Job<'_> {
    fn work(&self) {
        loop {
            let band = self.next.fetch_add(1, Ordering::Relaxed);
            if band >= self.bands {
                return;
            }
            (self.work)(band);
        }
    }
}

#[derive(Default)]
struct State {
    /// Open to helpers. The caller stays until it is closed and all have left.
    job: Option<&'static Job<'static>>,
    /// Helpers that may still join.
    wanted: usize,
    /// Helpers at work.
    active: usize,
    /// One of them panicked.
    panicked: bool,
}

struct Pool {
    helpers: usize,
    state: Mutex<State>,
    open: Condvar,
    left: Condvar,
    /// Held by the caller whose job it is.
    taken: Mutex<()>,
}

/// No code that can leave it half changed runs under a lock here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static POOL: Lazy<&'static Pool> = Lazy::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = Pool {
        helpers: cores.min(MAX_THREADS) - 1,
        state: Mutex::default(),
        open: Condvar::new(),
        left: Condvar::new(),
        taken: Mutex::new(()),
    };
    let pool: &'static Pool = Box::leak(Box::new(pool));
    for i in 0..pool.helpers {
        // Without one the others do its bands.
        let _ = std::thread::Builder::new().name(format!("harmonize-row-{i}")).spawn(|| pool.help());
    }
    pool
});

/// Threads that may work at once; 0 is one for each processor.
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Lets at most `threads` work on a caller's bands from now on, the caller's own among them; 0 is one for each processor, at most
/// eight. For comparisons: results are the same.
pub fn set_threads(threads: usize) {
    LIMIT.store(threads, Ordering::Relaxed);
}

/// Calls `work` once with each number below `bands`, from several threads at a time, and returns when all is done.
pub fn run(bands: usize, work: &(dyn Fn(usize) + Sync)) {
    let job = Job { work, bands, next: AtomicUsize::new(0) };
    let limit = match LIMIT.load(Ordering::Relaxed) {
        0 => MAX_THREADS,
        limit => limit,
    };
    if bands.min(limit) < 2 {
        return job.work();
    }
    let pool = *POOL;
    let wanted = pool.helpers.min(limit - 1).min(bands - 1);
    let taken = match pool.taken.try_lock() {
        Ok(taken) => Some(taken),
        // Whoever panicked has closed its job.
        Err(TryLockError::Poisoned(taken)) => Some(taken.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    match taken {
        Some(_taken) if wanted > 0 => pool.share(&job, wanted),
        _ => job.work(),
    }
}

/// Parts that a picture is cut into at most: enough that threads that come late or are slow still find some to do.
pub const MAX_BANDS: usize = 32;
/// A picture of fewer pixels isn't worth waking a thread for.
const ALONE: usize = 1 << 16;

/// How many of `height` rows of `width` pixels make a band, a multiple of `step`.
pub fn height(width: usize, height: usize, step: usize) -> usize {
    let bands = if width.saturating_mul(height) < ALONE { 1 } else { MAX_BANDS };
    height.div_ceil(bands).next_multiple_of(step).max(step)
}

/// Hands each of `parts`, of which there are at most `MAX_BANDS`, to `work`, as `run` does.
pub fn each<T: Send>(mut parts: impl Iterator<Item = T>, work: impl Fn(T) + Sync) {
    let parts: [_; MAX_BANDS] = std::array::from_fn(|_| Mutex::new(parts.next()));
    let count = parts.iter().take_while(|part| lock(part).is_some()).count();
    run(count, &|i| {
        let part = lock(&parts[i]).take();
        if let Some(part) = part {
            work(part);
        }
    });
}

/// Keeps a job open while it lives.
struct Open<'a>(&'a Pool);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        (state.job, state.wanted) = (None, 0);
        while state.active > 0 {
            state = self.0.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Pool {
    fn share(&self, job: &Job, wanted: usize) {
        // SAFETY: helpers get it from `state` alone. `Open` takes it out of there and waits for those who have it, before `job`
        // ends, even if this thread panics.
        let lasting = unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) };
        {
            let mut state = lock(&self.state);
            *state = State { job: Some(lasting), wanted, active: 0, panicked: false };
        }
        let open = Open(self);
        for _ in 0..wanted {
            self.open.notify_one();
        }
        job.work();
        drop(open);
        if std::mem::take(&mut lock(&self.state).panicked) {
            resume_unwind(Box::new("a thread that works on rows panicked"));
        }
    }

    fn help(&self) {
        let mut state = lock(&self.state);
        loop {
            let Some(job) = state.job.filter(|_| state.wanted > 0) else {
                state = self.open.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.wanted -= 1;
            state.active += 1;
            drop(state);
            let panicked = catch_unwind(AssertUnwindSafe(|| job.work())).is_err();
            state = lock(&self.state);
            state.active -= 1;
            state.panicked |= panicked;
            if state.active == 0 {
                self.left.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    #[test]
    fn every_band_is_done_once_by_however_many() {
        for bands in [0, 1, 2, 31, 64] {
            let done: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
            run(bands, &|band| {
                done[band].fetch_add(1, Ordering::Relaxed);
            });
            let expected = (0..64).map(|band| u64::from(band < bands));
            assert!(done.iter().map(|n| n.load(Ordering::Relaxed)).eq(expected), "{bands}");
        }
    }

    /// Whether the caller isn't alone, and another caller doesn't have the threads; makes who helps slower than the caller.
    fn is_helped(work: impl Fn() + Sync) -> bool {
        let (caller, helped) = (std::thread::current().id(), AtomicUsize::new(0));
        for _ in 0..200 {
            run(4, &|_| {
                std::thread::sleep(Duration::from_millis(1));
                if std::thread::current().id() != caller {
                    std::thread::sleep(Duration::from_millis(4));
                    helped.fetch_add(1, Ordering::SeqCst);
                    work();
                }
            });
            if helped.load(Ordering::SeqCst) > 0 {
                return true;
            }
        }
        false
    }

    #[test]
    fn the_caller_waits_for_who_helps_and_hears_of_a_panic_there() {
        let done = AtomicUsize::new(0);
        let is_alone = std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
        let helped = is_helped(|| done.store(1, Ordering::SeqCst));
        assert_eq!((helped, done.into_inner()), (!is_alone, usize::from(!is_alone)));
        let panicked = catch_unwind(|| is_helped(|| panic!("not the caller's"))).is_err();
        assert_eq!(panicked, !is_alone);
    }

    #[test]
    fn callers_on_several_threads_get_all_of_theirs() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let sum = AtomicU64::new(0);
                        run(16, &|band| {
                            sum.fetch_add(1 << band, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), 0xffff);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_threads_go_on() {
        for _ in 0..20 {
            assert!(catch_unwind(|| run(16, &|band| assert_ne!(band, 9, "not this one"))).is_err());
            let sum = AtomicU64::new(0);
            run(16, &|_| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 16);
        }
    }
}
