//! `diffharmony`: Stable Diffusion adapted to harmonization (DiffHarmony, Zhou et al., ICMR 2024), with its refinement network
//! or with the Harmony-VAE of DiffHarmony++ (ACM MM 2024).
//!
//! The network denoises latents z, seeing at each step [z, mask, the composite's latents]; its text is the empty prompt, a
//! constant. Two ways through it: `original`, square and random as published, and that of a stream of frames, which keeps the
//! aspect and takes the posterior's mode, so that nothing but the given noise is random.

mod check;
mod folder;
mod frame;
mod info;
pub mod null_text;

pub use folder::{Decoder, DiffHarmonyConfig, Folder, NetworkPart, Parts};

use crate::diffusion::{self, Sampler, Scheduler, TimestepSpacing};
use crate::harmonizers::colour::signed;
use crate::harmonizers::harmonizer::Sampling;
use crate::harmonizers::model::Layout;
use crate::harmonizers::precision::Precision;
use crate::nets::taesd::{Taesd, TaesdConfig};
use crate::nets::unet_2d::{UNet2DConfig, UNet2DModel};
use crate::nets::unet_2d_condition::{TextContext, TimeContext, UNet2DConditionConfig, UNet2DConditionModel};
use crate::nets::vae::{Vae, VaeConfig};
use crate::nets::{self, Weights};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// What the registry has of it.
pub const LAYOUT: Layout = Layout {
    is_one: Folder::is_one,
    known_by: "its folders unet and vae",
    load: |folder, device, precision, is_given_up| {
        Ok(Arc::new(DiffHarmony::load(folder, device, precision, Parts::ForVideo, is_given_up)?))
    },
    info: info::info,
};

/// Standard normal draws of a shape, one after the other.
pub type Draws<'a> = dyn FnMut(&[i64]) -> Result<Tensor> + 'a;

/// The networks of one folder, on one device.
#[derive(Debug)]
pub struct DiffHarmony {
    folder: Folder,
    device: Device,
    /// Of the weights.
    precision: Precision,
    /// Of the features, where the device computes faster in another than the weights'.
    kind: Kind,
    unet: UNet2DConditionModel,
    text: TextContext,
    /// By their bits.
    times: Mutex<HashMap<u64, Arc<TimeContext>>>,
    vae: Option<Vae>,
    condition_vae: Option<Vae>,
    taesd: Option<Taesd>,
    refinement: Option<UNet2DModel>,
}

/// Composite and mask as the network sees them.
#[derive(Debug)]
pub struct Condition {
    /// The composite's latents, scaled: B x latent channels x h x w.
    pub latents: Tensor,
    /// B x 1 x h x w in {0, 1}.
    pub mask: Tensor,
}

impl DiffHarmony {
    /// Loads `folder`; errors name the part and the tensor that doesn't fit. Between two of its networks it ends with an error if
    /// `is_given_up`.
    pub fn load(
        folder: &Path,
        device: Device,
        precision: Precision,
        parts: Parts,
        is_given_up: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let folder = Folder::open(folder, parts)?;
        let kind = folder::kind(precision, device)?;
        let _no_grad = tch::no_grad_guard();
        let unet = UNet2DConditionConfig::parse(&folder.unet.config).context("unet/config.json")?;
        // The text encoder comes first: its memory is free again before the large network's is taken.
        let text = null_text::read_or_compute(&folder.base, unet.cross_attention_dim)?;
        let load = Loader { device, kind, is_given_up };
        let unet = load.network(&folder.unet, |p, _| UNet2DConditionModel::new(p, unet))?;
        let precision = Precision::of(kind);
        let kind = nets::arithmetic(kind, device);
        let text = unet.text_context(&text.f_to_device(device)?.f_to_kind(kind)?)?;
        let vae = |p: &nets::Path, json: &str| Vae::new(p, VaeConfig::parse(json)?);
        let model = Self {
            vae: load.optional(&folder.vae, vae)?,
            condition_vae: load.optional(&folder.condition_vae, vae)?,
            taesd: load.optional(&folder.taesd, |p, json| Taesd::new(p, TaesdConfig::parse(json)?))?,
            refinement: load.optional(&folder.refinement, |p, json| UNet2DModel::new(p, UNet2DConfig::parse(json)?))?,
            folder,
            device,
            precision,
            kind,
            unet,
            text,
            times: Mutex::default(),
        };
        model.configs().fit()?;
        Ok(model)
    }

