//! What the `stats` property counts. In and out always balance: a frame that came in has left, was dropped, or is at work.

use super::model::Loaded;
use super::settings::Settings;
use super::{Mode, enums};
use std::collections::VecDeque;
use std::time::Duration;

/// Times that means and percentiles look back on.
const WINDOW: usize = 256;

/// The last times of something.
#[derive(Clone, Debug, Default)]
pub struct Times(VecDeque<Duration>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(time);
    }

    fn last(&self) -> Duration {
        self.0.back().copied().unwrap_or_default()
    }

    fn mean(&self) -> Duration {
        self.0.iter().sum::<Duration>() / self.0.len().max(1) as u32
    }

    /// The time that `percent` of them do not exceed; 0 of none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Composites taken from the sink pad, and frames pushed.
    pub frames_in: u64,
    pub frames_out: u64,
    pub harmonized: u64,
    /// Frames that left untouched.
    pub passed_through: u64,
    /// Frames that a flush, a stop, downstream's refusal or a property took.
    pub dropped: u64,
    /// Frames whose mask was over, and frames before the first mask.
    pub stale_masks: u64,
    pub missing_masks: u64,
    /// Frames that found no model or no transfer yet.
    pub not_ready: u64,
    /// Frames dropped because downstream could not have shown them in time.
    pub late: u64,
    /// Inferences that ended well, and those that failed.
    pub transfers: u64,
    pub errors: u64,
    /// How far the last harmonized frame was from the one its transfer was inferred from.
    pub transfer_age: Duration,
    /// Of harmonized frames in the streaming thread.
    pub work: Times,
    pub inference: Times,
}

impl Stats {
    pub fn to_structure(&self, settings: &Settings, mode: Mode, loaded: Option<&Loaded>) -> gst::Structure {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let asked = settings.spec();
        let (device, precision, model) = match loaded {
            Some(loaded) => (loaded.engine.device(), loaded.engine.precision().name(), &loaded.spec.model),
            None => (&*asked.device, asked.precision.name(), &asked.model),
        };
        gst::Structure::builder("application/x-harmonize-stats")
            .field("frames-in", self.frames_in)
            .field("frames-out", self.frames_out)
            .field("harmonized", self.harmonized)
            .field("passed-through", self.passed_through)
            .field("dropped", self.dropped)
            .field("stale-masks", self.stale_masks)
            .field("missing-masks", self.missing_masks)
            .field("not-ready", self.not_ready)
            .field("late", self.late)
            .field("transfers", self.transfers)
            .field("errors", self.errors)
            .field("last-ms", ms(self.work.last()))
            .field("mean-ms", ms(self.work.mean()))
            .field("p95-ms", ms(self.work.percentile(95)))
            .field("p99-ms", ms(self.work.percentile(99)))
            .field("inference-last-ms", ms(self.inference.last()))
            .field("inference-mean-ms", ms(self.inference.mean()))
            .field("inference-p95-ms", ms(self.inference.percentile(95)))
            .field("transfer-age-ms", ms(self.transfer_age))
            .field("keyframe-interval", settings.keyframe_interval)
            .field("mode", enums::nick(mode))
            .field("device", device)
            .field("precision", precision)
            .field("model", model)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_window_only() {
        let mut times = Times::default();
        assert_eq!([times.last(), times.mean(), times.percentile(95)], [Duration::ZERO; 3]);
        for _ in 0..WINDOW {
            times.push(Duration::from_secs(9));
        }
        for ms in 1..=WINDOW as u64 {
            times.push(Duration::from_millis(ms));
        }
        assert_eq!(times.last(), Duration::from_millis(256));
        assert_eq!(times.mean(), Duration::from_micros(128_500));
        assert_eq!([95, 99].map(|p| times.percentile(p)), [244, 254].map(Duration::from_millis));
    }
}
