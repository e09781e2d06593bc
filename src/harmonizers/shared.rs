//! Models in use, shared by all who ask for the same one: its weights are in memory once, and loaded once.
//!
//! A model lives for as long as someone holds it. A folder whose files have changed is another model.

use super::harmonizer::Harmonizer;
use super::load::load;
use super::models;
use super::precision::Precision;
use anyhow::{Result, ensure};
use once_cell::sync::Lazy;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use tch::Device;

/// How often someone who waits for another's load asks whether the own one has been given up.
const ASKED_EVERY: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, PartialEq)]
struct Key {
    model: PathBuf,
    /// Of every file in the folder: its name, size and time.
    files: Vec<(PathBuf, u64, Option<SystemTime>)>,
    device: Device,
    precision: Precision,
}

impl Key {
    fn new(model: &str, device: Device, precision: Precision) -> Self {
        let mut files = Vec::new();
        let mut path = PathBuf::from(model);
        if models::find_built_in(model).is_none() {
            path = path.canonicalize().unwrap_or(path);
            list(&path, &mut files);
            files.sort_unstable();
        }
        Self { model: path, files, device, precision }
    }
}

/// What can't be read is left for the loading to tell of.
fn list(folder: &Path, files: &mut Vec<(PathBuf, u64, Option<SystemTime>)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().metadata() {
            Ok(found) if found.is_dir() => list(&entry.path(), files),
            Ok(found) => files.push((entry.path(), found.len(), found.modified().ok())),
            Err(_) => (),
        }
    }
}

enum Entry {
    Loading,
    Loaded(Weak<dyn Harmonizer>),
}

static MODELS: Lazy<Mutex<Vec<(Key, Entry)>>> = Lazy::new(Mutex::default);
static CHANGED: Condvar = Condvar::new();

fn models() -> MutexGuard<'static, Vec<(Key, Entry)>> {
    MODELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes back the claim to be loading, also where loading panics.
struct Claim<'a>(&'a Key);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        models().retain(|(key, entry)| key != self.0 || !matches!(entry, Entry::Loading));
        CHANGED.notify_all();
    }
}

/// The model that `load` would load, or the same one if it is in use already. Waits for one that someone else is loading.
pub fn shared(
    model: &str,
    device: Device,
    precision: Precision,
    is_given_up: &dyn Fn() -> bool,
) -> Result<Arc<dyn Harmonizer>> {
    let key = Key::new(model, device, precision);
    let mut entries = models();
    loop {
        match entries.iter().find(|(other, _)| *other == key).map(|(_, entry)| entry) {
            Some(Entry::Loading) => {
                let waited = CHANGED.wait_timeout(entries, ASKED_EVERY);
                entries = waited.unwrap_or_else(PoisonError::into_inner).0;
                ensure!(!is_given_up(), "given up");
            }
            Some(Entry::Loaded(loaded)) if loaded.strong_count() > 0 => match loaded.upgrade() {
                Some(loaded) => {
                    log::info!("model {model} is in use already, and shared");
                    return Ok(loaded);
                }
                None => continue,
            },
            _ => break,
        }
    }
    entries.retain(|(_, entry)| !matches!(entry, Entry::Loaded(loaded) if loaded.strong_count() == 0));
    entries.push((key.clone(), Entry::Loading));
    drop(entries);
    let claim = Claim(&key);
    let loaded = load(model, device, precision, is_given_up)?;
    let mut entries = models();
    // Also under the precision that `Auto` has turned out to be.
    for precision in [precision, loaded.precision()] {
        let key = Key { precision, ..key.clone() };
        if !entries.iter().any(|(other, entry)| *other == key && matches!(entry, Entry::Loaded(_))) {
            entries.push((key, Entry::Loaded(Arc::downgrade(&loaded))));
        }
    }
    drop(entries);
    drop(claim);
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const CPU: Device = Device::Cpu;

    fn get(model: &str, precision: Precision) -> Result<Arc<dyn Harmonizer>> {
        shared(model, CPU, precision, &|| false)
    }

    /// A copy of the built-in model as a folder.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let files = models::find_built_in("compact").unwrap();
        std::fs::write(folder.path().join("config.json"), files.config).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), files.weights).unwrap();
        folder
    }

    #[test]
    fn those_who_ask_at_the_same_time_share_one_model() {
        let folder = folder();
        let path = folder.path().to_str().unwrap();
        let models: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| get(path, Precision::Auto).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(models.iter().all(|model| Arc::ptr_eq(model, &models[0])));
        assert!(Arc::ptr_eq(
            &get(&format!("{path}/../{}/", folder.path().file_name().unwrap().to_str().unwrap()), Precision::F32)
                .unwrap(),
            &models[0]
        ));
    }

    #[test]
    fn a_model_goes_with_the_last_who_holds_it() {
        let folder = folder();
        let model = get(folder.path().to_str().unwrap(), Precision::Auto).unwrap();
        let weak = Arc::downgrade(&model);
        drop(model);
        assert!(weak.upgrade().is_none());
        assert!(get(folder.path().to_str().unwrap(), Precision::Auto).is_ok());
    }

    #[test]
    fn a_folder_with_other_files_is_another_model() {
        let folder = folder();
        let path = folder.path().to_str().unwrap();
        let before = get(path, Precision::Auto).unwrap();
        let config = models::find_built_in("compact").unwrap().config.to_owned() + "\n";
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        assert!(!Arc::ptr_eq(&get(path, Precision::Auto).unwrap(), &before));
    }

    #[test]
    fn a_load_that_fails_is_not_in_the_way_of_the_next() {
        let folder = folder();
        let path = folder.path().to_str().unwrap();
        let weights = folder.path().join("model.safetensors");
        let kept = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, b"").unwrap();
        assert!(get(path, Precision::Auto).is_err());
        std::fs::write(&weights, kept).unwrap();
        assert!(get(path, Precision::Auto).is_ok());
    }
}
