//! The end of the process: libtorch tears its statics down in it, which must not happen under a thread that computes.
//!
//! Nobody joins an inference thread (a pipeline never waits for one), so the exit itself gives up what they do and waits for
//! the step at hand.

use once_cell::sync::OnceCell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static EXITING: AtomicBool = AtomicBool::new(false);
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// A thread that is stuck for longer can't keep the process from ending.
const PATIENCE: Duration = Duration::from_secs(60);
/// When the first handler's patience ends, and with it that of all others.
static DEADLINE: OnceCell<Instant> = OnceCell::new();

unsafe extern "C" {
    fn atexit(handler: extern "C" fn()) -> c_int;
}

/// Held while a thread computes.
#[derive(Debug)]
pub struct Busy(());

impl Busy {
    /// None once the process is ending.
    pub fn new() -> Option<Self> {
        BUSY.fetch_add(1, Ordering::SeqCst);
        let busy = Self(());
        (!is_exiting()).then_some(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn is_exiting() -> bool {
    EXITING.load(Ordering::SeqCst)
}

/// Drops a model, or leaves it to the end of the process that has begun: its memory may be a device's that is gone.
pub fn dispose<T>(model: T) {
    match Busy::new() {
        Some(_busy) => drop(model),
        None => std::mem::forget(model),
    }
}

/// Makes the exit wait. What was registered before is torn down after: call it whenever libtorch has set more of itself up.
pub fn hold() {
    // SAFETY: the handler is a function of this library, which is never unloaded; it touches atomics and sleeps.
    // A refusal, for want of memory, leaves the exit as it was.
    unsafe { atexit(wait) };
}

/// Gives up what threads compute and waits for the step at hand, as the exit does: for a program that can say so before its exit
/// begins. Nothing is computed in this process afterwards.
pub fn settle() {
    wait();
}

extern "C" fn wait() {
    EXITING.store(true, Ordering::SeqCst);
    let deadline = *DEADLINE.get_or_init(|| Instant::now() + PATIENCE);
    while BUSY.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
}
