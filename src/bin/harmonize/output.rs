//! Files being written: each beside its place, under a name of its own, and renamed when it is whole. A file that was there stays as it
//! is until then, whatever goes wrong; what is half done goes with an error, and at Ctrl-C and SIGTERM.

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{Builder, TempDir, TempPath};

/// What is to be removed where a signal ends the process.
static HALF_DONE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn half_done() -> MutexGuard<'static, Vec<PathBuf>> {
    HALF_DONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a signal that ends the process takes along what is half done.
pub fn clean_up_at_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("can't listen to signals")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            for path in half_done().drain(..) {
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// On the list of what is half done for as long as this lives.
struct Listed(PathBuf);

impl Listed {
    fn new(path: &Path) -> Self {
        half_done().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        half_done().retain(|path| *path != self.0);
    }
}

/// A file that is not whole yet. Goes away unless it is kept.
pub struct OutputFile {
    path: PathBuf,
    part: TempPath,
    _listed: Listed,
}

impl OutputFile {
    /// Makes the file beside `path`, so that a folder that can't be written to is known of at once.
    pub fn of(path: &Path) -> Result<Self> {
        // A link stays one.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let before = fs::metadata(&target).ok();
        ensure!(before.as_ref().is_none_or(fs::Metadata::is_file), "{} is no file: name another", path.display());
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
        let made = Builder::new()
            .prefix(&format!(".{}.", name.to_string_lossy()))
            .suffix(".part")
            .permissions(before.map_or_else(|| Permissions::from_mode(0o666), |before| before.permissions()))
            .tempfile_in(folder(&target));
        let part = made.with_context(|| path.display().to_string())?.into_temp_path();
        Ok(Self { path: target, _listed: Listed::new(&part), part })
    }

    /// Where to write until it is whole.
    pub fn part(&self) -> &Path {
        &self.part
    }

    pub fn location(&self) -> Result<&str> {
        self.part.to_str().context("the output's name is not UTF-8")
    }

    pub fn keep(self) -> Result<()> {
        let Self { path, part, .. } = self;
        part.persist(&path).with_context(|| path.display().to_string())
    }
}

/// A folder beside `output` for what it is made of, which goes with it.
pub struct Workshop {
    folder: TempDir,
    _listed: Listed,
}

impl Workshop {
    pub fn beside(output: &Path) -> Result<Self> {
        let made = Builder::new().prefix(".harmonize-").tempdir_in(folder(output));
        let folder = made.with_context(|| output.display().to_string())?;
        Ok(Self { _listed: Listed::new(folder.path()), folder })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses an output that is one of the files it is made of, and two outputs that are one file.
pub fn refuse_overwriting<'a>(
    outputs: impl IntoIterator<Item = &'a Path>,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let inputs: Vec<_> = inputs.into_iter().map(|path| (path, whole(path))).collect();
    let mut seen: Vec<(&Path, PathBuf)> = Vec::new();
    for output in outputs {
        let path = whole(output);
        let is_read = inputs.iter().find(|(_, input)| *input == path);
        if let Some((input, _)) = is_read {
            anyhow::bail!("{} would be overwritten while it is read: write to another file", input.display());
        }
        let is_twice = seen.iter().any(|(_, other)| *other == path);
        ensure!(!is_twice, "{} would be written twice: give each output a name of its own", output.display());
        seen.push((output, path));
    }
    Ok(())
}

/// A path by which files that are one are known, also where there is none yet.
fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let folder = folder(path).canonicalize().unwrap_or_else(|_| folder(path).to_owned());
        path.file_name().map_or(folder.clone(), |name| folder.join(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_there_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film.mp4");
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let output = OutputFile::of(&path).unwrap();
        fs::write(output.part(), "half").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), names()), ("before".into(), 2));
        drop(output);
        assert_eq!((fs::read_to_string(&path).unwrap(), names()), ("before".into(), 1));
        let output = OutputFile::of(&path).unwrap();
        fs::write(output.part(), "whole").unwrap();
        output.keep().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), names()), ("whole".into(), 1));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(half_done().iter().all(|part| !part.starts_with(folder.path())));
    }

    #[test]
    fn a_link_stays_a_link_and_a_folder_is_no_output() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there.png"), folder.path().join("link.png"));
        fs::write(&there, "before").unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        let output = OutputFile::of(&link).unwrap();
        fs::write(output.part(), "whole").unwrap();
        output.keep().unwrap();
        assert!(link.is_symlink() && fs::read_to_string(&there).unwrap() == "whole");
        assert!(OutputFile::of(folder.path()).is_err());
    }

    #[test]
    fn files_that_are_one_are_known_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("mask.png"), "").unwrap();
        std::os::unix::fs::symlink(path("mask.png"), path("link.png")).unwrap();
        let refused = |outputs: &[PathBuf], inputs: &[PathBuf]| {
            let of = |paths: &[PathBuf]| paths.to_vec();
            let (outputs, inputs) = (of(outputs), of(inputs));
            refuse_overwriting(outputs.iter().map(PathBuf::as_path), inputs.iter().map(PathBuf::as_path)).is_err()
        };
        assert!(refused(&[path("link.png")], &[path("mask.png")]));
        assert!(refused(&[path("./mask.png")], &[path("mask.png")]));
        assert!(refused(&[path("new.png"), path("./new.png")], &[]));
        assert!(!refused(&[path("new.png"), path("sheet.png")], &[path("mask.png")]));
    }
}
