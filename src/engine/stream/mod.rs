//! A stream of frames: composites go in, and come out harmonized, in their order. No GStreamer here, and no clock.
//!
//! It owns all that there is between a frame and its transfer: what backgrounds look like, proxies, scenes, keyframes, the
//! inferences under way and the frames that wait. Two policies stand behind it: exact, where a frame waits until nothing that is
//! still to come can change its transfer, and live, where no frame waits.
//!
//! ```text
//! push(engine, entry, policy)   a frame that is to be harmonized
//! pass(frame, time), skip(time) one that goes by in its order, and one that is none of the stream
//! next(end, held)               the next frame that may leave
//! current                       what the last harmonized frame took
//! flush, resume, reset          from any thread: releases who waits, now and until `resume`; forgets what has been
//! ```
//!
//! Frames are pushed and taken by one thread. Of its two locks `inner` is held while samples are read and written and never while
//! anybody waits for an inference, so that `flush` returns at once whatever inference is doing, and `reset` soon.

mod exact;
mod inferences;
mod live;

pub use inferences::{Applied, Ended};

use self::exact::Exact;
use self::inferences::Inferences;
use super::{Descriptor, Engine, Follow, Request, Temporal};
use crate::frame::{Describer, Mask, Picture, PictureMut, Proxy, View};
use crate::recycle::unused;
use crate::transfer::Plan;
use anyhow::{Error, Result, anyhow};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whoever has a frame's samples lends them; an error is that of the frame.
pub trait Frame {
    /// To look at.
    fn read<R>(&self, f: impl FnOnce(&Picture) -> R) -> Result<R>;
    /// To change them in place.
    fn write<R>(&mut self, f: impl FnOnce(&mut PictureMut) -> R) -> Result<R>;
}

/// What a frame's harmonization depends on besides its samples, its mask and its neighbours; the element's properties.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parameters {
    /// With the noise of this frame.
    pub request: Request,
    /// Long side of the proxy; 0 takes the model's own.
    pub proxy_size: u32,
    /// 0 leaves the composite, 1 applies the whole transfer.
    pub strength: f32,
    pub temporal: Temporal,
}

/// A frame that is to be harmonized.
pub struct Entry<F> {
    pub frame: F,
    /// Of the frame's size.
    pub mask: Arc<Mask>,
    /// Nanoseconds of stream time, which the keyframe lattice lies on.
    pub time: i64,
    /// Nanoseconds of running time, by which the log calls it and the age of a transfer is told.
    pub running_time: i64,
    /// A scene begins here, whatever the picture says.
    pub begins: bool,
    /// It is seen for the sake of those after it, and does not come out to be shown.
    pub is_margin: bool,
    pub parameters: Parameters,
}

impl<F> Entry<F> {
    fn size(&self) -> [usize; 2] {
        [self.mask.width, self.mask.height]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Frames wait for what their transfers depend on. `shows_first`: but not this one, if it is no margin; it takes what the model
    /// finds in it alone. The inferences of margins are put off for that until somebody waits, or `begin_put_off`.
    Exact { shows_first: bool },
    /// Frames take what has been found by now. `waits`: but for the first transfer of a scene.
    Live { waits: bool },
}

/// A frame that leaves the stream.
pub struct Ready<F> {
    pub frame: F,
    pub outcome: Result<Outcome, Stopped>,
    /// What it has taken of the thread that pushed and took it.
    pub took: Duration,
}

/// What became of a frame.
pub enum Outcome {
    /// It went by.
    Passed,
    /// It was seen only.
    Margin,
    Harmonized(Applied),
    /// Untouched, for its inference failed.
    Failed,
    /// Untouched, for nothing has been found yet. In live mode alone.
    NotReady,
}

/// Why a frame goes no further.
#[derive(Debug)]
pub enum Stopped {
    Flushed,
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Flushed => anyhow!("the stream was flushed"),
            Stopped::Failed(error) => error,
        }
    }
}

/// Proxies of frames: the newest transfer's, those that inference is at, one that it has given up, and one to read the next into.
type Proxies = [Arc<Proxy>; 16];

/// A frame that waits for its transfer.
struct Waiting<F> {
    entry: Entry<F>,
    place: super::FramePosition,
    took: Duration,
}

enum Queued<F> {
    Ready(Ready<F>),
    Waits(Waiting<F>),
}

struct Inner<F> {
    describer: Describer,
    proxies: Proxies,
    plan: Plan,
    exact: Exact,
    follow: Follow,
    queue: VecDeque<Queued<F>>,
}

/// Frames of the kind `F` on their way.
pub struct Stream<F> {
    inner: Mutex<Inner<F>>,
    inferences: Inferences,
}

impl<F> Default for Stream<F> {
    fn default() -> Self {
        let (describer, proxies, plan) = Default::default();
        let (exact, follow, queue) = Default::default();
        let inner = Inner { describer, proxies, plan, exact, follow, queue };
        Self { inner: Mutex::new(inner), inferences: Inferences::default() }
    }
}

