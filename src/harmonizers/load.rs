//! From a model's name or folder and a device's name to a harmonizer, or to a sentence that says what doesn't fit.

use super::compact::{Compact, Config};
use super::diffharmony::{self, DiffHarmony};
use super::files::{self, CONFIG};
use super::{Harmonizer, Precision};
use crate::nets::Weights;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind};

/// Models inside the plugin file: name, configuration, weights.
pub const BUILT_IN: [(&str, &str, &[u8]); 1] = [(
    "compact",
    include_str!("../../models/compact/config.json"),
    include_bytes!("../../models/compact/model.safetensors"),
)];

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
        let load = || compact(config, Weights::from_safetensors(weights, device, Kind::Float)?, device, precision);
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
        compact(&config, Weights::open(&weights, device, Kind::Float)?, device, precision)
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

fn compact(config: &str, weights: Weights, device: Device, precision: Precision) -> Result<Arc<dyn Harmonizer>> {
    let config = compact_config(config).context(CONFIG)?;
    ensure!(
        matches!(precision, Precision::Auto | Precision::F32),
        "precision {precision} was asked for: compact is known to bear f32 alone"
    );
    let harmonizer = Compact::new(&weights.root(), config, device).context(WEIGHTS)?;
    weights.finish().context(WEIGHTS)?;
    Ok(Arc::new(harmonizer))
}

/// The configuration of a folder that is none of diffharmony's.
pub fn compact_config(json: &str) -> Result<Config> {
    #[derive(serde::Deserialize)]
    struct Class {
        class: String,
    }
    let class = serde_json::from_str::<Class>(json)?.class;
    ensure!(
        class == "compact",
        "it asks for class {class:?}: this plugin knows compact, and diffharmony by its folders unet and vae"
    );
    Ok(serde_json::from_str(json)?)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
