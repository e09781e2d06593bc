//! The kinds that weights are kept in, as users name them.

use anyhow::{Result, bail};
use std::fmt::{self, Display};
use std::str::FromStr;
use tch::Kind;

/// The kind that weights are kept in, and features computed in where the device is fast at that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "plugin", derive(glib::Enum), enum_type(name = "GstHarmonizePrecision"))]
pub enum Precision {
    /// The fastest that the device has and the model is known to bear.
    #[default]
    #[cfg_attr(
        feature = "plugin",
        enum_value(name = "The fastest that the device has and the model bears", nick = "auto")
    )]
    Auto,
    #[cfg_attr(feature = "plugin", enum_value(name = "Single precision", nick = "f32"))]
    F32,
    #[cfg_attr(feature = "plugin", enum_value(name = "Brain floating point, 16 bits", nick = "bf16"))]
    Bf16,
    #[cfg_attr(feature = "plugin", enum_value(name = "Half precision, for CUDA", nick = "f16"))]
    F16,
}

impl Precision {
    pub const ALL: [Self; 4] = [Self::Auto, Self::F32, Self::Bf16, Self::F16];

    /// That of weights of `kind`.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::BFloat16 => Self::Bf16,
            Kind::Half => Self::F16,
            _ => Self::F32,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl FromStr for Precision {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let Some(precision) = Self::ALL.into_iter().find(|precision| precision.name() == name) else {
            bail!("there is no precision {name}: take one of {}", Self::ALL.map(Self::name).join(", "));
        };
        Ok(precision)
    }
}

impl Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}
