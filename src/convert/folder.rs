//! The checkpoints in a model folder, and which of them the plugin has a use for.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The endings that PyTorch's files go by.
const ENDINGS: [&str; 4] = ["bin", "pt", "pth", "ckpt"];
/// Folders of networks that the plugin loads.
const PARTS: [&str; 6] = ["unet", "vae", "condition_vae", "refinement", "text_encoder", "taesd"];
/// Beginnings of names of what training leaves beside the weights.
const TRAINING: [&str; 5] = ["optimizer", "scheduler", "scaler", "random_states", "training_args"];
/// `base/safety_checker/model.bin` and nothing deeper: a link that leads back up ends here.
const MAX_DEPTH: usize = 3;

/// A pickle in a model folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To be converted to `safetensors`, which isn't there.
    Weights { pickle: PathBuf, safetensors: PathBuf },
    /// To be left alone.
    Skipped { pickle: PathBuf, why: &'static str },
}

/// Every pickle below `folder`, sorted by path.
pub fn find(folder: &Path) -> Result<Vec<Found>> {
    let mut pickles = vec![];
    walk(folder, 0, &mut pickles)?;
    pickles.sort();
    Ok(pickles.into_iter().map(|pickle| judge(folder, pickle)).collect())
}

fn walk(folder: &Path, depth: usize, pickles: &mut Vec<PathBuf>) -> Result<()> {
    let entries = folder.read_dir().with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, pickles)?;
        } else if path.is_file() && path.extension().and_then(|e| e.to_str()).is_some_and(|e| ENDINGS.contains(&e)) {
            pickles.push(path);
        }
    }
    Ok(())
}

fn judge(root: &Path, pickle: PathBuf) -> Found {
    let folder = pickle.parent().unwrap_or(root);
    let part = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = pickle.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    // The names diffusers and transformers give to their safetensors.
    let safetensors = folder.join(format!("{}.safetensors", if stem == "pytorch_model" { "model" } else { stem }));
    let why = if folder != root && !PARTS.contains(&part) || !folder.join("config.json").exists() {
        "the plugin loads nothing from there"
    } else if TRAINING.iter().any(|name| stem.starts_with(name)) {
        "it belongs to training"
    } else if safetensors.exists() {
        "its safetensors file is there"
    } else {
        return Found::Weights { pickle, safetensors };
    };
    Found::Skipped { pickle, why }
}
