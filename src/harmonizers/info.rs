//! Whether a model would load, by its parts. The weights themselves stay unread: whether all are finite numbers shows when they
//! are loaded.

use super::files::{self, CONFIG};
use super::load;
use super::model::BuiltIn;
use super::models;
use super::parts::{self, Info, ModelPart, Stored, folder_part, network, stored};
use crate::nets::vae::{Vae, VaeConfig};
use crate::nets::{Weights, weights};
use anyhow::Result;
use tch::Device;

/// Looks at a built-in model or a model folder.
pub fn info(model: &str) -> Result<Info> {
    if let Some(BuiltIn { config, weights }) = models::find_built_in(model) {
        let stored = weights::stored_within(weights).map(|tensors| (tensors, weights.len() as u64));
        return Ok(own(config, stored, Vec::new()));
    }
    let folder = load::folder(model)?;
    if let Some(layout) = load::layout(folder) {
        return Ok((layout.info)(folder));
    }
    let config = files::read_text(&folder.join(CONFIG))?;
    let stored = files::weights(folder, &[load::WEIGHTS]).and_then(|file| stored(&file));
    let autoencoder =
        || folder_part(folder, load::VAE, &load::VAE_WEIGHTS, |p, json| Vae::new(p, VaeConfig::parse(json)?).map(drop));
    let has_another = models::parse(&config).is_ok_and(|(_, config)| config.is_on_stable_diffusion());
    Ok(own(&config, stored, has_another.then(autoencoder).into_iter().collect()))
}

/// A model of one network, and the parts that its folder holds besides.
fn own(json: &str, stored: Result<Stored>, others: Vec<ModelPart>) -> Info {
    let parsed = models::parse(json);
    let name = parsed.as_ref().map_or("model", |(class, _)| class);
    let vae = || Vae::new(&Weights::shapes().root(), VaeConfig::stable_diffusion());
    let part = network(name, json, stored, |p, json| models::parse(json)?.1.network(p, Device::Cpu, &vae).map(drop));
    let setup = match parsed {
        Ok((_, config)) => {
            let (steps, size) = config.setup();
            Ok(format!("{}, {size} px", parts::steps(steps)))
        }
        Err(e) => Err(format!("{CONFIG}: {e:#}")),
    };
    Info { parts: std::iter::once(part).chain(others).collect(), setup }
}
