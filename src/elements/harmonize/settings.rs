//! The properties that a user sets, and what they are before anyone does.

use super::{MaskChannel, MaskRange, Mode, Noise, OnError, OnMissingMask, OnNotReady, Precision, Sampler};
use crate::engine::{Parameters, Request, Temporal};
use crate::frame::MaskSettings;
use crate::harmonizers::{ModelSpec, Sampling, models};

#[derive(Clone, Debug)]
pub struct Settings {
    pub model: String,
    pub device: String,
    pub precision: Precision,
    pub sampler: Sampler,
    pub steps: u32,
    pub proxy_size: u32,
    pub strength: f64,
    pub seed: u64,
    pub noise: Noise,
    /// Nanoseconds.
    pub noise_period: u64,
    pub smoothing: f64,
    pub scene_detection: bool,
    pub scene: u32,
    pub workers: u32,
    pub mask_channel: MaskChannel,
    pub mask_range: MaskRange,
    pub mask_invert: bool,
    pub mode: Mode,
    pub passthrough: bool,
    /// Nanoseconds, as the next three; `AUTOMATIC` leaves this one and `mask_timeout` to the element.
    pub processing_deadline: u64,
    pub mask_timeout: u64,
    pub keyframe_interval: u64,
    pub stats_interval: u64,
    pub qos: bool,
    pub on_not_ready: OnNotReady,
    pub on_missing_mask: OnMissingMask,
    pub on_error: OnError,
}

/// A time that the element is to choose: GST_CLOCK_TIME_NONE.
pub const AUTOMATIC: u64 = u64::MAX;

/// What a frame's neighbour of 40 ms weighs where nobody says. On a real shot a window as flat as this leaves a seventh of the
/// change of colours that independent noise for each frame gives, and 0.8 leaves a fifth.
pub const SMOOTHING: f64 = 0.95;

// What is not the default of its type is said here, for the properties too.
pub const MODEL: &str = models::DEFAULT;
pub const DEVICE: &str = "auto";
pub const STRENGTH: f64 = 1.0;
pub const NOISE_PERIOD: u64 = 1_000_000_000;
pub const WORKERS: u32 = 1;

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: MODEL.into(),
            device: DEVICE.into(),
            precision: Precision::default(),
            sampler: Sampler::default(),
            steps: 0,
            proxy_size: 0,
            strength: STRENGTH,
            seed: 0,
            noise: Noise::default(),
            noise_period: NOISE_PERIOD,
            smoothing: SMOOTHING,
            scene_detection: true,
            scene: 0,
            workers: WORKERS,
            mask_channel: MaskChannel::default(),
            mask_range: MaskRange::default(),
            mask_invert: false,
            mode: Mode::default(),
            passthrough: false,
            processing_deadline: AUTOMATIC,
            mask_timeout: AUTOMATIC,
            keyframe_interval: 0,
            stats_interval: 0,
            qos: true,
            on_not_ready: OnNotReady::default(),
            on_missing_mask: OnMissingMask::default(),
            on_error: OnError::default(),
        }
    }
}

impl Settings {
    /// What is to be loaded.
    pub fn spec(&self) -> ModelSpec {
        ModelSpec { model: self.model.clone(), device: self.device.clone(), precision: self.precision }
    }

    /// That, and for how many workers.
    pub fn load(&self) -> (ModelSpec, usize) {
        (self.spec(), self.workers as usize)
    }

    /// How the model is to be run.
    pub fn sampling(&self) -> Sampling {
        Sampling { scheduler: self.sampler.into(), steps: self.steps }
    }

    /// How transfers go on from frame to frame.
    pub fn temporal(&self) -> Temporal {
        Temporal { interval: self.keyframe_interval, smoothing: self.smoothing, detection: self.scene_detection }
    }

    /// What a frame at stream time `time` is harmonized by.
    pub fn parameters(&self, time: i64) -> Parameters {
        let noise = self.noise.mode(time, self.noise_period);
        let request = Request { sampling: self.sampling(), seed: self.seed, noise };
        let &Self { proxy_size, strength, .. } = self;
        Parameters { request, proxy_size, strength: strength as f32, temporal: self.temporal() }
    }

    /// How the mask stream is to be read.
    pub fn mask(&self) -> MaskSettings {
        MaskSettings { channel: self.mask_channel, range: self.mask_range, invert: self.mask_invert }
    }
}