impl<F: Frame> Stream<F> {
    /// Takes a frame up, and begins the inference that it wants. `ended` hears how each inference ended that this waits for or finds
    /// at its end, and may make an error of it. The frame is lost where this fails.
    pub fn push(
        &self,
        engine: &Engine,
        entry: Entry<F>,
        policy: Policy,
        ended: &mut dyn FnMut(Ended) -> Result<()>,
    ) -> Result<(), Stopped> {
        match policy {
            Policy::Exact { shows_first } => self.push_exact(engine, entry, shows_first, ended),
            Policy::Live { waits } => self.push_live(engine, entry, waits, ended),
        }
    }

    /// Has a frame go by in its order; the stream has come to `time`.
    pub fn pass(&self, frame: F, time: i64) {
        let mut inner = self.lock();
        inner.exact.keyframes.pass(time);
        let ready = Ready { frame, outcome: Ok(Outcome::Passed), took: Duration::ZERO };
        inner.queue.push_back(Queued::Ready(ready));
    }

    /// The stream has come to `time` with a frame that leaves it nothing.
    pub fn skip(&self, time: i64) {
        self.lock().exact.keyframes.pass(time);
    }

    /// The next frame that may leave: all may at the `end`, else as many as `held` stay, for workers to be busy with. Waits for what
    /// its transfer depends on; `ended` as in `push`.
    pub fn next(&self, end: bool, held: usize, ended: &mut dyn FnMut(Ended) -> Result<()>) -> Option<Ready<F>> {
        let next = self.lock().next(end, held)?;
        let mut waiting = match next {
            Queued::Ready(ready) => return Some(ready),
            Queued::Waits(waiting) => waiting,
        };
        let begun = Instant::now();
        let outcome = match waiting.entry.is_margin {
            true => Ok(Outcome::Margin),
            false => self.finish(&mut waiting, ended),
        };
        Some(Ready { frame: waiting.entry.frame, outcome, took: waiting.took + begun.elapsed() })
    }

    /// Begins the inferences that were put off for the first frame to be shown.
    pub fn begin_put_off(&self) {
        self.inferences.begin_put_off();
    }

    /// Harmonizes a frame, and remembers by what.
    fn apply(&self, inner: &mut Inner<F>, entry: &mut Entry<F>, applied: Applied) -> Result<Outcome> {
        let Entry { frame, mask, parameters, .. } = entry;
        frame.write(|picture| inner.plan.apply(picture, mask, &applied.transfer, parameters.strength))?;
        self.inferences.show(applied.clone());
        Ok(Outcome::Harmonized(applied))
    }
}

impl<F> Stream<F> {
    /// No code that can panic leaves it half changed.
    fn lock(&self) -> MutexGuard<'_, Inner<F>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases whoever waits in `push` or `next`, now and until `resume`, and forgets what has been found.
    pub fn flush(&self) {
        self.inferences.flush();
    }

    /// Ends what `flush` began.
    pub fn resume(&self) {
        self.inferences.resume();
    }

    /// Whether `flush` has been called and `resume` not yet.
    pub fn is_flushing(&self) -> bool {
        self.inferences.is_flushing()
    }

    /// Forgets all that has been: what comes next has nothing to do with it. Returns the frames that waited, those to be shown.
    pub fn reset(&self) -> impl Iterator<Item = F> + use<F> {
        self.inferences.forget();
        let mut inner = self.lock();
        (inner.exact, inner.follow) = Default::default();
        let queue = std::mem::take(&mut inner.queue);
        drop(inner);
        queue.into_iter().filter_map(|queued| match queued {
            Queued::Ready(ready) => Some(ready.frame),
            Queued::Waits(waiting) => Some(waiting.entry).filter(|entry| !entry.is_margin).map(|entry| entry.frame),
        })
    }

    /// What the last harmonized frame took, since the last flush.
    pub fn current(&self) -> Option<Applied> {
        self.inferences.current()
    }
}

impl<F> Inner<F> {
    fn next(&mut self, end: bool, held: usize) -> Option<Queued<F>> {
        if let Queued::Waits(Waiting { entry, place, .. }) = self.queue.front()? {
            let is_free =
                self.queue.len() > held && self.exact.keyframes.is_settled(*place, &entry.parameters.temporal);
            if !(end || entry.is_margin || is_free) {
                return None;
            }
        }
        self.queue.pop_front()
    }
}

/// What a frame's background looks like, if anyone asks.
fn describe(describer: &mut Describer, picture: &Picture, mask: &Mask, temporal: &Temporal) -> Descriptor {
    if temporal.looks() { describer.read(picture, mask) } else { Descriptor::NONE }
}

/// What the model is to see of a frame.
fn see(proxies: &mut Proxies, picture: &Picture, mask: &Mask, view: View) -> Arc<Proxy> {
    unused(proxies).read(picture, mask, view);
    proxies[0].clone()
}

#[cfg(test)]
mod tests;
