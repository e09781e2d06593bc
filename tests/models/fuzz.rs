//! A thousand model folders with one thing wrong in each: an error each that names the folder, whether it is loaded or only
//! looked at, no panic, no abort, no waiting, and no memory beyond what the files hold. The same thousand every time.

use super::corrupt::{self, Random};
use crate::models;
use crate::process;
use crate::shared;
use gstharmonize::harmonizers::{self, Precision};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use tch::Device;

const FOLDERS: usize = 1000;

/// Set in the process that loads them.
const TASK: &str = "HARMONIZE_TEST_FUZZES";

/// Until a load that doesn't end is called one; the longest of them takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory for what isn't in proportion to the files.
const SLACK: u64 = 16 << 20;

const DIFFUSERS: [&str; 2] = ["config.json", "diffusion_pytorch_model.safetensors"];

/// A good model folder, and the files and folders that are read when it is loaded.
struct Model {
    root: PathBuf,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Model {
    fn new(root: &Path, parts: &[(&str, &[&str])]) -> Self {
        let file =
            |(part, names): &(&str, &[&str])| names.iter().map(|name| Path::new(part).join(name)).collect::<Vec<_>>();
        let folders = parts.iter().map(|(part, _)| PathBuf::from(part)).filter(|part| part != Path::new("")).collect();
        Self { root: root.into(), files: parts.iter().flat_map(file).collect(), folders }
    }

    /// What can be spoilt, which the plain autoencoder can't where the Harmony-VAE decodes: it isn't read.
    fn places(&self) -> Vec<&Path> {
        let idle = self.files.iter().any(|file| file.starts_with("condition_vae")).then_some("base/vae");
        let all = self.files.iter().chain(&self.folders).map(PathBuf::as_path);
        all.filter(|place| idle.is_none_or(|idle| !place.starts_with(idle))).collect()
    }

    /// Links to the files but for `without`.
    fn link(&self, folder: &Path, without: &Path) {
        for file in self.files.iter().filter(|file| !file.starts_with(without)) {
            fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
            symlink(self.root.join(file), folder.join(file)).unwrap();
        }
        fs::create_dir_all(folder.join(without).parent().unwrap()).unwrap();
    }

    fn size(&self) -> u64 {
        self.files.iter().map(|file| self.root.join(file).metadata().unwrap().len()).sum()
    }
}

/// A small `compact` in `folder`; DiffHarmony and DiffHarmony++ where the reference data is.
fn good(folder: &Path) -> Vec<Model> {
    models::write(folder);
    let mut good = vec![Model::new(folder, &[("", &["config.json", "model.safetensors"])])];
    if let Some(golden) = shared::folder("golden/diffharmony-tiny") {
        let base: [(&str, &[&str]); 3] = [
            ("base/unet", &DIFFUSERS),
            ("base/scheduler", &["scheduler_config.json"]),
            ("base/text_encoder", &["config.json", "model.safetensors"]),
        ];
        let plain: [(&str, &[&str]); 2] = [("base/vae", &DIFFUSERS), ("refinement", &DIFFUSERS)];
        good.push(Model::new(&golden, &[&base[..], &plain].concat()));
        let harmony_vae: (&str, &[&str]) = ("condition_vae", &DIFFUSERS);
        good.push(Model::new(&golden, &[&base[..], &plain[..1], &[harmony_vae]].concat()));
    }
    good
}

/// The `number`th corrupted folder: each file and folder of each model in turn; returns what is wrong with it.
fn corrupted(models: &[Model], number: usize, folder: &Path) -> String {
    let mut random = Random(number as u64);
    let model = &models[number % models.len()];
    let places = model.places();
    let (round, place) = (number / models.len() / places.len(), number / models.len() % places.len());
    let place = places[place];
    model.link(folder, place);
    // The decoder's own network and the refinement, which the released layout has beside `base`.
    let needed = place.extension().is_some() || place.starts_with("base");
    let how = corrupt::spoil(&folder.join(place), &model.root.join(place), needed, round, &mut random);
    format!("{}: {how}", place.display())
}

fn load(folder: &Path) -> anyhow::Result<()> {
    harmonizers::load(folder.to_str().unwrap(), Device::Cpu, Precision::F32, &|| false).map(drop)
}

/// What stands against the folder without its weights being read.
fn info(folder: &Path) -> Option<String> {
    match harmonizers::info(folder.to_str().unwrap()) {
        Ok(info) => info.problem(),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// What is wrong with how the corrupted `folder` was refused; `how` it is corrupted.
fn fault(folder: &Path, how: &str) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| info(folder))) {
        Err(_) => return Some("info panics".into()),
        // Values are read when a model is loaded.
        Ok(None) if how.contains(" holds ") => (),
        Ok(None) => return Some("info finds nothing".into()),
        Ok(Some(problem)) if problem.contains("alloc") || problem.len() > 20_000 => {
            return Some(format!("info finds {problem:.2000}"));
        }
        Ok(Some(_)) => (),
    }
    match catch_unwind(AssertUnwindSafe(|| load(folder))) {
        Err(_) => Some("panics".into()),
        Ok(Ok(())) => Some("loads".into()),
        Ok(Err(error)) => {
            let error = format!("{error:#}");

            let lacks = error.contains("alloc") || !error.contains(folder.to_str().unwrap()) || error.len() > 20_000;
            lacks.then(|| format!("is refused with {error:.2000}"))
        }
    }
}

