//! The files of a model folder: found by name, read within limits, and refused by name where they could run code.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// Folders below a model's own, for each of its networks and around those of Stable Diffusion.
const PARTS: [&str; 7] = ["base", "unet", "vae", "text_encoder", "condition_vae", "refinement", "taesd"];
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// A configuration is a few kilobytes; what is far larger was never one, and JSON grows many times over when it is parsed.
const MAX_TEXT: u64 = 64 << 10;

/// The text of a regular file of at most 64 KiB.
pub fn read_text(file: &Path) -> Result<String> {
    let read = || -> Result<String> {
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "it is not a regular file");
        ensure!(metadata.len() <= MAX_TEXT, "it has {} bytes, which no configuration needs", metadata.len());
        Ok(std::fs::read_to_string(file)?)
    };
    read().with_context(|| format!("can't read {}", file.display()))
}

/// The first of the files `names` in `folder` that exists; a pickle in its place is named with the command that converts it.
pub fn weights(folder: &Path, names: &[&str]) -> Result<PathBuf> {
    if let Some(file) = names.iter().map(|name| folder.join(name)).find(|file| file.exists()) {
        return Ok(file);
    }
    let entries = folder.read_dir().with_context(|| format!("can't read {}", folder.display()))?;
    if let Some(file) = entries.flatten().map(|entry| entry.path()).find(|path| is_pickle(path)) {
        bail!(pickle(&file));
    }
    bail!("{} holds no {}", folder.display(), names[0])
}

pub fn is_pickle(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| PICKLES.contains(&e))
}

/// Why the pickle `file` isn't loaded, and what to do about it.
pub fn pickle(file: &Path) -> String {
    let is_part = |folder: &Path| folder.file_name().is_some_and(|name| PARTS.iter().any(|part| name == *part));
    let model = file.ancestors().skip(1).find(|folder| !is_part(folder)).unwrap_or(file);
    format!(
        "{} is a pickle, which can run code when it is loaded: `harmonize model convert {}` makes safetensors files of all of \
         the model's and runs none",
        file.display(),
        model.display()
    )
}
