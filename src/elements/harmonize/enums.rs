//! The enums of the element's properties. Those that are known further in are the same there.

use crate::diffusion::{NoiseMode, Scheduler};

pub use crate::frame::{MaskChannel, MaskRange};
pub use crate::harmonizers::Precision;

/// How the model gets from noise to a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstHarmonizeSampler")]
pub enum Sampler {
    #[default]
    #[enum_value(name = "The model's own for video", nick = "auto")]
    Auto,
    #[enum_value(name = "Euler's, with fresh noise at each step: DiffHarmony's original", nick = "euler-ancestral")]
    EulerAncestral,
    #[enum_value(name = "Euler's, without noise", nick = "euler")]
    Euler,
    #[enum_value(name = "DDIM with eta 0, without noise", nick = "ddim")]
    Ddim,
    #[enum_value(name = "For latent consistency models, with fresh noise at each step", nick = "lcm")]
    Lcm,
}

/// How the noise goes on from frame to frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstHarmonizeNoise")]
pub enum Noise {
    #[default]
    #[enum_value(name = "The same for every frame", nick = "fixed")]
    Fixed,
    #[enum_value(name = "Turns into other noise within each noise-period of stream time", nick = "drift")]
    Drift,
    #[enum_value(name = "Goes along with the foreground, by each frame's own mask", nick = "object")]
    Object,
}

impl Noise {
    /// That of a frame at stream time `time`.
    pub fn mode(self, time: i64, period: u64) -> NoiseMode {
        match self {
            Self::Fixed => NoiseMode::Fixed,
            Self::Drift => NoiseMode::Drift { time, period },
            Self::Object => NoiseMode::Object,
        }
    }
}

/// Where the model's loading stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstHarmonizeModelState")]
pub enum ModelState {
    #[default]
    #[enum_value(name = "Not loaded: loading begins with the change to PAUSED", nick = "unloaded")]
    Unloaded,
    #[enum_value(name = "Loading: frames go as on-not-ready says", nick = "loading")]
    Loading,
    #[enum_value(name = "Ready", nick = "ready")]
    Ready,
    #[enum_value(name = "Failed: an ERROR message has said why", nick = "failed")]
    Failed,
}

/// Whether frames wait for the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstHarmonizeMode")]
pub enum Mode {
    #[default]
    #[enum_value(name = "Live in live pipelines, exact in others", nick = "auto")]
    Auto,
    #[enum_value(name = "Every frame waits for the transfers that the model finds around it", nick = "exact")]
    Exact,
    #[enum_value(
        name = "No frame waits: each takes the newest transfer, and the model sees the newest frame",
        nick = "live"
    )]
    Live,
}

/// What becomes of a frame while the model is not loaded or has not answered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstHarmonizeOnNotReady")]
pub enum OnNotReady {
    #[default]
    #[enum_value(name = "It waits in exact mode and passes untouched in live mode", nick = "auto")]
    Auto,
    #[enum_value(name = "It waits", nick = "wait")]
    Wait,
    #[enum_value(name = "It passes untouched", nick = "pass-through")]
    PassThrough,
    #[enum_value(name = "It is dropped", nick = "drop")]
    Drop,
}

/// What becomes of a frame without a mask of its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstHarmonizeOnMissingMask")]
pub enum OnMissingMask {
    #[default]
    #[enum_value(name = "The last mask stays in use; before the first one the frame passes untouched", nick = "repeat")]
    Repeat,
    #[enum_value(name = "It passes untouched", nick = "pass-through")]
    PassThrough,
    #[enum_value(name = "It is dropped", nick = "drop")]
    Drop,
    #[enum_value(name = "It is an error", nick = "error")]
    Error,
}

/// What becomes of a frame whose inference fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstHarmonizeOnError")]
pub enum OnError {
    #[default]
    #[enum_value(name = "It is an error", nick = "error")]
    Error,
    #[enum_value(name = "It passes untouched", nick = "pass-through")]
    PassThrough,
    #[enum_value(name = "It is dropped", nick = "drop")]
    Drop,
}

impl From<Sampler> for Option<Scheduler> {
    fn from(sampler: Sampler) -> Self {
        match sampler {
            Sampler::Auto => None,
            Sampler::EulerAncestral => Some(Scheduler::EulerAncestral),
            Sampler::Euler => Some(Scheduler::Euler),
            Sampler::Ddim => Some(Scheduler::Ddim),
            Sampler::Lcm => Some(Scheduler::Lcm),
        }
    }
}

/// What a launch line calls `value`.
pub fn nick(value: impl Into<glib::Value>) -> String {
    let value: glib::Value = value.into();
    glib::EnumValue::from_value(&value).map_or_else(String::new, |(_, value)| value.nick().to_owned())
}
