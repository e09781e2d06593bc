//! Whether a model would load, by its parts. The weights themselves stay unread: whether all are finite numbers shows when they
//! are loaded.

use super::class::{self, Config};
use super::files::{self, CONFIG};
use super::parts::{Info, Part, Stored, folder_part, network, stored};
use super::star::Latents;
use super::{diffharmony, load};
use crate::nets::vae::{Vae, VaeConfig};
use crate::nets::{Weights, weights};
use anyhow::Result;
use tch::Device;

/// Looks at a built-in model or a model folder.
pub fn info(model: &str) -> Result<Info> {
    if let Some((name, config, weights)) = load::BUILT_IN.iter().find(|(name, ..)| *name == model) {
        let stored = weights::stored_within(weights).map(|tensors| (tensors, weights.len() as u64));
        return Ok(own(name, config, stored, Vec::new()));
    }
    let folder = load::folder(model)?;
    if diffharmony::Folder::is_one(folder) {
        return Ok(diffharmony::info(folder));
    }
    let config = files::read_text(&folder.join(CONFIG))?;
    let stored = files::weights(folder, &[load::WEIGHTS]).and_then(|file| stored(&file));
    let autoencoder = || {
        let names = ["diffusion_pytorch_model.safetensors"];
        folder_part(folder, class::VAE, &names, |p, json| Vae::new(p, VaeConfig::parse(json)?).map(drop))
    };
    let on_stable_diffusion =
        matches!(Config::parse(&config), Ok(Config::Star(star)) if star.latents == Latents::StableDiffusion);
    let others = on_stable_diffusion.then(autoencoder).into_iter().collect();
    let name = Config::parse(&config).map_or("model".into(), |config| config.class().to_owned());
    Ok(own(&name, &config, stored, others))
}

/// A model of this project, and the parts that its folder holds besides.
fn own(name: &str, json: &str, stored: Result<Stored>, others: Vec<Part>) -> Info {
    let vae = || Vae::new(&Weights::shapes().root(), VaeConfig::stable_diffusion());
    let part = network(name, json, stored, |p, json| Config::parse(json)?.network(p, Device::Cpu, &vae).map(drop));
    let setup = Config::parse(json).map(|config| config.setup()).map_err(|e| format!("{CONFIG}: {e:#}"));
    Info { parts: std::iter::once(part).chain(others).collect(), setup }
}
