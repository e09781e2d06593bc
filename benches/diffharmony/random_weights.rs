//! Fills a folder of configurations with random weights, so that speed and memory can be measured at full size where the
//! trained weights aren't at hand: `cargo run --release --example random_weights -- CONFIGS OUT [f32|f16|bf16]`.
//!
//! CONFIGS is a folder in the released layout without weights, such as `full` beside this file. The same seed every time:
//! two runs write the same bytes.

use anyhow::{Context, Result, bail, ensure};
use gstharmonize::nets::clip::{ClipConfig, ClipTextModel};
use gstharmonize::nets::unet_2d::{UNet2DConfig, UNet2DModel};
use gstharmonize::nets::unet_2d_condition::{UNet2DConditionConfig, UNet2DConditionModel};
use gstharmonize::nets::vae::{Vae, VaeConfig};
use gstharmonize::nets::{Path as Place, Weights};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const DIFFUSERS: &str = "diffusion_pytorch_model.safetensors";
/// Of every parameter but a norm's weight, which is 1: activations stay finite through the deepest network here.
const DEVIATION: f64 = 0.02;

type Shapes = BTreeMap<String, Tensor>;

fn shapes<N>(new: impl Fn(&Place) -> Result<N>) -> Result<Shapes> {
    let weights = Weights::shapes();
    new(&weights.root())?;
    weights.finish()
}

/// What the network of this `config.json` asks for, and the name its file has.
fn network(config: &str) -> Result<(Shapes, &'static str)> {
    let json: Value = serde_json::from_str(config)?;
    let class = json["_class_name"].as_str().or(json["model_type"].as_str()).context("no class")?;
    Ok(match class {
        "UNet2DConditionModel" => {
            let config = UNet2DConditionConfig::parse(config)?;
            (shapes(|p| UNet2DConditionModel::new(p, config.clone()))?, DIFFUSERS)
        }
        "AutoencoderKL" | "ConditionVAE" => {
            let config = VaeConfig::parse(config)?;
            (shapes(|p| Vae::new(p, config.clone()))?, DIFFUSERS)
        }
        "UNet2DCustom" => {
            let config = UNet2DConfig::parse(config)?;
            (shapes(|p| UNet2DModel::new(p, config.clone()))?, DIFFUSERS)
        }
        "clip_text_model" => {
            let config = ClipConfig::parse(config)?;
            (shapes(|p| ClipTextModel::new(p, config.clone()))?, "model.safetensors")
        }
        other => bail!("no network of class {other}"),
    })
}

/// One tensor after the other, so that no more than the largest is ever in memory.
fn write(file: &Path, shapes: &Shapes, kind: Kind, name: &str) -> Result<()> {
    let (mut header, mut end) = (Map::new(), 0);
    for (name_of_tensor, tensor) in shapes {
        let begin = end;
        end += tensor.numel() * kind.elt_size_in_bytes();
        let entry = json!({"dtype": name, "shape": tensor.size(), "data_offsets": [begin, end]});
        header.insert(name_of_tensor.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::new(fs::File::create(file)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut bytes = Vec::new();
    for (name, tensor) in shapes {
        let mut values = Tensor::f_empty(tensor.size(), (Kind::Float, Device::Cpu))?;
        let values = match name.ends_with("weight") && tensor.dim() == 1 {
            true => values.f_ones_like()?,
            false => values.f_normal_(0.0, DEVIATION)?,
        };
        bytes.resize(tensor.numel() * kind.elt_size_in_bytes(), 0);
        values.f_to_kind(kind)?.f_copy_data_u8(&mut bytes, tensor.numel())?;
        out.write_all(&bytes)?;
    }
    Ok(out.into_inner()?.sync_all()?)
}

fn fill(configs: &Path, out: &Path, (kind, name): (Kind, &str)) -> Result<()> {
    fs::create_dir_all(out)?;
    let mut names = fs::read_dir(configs)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    names.sort();
    for name_of_entry in names {
        let (from, to) = (configs.join(&name_of_entry), out.join(&name_of_entry));
        if from.is_dir() {
            fill(&from, &to, (kind, name))?;
            continue;
        }
        fs::copy(&from, &to)?;
        if from.file_name().is_some_and(|name| name == "config.json") {
            let (shapes, file) = network(&fs::read_to_string(&from)?).with_context(|| from.display().to_string())?;
            let parameters: usize = shapes.values().map(Tensor::numel).sum();
            write(&out.join(file), &shapes, kind, name)?;
            println!("{}: {} tensors, {parameters} parameters", out.join(file).display(), shapes.len());
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    ensure!((2..=3).contains(&arguments.len()), "usage: random_weights CONFIGS OUT [f32|f16|bf16]");
    let kind = match arguments.get(2).map_or("f32", String::as_str) {
        "f32" => (Kind::Float, "F32"),
        "f16" => (Kind::Half, "F16"),
        "bf16" => (Kind::BFloat16, "BF16"),
        other => bail!("{other} is none of f32, f16 and bf16"),
    };
    tch::manual_seed(0);
    fill(Path::new(&arguments[0]), Path::new(&arguments[1]), kind)
}
