//! The models of this project, each one network in one safetensors file, by the `class` of their configuration.

use super::compact::{self, Compact};
use super::gift::{self, Gift};
use super::lite0::{self, Lite0};
use super::star::{self, Autoencoder, Latents, Star};
use super::{Harmonizer, files, parts};
use crate::nets::vae::{Vae, VaeConfig};
use crate::nets::{Path, Weights};
use anyhow::{Context, Result, bail};
use std::sync::Arc;
use tch::{Device, Kind};

/// A configuration of one of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    Compact(compact::Config),
    Lite0(lite0::Config),
    Gift(gift::Config),
    Star(star::Config),
}

/// Where the folder of a model on Stable Diffusion's latents has its autoencoder.
pub const VAE: &str = "vae";

impl Config {
    pub const CLASSES: [&str; 4] = ["compact", "lite0", "gift", "star"];

    /// From a `config.json` that is none of diffharmony's.
    pub fn parse(json: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Class {
            class: String,
        }
        let class = serde_json::from_str::<Class>(json)?.class;
        Ok(match &*class {
            "compact" => Self::Compact(serde_json::from_str(json)?),
            "lite0" => Self::Lite0(serde_json::from_str(json)?),
            "gift" => Self::Gift(serde_json::from_str(json)?),
            "star" => Self::Star(serde_json::from_str(json)?),
            _ => bail!(
                "it asks for class {class:?}: this plugin knows {}, and diffharmony by its folders unet and vae",
                Self::CLASSES.join(", ")
            ),
        })
    }

    /// A `config.json`.
    pub fn to_json(&self) -> Result<String> {
        Ok(match self {
            Self::Compact(config) => serde_json::to_string_pretty(config)?,
            Self::Lite0(config) => serde_json::to_string_pretty(config)?,
            Self::Gift(config) => serde_json::to_string_pretty(config)?,
            Self::Star(config) => serde_json::to_string_pretty(config)?,
        })
    }

    pub fn class(&self) -> &str {
        match self {
            Self::Compact(config) => &config.class,
            Self::Lite0(config) => &config.class,
            Self::Gift(config) => &config.class,
            Self::Star(config) => &config.class,
        }
    }

    /// Steps and size, for people.
    pub fn setup(&self) -> String {
        let (steps, size) = match self {
            Self::Compact(config) => (config.steps, config.proxy_size),
            Self::Lite0(config) => (config.steps, config.proxy_size),
            Self::Gift(config) => (1, config.proxy_size),
            Self::Star(config) => (config.steps, config.proxy_size),
        };
        format!("{}, {size} px", parts::steps(steps))
    }

    /// The network of the parameters at `p`; `vae` is asked where it works on Stable Diffusion's latents.
    pub fn network(self, p: &Path, device: Device, vae: &dyn Fn() -> Result<Vae>) -> Result<Arc<dyn Harmonizer>> {
        Ok(match self {
            Self::Compact(config) => Arc::new(Compact::new(p, config, device)?),
            Self::Lite0(config) => Arc::new(Lite0::new(p, config, device)?),
            Self::Gift(config) => Arc::new(Gift::new(p, config)?),
            Self::Star(config) => {
                let autoencoder = match config.latents {
                    Latents::Own { channels, features, groups } => Autoencoder::own(p, channels, features, groups)?,
                    Latents::StableDiffusion => Autoencoder::StableDiffusion(Box::new(vae().context(VAE)?)),
                };
                Arc::new(Star::new(p, config, autoencoder, device)?)
            }
        })
    }
}

/// The autoencoder in `vae/` of a model folder.
pub fn vae(folder: &std::path::Path, device: Device) -> Result<Vae> {
    let folder = folder.join(VAE);
    let config = VaeConfig::parse(&files::read_text(&folder.join(files::CONFIG))?).context(files::CONFIG)?;
    let file = files::weights(&folder, &["diffusion_pytorch_model.safetensors"])?;
    let weights = Weights::open(&file, device, Kind::Float)?;
    let vae = Vae::new(&weights.root(), config)?;
    weights.finish()?;
    Ok(vae)
}