/// The memory that this process has, in bytes, as RLIMIT_DATA counts it.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    data.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// What `work` returns that has no more than `bytes` of memory in all.
fn within<R>(bytes: u64, work: impl FnOnce() -> R) -> R {
    let limit = |bytes| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: setrlimit reads the structure that it is given.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }, 0);
    };
    limit(bytes);
    let result = work();
    limit(libc::RLIM_INFINITY);
    result
}

/// Does nothing but in the process that `every_corrupted_folder_is_an_error` starts.
#[test]
fn refuse() {
    if std::env::var_os(TASK).is_none() {
        return;
    }
    tch::set_num_threads(1);
    let temporary = tempfile::tempdir().unwrap();
    let models = good(&temporary.path().join("good"));
    for (i, model) in models.iter().enumerate() {
        let folder = temporary.path().join(format!("whole{i}"));
        model.link(&folder, Path::new("nothing/at all"));
        load(&folder).unwrap();
        assert_eq!(info(&folder), None);
    }
    let bytes = memory() + 2 * models.iter().map(Model::size).max().unwrap() + SLACK;
    let mut faults = 0;
    for number in 0..FOLDERS {
        let folder = temporary.path().join(number.to_string());
        let how = corrupted(&models, number, &folder);
        println!("{number}: {how}");
        std::io::stdout().flush().unwrap();
        if let Some(fault) = within(bytes, || fault(&folder, &how)) {
            println!("FAULT: {fault}");
            faults += 1;
        }
        fs::remove_dir_all(&folder).unwrap();
    }
    println!("all refused, {faults} not as they should be");
}

#[test]
fn every_corrupted_folder_is_an_error() {
    let mut child = process::of_its_own(module_path!(), "refuse").env(TASK, "").stdout(Stdio::piped()).spawn().unwrap();
    let (lines, said) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    let (mut last, mut faults, mut ended) = (String::new(), Vec::new(), false);
    loop {
        match said.recv_timeout(PATIENCE) {
            Ok(line) if line.starts_with("FAULT: ") => faults.push(format!("{last}\n    {line}")),
            Ok(line) if line.starts_with("all refused") => ended = true,
            Ok(line) if !ended => last = line,
            Ok(_) => (),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("loading waits: {last}");
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().unwrap();
    assert!(ended && status.success(), "the process ended with {status} at {last}");
    assert!(faults.is_empty(), "{} of {FOLDERS} folders:\n{}", faults.len(), faults.join("\n"));
}
