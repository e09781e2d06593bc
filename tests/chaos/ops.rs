//! What pipelines do: the operations, and how they are drawn.

use super::buffers::{Role, Shape};
use super::model::Load;
use super::picture::{COMPOSITES, MASKS};
use super::random::Random;
use super::source::Quirk;
use std::time::Duration;

/// Which sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pads {
    Both,
    Composite,
    Mask,
}

#[derive(Clone, Debug)]
pub enum Op {
    /// A seek from downstream, through the pipeline or on the element's pad.
    Seek {
        flush: bool,
        start: gst::ClockTime,
        pipeline: bool,
        refused_by: Option<Role>,
    },
    /// A flush from upstream, and what time passes in the midst of it.
    Flush {
        pads: Pads,
        time_from_0: bool,
        within: Duration,
    },
    Quirks(Role, Vec<Quirk>),
    /// EOS on one pad and then on the other.
    Eos {
        first: Role,
        both: bool,
    },
    Stall(Role, bool),
    Pace(Role, Duration),
    State(gst::State),
    /// READY or NULL and back again, with this loading.
    Restart {
        down: gst::State,
        load: Load,
        takes: Duration,
    },
    /// A flush that begins, and a stop before it ends.
    Abandon,
    /// What the next loading will come to.
    Load {
        load: Load,
        takes: Duration,
    },
    /// The element alone goes to READY and comes back.
    Bounce,
    Unlink(Role),
    Link(Role),
    ReleaseMask,
    RequestMask,
    Model {
        takes: Duration,
        fails: bool,
    },
    Property(&'static str, String),
    Invert(bool),
    /// Queries from another thread, by a random number.
    Ask(u64),
    Latency,
    /// Everything gets well, and frames have to come; then, perhaps, to the end of the stream.
    Settle {
        with_mask: bool,
        drain: bool,
    },
}

fn ms(random: &mut Random, end: u64) -> Duration {
    Duration::from_millis(random.below(end))
}

/// How long a load or an inference takes: mostly a moment, at times longer than anything may hang.
fn takes(random: &mut Random) -> Duration {
    match random.below(20) {
        0 => Duration::from_secs(5),
        1..5 => ms(random, 900),
        _ => ms(random, 8),
    }
}

fn time(random: &mut Random, end: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(random.below(end))
}

pub fn shape(random: &mut Random, role: Role) -> Shape {
    let format = match role {
        Role::Composite => random.pick(&COMPOSITES),
        Role::Mask => random.pick(&MASKS),
    };
    let (width, height) = (16 + random.below(49) as u32, 2 + random.below(30) as u32);
    Shape { format, width, height, rate: random.pick(&[0, 100, 200, 200, 250]) }
}

fn quirk(random: &mut Random, role: Role) -> Quirk {
    match random.below(16) {
        0..4 => Quirk::Caps(shape(random, role)),
        4..7 => Quirk::Segment(time(random, 5000)),
        7 => Quirk::Tags,
        8 => Quirk::NoPts,
        9 => Quirk::NoDuration,
        10 => Quirk::NoTime,
        11 => Quirk::Empty,
        12 => {
            if random.chance(20) {
                Quirk::Short
            } else {
                Quirk::NoTime
            }
        }
        13 | 14 => Quirk::Gap,
        _ => Quirk::Hole(time(random, 100)),
    }
}

fn role(random: &mut Random) -> Role {
    random.pick(&[Role::Composite, Role::Mask])
}

fn property(random: &mut Random) -> (&'static str, String) {
    let name = random.pick(&[
        "strength",
        "seed",
        "steps",
        "proxy-size",
        "mask-channel",
        "mask-range",
        "sampler",
        "mode",
        "mode",
        "passthrough",
        "qos",
        "on-not-ready",
        "on-missing-mask",
        "on-error",
        "keyframe-interval",
        "smoothing",
        "smoothing",
        "scene-detection",
        "scene",
        "noise",
        "processing-deadline",
        "mask-timeout",
        "stats-interval",
        "model",
        "model",
        "device",
        "precision",
    ]);
    let value = match name {
        "strength" => random.pick(&["0", "0.5", "1", "1"]).to_string(),
        "seed" => random.next().to_string(),
        "steps" => random.below(5).to_string(),
        "proxy-size" => (8 * random.below(5)).to_string(),
        "mask-channel" => random.pick(&["auto", "auto", "luma"]).to_string(),
        "mask-range" => random.pick(&["auto", "full", "limited"]).to_string(),
        "mode" => random.pick(&["auto", "exact", "live"]).to_string(),
        "smoothing" => random.pick(&["0", "0.5", "0.95", "1"]).to_string(),
        "scene" => random.below(3).to_string(),
        "noise" => random.pick(&["fixed", "drift", "object"]).to_string(),
        "scene-detection" => random.chance(50).to_string(),
        "passthrough" | "qos" => random.chance(20).to_string(),
        "on-not-ready" => random.pick(&["auto", "wait", "pass-through", "drop"]).to_string(),
        "on-missing-mask" => random.pick(&["repeat", "repeat", "pass-through", "drop", "error"]).to_string(),
        "on-error" => random.pick(&["error", "pass-through", "pass-through", "drop"]).to_string(),
        // A seek asks for two cells before its place, which a source of real time takes as long for.
        "keyframe-interval" => (random.pick(&[0, 1]) * random.below(40_000_000)).to_string(),
        "processing-deadline" | "mask-timeout" | "stats-interval" => match random.below(4) {
            0 => u64::MAX.to_string(),
            1 => 0.to_string(),
            _ => random.below(40_000_000).to_string(),
        },
        "model" => random.pick(&["compact", "one", "another"]).to_string(),
        "device" => random.pick(&["auto", "cpu"]).to_string(),
        "precision" => random.pick(&["auto", "f32", "bf16"]).to_string(),
        _ => random.pick(&["auto", "ddim", "euler"]).to_string(),
    };
    (name, value)
}

impl Op {
    /// The next operation. Nothing but `random` decides on it, so that a seed tells them all.
    pub fn draw(random: &mut Random) -> Self {
        match random.below(100) {
            0..10 => Self::Seek {
                flush: random.chance(75),
                start: time(random, 5000),
                pipeline: random.chance(50),
                refused_by: random.chance(15).then(|| role(random)),
            },
            10..18 => Self::Flush {
                pads: random.pick(&[Pads::Both, Pads::Both, Pads::Composite, Pads::Mask]),
                time_from_0: random.chance(30),
                within: ms(random, 4),
            },
            18..33 => {
                let role = role(random);
                Self::Quirks(role, (0..1 + random.below(3)).map(|_| quirk(random, role)).collect())
            }
            33..36 => Self::Eos { first: role(random), both: random.chance(50) },
            36..41 => Self::Stall(random.pick(&[Role::Mask, Role::Mask, Role::Composite]), random.chance(25)),
            41..45 => Self::Pace(
                role(random),
                random.pick(&[Duration::ZERO, Duration::from_millis(1), Duration::from_millis(8)]),
            ),
            45..55 => Self::State(random.pick(&[
                gst::State::Playing,
                gst::State::Playing,
                gst::State::Playing,
                gst::State::Paused,
            ])),
            55..59 => Self::Restart {
                down: random.pick(&[gst::State::Ready, gst::State::Null]),
                load: random.pick(&[Load::Works, Load::Works, Load::Works, Load::Fails, Load::Panics]),
                takes: takes(random),
            },
            59 => {
                if random.chance(50) {
                    Self::Bounce
                } else {
                    Self::Abandon
                }
            }
            60..63 => Self::Unlink(random.pick(&[Role::Mask, Role::Mask, Role::Mask, Role::Composite])),
            63..67 => Self::Link(random.pick(&[Role::Composite, Role::Composite, Role::Mask])),
            67..69 => Self::ReleaseMask,
            69..74 => Self::RequestMask,
            74..82 => Self::Model { takes: takes(random), fails: random.chance(10) },
            82..91 => {
                let (name, value) = property(random);
                Self::Property(name, value)
            }
            91 => Self::Load { load: random.pick(&[Load::Works, Load::Fails, Load::Panics]), takes: takes(random) },
            92 => Self::Invert(random.chance(50)),
            93..97 => Self::Ask(random.next()),
            97 => Self::Latency,
            _ => Self::Settle { with_mask: random.chance(80), drain: random.chance(50) },
        }
    }
}
