//! What the element adds to a live pipeline's latency: the time in which a composite waits for its mask, the time for the work
//! on it, and that until the frames have come which its transfer depends on. A composite whose mask is late is taken up when the
//! first is over, so that it leaves before the others are.

use super::Mode;
use super::settings::{AUTOMATIC, Settings};
use crate::engine::MAX_AHEAD;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    pub wait: gst::ClockTime,
    pub work: gst::ClockTime,
    pub ahead: gst::ClockTime,
}

impl Latency {
    /// With `frame` the duration of one, and `measured` what the work on 95 % of the last frames took.
    ///
    /// Left to the element, live mode adds one frame in all. Exact mode adds one to wait and as many to work as the
    /// measurement calls for: whole ones, because each change makes the pipeline settle its latency anew.
    pub fn new(settings: &Settings, mode: Mode, has_mask: bool, frame: gst::ClockTime, measured: Duration) -> Self {
        let or = |time: u64, automatic: gst::ClockTime| match time {
            AUTOMATIC => automatic,
            ns => gst::ClockTime::from_nseconds(ns),
        };
        let (wait, work) = match mode {
            Mode::Live => (frame / 2, frame - frame / 2),
            _ => (frame, frame * (measured.as_nanos() as u64).div_ceil(frame.nseconds().max(1)).max(1)),
        };
        Self {
            wait: if has_mask { or(settings.mask_timeout, wait) } else { gst::ClockTime::ZERO },
            work: or(settings.processing_deadline, work),
            ahead: match settings.temporal().ahead() {
                0 => gst::ClockTime::ZERO,
                _ if mode == Mode::Live => gst::ClockTime::ZERO,
                // And the frame that is the first beyond.
                ahead => {
                    let most = frame.nseconds().saturating_mul(MAX_AHEAD);
                    gst::ClockTime::from_nseconds(ahead.min(most)).saturating_add(frame)
                }
            },
        }
    }

    pub fn total(self) -> gst::ClockTime {
        self.wait.saturating_add(self.after())
    }

    /// What is left once a mask has been waited for.
    pub fn after(self) -> gst::ClockTime {
        self.work.saturating_add(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

    #[test]
    fn exact_mode_adds_what_it_looks_ahead() {
        let ahead = |keyframe_interval, smoothing, mode| {
            let settings = Settings { keyframe_interval, smoothing, ..Settings::default() };
            let latency = Latency::new(&settings, mode, true, FRAME, Duration::ZERO);
            assert_eq!(latency.total(), latency.wait + latency.work + latency.ahead);
            latency.ahead.mseconds()
        };
        assert_eq!(ahead(0, 0.0, Mode::Exact), 0);
        assert_eq!(ahead(0, 0.9, Mode::Exact), 440);
        assert_eq!(ahead(200_000_000, 0.0, Mode::Exact), 240);
        assert_eq!(ahead(200_000_000, 0.9, Mode::Exact), 640);
        assert_eq!(ahead(200_000_000, 0.9, Mode::Live), 0);
    }

    fn latency(settings: &Settings, mode: Mode, measured: u64) -> [u64; 2] {
        let latency = Latency::new(settings, mode, true, FRAME, Duration::from_millis(measured));
        [latency.wait.mseconds(), latency.work.mseconds()]
    }

    #[test]
    fn live_mode_adds_one_frame_and_exact_mode_what_it_takes() {
        let settings = Settings::default();
        assert_eq!(latency(&settings, Mode::Live, 500), [20, 20]);
        assert_eq!(latency(&settings, Mode::Exact, 0), [40, 40]);
        assert_eq!(latency(&settings, Mode::Exact, 40), [40, 40]);
        assert_eq!(latency(&settings, Mode::Exact, 41), [40, 80]);
        assert_eq!(latency(&settings, Mode::Exact, 399), [40, 400]);
    }

    #[test]
    fn what_the_user_sets_stands() {
        let settings = Settings { processing_deadline: 7_000_000, mask_timeout: 100_000_000, ..Settings::default() };
        assert_eq!(latency(&settings, Mode::Live, 500), [100, 7]);
        assert_eq!(latency(&settings, Mode::Exact, 500), [100, 7]);
    }

    #[test]
    fn without_a_mask_pad_there_is_nothing_to_wait_for() {
        let latency = Latency::new(&Settings::default(), Mode::Live, false, FRAME, Duration::ZERO);
        assert_eq!(latency.total(), FRAME / 2);
    }
}
