//! What a model consists of and whether it would load: its configurations and the headers of its files, held against each
//! other. The weights themselves stay unread.

use super::compact::{self, Compact};
use super::{diffharmony, files, load};
use crate::nets::{self, Weights, weights};
use anyhow::{Context, Result, ensure};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use tch::{Device, Tensor};

const CONFIG: &str = "config.json";

/// A model's parts, and how it is set up where they fit.
#[derive(Clone, Debug)]
pub struct Info {
    pub parts: Vec<Part>,
    /// Decoder, sampler, steps and size, or why the parts make no model.
    pub setup: Result<String, String>,
}

/// A network, or another piece that a model needs.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub name: String,
    /// As its configuration has it; empty where that can't be read.
    pub class: String,
    /// In the file.
    pub parameters: u64,
    pub tensors: usize,
    pub kinds: BTreeSet<String>,
    /// Size of the file.
    pub bytes: u64,
    /// What is missing, surplus, mis-shaped or unreadable, a sentence each.
    pub problems: Vec<String>,
}

impl Info {
    /// The first reason for which the model won't play.
    pub fn problem(&self) -> Option<String> {
        let of = |part: &Part| part.problems.first().map(|problem| format!("{}: {problem}", part.name));
        self.parts.iter().find_map(of).or_else(|| self.setup.clone().err())
    }
}

/// Looks at a built-in model or a model folder.
pub fn info(model: &str) -> Result<Info> {
    if let Some((name, config, weights)) = load::BUILT_IN.iter().find(|(name, ..)| *name == model) {
        let stored = Stored::read(weights);
        return Ok(Info { setup: compact_setup(config), parts: vec![network(name, config, stored, new_compact)] });
    }
    let folder = load::folder(model)?;
    if diffharmony::Folder::is_one(folder) {
        return Ok(diffharmony::info(folder));
    }
    let config = files::read_text(&folder.join(CONFIG))?;
    let stored = files::weights(folder, &[load::WEIGHTS]).and_then(|file| Stored::open(&file));
    Ok(Info { setup: compact_setup(&config), parts: vec![network("compact", &config, stored, new_compact)] })
}

fn new_compact(p: &nets::Path, json: &str) -> Result<()> {
    Compact::new(p, serde_json::from_str(json)?, Device::Cpu).map(drop)
}

fn compact_setup(json: &str) -> Result<String, String> {
    let config: compact::Config = serde_json::from_str(json).map_err(|e| format!("config.json: {e}"))?;
    Ok(format!("{} steps, {} px", config.steps, config.proxy_size))
}

/// The network in the folder `name`, its weights in the first of the files `weights`.
pub fn folder_part(
    parent: &Path,
    name: &str,
    weights: &[&str],
    new: impl FnOnce(&nets::Path, &str) -> Result<()>,
) -> Part {
    let folder = parent.join(name);
    match files::read_text(&folder.join(CONFIG)) {
        Ok(config) => {
            let stored = files::weights(&folder, weights).and_then(|file| Stored::open(&file));
            network(name, &config, stored, new)
        }
        Err(e) => Part { name: name.into(), problems: vec![format!("{e:#}")], ..Part::default() },
    }
}

/// A network by its configuration and its file; `new` makes it of what the configuration says.
pub fn network(
    name: &str,
    config: &str,
    stored: Result<Stored>,
    new: impl FnOnce(&nets::Path, &str) -> Result<()>,
) -> Part {
    let mut part = Part { name: name.into(), class: class(config), ..Part::default() };
    let (stored, unread) = match stored {
        Ok(stored) => (stored, None),
        Err(e) => (Stored::default(), Some(format!("{e:#}"))),
    };
    let numel = |(shape, _): &(Vec<i64>, Dtype)| shape.iter().map(|d| *d as u64).product::<u64>();
    part.parameters = stored.tensors.values().map(numel).sum();
    part.tensors = stored.tensors.len();
    part.kinds = stored.tensors.values().map(|(_, kind)| format!("{kind:?}")).collect();
    part.bytes = stored.bytes;
    let shapes = |(name, (shape, _)): (&String, &(Vec<i64>, Dtype))| (name.clone(), shape.clone());
    let weights = Weights::shapes_of(stored.tensors.iter().map(shapes).collect());
    let made = new(&weights.root(), config).context(CONFIG).and_then(|()| weights.finish());
    match (unread, made) {
        (Some(unread), _) => part.problems.push(unread),
        (None, Err(e)) => part.problems.push(format!("{e:#}")),
        (None, Ok(expected)) => part.problems = differences(&stored.tensors, &expected),
    }
    part
}

/// A sentence for each tensor that is not as the configuration asks for.
fn differences(stored: &Header, expected: &BTreeMap<String, Tensor>) -> Vec<String> {
    let missing =
        expected.keys().filter(|name| !stored.contains_key(*name)).map(|name| format!("tensor {name} is missing"));
    let wrong = stored.iter().filter_map(|(name, (shape, kind))| match expected.get(name).map(Tensor::size) {
        None => Some(format!("the configuration has no place for tensor {name}")),
        Some(asked) if asked != *shape => {
            Some(format!("tensor {name} has shape {shape:?}, the configuration asks for {asked:?}"))
        }
        Some(_) if !matches!(kind, Dtype::F32 | Dtype::F16 | Dtype::BF16) => {
            Some(format!("tensor {name} is of kind {kind:?}: weights are F32, F16 or BF16"))
        }
        Some(_) => None,
    });
    missing.chain(wrong).collect()
}

/// What a configuration calls itself.
pub fn class(json: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let names = [&json["_class_name"], &json["class"], &json["architectures"][0], &json["model_type"]];
    names.into_iter().find_map(|name| name.as_str()).unwrap_or_default().to_owned()
}

/// Shapes and kinds by tensor.
type Header = BTreeMap<String, (Vec<i64>, Dtype)>;

/// What a safetensors file says it holds.
#[derive(Debug, Default)]
pub struct Stored {
    tensors: Header,
    bytes: u64,
}

impl Stored {
    pub fn open(file: &Path) -> Result<Self> {
        let open = || {
            ensure!(file.metadata()?.is_file(), "it is not a regular file");
            let opened = File::open(file)?;
            // SAFETY: the header alone is read, and parsed as what anybody may have written.
            Self::read(&unsafe { Mmap::map(&opened) }?)
        };
        open().with_context(|| file.display().to_string())
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).context("not a whole safetensors file")?;
        let tensors = file.iter().filter(|(name, _)| !weights::is_constant(name)).map(|(name, view)| {
            let shape = view.shape().iter().map(|d| *d as i64).collect();
            (name.to_owned(), (shape, view.dtype()))
        });
        Ok(Self { tensors: tensors.collect(), bytes: bytes.len() as u64 })
    }
}
