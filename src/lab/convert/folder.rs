//! The checkpoints in a model folder, and which of them the plugin has a use for.

use crate::harmonizers::files;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// `base/safety_checker/model.bin` and nothing deeper: a link that leads back up ends here.
const MAX_DEPTH: usize = 3;

/// A pickle in a model folder, or what may hold some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundPickle {
    /// To be converted to `safetensors`, which isn't there.
    Weights { pickle: PathBuf, safetensors: PathBuf },
    /// To be left alone.
    Skipped { path: PathBuf, why: &'static str },
}

impl FoundPickle {
    fn path(&self) -> &Path {
        match self {
            Self::Weights { pickle: path, .. } | Self::Skipped { path, .. } => path,
        }
    }
}

/// Every pickle below `folder`, sorted by path. Links to folders are followed within `folder`.
pub fn find(folder: &Path) -> Result<Vec<FoundPickle>> {
    let root = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let mut found = vec![];
    walk(folder, 0, &mut |path| {
        if path.is_dir() {
            let inside = path.canonicalize().is_ok_and(|target| target.starts_with(&root));
            if !inside {
                found.push(FoundPickle::Skipped {
                    path,
                    why: "it leads out of the model folder: convert it by its own name",
                });
            }
            return inside;
        }
        if path.is_file() && files::is_pickle(&path) {
            found.push(judge(folder, path));
        }
        false
    })?;
    found.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(found)
}

/// Calls `enter` for everything below `folder`, which says of folders whether to go on in them.
fn walk(folder: &Path, depth: usize, enter: &mut dyn FnMut(PathBuf) -> bool) -> Result<()> {
    let entries = folder.read_dir().with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if enter(path.clone()) && depth < MAX_DEPTH {
            walk(&path, depth + 1, enter)?;
        }
    }
    Ok(())
}

fn judge(root: &Path, pickle: PathBuf) -> FoundPickle {
    let folder = pickle.parent().unwrap_or(root);
    let part = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let safetensors = files::safetensors(&pickle);
    let why = if folder != root && !files::PARTS.contains(&part) || !folder.join(files::CONFIG).exists() {
        "the plugin loads nothing from there"
    } else if files::is_training(&pickle) {
        "it belongs to training"
    } else if safetensors.exists() {
        "its safetensors file is there"
    } else {
        return FoundPickle::Weights { pickle, safetensors };
    };
    FoundPickle::Skipped { path: pickle, why }
}
