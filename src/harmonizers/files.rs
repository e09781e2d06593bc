//! The files of a model folder: found by name, read within limits, and refused by name where they could run code.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

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
    let folder = file.parent().unwrap_or(file).display();
    format!(
        "{} is a pickle, which can run code when it is loaded: `harmonize model convert {folder}` makes a safetensors file \
         of it and runs none",
        file.display()
    )
}
