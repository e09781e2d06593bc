//! The files of a model folder: found by name, read within limits, written whole or not at all, and refused by name where
//! they could run code.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A model's, and a network's, hyper-parameters.
pub const CONFIG: &str = "config.json";
/// Folders below a model's own, one for each of its networks.
pub const PARTS: [&str; 6] = ["unet", "vae", "text_encoder", "condition_vae", "refinement", "taesd"];
/// The folder around those of Stable Diffusion.
pub const BASE: &str = "base";
/// The endings that PyTorch's files go by.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];
/// Beginnings of names of what training leaves beside the weights.
const TRAINING: [&str; 5] = ["optimizer", "scheduler", "scaler", "random_states", "training_args"];

/// A configuration is a few kilobytes; what is far larger was never one, and JSON grows many times over when it is parsed.
const MAX_TEXT: u64 = 64 << 10;

/// The text of a regular file of at most 64 KiB.
pub fn read_text(file: &Path) -> Result<String> {
    let read = || -> Result<String> {
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "it is not a regular file");
        ensure!(metadata.len() <= MAX_TEXT, "it has {} bytes, which no configuration needs", metadata.len());
        Ok(fs::read_to_string(file)?)
    };
    read().with_context(|| format!("can't read {}", file.display()))
}

/// The first of the files `names` in `folder` that exists; a pickle in its place is named with the command that converts it,
/// unless that has nothing left to do.
pub fn weights(folder: &Path, names: &[&str]) -> Result<PathBuf> {
    if let Some(file) = names.iter().map(|name| folder.join(name)).find(|file| file.exists()) {
        return Ok(file);
    }
    let entries = folder.read_dir().with_context(|| format!("can't read {}", folder.display()))?;
    let convertible = |file: &PathBuf| is_pickle(file) && !is_training(file) && !safetensors(file).exists();
    if let Some(file) = entries.flatten().map(|entry| entry.path()).find(convertible) {
        bail!(pickle(&file));
    }
    bail!("{} holds no {}", folder.display(), names.join(" and no "))
}

/// Has `write` make a new file, which is `file` once it is whole and on the disk. What is in the way is replaced and never
/// written to, wherever it may lead.
pub fn write_whole(file: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let write = || -> Result<()> {
        // Left by a run that was killed, or put there to lead elsewhere.
        if part.symlink_metadata().is_ok() {
            fs::remove_file(part)?;
        }
        File::create_new(part)?;
        let written = write(part).and_then(|()| {
            File::open(part)?.sync_all()?;
            Ok(fs::rename(part, file)?)
        });
        if written.is_err() {
            let _ = fs::remove_file(part);
        }
        written?;
        // The name lasts before anybody removes what the file was made of.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(File::open(folder)?.sync_all()?)
    };
    write().with_context(|| format!("can't write {}", file.display()))
}

pub fn is_pickle(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| PICKLES.contains(&e))
}

/// Whether training left `pickle` beside the weights.
pub fn is_training(pickle: &Path) -> bool {
    stem(pickle).is_some_and(|stem| TRAINING.iter().any(|name| stem.starts_with(name)))
}

/// The file that `pickle` is converted to, under the name that diffusers and transformers give to their safetensors.
pub fn safetensors(pickle: &Path) -> PathBuf {
    match stem(pickle).and_then(|stem| stem.strip_prefix("pytorch_model")) {
        Some(rest) => pickle.with_file_name(format!("model{rest}.safetensors")),
        None => pickle.with_extension("safetensors"),
    }
}

fn stem(file: &Path) -> Option<&str> {
    file.file_stem()?.to_str()
}

/// Why the pickle `file` isn't loaded, and what to do about it.
pub fn pickle(file: &Path) -> String {
    let is_part =
        |folder: &Path| folder.file_name().is_some_and(|name| name == BASE || PARTS.iter().any(|part| name == *part));
    // A relative path ends at the empty one, and neither that nor the root is a model's.
    let mut folders = file.ancestors().skip(1).take_while(|folder| folder.parent().is_some()).peekable();
    let mut model = folders.peek().copied().unwrap_or(Path::new("."));
    for folder in folders {
        model = folder;
        if !is_part(folder) {
            break;
        }
    }
    format!(
        "{} is a pickle, which can run code when it is loaded: `harmonize model convert {}` makes safetensors files of all of \
         the model's and runs none",
        file.display(),
        model.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_command_names_the_model_s_folder() {
        for (file, model) in [
            ("/m/checkpoints/base/unet/x.bin", "/m/checkpoints"),
            ("checkpoints/vae/x.bin", "checkpoints"),
            ("base/unet/x.bin", "base"),
            ("vae/x.bin", "vae"),
            ("./vae/x.bin", "."),
            ("../vae/x.bin", ".."),
            ("/vae/x.bin", "/vae"),
            ("x.bin", "."),
        ] {
            let said = pickle(Path::new(file));
            assert!(said.contains(&format!("`harmonize model convert {model}`")), "{said}");
        }
    }

    #[test]
    fn a_pickle_is_named_as_long_as_converting_it_would_help() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            || format!("{:#}", weights(folder.path(), &["model.safetensors", "model.fp16.safetensors"]).unwrap_err());
        let none = "holds no model.safetensors and no model.fp16.safetensors";
        assert!(error().contains(none), "{}", error());
        let write = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        write("optimizer.bin");
        assert!(error().contains(none), "{}", error());
        write("other.pkl");
        assert!(error().contains("other.pkl is a pickle"), "{}", error());
        write("other.safetensors");
        assert!(error().contains(none), "{}", error());
        write("pytorch_model.fp16.bin");
        assert!(error().contains("pytorch_model.fp16.bin is a pickle"), "{}", error());
        let converted = safetensors(&folder.path().join("pytorch_model.fp16.bin"));
        fs::write(&converted, "").unwrap();
        assert_eq!(weights(folder.path(), &["model.safetensors", "model.fp16.safetensors"]).unwrap(), converted);
    }

    #[test]
    fn what_is_written_goes_nowhere_else_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("precious"), "kept").unwrap();
        for link in ["new.part", "new"] {
            symlink("precious", path(link)).unwrap();
        }
        write_whole(&path("new"), |part| Ok(fs::write(part, "new")?)).unwrap();
        assert_eq!(fs::read_to_string(path("new")).unwrap(), "new");
        assert_eq!(fs::read_to_string(path("precious")).unwrap(), "kept");
        let error = write_whole(&path("failed"), |part| {
            fs::write(part, "half")?;
            bail!("no more")
        });
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("can't write ") && error.ends_with("failed: no more"), "{error}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::create_dir(path("new.part")).unwrap();
        assert!(write_whole(&path("new"), |_| Ok(())).is_err() && path("new.part").is_dir());
    }
}
