//! Where the parts of a DiffHarmony model lie: the released layout (`base/`, `refinement/`, `condition_vae/`) or a plain
//! diffusers folder, and what the folder's own `config.json` says about their use.

use crate::diffusion::{self, Scheduler};
use crate::harmonizers::files::{self, CONFIG};
use crate::harmonizers::harmonizer::Sampling;
use crate::harmonizers::precision::Precision;
use crate::nets::arithmetic;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

pub const WEIGHTS: [&str; 2] = ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"];

/// Which of a folder's networks to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// What the folder's decoder needs.
    ForVideo,
    /// Every decoder, and the refinement.
    All,
}

/// What makes a picture of latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoder {
    /// Stable Diffusion's own autoencoder, followed by the refinement network where the folder has one: DiffHarmony.
    Vae,
    /// The Harmony-VAE: DiffHarmony++.
    ConditionVae,
    /// A small distilled decoder, for speed.
    Taesd,
}

impl Decoder {
    /// Whether the network in the folder `part` has a share in the picture.
    pub fn uses(self, part: &str) -> bool {
        match part {
            "vae" => self != Self::ConditionVae,
            "condition_vae" => self == Self::ConditionVae,
            "taesd" => self == Self::Taesd,
            "refinement" => self == Self::Vae,
            _ => true,
        }
    }
}

impl Display for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Vae => "vae",
            Self::ConditionVae => "condition_vae",
            Self::Taesd => "taesd",
        })
    }
}

/// The `config.json` beside the parts. A folder as it was downloaded has none: everything has a default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffHarmonyConfig {
    pub class: String,
    /// Long side in pixels at which the network works.
    pub size: u32,
    pub steps: u32,
    /// For video; the original is `euler-ancestral`.
    pub sampler: String,
    /// None: the Harmony-VAE where the folder has one.
    pub decoder: Option<Decoder>,
    /// Whether small foregrounds are worked on in a crop around them.
    pub crop: bool,
}

impl Default for DiffHarmonyConfig {
    fn default() -> Self {
        Self { class: "diffharmony".into(), size: 512, steps: 5, sampler: "ddim".into(), decoder: None, crop: true }
    }
}

/// One network: its configuration's text and its weights' file.
#[derive(Clone, Debug)]
pub struct NetworkPart {
    /// What the folder calls it.
    pub name: &'static str,
    pub config: String,
    pub weights: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Folder {
    pub config: DiffHarmonyConfig,
    pub sampler: Scheduler,
    pub decoder: Decoder,
    /// Holds the `unet` and what else comes from Stable Diffusion.
    pub base: PathBuf,
    pub scheduler: diffusion::SchedulerConfig,
    pub unet: NetworkPart,
    /// The others as far as they are to be loaded.
    pub vae: Option<NetworkPart>,
    pub condition_vae: Option<NetworkPart>,
    pub refinement: Option<NetworkPart>,
    pub taesd: Option<NetworkPart>,
}

impl Folder {
    /// Whether `folder` looks like one of these.
    pub fn is_one(folder: &Path) -> bool {
        Self::base(folder).join("unet").is_dir()
    }

    /// Where in `folder` the `unet` lies, if it is one of these.
    pub fn base(folder: &Path) -> PathBuf {
        match folder.join(files::BASE) {
            base if base.is_dir() => base,
            _ => folder.to_owned(),
        }
    }

    /// What the folder asks for, and the decoder that it means.
    pub fn config(folder: &Path) -> Result<(DiffHarmonyConfig, Decoder)> {
        let config = match folder.join(CONFIG) {
            file if file.exists() => config(&file)?,
            _ => DiffHarmonyConfig::default(),
        };
        let decoder = config.decoder.unwrap_or(match is_there(folder, "condition_vae") {
            true => Decoder::ConditionVae,
            false => Decoder::Vae,
        });
        Ok((config, decoder))
    }

    /// Finds `parts` and reads their configurations; weights stay unread. What else there is may be broken.
    pub fn open(folder: &Path, parts: Parts) -> Result<Self> {
        let base = Self::base(folder);
        let (config, decoder) = Self::config(folder)?;
        let sampler = config.sampler.parse().context(CONFIG)?;
        let scheduler = base.join("scheduler").join("scheduler_config.json");
        let scheduler = diffusion::SchedulerConfig::from_json(&files::read_text(&scheduler)?)
            .with_context(|| scheduler.display().to_string())?;
        let there = decoder == Decoder::Vae || is_there(folder, &decoder.to_string());
        ensure!(there, "{CONFIG} asks for decoder {decoder}, and there is no folder {decoder}");
        let optional = |parent: &Path, name| {
            // The refinement alone may be left out by a decoder that uses it.
            let needed = decoder.uses(name) && name != "refinement";
            let wanted = decoder.uses(name) || parts == Parts::All;
            (needed || wanted && is_there(parent, name)).then(|| part(parent, name)).transpose()
        };
        Ok(Self {
            unet: part(&base, "unet")?,
            vae: optional(&base, "vae")?,
            condition_vae: optional(folder, "condition_vae")?,
            refinement: optional(folder, "refinement")?,
            taesd: optional(folder, "taesd")?,
            config,
            sampler,
            decoder,
            base,
            scheduler,
        })
    }

    /// What is left open in `sampling`, as the folder's configuration has it.
    pub fn sampling(&self, sampling: Sampling) -> (Scheduler, usize) {
        let steps = if sampling.steps == 0 { self.config.steps } else { sampling.steps };
        (sampling.scheduler.unwrap_or(self.sampler), steps as usize)
    }
}

/// Whether there is something by that name: a link to nowhere is a mistake, not a part that isn't there.
pub fn is_there(parent: &Path, name: &str) -> bool {
    parent.join(name).symlink_metadata().is_ok()
}

fn config(file: &Path) -> Result<DiffHarmonyConfig> {
    let read = || -> Result<DiffHarmonyConfig> {
        let config: DiffHarmonyConfig = serde_json::from_str(&files::read_text(file)?)?;
        let DiffHarmonyConfig { class, size, steps, .. } = &config;
        ensure!(class == "diffharmony", "class is {class:?}, and the folder's parts are those of diffharmony");
        ensure!((64..=4096).contains(size), "size {size} is not within 64 to 4096");
        ensure!((1..=1000).contains(steps), "steps {steps} is not within 1 to 1000");
        Ok(config)
    };
    read().with_context(|| file.display().to_string())
}

fn part(parent: &Path, name: &'static str) -> Result<NetworkPart> {
    let folder = parent.join(name);
    Ok(NetworkPart {
        name,
        config: files::read_text(&folder.join(CONFIG))?,
        weights: files::weights(&folder, &WEIGHTS)?,
    })
}

/// The kind that `precision` means on `device`.
pub fn kind(precision: Precision, device: Device) -> Result<Kind> {
    Ok(match precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::F16 => {
            ensure!(
                device != Device::Cpu,
                "precision f16 is a thousand times slower than f32 on a CPU: take bf16 or f32"
            );
            Kind::Half
        }
        // Half the memory, and half the accuracy, only where it is faster.
        Precision::Auto if arithmetic(Kind::BFloat16, device) == Kind::BFloat16 => Kind::BFloat16,
        Precision::Auto => Kind::Float,
    })
}
