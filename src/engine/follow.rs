//! The transfer of a stream that waits for nothing: what the model has found is smoothed over the window behind it, and frames
//! ease over to it in the time that it took to be found. A new scene begins without any.

use super::keyframes::Temporal;
use super::scenes::{Moment, Scenes, is_first_of_cell};
use crate::frame::Descriptor;
use crate::recycle::unused;
use crate::transfer::Transfer;
use crate::transfer::smooth::weight;
use std::collections::VecDeque;
use std::sync::Arc;

/// Keyframes in the window, which bounds what a mean costs.
const MAX_WINDOW: usize = 16;
/// No longer does a frame ease over, in nanoseconds: a model that takes seconds has its answer shown soon.
const MAX_EASE: i64 = 1_000_000_000;

struct Inferred {
    time: i64,
    background: Descriptor,
    transfer: Arc<Transfer>,
}

#[derive(Default)]
pub struct Follow {
    scenes: Scenes,
    /// The newest last.
    window: VecDeque<Inferred>,
    /// Stream time of the newest frame, and of the one before it.
    times: [i64; 2],
    /// The newest frame, and the one at which an inference began last.
    newest: Option<Moment>,
    asked: Option<Moment>,
    from: Arc<Transfer>,
    to: Option<Arc<Transfer>>,
    /// When frames began to go from one to the other, and for how long they do.
    since: i64,
    lasts: i64,
    transfers: [Arc<Transfer>; 4],
}

impl Follow {
    /// Takes up the next frame. True if a scene begins with it: what is under way is of the one before.
    pub fn enter(&mut self, moment: &Moment, detection: bool) -> bool {
        let before = self.scenes.last();
        let begins = self.scenes.enter(moment, detection);
        if begins {
            self.clear();
        }
        self.times = [moment.time, before.filter(|_| !begins).unwrap_or(moment.time)];
        self.newest = Some(moment.clone());
        begins
    }

    /// Whether the keyframe lattice wants an inference at the newest frame, and none before it in its cell has been.
    pub fn is_due(&self, interval: u64) -> bool {
        is_first_of_cell(self.times[0], self.asked.as_ref().map(|asked| asked.time), interval)
    }

    /// An inference begins at the newest frame.
    pub fn begun(&mut self) {
        self.asked = self.newest.clone();
    }

    /// What the inference that began last has found, in a frame of `size`.
    pub fn found(&mut self, transfer: Arc<Transfer>, temporal: &Temporal, size: [usize; 2]) {
        let Some(Moment { time, background, .. }) = self.asked.clone() else { return };
        let before = self.window.back().map(|found| found.time);
        self.from = self.transfer(size).unwrap_or_else(|| transfer.clone());
        (self.since, self.lasts) = (self.times[1], before.map_or(0, |before| (time - before).clamp(0, MAX_EASE)));
        self.window.push_back(Inferred { time, background, transfer });
        while self.window.len() > MAX_WINDOW {
            self.window.pop_front();
        }
        self.to = self.smoothed(temporal.smoothing, size);
    }

    fn smoothed(&mut self, smoothing: f64, size: [usize; 2]) -> Option<Arc<Transfer>> {
        let newest = self.window.back()?;
        if smoothing <= 0.0 {
            return Some(newest.transfer.clone());
        }
        let others = self.window.iter().rev().skip(1).map(|found| {
            let distance = found.background.distance(&newest.background);
            (weight(smoothing, found.time.abs_diff(newest.time), distance), &*found.transfer)
        });
        unused(&mut self.transfers).mean(&newest.transfer, others, size);
        Some(self.transfers[0].clone())
    }

    /// The transfer of the newest frame, one of `size`; `None` before the first one of its scene has been found.
    pub fn transfer(&mut self, size: [usize; 2]) -> Option<Arc<Transfer>> {
        let to = self.to.as_ref()?;
        let gone = self.times[0].saturating_sub(self.since);
        if self.lasts <= 0 || gone >= self.lasts || Arc::ptr_eq(&self.from, to) {
            return Some(to.clone());
        }
        let part = gone as f64 / self.lasts as f64;
        unused(&mut self.transfers).mix(&self.from, to, part as f32, size);
        Some(self.transfers[0].clone())
    }

