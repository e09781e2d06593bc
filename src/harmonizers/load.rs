//! From a model's name or folder and a device's name to a harmonizer, or to a sentence that says what doesn't fit.

use super::class::{Config, vae};
use super::diffharmony::{self, DiffHarmony};
use super::files::{self, CONFIG};
use super::{Harmonizer, Precision};
use crate::nets::Weights;
use crate::nets::vae::Vae;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind};

/// Models inside the plugin file: name, configuration, weights. A static, as a constant would be there once for each use.
pub static BUILT_IN: [(&str, &str, &[u8]); 3] = [
    (
        "compact",
        include_str!("../../models/compact/config.json"),
        include_bytes!("../../models/compact/model.safetensors"),
    ),
    ("gift", include_str!("../../models/gift/config.json"), include_bytes!("../../models/gift/model.safetensors")),
    ("star", include_str!("../../models/star/config.json"), include_bytes!("../../models/star/model.safetensors")),
];

pub const WEIGHTS: &str = "model.safetensors";

/// Loads a built-in model or a model folder. Every tensor's name, shape, kind and values are checked. Ends with an error soon
/// after `is_given_up`.
pub fn load(
    model: &str,
    device: Device,
    precision: Precision,
    is_given_up: &dyn Fn() -> bool,
) -> Result<Arc<dyn Harmonizer>> {
    if let Some((_, config, weights)) = BUILT_IN.iter().find(|(name, ..)| *name == model) {
        let load = || {
            let none = || bail!("a built-in model has an autoencoder of its own");
            network(config, Weights::from_safetensors(weights, device, Kind::Float)?, device, precision, &none)
        };
        return load().with_context(|| format!("built-in model {model}"));
    }
    let folder = folder(model)?;
    let load = || -> Result<Arc<dyn Harmonizer>> {
        if diffharmony::Folder::is_one(folder) {
            let parts = diffharmony::Parts::ForVideo;
            return Ok(Arc::new(DiffHarmony::load(folder, device, precision, parts, is_given_up)?));
        }
        let config = files::read_text(&folder.join(CONFIG))?;
        let weights = files::weights(folder, &[WEIGHTS])?;
        network(&config, Weights::open(&weights, device, Kind::Float)?, device, precision, &|| vae(folder, device))
    };
    load().with_context(|| format!("model folder {model}"))
}

/// The folder that is called `model`.
pub fn folder(model: &str) -> Result<&Path> {
    let folder = Path::new(model);
    let names = BUILT_IN.map(|(name, ..)| name).join(", ");
    ensure!(!files::is_pickle(folder), "{}", files::pickle(folder));
    ensure!(folder.exists(), "there is no model {model}: neither a built-in one ({names}) nor a folder");
    ensure!(folder.is_dir(), "model {model} is a file: give the folder that holds it");
    Ok(folder)
}

fn network(
    config: &str,
    weights: Weights,
    device: Device,
    precision: Precision,
    vae: &dyn Fn() -> Result<Vae>,
) -> Result<Arc<dyn Harmonizer>> {
    let config = Config::parse(config).context(CONFIG)?;
    ensure!(
        matches!(precision, Precision::Auto | Precision::F32),
        "precision {precision} was asked for: {} is known to bear f32 alone",
        config.class()
    );
    let harmonizer = config.network(&weights.root(), device, vae).context(WEIGHTS)?;
    weights.finish().context(WEIGHTS)?;
    Ok(harmonizer)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
