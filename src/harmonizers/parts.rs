//! What a model consists of: its configurations and the headers of its files, held against each other.

use super::files::{self, CONFIG};
use crate::nets::{self, Weights, weights};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::Tensor;

/// A model's parts, and how it is set up where they fit.
#[derive(Clone, Debug)]
pub struct Info {
    pub parts: Vec<ModelPart>,
    /// Decoder, sampler, steps and size, or why the parts make no model.
    pub setup: Result<String, String>,
}

/// A network, or another piece that a model needs.
#[derive(Clone, Debug, Default)]
pub struct ModelPart {
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
    /// Whether the model plays without it as it is set up.
    pub is_unused: bool,
}

impl Info {
    /// The first reason for which the model won't play.
    pub fn problem(&self) -> Option<String> {
        let of = |part: &ModelPart| part.problems.first().map(|problem| format!("{}: {problem}", part.name));
        self.parts.iter().filter(|part| !part.is_unused).find_map(of).or_else(|| self.setup.clone().err())
    }
}

/// The network in the folder `name`, its weights in the first of the files `weights`.
pub fn folder_part(
    parent: &Path,
    name: &str,
    weights: &[&str],
    new: impl FnOnce(&nets::Path, &str) -> Result<()>,
) -> ModelPart {
    let folder = parent.join(name);
    match files::read_text(&folder.join(CONFIG)) {
        Ok(config) => {
            let stored = files::weights(&folder, weights).and_then(|file| stored(&file));
            network(name, &config, stored, new)
        }
        Err(e) => ModelPart { name: name.into(), problems: vec![format!("{e:#}")], ..ModelPart::default() },
    }
}

/// A network by its configuration and its file; `new` makes it of what the configuration says.
pub fn network(
    name: &str,
    config: &str,
    stored: Result<Stored>,
    new: impl FnOnce(&nets::Path, &str) -> Result<()>,
) -> ModelPart {
    let mut part = ModelPart { name: name.into(), class: class(config), ..ModelPart::default() };
    let ((tensors, bytes), unread) = match stored {
        Ok(stored) => (stored, None),
        Err(e) => (Default::default(), Some(format!("{e:#}"))),
    };
    part.parameters = tensors.values().map(|tensor| tensor.shape.iter().product::<i64>() as u64).sum();
    part.tensors = tensors.len();
    part.kinds = tensors.values().map(|tensor| format!("{:?}", tensor.dtype).to_uppercase()).collect();
    part.bytes = bytes;
    let weights =
        Weights::shapes_of(tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect());
    let made = new(&weights.root(), config).context(CONFIG).and_then(|()| weights.finish());
    match (unread, made) {
        (Some(unread), _) => part.problems.push(unread),
        (None, Err(e)) => part.problems.push(format!("{e:#}")),
        (None, Ok(expected)) => part.problems = differences(&tensors, &expected),
    }
    part
}

/// What a safetensors file holds, and its size in bytes.
pub type Stored = (BTreeMap<String, weights::Stored>, u64);

pub fn stored(file: &Path) -> Result<Stored> {
    let tensors = weights::stored(file)?;
    Ok((tensors, file.metadata()?.len()))
}

/// A sentence for each tensor that is not as the configuration asks for.
fn differences(stored: &BTreeMap<String, weights::Stored>, expected: &BTreeMap<String, Tensor>) -> Vec<String> {
    let missing = expected.keys().filter(|name| !stored.contains_key(*name));
    let wrong = stored.iter().filter_map(|(name, tensor)| match expected.get(name).map(Tensor::size) {
        None => Some(format!("the configuration has no place for tensor {name}")),
        Some(asked) if asked != tensor.shape => {
            Some(format!("tensor {name} has shape {:?}, the configuration asks for {asked:?}", tensor.shape))
        }
        Some(_) => None,
    });
    missing.map(|name| format!("tensor {name} is missing")).chain(wrong).collect()
}

/// A sampler's steps in words.
pub fn steps(number: impl Into<u64>) -> String {
    match number.into() {
        1 => "1 step".into(),
        n => format!("{n} steps"),
    }
}

/// What a configuration calls itself.
pub fn class(json: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let names = [&json["_class_name"], &json["class"], &json["architectures"][0], &json["model_type"]];
    names.into_iter().find_map(|name| name.as_str()).unwrap_or_default().to_owned()
}
