//! From a model's name or folder and a device's name to a harmonizer, or to a sentence that says what doesn't fit.

use super::files::{self, CONFIG};
use super::harmonizer::Harmonizer;
use super::model::{BuiltIn, Form, Layout};
use super::models;
use super::precision::Precision;
use crate::nets::Weights;
use crate::nets::vae::{Vae, VaeConfig};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind};

pub const WEIGHTS: &str = "model.safetensors";
/// Where the folder of a model on Stable Diffusion's latents has its autoencoder.
pub const VAE: &str = "vae";
pub const VAE_WEIGHTS: [&str; 1] = ["diffusion_pytorch_model.safetensors"];

/// What a user asks to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// A built-in model's name, or a model folder.
    pub model: String,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    pub precision: Precision,
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self { model: models::DEFAULT.into(), device: "auto".into(), precision: Precision::Auto }
    }
}

/// Loads a built-in model or a model folder. Every tensor's name, shape, kind and values are checked. Ends with an error soon
/// after `is_given_up`.
pub fn load(
    model: &str,
    device: Device,
    precision: Precision,
    is_given_up: &dyn Fn() -> bool,
) -> Result<Arc<dyn Harmonizer>> {
    if let Some(BuiltIn { config, weights }) = models::find_built_in(model) {
        let load = || {
            let none = || bail!("a built-in model has an autoencoder of its own");
            network(config, Weights::from_safetensors(weights, device, Kind::Float)?, device, precision, &none)
        };
        return load().with_context(|| format!("built-in model {model}"));
    }
    let folder = folder(model)?;
    let load = || -> Result<Arc<dyn Harmonizer>> {
        if let Some(layout) = layout(folder) {
            return (layout.load)(folder, device, precision, is_given_up);
        }
        let config = files::read_text(&folder.join(CONFIG))?;
        let weights = files::weights(folder, &[WEIGHTS])?;
        network(&config, Weights::open(&weights, device, Kind::Float)?, device, precision, &|| {
            vae(folder, device).context(VAE)
        })
    };
    load().with_context(|| format!("model folder {model}"))
}

/// The folder that is called `model`.
pub fn folder(model: &str) -> Result<&Path> {
    let folder = Path::new(model);
    let names = models::built_in().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    ensure!(!files::is_pickle(folder), "{}", files::pickle(folder));
    ensure!(folder.exists(), "there is no model {model}: neither a built-in one ({names}) nor a folder");
    ensure!(folder.is_dir(), "model {model} is a file: give the folder that holds it");
    Ok(folder)
}

/// The layout that a folder is of, if it is of one.
pub fn layout(folder: &Path) -> Option<&'static Layout> {
    models::MODELS.iter().find_map(|model| match &model.form {
        Form::Layout(layout) if (layout.is_one)(folder) => Some(layout),
        _ => None,
    })
}

fn network(
    config: &str,
    weights: Weights,
    device: Device,
    precision: Precision,
    vae: &dyn Fn() -> Result<Vae>,
) -> Result<Arc<dyn Harmonizer>> {
    let (class, config) = models::parse(config).context(CONFIG)?;
    ensure!(
        matches!(precision, Precision::Auto | Precision::F32),
        "precision {precision} was asked for: {class} is known to bear f32 alone"
    );
    let harmonizer = config.network(&weights.root(), device, vae).context(WEIGHTS)?;
    weights.finish().context(WEIGHTS)?;
    Ok(harmonizer)
}

/// The autoencoder in `vae/` of a model folder.
fn vae(folder: &Path, device: Device) -> Result<Vae> {
    let folder = folder.join(VAE);
    let config = VaeConfig::parse(&files::read_text(&folder.join(CONFIG))?).context(CONFIG)?;
    let file = files::weights(&folder, &VAE_WEIGHTS)?;
    let weights = Weights::open(&file, device, Kind::Float)?;
    let vae = Vae::new(&weights.root(), config)?;
    weights.finish()?;
    Ok(vae)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
