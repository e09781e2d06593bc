//! The properties that a user sets, and what they are before anyone does.

use super::{MaskChannel, MaskRange, Precision, Sampler};
use crate::frame::MaskSettings;
use crate::harmonizers::ModelSpec;

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
    pub mask_channel: MaskChannel,
    pub mask_range: MaskRange,
    pub mask_invert: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "compact".into(),
            device: "auto".into(),
            precision: Precision::default(),
            sampler: Sampler::default(),
            steps: 0,
            proxy_size: 0,
            strength: 1.0,
            seed: 0,
            mask_channel: MaskChannel::default(),
            mask_range: MaskRange::default(),
            mask_invert: false,
        }
    }
}

impl Settings {
    /// What is to be loaded.
    pub fn spec(&self) -> ModelSpec {
        ModelSpec { model: self.model.clone(), device: self.device.clone(), precision: self.precision.into() }
    }

    /// How the mask stream is to be read.
    pub fn mask(&self) -> MaskSettings {
        MaskSettings { channel: self.mask_channel.into(), range: self.mask_range.into(), invert: self.mask_invert }
    }
}