    /// Forgets what has been found.
    pub fn clear(&mut self) {
        self.window.clear();
        (self.to, self.asked, self.lasts) = (None, None, 0);
        self.from = Arc::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::descriptor::tests::plain;

    const MS: i64 = 1_000_000;
    const SIZE: [usize; 2] = [160, 90];
    const NONE: Temporal = Temporal { interval: 0, smoothing: 0.0, detection: true };

    fn lift(lift: f32) -> Arc<Transfer> {
        let mut transfer = Transfer::identity();
        transfer.maps[0][3] = lift;
        Arc::new(transfer)
    }

    fn shown(follow: &mut Follow) -> Option<f32> {
        follow.transfer(SIZE).map(|transfer| transfer.maps[0][3])
    }

    fn enter(follow: &mut Follow, ms: i64, grey: f32) -> bool {
        follow.enter(&Moment { time: ms * MS, background: plain(grey), begins: false }, true)
    }

    /// As if the inference that has ended had begun at the frame of `ms` with that background.
    fn found(follow: &mut Follow, ms: i64, grey: f32, transfer: Arc<Transfer>, temporal: &Temporal) {
        follow.asked = Some(Moment { time: ms * MS, background: plain(grey), begins: false });
        follow.found(transfer, temporal, SIZE);
    }

    #[test]
    fn a_scene_begins_without_a_transfer_and_takes_its_first_at_once() {
        let mut follow = Follow::default();
        assert!(enter(&mut follow, 0, 0.2) && follow.is_due(0));
        assert_eq!(shown(&mut follow), None);
        enter(&mut follow, 40, 0.2);
        found(&mut follow, 0, 0.2, lift(0.3), &NONE);
        assert_eq!(shown(&mut follow), Some(0.3));
        assert!(enter(&mut follow, 80, 0.8), "another background");
        assert_eq!(shown(&mut follow), None);
        found(&mut follow, 80, 0.8, lift(-0.1), &NONE);
        assert_eq!(shown(&mut follow), Some(-0.1), "nothing of the scene before");
    }

    #[test]
    fn frames_ease_over_in_the_time_between_two_keyframes() {
        let mut follow = Follow::default();
        let mut seen = Vec::new();
        for frame in 0..9 {
            enter(&mut follow, 40 * frame, 0.2);
            match frame {
                1 => found(&mut follow, 0, 0.2, lift(0.0), &NONE),
                // 160 ms later by stream time.
                5 => found(&mut follow, 160, 0.2, lift(1.0), &NONE),
                _ => (),
            }
            seen.push(shown(&mut follow));
        }
        let expected = [None, Some(0.0), Some(0.0), Some(0.0), Some(0.0), Some(0.25), Some(0.5), Some(0.75), Some(1.0)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn transfers_of_every_frame_are_taken_as_they_come_and_smoothed_behind() {
        let mut follow = Follow::default();
        let smooth = Temporal { smoothing: 0.5, ..NONE };
        for (frame, up) in [(0, 0.0), (1, 0.0), (2, 1.0)] {
            enter(&mut follow, 40 * frame, 0.2);
            follow.begun();
            follow.found(lift(up), &smooth, SIZE);
        }
        // 1 + 0.5 + 0.25 in all.
        assert!((shown(&mut follow).unwrap() - 1.0 / 1.75).abs() < 1e-6);
    }

    #[test]
    fn a_cell_of_the_lattice_is_due_once() {
        let mut follow = Follow::default();
        let interval = 100 * MS as u64;
        let due = (0..8).map(|frame| {
            enter(&mut follow, 40 * frame, 0.2);
            let due = follow.is_due(interval);
            if due {
                follow.begun();
            }
            due
        });
        assert_eq!(due.collect::<Vec<_>>(), [true, false, false, true, false, true, false, false]);
    }
}
