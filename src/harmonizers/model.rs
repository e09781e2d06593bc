//! A row of the registry: what the plugin knows of a class of models.

use super::harmonizer::Harmonizer;
use super::parts::Info;
use super::precision::Precision;
#[cfg(feature = "train")]
use super::training::{Recipe, Stage, Trainee};
use crate::nets;
use crate::nets::vae::Vae;
use anyhow::Result;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tch::Device;

/// A class of models.
pub struct Model {
    /// The class in a `config.json`, and the name of the model that is built in.
    pub name: &'static str,
    /// The one inside the plugin file.
    pub built_in: Option<BuiltIn>,
    /// What its folders look like.
    pub form: Form,
    /// How it is trained; none of a model that others train.
    #[cfg(feature = "train")]
    pub training: Option<Training>,
}

/// The files of a model inside the plugin file.
#[derive(Clone, Copy)]
pub struct BuiltIn {
    pub config: &'static str,
    pub weights: &'static [u8],
}

/// What a folder of a class holds.
pub enum Form {
    /// A `config.json` that names the class and one network in `model.safetensors`.
    Network {
        /// Reads a `config.json`.
        parse: fn(&str) -> Result<Box<dyn ModelConfig>>,
        /// What a new model begins with.
        new: fn() -> Box<dyn ModelConfig>,
    },
    /// Several networks, known by where they lie.
    Layout(Layout),
}

/// Makes a harmonizer of a folder, for frames of video; ends with an error soon after it is given up.
pub type Load = fn(&Path, Device, Precision, &dyn Fn() -> bool) -> Result<Arc<dyn Harmonizer>>;

/// Folders of a layout that others have made.
pub struct Layout {
    /// Whether this folder is of it.
    pub is_one: fn(&Path) -> bool,
    /// What one is known by, for people.
    pub known_by: &'static str,
    pub load: Load,
    /// Whether a folder would load, by its parts.
    pub info: fn(&Path) -> Info,
}

/// Every hyper-parameter of a network and of its sampler.
pub trait ModelConfig: fmt::Debug + Send + Sync {
    /// A `config.json`.
    fn to_json(&self) -> Result<String>;

    /// Sampler steps, and the long side of the proxy in pixels.
    fn setup(&self) -> (u32, u32);

    /// Whether the network works on Stable Diffusion's latents, whose autoencoder its folder holds then.
    fn is_on_stable_diffusion(&self) -> bool {
        false
    }

    /// The network of the parameters at `p`; `vae` is asked where it works on Stable Diffusion's latents.
    fn network(&self, p: &nets::Path, device: Device, vae: &dyn Fn() -> Result<Vae>) -> Result<Arc<dyn Harmonizer>>;
}

/// Makes the network of a new configuration on the student's and the teacher's parameters.
#[cfg(feature = "train")]
pub type NewTrainee = fn([&nets::Path; 2], Recipe, Device) -> Result<Box<dyn Trainee>>;

/// How a class is trained.
#[cfg(feature = "train")]
pub struct Training {
    /// What is trained, for who chooses.
    pub about: &'static str,
    /// What the long side of composites is a multiple of: three quarters of it, the short side, has to divide into patches or by
    /// the network's halvings.
    pub side_multiple: u32,
    /// In their order; the last is the one that trains what the model is for.
    pub stages: &'static [Stage],
    pub trainee: NewTrainee,
}
