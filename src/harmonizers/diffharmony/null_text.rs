//! The encoding of the empty prompt.

use super::super::files;
use crate::nets::Weights;
use crate::nets::clip::{ClipConfig, ClipTextModel, END_TOKEN};
use anyhow::{Context, Result};
use std::path::Path;
use tch::{Device, Kind, Tensor};

pub fn read_or_compute(base: &Path, _channels: i64) -> Result<Tensor> {
    let folder = base.join("text_encoder");
    let config =
        ClipConfig::parse(&files::read_text(&folder.join("config.json"))?).context("text_encoder/config.json")?;
    let weights = Weights::open(&files::weights(&folder, &["model.safetensors"])?, Device::Cpu, Kind::Float)?;
    let clip = ClipTextModel::new(&weights.root(), config)?;
    weights.finish()?;
    clip.null_text(END_TOKEN)
}