    fn configs(&self) -> check::Configs {
        check::Configs {
            unet: Some(self.unet.config.clone()),
            vae: self.vae.as_ref().map(|vae| vae.config.clone()),
            condition_vae: self.condition_vae.as_ref().map(|vae| vae.config.clone()),
            taesd: self.taesd.as_ref().map(|taesd| taesd.config.clone()),
            refinement: self.refinement.as_ref().map(|refinement| refinement.config.clone()),
        }
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The decoders that are loaded, in the order in which they were published.
    pub fn decoders(&self) -> Vec<Decoder> {
        let there = [
            (Decoder::Vae, self.vae.is_some()),
            (Decoder::ConditionVae, self.condition_vae.is_some()),
            (Decoder::Taesd, self.vae.is_some() && self.taesd.is_some()),
        ];
        there.into_iter().filter(|(_, there)| *there).map(|(decoder, _)| decoder).collect()
    }

    /// What encodes the composite for `decoder`: the Harmony-VAE has an encoder of its own.
    fn autoencoder(&self, decoder: Decoder) -> Result<&Vae> {
        let vae = if decoder == Decoder::ConditionVae { &self.condition_vae } else { &self.vae };
        vae.as_ref().with_context(|| format!("what decoder {decoder} needs is not loaded"))
    }

    pub fn has_refinement(&self) -> bool {
        self.refinement.is_some()
    }

    /// The network's sampler with its timesteps spread as each was meant to: Euler's from end to end, DDIM's from the noisiest
    /// on, LCM's as distilled. What `scheduler_config.json` says of that was for another pipeline. Where it says nothing of
    /// clipping and of the last step, latents aren't clipped and DDIM ends at timestep 0, as Stable Diffusion has it.
    fn sampler(&self, scheduler: Scheduler, steps: usize) -> Result<Box<dyn Sampler>> {
        let spacing = match scheduler {
            Scheduler::EulerAncestral | Scheduler::Euler => Some(TimestepSpacing::Linspace),
            Scheduler::Ddim => Some(TimestepSpacing::Trailing),
            Scheduler::Lcm => None,
        };
        let trained = self.folder.scheduler.clone();
        let clip_sample = trained.clip_sample.or(Some(false));
        let set_alpha_to_one = trained.set_alpha_to_one.or(Some(false));
        scheduler.sampler(&diffusion::SchedulerConfig { spacing, clip_sample, set_alpha_to_one, ..trained }, steps)
    }

    /// Timestep `t` as the network sees it, computed once.
    fn time(&self, t: f64) -> Result<Arc<TimeContext>> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(time) = times.get(&t.to_bits()) {
            return Ok(time.clone());
        }
        let time = Arc::new(self.unet.time_embedding(&[t], self.kind, self.device)?);
        times.insert(t.to_bits(), time.clone());
        Ok(time)
    }

