//! The models, all behind one trait and in one registry, and how they are loaded.

pub(crate) mod colour;
mod device;
pub mod files;
mod harmonizer;
mod info;
mod limits;
mod load;
mod model;
pub mod models;
mod parts;
mod precision;
mod shared;
#[cfg(feature = "train")]
pub mod training;

pub use crate::nets::weights::Malformed;
pub use device::device;
pub use harmonizer::{Harmonizer, ProxyGrid, Run, Sampling};
pub use info::info;
pub use load::{ModelSpec, folder, load};
#[cfg(feature = "train")]
pub use model::Training;
pub use model::{BuiltIn, Form, Layout, Model, ModelConfig};
pub use models::{MODELS, built_in, compact, diffharmony, gift, lite0, star};
pub use parts::{Info, ModelPart};
pub use precision::Precision;
pub use shared::shared;
