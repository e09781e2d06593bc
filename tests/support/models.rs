//! Models to run: small, and of noise for weights.

use gstharmonize::harmonizers::{ModelConfig, built_in, compact, gift, lite0, star};
use gstharmonize::nets::Weights;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Writes a `compact` into the new folder `folder`. It changes colours, if not for the better.
pub fn write(folder: &Path) {
    let config = compact::CompactConfig { channels: [8, 16, 16], emb_channels: 16, ..Default::default() };
    write_class(folder, &config);
}

/// A `lite0` likewise.
pub fn write_lite0(folder: &Path) {
    let config = lite0::Lite0Config { channels: [8, 16, 16], emb_channels: 16, ..Default::default() };
    write_class(folder, &config);
}

/// A `gift` likewise.
pub fn write_gift(folder: &Path) {
    let config = gift::GiftConfig { channels: [8, 8, 16, 16], code_channels: 16, rank: 2, ..Default::default() };
    write_class(folder, &config);
}

/// A `star` likewise.
pub fn write_star(folder: &Path) {
    let latents = star::Latents::Own { channels: 4, features: 8, groups: 4 };
    let (channels, heads) = (16, 2);
    let config =
        star::StarConfig { latents, channels, heads, encoder_layers: 1, decoder_layers: 1, ..Default::default() };
    write_class(folder, &config);
}

/// All built-in models, and a new one of each class in `folder`.
pub fn one_of_each(folder: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name);
    write(&path("compact"));
    write_lite0(&path("lite0"));
    write_gift(&path("gift"));
    write_star(&path("star"));
    let new = ["compact", "lite0", "gift", "star"].map(|name| path(name).to_str().unwrap().to_owned());
    built_in().map(|(name, _)| name.to_owned()).chain(new).collect()
}

fn write_class(folder: &Path, config: &dyn ModelConfig) {
    // All threads draw from torch's one generator: a model is the same each time only where no other is made meanwhile.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _one_at_a_time = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(1);
    let weights = Weights::new(tch::Device::Cpu);
    config.network(&weights.root(), tch::Device::Cpu, &|| anyhow::bail!("it has its own")).unwrap();
    let tensors = weights.finish().unwrap();
    let noisy = |t: &tch::Tensor| t.detach() + t.detach().randn_like() * 0.1;
    let tensors: Vec<_> = tensors.iter().map(|(name, t)| (name, noisy(t).contiguous())).collect();
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_json().unwrap()).unwrap();
    tch::Tensor::write_safetensors(&tensors, folder.join("model.safetensors")).unwrap();
}
