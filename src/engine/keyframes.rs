//! The transfers of a stream whose every frame waits for its own: keyframes on a lattice of stream time, smoothed over a window
//! around each, and interpolated for the frames between two of them.
//!
//! A frame's transfer depends on the keyframes that its window and the interpolation reach, all of its own scene, and on nothing
//! before or after: it is the same wherever the stream was entered, once as much as `margin` has been seen of it. Keyframes are
//! those of the lattice of stream time, and the first frame of each scene.

use super::scenes::{Moment, Scenes, is_first_of_cell};
use crate::frame::Descriptor;
use crate::recycle::unused;
use crate::transfer::Transfer;
use crate::transfer::smooth::{REACH, weight};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How transfers go on from frame to frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Temporal {
    /// Nanoseconds of the keyframe lattice; 0 makes every frame a keyframe.
    pub interval: u64,
    /// What a neighbour 40 ms away weighs in the mean, 0 (no mean) to 1.
    pub smoothing: f64,
    /// Whether scenes are told by their backgrounds.
    pub detection: bool,
}

/// A frame waits for this many after it at most, and no keyframe further off is interpolated to.
pub const MAX_AHEAD: u64 = 512;

/// Frame times are rounded, and a frame is seen before its time is over.
const SLACK: Duration = Duration::from_millis(100);

impl Temporal {
    /// Whether backgrounds count for anything.
    pub fn looks(&self) -> bool {
        self.detection || self.smoothing > 0.0
    }

    fn reach(&self) -> u64 {
        if self.smoothing > 0.0 { REACH.as_nanos() as u64 } else { 0 }
    }

    /// How far a frame's transfer looks ahead in stream time, in nanoseconds, where frames follow each other; to be seen, the frame
    /// after that is needed.
    pub fn ahead(&self) -> u64 {
        self.reach().saturating_add(self.interval)
    }

    /// Keyframes further apart than this, in nanoseconds, are not interpolated between: a hole in the stream lies there.
    fn span(&self) -> u64 {
        self.interval.saturating_mul(2).saturating_add(SLACK.as_nanos() as u64)
    }

    /// What has to be seen on either side of a part of a stream, in nanoseconds, for its transfers to be those of the whole: the
    /// window, two cells of the lattice (the first frame seen is a keyframe wherever it lies), and a little more.
    pub fn margin(&self) -> u64 {
        match self.ahead() {
            0 => 0,
            ahead => ahead.saturating_add(self.interval).saturating_add(SLACK.as_nanos() as u64),
        }
    }
}

/// A frame's place among those that have entered, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FramePosition {
    /// Among all frames that the stream had.
    number: u64,
    scene: u64,
    pub time: i64,
    pub is_keyframe: bool,
    /// A scene begins with it.
    pub begins: bool,
}

enum Inference<J> {
    Asked(J),
    Transfer(Arc<Transfer>),
    Failed,
}

struct Keyframe<J> {
    place: FramePosition,
    background: Descriptor,
    found: Inference<J>,
}

/// `J` stands for an inference under way.
pub struct Keyframes<J> {
    scenes: Scenes,
    keyframes: VecDeque<Keyframe<J>>,
    /// The scene that the newest frame to enter belongs to.
    scene: u64,
    /// How many frames the stream had, and the stream time that it has come to.
    frames: u64,
    now: i64,
    transfers: [Arc<Transfer>; 4],
}

impl<J> Default for Keyframes<J> {
    fn default() -> Self {
        let (scenes, keyframes, transfers) = (Scenes::default(), VecDeque::new(), Default::default());
        Self { scenes, keyframes, scene: 0, frames: 0, now: 0, transfers }
    }
}

impl<J: Clone> Keyframes<J> {
    /// Takes up the next frame. A keyframe's inference is to be told by `ask`, before the next frame enters.
    pub fn enter(&mut self, moment: &Moment, temporal: &Temporal) -> FramePosition {
        let before = self.scenes.last();
        let begins = self.scenes.enter(moment, temporal.detection);
        self.pass(moment.time);
        self.scene += u64::from(begins);
        FramePosition {
            number: self.frames,
            scene: self.scene,
            time: moment.time,
            is_keyframe: begins || is_first_of_cell(moment.time, before, temporal.interval),
            begins,
        }
    }

    /// The stream has come to `time` with a frame that nothing is to be found for.
    pub fn pass(&mut self, time: i64) {
        self.frames += 1;
        self.now = time;
    }

    /// The inference of the keyframe that has just entered.
    pub fn ask(&mut self, place: FramePosition, background: Descriptor, job: J) {
        self.keyframes.push_back(Keyframe { place, background, found: Inference::Asked(job) });
    }

