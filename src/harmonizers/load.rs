//! From a model's name or folder and a device's name to a harmonizer, or to a sentence that says what doesn't fit.

use super::compact::{Compact, Config};
use super::{Harmonizer, Precision};
use crate::nets::Weights;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{Device, Kind};

/// Models inside the plugin file: name, configuration, weights.
pub const BUILT_IN: [(&str, &str, &[u8]); 1] = [(
    "compact",
    include_str!("../../models/compact/config.json"),
    include_bytes!("../../models/compact/model.safetensors"),
)];

const WEIGHTS: &str = "model.safetensors";
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// Loads a built-in model or a folder with config.json and model.safetensors. Every tensor's name, shape, kind and values
/// are checked.
pub fn load(model: &str, device: Device, precision: Precision) -> Result<Arc<dyn Harmonizer>> {
    if let Some((_, config, weights)) = BUILT_IN.iter().find(|(name, ..)| *name == model) {
        let load = || build(config, Weights::from_safetensors(weights, device, Kind::Float)?, device, precision);
        return load().with_context(|| format!("built-in model {model}"));
    }
    let (config, weights) = read_folder(model)?;
    let load = || build(&config, Weights::open(&weights, device, Kind::Float)?, device, precision);
    load().with_context(|| format!("model folder {model}"))
}

fn read_folder(model: &str) -> Result<(String, PathBuf)> {
    let folder = Path::new(model);
    let names = BUILT_IN.map(|(name, ..)| name).join(", ");
    ensure!(!is_pickle(folder), "{}", pickle(model));
    ensure!(folder.exists(), "there is no model {model}: neither a built-in one ({names}) nor a folder");
    ensure!(folder.is_dir(), "model {model} is a file: give the folder that holds config.json and {WEIGHTS}");
    let config = folder.join("config.json");
    let config = std::fs::read_to_string(&config).with_context(|| format!("can't read {}", config.display()))?;
    let weights = folder.join(WEIGHTS);
    if !weights.exists()
        && let Some(file) = folder.read_dir()?.flatten().map(|entry| entry.path()).find(|path| is_pickle(path))
    {
        bail!(pickle(&file.display().to_string()));
    }
    Ok((config, weights))
}

fn is_pickle(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| PICKLES.contains(&e))
}

fn pickle(file: &str) -> String {
    format!(
        "{file} is a pickle, which can run code when it is loaded: convert it on a machine you trust with `python3 -c \
         \"import sys, torch, safetensors.torch as s; s.save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])\" \
         {file} {WEIGHTS}` and give the folder that holds {WEIGHTS}"
    )
}

fn build(config: &str, weights: Weights, device: Device, precision: Precision) -> Result<Arc<dyn Harmonizer>> {
    #[derive(serde::Deserialize)]
    struct Class {
        class: String,
    }
    let class = serde_json::from_str::<Class>(config).context("config.json")?.class;
    ensure!(class == "compact", "config.json asks for class {class:?}: this plugin knows compact");
    ensure!(
        matches!(precision, Precision::Auto | Precision::F32),
        "precision {precision} was asked for: compact is known to bear f32 alone"
    );
    let config: Config = serde_json::from_str(config).context("config.json")?;
    let harmonizer = Compact::new(&weights.root(), config, device)?;
    weights.finish()?;
    Ok(Arc::new(harmonizer))
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
