//! What the `stats` property counts.

use std::collections::VecDeque;
use std::time::Duration;

/// Harmonized frames that the mean and the 95th percentile look back on.
const WINDOW: usize = 256;

#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Composites taken from the sink pad, and frames pushed.
    pub frames_in: u64,
    pub frames_out: u64,
    pub harmonized: u64,
    /// Frames that left untouched.
    pub passed_through: u64,
    /// Frames that a flush or a stop took.
    pub dropped: u64,
    /// Frames whose mask was over when they used it.
    pub stale_masks: u64,
    times: VecDeque<Duration>,
}

impl Stats {
    /// Counts a harmonized frame and the time it took.
    pub fn harmonized(&mut self, time: Duration) {
        self.harmonized += 1;
        if self.times.len() == WINDOW {
            self.times.pop_front();
        }
        self.times.push_back(time);
    }

    pub fn to_structure(&self, device: &str, precision: &str, model: &str) -> gst::Structure {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let mut sorted: Vec<_> = self.times.iter().copied().map(ms).collect();
        sorted.sort_by(f64::total_cmp);
        let p95 = sorted.get((sorted.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
        gst::Structure::builder("application/x-harmonize-stats")
            .field("frames-in", self.frames_in)
            .field("frames-out", self.frames_out)
            .field("harmonized", self.harmonized)
            .field("passed-through", self.passed_through)
            .field("dropped", self.dropped)
            .field("stale-masks", self.stale_masks)
            .field("last-ms", self.times.back().copied().map_or(0.0, ms))
            // Not `sum`: that of nothing is -0.
            .field("mean-ms", sorted.iter().fold(0.0, |sum, ms| sum + ms) / sorted.len().max(1) as f64)
            .field("p95-ms", p95)
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
        gst::init().unwrap();
        let mut stats = Stats::default();
        let get = |stats: &Stats, field| stats.to_structure("cpu", "f32", "compact").get::<f64>(field).unwrap();
        assert_eq!((get(&stats, "last-ms"), get(&stats, "mean-ms"), get(&stats, "p95-ms")), (0.0, 0.0, 0.0));
        assert!(get(&stats, "mean-ms").is_sign_positive());
        for _ in 0..WINDOW {
            stats.harmonized(Duration::from_secs(9));
        }
        for ms in 1..=WINDOW as u64 {
            stats.harmonized(Duration::from_millis(ms));
        }
        assert_eq!(stats.harmonized, 2 * WINDOW as u64);
        assert!((get(&stats, "last-ms") - 256.0).abs() < 1e-9);
        assert!((get(&stats, "mean-ms") - 128.5).abs() < 1e-9);
        assert!((get(&stats, "p95-ms") - 244.0).abs() < 1e-9);
    }
}