    /// From noise to latents, scaled. Samplers that add noise take a draw at every step, as the original does. `check` is
    /// asked before each step, and its error ends the run.
    fn denoise(
        &self,
        start: &Tensor,
        condition: &Condition,
        sampler: &dyn Sampler,
        draws: &mut Draws,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Tensor> {
        let condition = Tensor::f_cat(&[&condition.mask, &condition.latents], 1)?.f_to_kind(self.kind)?;
        let random = sampler.needs_noise(0);
        let mut z = start.f_mul_scalar(sampler.init_noise_sigma())?;
        for (i, &t) in sampler.timesteps().iter().enumerate() {
            check()?;
            let time = self.time(t)?;
            let scaled = z.f_mul_scalar(sampler.scale_model_input(i))?.f_to_kind(self.kind)?;
            let output = self.unet.forward(&Tensor::f_cat(&[&scaled, &condition], 1)?, &time, &self.text)?;
            let draw = random.then(|| draws(&z.size())).transpose()?;
            z = sampler.step(i, &output, &z, draw.as_ref())?;
        }
        Ok(z)
    }

    /// The published pipeline: `composite` B x 3 x H x W in -1..1 and `mask` B x 1 x H x W in {0, 1}, sides multiples of 64, to
    /// the picture in 0..1. Every posterior is sampled: `draws` is asked for what `original_latents` asks for and, by the
    /// Harmony-VAE, for its own posterior.
    pub fn original(
        &self,
        composite: &Tensor,
        mask: &Tensor,
        steps: u32,
        decoder: Decoder,
        draws: &mut Draws,
    ) -> Result<Tensor> {
        let latents = self.original_latents(composite, mask, steps, decoder, draws)?;
        self.decode(&latents, composite, mask, decoder, Some(draws))
    }

    /// The latents that `original` decodes, scaled, the same for all decoders that share an encoder: Euler ancestral (`steps` 0
    /// takes the model's own number). `draws` is asked for the first latents, the composite's posterior, and one a step.
    pub fn original_latents(
        &self,
        composite: &Tensor,
        mask: &Tensor,
        steps: u32,
        decoder: Decoder,
        draws: &mut Draws,
    ) -> Result<Tensor> {
        let (scheduler, steps) = self.folder.sampling(Sampling { scheduler: Some(Scheduler::EulerAncestral), steps });
        let sampler = self.sampler(scheduler, steps)?;
        let vae = self.autoencoder(decoder)?;
        let downscale = vae.config.downscale();
        let (b, _, h, w) = composite.size4()?;
        let start = draws(&[b, vae.config.latent_channels, h / downscale, w / downscale])?;
        let posterior = vae.encode(&composite.f_to_kind(self.kind)?)?;
        let latents = posterior.sample(&draws(&start.size())?.f_to_kind(self.kind)?)?;
        let condition = Condition {
            latents: latents.f_mul_scalar(vae.config.scaling_factor)?,
            mask: mask.f_upsample_nearest2d([h / downscale, w / downscale], None, None)?,
        };
        self.denoise(&start, &condition, &*sampler, draws, &|| Ok(()))
    }

    /// Scaled latents to a picture in 0..1; `composite` and `mask` as `original` has them. Without `draws` the Harmony-VAE takes
    /// its posterior's mode.
    pub fn decode(
        &self,
        latents: &Tensor,
        composite: &Tensor,
        mask: &Tensor,
        decoder: Decoder,
        draws: Option<&mut Draws>,
    ) -> Result<Tensor> {
        let vae = self.autoencoder(decoder)?;
        let z = latents.f_div_scalar(vae.config.scaling_factor)?.f_to_kind(self.kind)?;
        let picture = match decoder {
            Decoder::Vae => vae.decode(&z)?,
            Decoder::Taesd => {
                let taesd = self.taesd.as_ref().context("taesd is not loaded")?;
                taesd.decode(&latents.f_to_kind(self.kind)?)?
            }
            Decoder::ConditionVae => {
                let condition = vae.condition(&composite.f_to_kind(self.kind)?, &mask.f_to_kind(self.kind)?)?;
                let posterior = &condition.posterior;
                let z_condition = match draws {
                    None => posterior.mean.shallow_clone(),
                    Some(draws) => posterior.sample(&draws(&latents.size())?.f_to_kind(self.kind)?)?,
                };
                vae.decode_conditioned(&z, condition, &z_condition)?
            }
        };
        Ok(picture.f_to_kind(Kind::Float)?.f_mul_scalar(0.5)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?)
    }

    /// `harmonized` and `composite` B x 3 x h x w in 0..1 and `mask` B x 1 x h x w, at the refinement's own size, to the refined
    /// picture in 0..1.
    pub fn refine(&self, harmonized: &Tensor, mask: &Tensor, composite: &Tensor) -> Result<Tensor> {
        let refinement = self.refinement.as_ref().context("the folder has no refinement, or it is not loaded")?;
        let input = Tensor::f_cat(&[&signed(harmonized)?, mask, &signed(composite)?], 1)?;
        let input = input.f_narrow(1, 0, refinement.config.in_channels)?.f_to_kind(self.kind)?;
        let picture = refinement.forward(&input)?.f_to_kind(Kind::Float)?;
        Ok(picture.f_clamp(-1.0, 1.0)?.f_mul_scalar(0.5)?.f_add_scalar(0.5)?)
    }
}

struct Loader<'a> {
    device: Device,
    kind: Kind,
    is_given_up: &'a dyn Fn() -> bool,
}

impl Loader<'_> {
    fn network<N>(&self, part: &NetworkPart, new: impl FnOnce(&nets::Path, &str) -> Result<N>) -> Result<N> {
        ensure!(!(self.is_given_up)(), "loading was given up");
        let load = || {
            let weights = Weights::open(&part.weights, self.device, self.kind)?;
            let network = new(&weights.root(), &part.config)?;
            weights.finish()?;
            Ok(network)
        };
        let network: Result<N> = load();
        network.with_context(|| part.name)
    }

    fn optional<N>(
        &self,
        part: &Option<NetworkPart>,
        new: impl FnOnce(&nets::Path, &str) -> Result<N>,
    ) -> Result<Option<N>> {
        part.as_ref().map(|part| self.network(part, new)).transpose()
    }
}
