//! A model to run: small, and of noise for weights.

use gstharmonize::harmonizers::compact::{Compact, Config};
use gstharmonize::nets::Weights;
use std::path::Path;

/// Writes a `compact` into the new folder `folder`. It changes colours, if not for the better.
pub fn write(folder: &Path) {
    tch::manual_seed(1);
    let config = Config { channels: [8, 16, 16], emb_channels: 16, ..Config::default() };
    let weights = Weights::new(tch::Device::Cpu);
    Compact::new(&weights.root(), config.clone(), tch::Device::Cpu).unwrap();
    let tensors = weights.finish().unwrap();
    let noisy = |t: &tch::Tensor| t.detach() + t.detach().randn_like() * 0.1;
    let tensors: Vec<_> = tensors.iter().map(|(name, t)| (name, noisy(t).contiguous())).collect();
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    tch::Tensor::write_safetensors(&tensors, folder.join("model.safetensors")).unwrap();
}