    /// Whether nothing that is still to come can change the transfer of the frame at `place`.
    pub fn is_settled(&self, place: FramePosition, temporal: &Temporal) -> bool {
        if self.scene != place.scene || self.frames - place.number >= MAX_AHEAD {
            return true;
        }
        let is_past = |key: FramePosition| {
            let reach = temporal.reach();
            reach == 0 || self.now.abs_diff(key.time) > reach
        };
        match self.between(place, temporal) {
            _ if place.is_keyframe => is_past(place),
            [_, Some(next)] => is_past(next),
            [first, None] => {
                first.is_none_or(|first| is_past(first) && self.now.abs_diff(first.time) > temporal.span())
            }
        }
    }

    /// The keyframe at or before a frame and the one after it, in its scene, if they are not too far apart.
    fn between(&self, place: FramePosition, temporal: &Temporal) -> [Option<FramePosition>; 2] {
        let of_scene = || self.keyframes.iter().map(|keyframe| keyframe.place).filter(|key| key.scene == place.scene);
        let first = of_scene().rfind(|key| key.number <= place.number);
        let is_near = |first: FramePosition, next: &FramePosition| {
            next.time.abs_diff(first.time) <= temporal.span() && next.number - first.number < MAX_AHEAD
        };
        let next = of_scene().find(|key| key.number > place.number);
        [first, next.filter(|next| first.is_some_and(|first| is_near(first, next)))]
    }

    /// An inference that the frame at `place` needs and that is still under way, the oldest first. Its end is to be told by
    /// `found`.
    pub fn wanted(&self, place: FramePosition, temporal: &Temporal) -> Option<(FramePosition, J)> {
        let between = self.between(place, temporal);
        self.keyframes.iter().find_map(|key| {
            let of = |centre: &FramePosition| key.place == *centre || in_reach(key.place, *centre, temporal);
            match &key.found {
                Inference::Asked(job) if between.iter().flatten().any(of) => Some((key.place, job.clone())),
                _ => None,
            }
        })
    }

    /// What the inference of a keyframe came to; `None` if it failed.
    pub fn found(&mut self, place: FramePosition, transfer: Option<Arc<Transfer>>) {
        if let Some(key) = self.keyframes.iter_mut().find(|key| key.place == place) {
            key.found = transfer.map_or(Inference::Failed, Inference::Transfer);
        }
    }

    /// The transfer of the frame at `place`, all whose inferences have ended, of a frame of `size`; `None` where the one at its
    /// own keyframe failed. Frames are asked for in their order: what lies behind is forgotten.
    pub fn transfer(&mut self, place: FramePosition, temporal: &Temporal, size: [usize; 2]) -> Option<Arc<Transfer>> {
        let [first, next] = self.between(place, temporal);
        let first = first?;
        self.forget_before(first);
        let own = self.smoothed(first, temporal, size)?;
        let next = next.filter(|_| !place.is_keyframe && first != place);
        let Some((next, to)) = next.and_then(|next| Some((next, self.smoothed(next, temporal, size)?))) else {
            return Some(own);
        };
        let whole = next.time.abs_diff(first.time).max(1) as f64;
        let part = (place.time.abs_diff(first.time) as f64 / whole).min(1.0);
        let mixed = unused(&mut self.transfers);
        mixed.mix(&own, &to, part as f32, size);
        Some(self.transfers[0].clone())
    }

    /// The mean around a keyframe, whose own inference counts 1.
    fn smoothed(&mut self, centre: FramePosition, temporal: &Temporal, size: [usize; 2]) -> Option<Arc<Transfer>> {
        let of = |key: &&Keyframe<J>| key.place == centre;
        let key = self.keyframes.iter().find(of)?;
        let Inference::Transfer(own) = &key.found else { return None };
        if temporal.smoothing <= 0.0 {
            return Some(own.clone());
        }
        let (own, background) = (own.clone(), &key.background);
        let others = self.keyframes.iter().filter(|key| in_reach(key.place, centre, temporal)).filter_map(|key| {
            let Inference::Transfer(transfer) = &key.found else { return None };
            let apart = key.place.time.abs_diff(centre.time);
            Some((weight(temporal.smoothing, apart, key.background.distance(background)), &**transfer))
        });
        unused(&mut self.transfers).mean(&own, others, size);
        Some(self.transfers[0].clone())
    }

    /// Forgets what no frame from keyframe `first` on needs.
    fn forget_before(&mut self, first: FramePosition) {
        let reach = REACH.as_nanos() as u64;
        while self.keyframes.front().is_some_and(|key| {
            key.place.number < first.number
                && (key.place.scene != first.scene || key.place.time.abs_diff(first.time) > reach)
        }) {
            self.keyframes.pop_front();
        }
    }
}

/// Whether another keyframe counts in the mean around `centre`.
fn in_reach(key: FramePosition, centre: FramePosition, temporal: &Temporal) -> bool {
    let is_near = || key.time.abs_diff(centre.time) <= temporal.reach();
    temporal.smoothing > 0.0 && key != centre && key.scene == centre.scene && is_near()
}

#[cfg(test)]
mod tests;
