//! `star`: student-teacher adaptive reconstruction on latents, after Diff-STAR (Cao & Shen 2024). A Transformer encoder sees the
//! latent patches of a composite, a Transformer decoder denoises the foreground's patches from them by DDIM, and what the
//! autoencoder makes of the change of latents is the change of the picture.
//!
//! Published is the idea; layers, sizes and losses are ours (models/star/README.md). A patch that is hidden from the encoder
//! is attended to by none. Nothing is random but the run's noise.

mod autoencoder;
#[cfg(feature = "train")]
pub mod trainee;
mod transformer;

pub use autoencoder::{Autoencoder, Latents};

use crate::diffusion::{self, Schedule};
use crate::harmonizers::colour::{average, polynomial, signed, statistics, statistics_len, weighted_mean};
use crate::harmonizers::harmonizer::{Harmonizer, ProxyGrid, Run};
use crate::harmonizers::precision::Precision;
use crate::harmonizers::{limits, model};
use crate::nets::vae::Vae;
use crate::nets::{Init, LayerNorm, Linear, Path, embeddings};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};
use transformer::{Layer, places};

/// Every hyper-parameter of the network and of its sampler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StarConfig {
    pub class: String,
    pub latents: Latents,
    /// Latents to a side of a patch.
    pub patch: i64,
    pub channels: i64,
    pub heads: i64,
    pub encoder_layers: i64,
    pub decoder_layers: i64,
    /// Bins of the colour histograms.
    pub bins: i64,
    pub schedule: Schedule,
    pub train_timesteps: usize,
    /// Long side of the proxy in pixels.
    pub proxy_size: u32,
    /// Sampler steps by default.
    pub steps: u32,
}

impl Default for StarConfig {
    fn default() -> Self {
        Self {
            class: "star".into(),
            latents: Latents::Own { channels: 8, features: 64, groups: 8 },
            patch: 2,
            channels: 192,
            heads: 6,
            encoder_layers: 6,
            decoder_layers: 3,
            bins: 8,
            schedule: Schedule::Cosine,
            train_timesteps: 1000,
            proxy_size: 96,
            steps: 1,
        }
    }
}

impl model::ModelConfig for StarConfig {
    fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    fn setup(&self) -> (u32, u32) {
        (self.steps, self.proxy_size)
    }

    fn is_on_stable_diffusion(&self) -> bool {
        self.latents == Latents::StableDiffusion
    }

    fn network(&self, p: &Path, device: Device, vae: &dyn Fn() -> Result<Vae>) -> Result<Arc<dyn Harmonizer>> {
        let autoencoder = match self.latents {
            Latents::Own { channels, features, groups } => Autoencoder::own(p, channels, features, groups)?,
            Latents::StableDiffusion => Autoencoder::StableDiffusion(Box::new(vae()?)),
        };
        Ok(Arc::new(Star::new(p, self.clone(), autoencoder, device)?))
    }
}

const TIME_CHANNELS: i64 = 64;

/// The network: (noisy latents, composite's latents, mask, t) -> the harmonized picture's latents.
#[derive(Debug)]
pub struct Star {
    pub config: StarConfig,
    pub autoencoder: Autoencoder,
    device: Device,
    patch_in: Linear,
    style_in: Linear,
    encoder: Vec<Layer>,
    encoder_norm: LayerNorm,
    to_decoder: Linear,
    hidden: Linear,
    noisy_in: Linear,
    time: Linear,
    decoder: Vec<Layer>,
    decoder_norm: LayerNorm,
    head_patch: Linear,
    head_style: Linear,
    /// The student's guess at the teacher's features.
    guess: Linear,
}

/// What the encoder made of a picture.
pub struct Encoded {
    /// B x (1 + patches) x channels, the first being the style's.
    pub features: Tensor,
    /// B x patches x 1: where the encoder was not let look.
    hidden: Option<Tensor>,
}

impl Star {
    pub fn new(p: &Path, config: StarConfig, autoencoder: Autoencoder, device: Device) -> Result<Self> {
        let StarConfig { patch, channels: c, heads, bins, proxy_size, train_timesteps, steps, .. } = config;
        let layers = [config.encoder_layers, config.decoder_layers];
        ensure!(
            patch > 0 && heads > 0 && bins > 0 && layers.iter().all(|n| (1..=100).contains(n)),
            "patch {patch}, {heads} heads, {bins} bins, {layers:?} layers: each must be at least 1"
        );
        ensure!(c > 0 && c % heads == 0 && c % 4 == 0, "{c} channels must divide by 4 and into {heads} heads");
        limits::proxy_size(proxy_size, 8)?;
        limits::steps(train_timesteps, steps)?;
        let latents = autoencoder.channels();
        let content = latents * patch * patch;
        let linear = |name: &str, channels, init| Linear::new(&p.sub(name), channels, init);
        let stack = |name: &str, n: i64| -> Result<Vec<Layer>> {
            (0..n).map(|i| Layer::new(&p.sub(name).sub(i), c, heads)).collect()
        };
        let norm = |name: &str| LayerNorm::new(&p.sub(name), c, 1e-6);
        let (one, zero) = (Init::FanIn(1.0), Init::Const(0.0));
        Ok(Self {
            device,
            patch_in: linear("patch_in", [content + 1, c], one)?,
            style_in: linear("style_in", [statistics_len(bins), c], one)?,
            encoder: stack("encoder", config.encoder_layers)?,
            encoder_norm: norm("encoder_norm")?,
            to_decoder: linear("to_decoder", [c, c], one)?,
            hidden: linear("hidden", [1, c], one)?,
            noisy_in: linear("noisy_in", [content, c], one)?,
            time: linear("time", [TIME_CHANNELS, c], one)?,
            decoder: stack("decoder", config.decoder_layers)?,
            decoder_norm: norm("decoder_norm")?,
            head_patch: linear("head_patch", [c, content], zero)?,
            head_style: linear("head_style", [c, latents * (latents + 1)], zero)?,
            guess: linear("guess", [c, c], one)?,
            autoencoder,
            config,
        })
    }

    /// Pixels of the proxy to a side of a patch.
    pub fn patch_pixels(&self) -> i64 {
        self.config.patch * self.autoencoder.factor()
    }

    /// B x C x h x w latents to B x patches x (C patch^2).
    pub fn patches(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(latents.f_pixel_unshuffle(self.config.patch)?.f_flatten(2, 3)?.f_transpose(1, 2)?)
    }

    /// Back to latents like `like`.
    fn unpatched(&self, patches: &Tensor, like: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = like.size4()?;
        let (b, _, c) = patches.size3()?;
        let grid = patches.f_transpose(1, 2)?.f_reshape([b, c, h / self.config.patch, w / self.config.patch])?;
        Ok(grid.f_pixel_shuffle(self.config.patch)?)
    }

    /// The mask's share of each patch: B x patches x 1.
    pub fn shares(&self, mask: &Tensor) -> Result<Tensor> {
        Ok(average(mask, self.patch_pixels())?.f_flatten(2, 3)?.f_transpose(1, 2)?)
    }

    /// `latents` of a picture whose colours are `composite` (sRGB in 0..1) and whose foreground is `mask`; the encoder doesn't see
    /// patches that are 1 in `hidden` (B x patches x 1).
    pub fn encode(
        &self,
        latents: &Tensor,
        composite: &Tensor,
        mask: &Tensor,
        hidden: Option<Tensor>,
    ) -> Result<Encoded> {
        let content = Tensor::f_cat(&[self.patches(latents)?, self.shares(mask)?], -1)?;
        let place = places(latents, self.config.patch, self.config.channels)?;
        let patches = self.patch_in.forward(&content)?.f_add(&place)?;
        let statistics = statistics(composite, &polynomial(composite)?, mask, self.config.bins)?;
        let style = self.style_in.forward(&statistics)?.f_unsqueeze(1)?;
        let mut x = Tensor::f_cat(&[style, patches], 1)?;
        let unseen = hidden.as_ref().map(unseen).transpose()?;
        for layer in &self.encoder {
            x = layer.forward(&x, unseen.as_ref())?;
        }
        Ok(Encoded { features: self.encoder_norm.forward(&x)?, hidden })
    }

    /// What the student takes the teacher's features to be.
    pub fn guess(&self, encoded: &Encoded) -> Result<Tensor> {
        self.guess.forward(&encoded.features)
    }

    /// The harmonized picture's latents (x0-prediction) in place of `base`, what is known of them: `noisy` ones at `timesteps`, one a
    /// picture, `encoded` from the composite. Patches without foreground stay.
    pub fn denoise(
        &self,
        noisy: &Tensor,
        timesteps: &[f64],
        encoded: &Encoded,
        base: &Tensor,
        mask: &Tensor,
    ) -> Result<Tensor> {
        let (b, l, h, w) = base.size4()?;
        let time = self.time.forward(&embeddings::timestep(timesteps, TIME_CHANNELS, self.device)?)?.f_unsqueeze(1)?;
        let known = self.to_decoder.forward(&encoded.features)?.f_add(&time)?;
        let style = known.f_narrow(1, 0, 1)?;
        let mut patches = known.f_narrow(1, 1, known.size()[1] - 1)?;
        if let Some(hidden) = &encoded.hidden {
            let instead = self.hidden.forward(&hidden.f_narrow(0, 0, 1)?.f_ones_like()?)?.f_add(&time)?;
            patches = patches.f_lerp_tensor(&instead.f_expand_as(&patches)?, &hidden.f_expand_as(&patches)?)?;
        }
        let place = places(base, self.config.patch, self.config.channels)?;
        let shares = self.shares(mask)?;
        let foreground = shares.f_gt(0.0)?.f_to_kind(Kind::Float)?;
        let noise = self.noisy_in.forward(&self.patches(noisy)?)?.f_mul(&foreground)?;
        let mut x = Tensor::f_cat(&[style, patches.f_add(&noise)?.f_add(&place)?], 1)?;
        for layer in &self.decoder {
            x = layer.forward(&x, None)?;
        }
        let x = self.decoder_norm.forward(&x)?;
        let n = x.size()[1] - 1;
        let own = self.head_patch.forward(&x.f_narrow(1, 1, n)?)?.f_mul(&foreground)?;
        // A map of colours is nearly one of latents: one affine map for the whole foreground, from the style.
        let style = self.head_style.forward(&x.f_select(1, 0)?)?.f_view([b, l, l + 1])?;
        let flat = base.f_reshape([b, l, h * w])?;
        let mapped = style.f_narrow(2, 0, l)?.f_bmm(&flat)?.f_add(&style.f_narrow(2, l, 1)?)?.f_view([b, l, h, w])?;
        let inside = self.unpatched(&foreground.f_expand([b, n, self.config.patch.pow(2)], false)?, base)?;
        Ok(base.f_add(&self.unpatched(&own, base)?)?.f_add(&mapped.f_mul(&inside)?)?)
    }

    /// D, the change of sRGB from the picture with latents `from` to that with latents `to`: what both lose in the autoencoder falls
    /// out.
    pub fn change(&self, from: &Tensor, to: &Tensor) -> Result<Tensor> {
        let change = self.autoencoder.decode(to)?.f_sub(&self.autoencoder.decode(from)?)?;
        Ok(change.f_mul_scalar(0.5)?)
    }

    /// A picture (sRGB in 0..1) whose foreground has lost its mean colour and half of its contrast, the coarse part that tells its
    /// style, and keeps its detail: what reconstruction starts from.
    pub fn without_style(&self, picture: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let mean = weighted_mean(picture, mask)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?;
        let grey = picture.f_sub(&mean)?.f_mul_scalar(0.5)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?;
        Ok(picture.f_lerp_tensor(&grey, &mask.f_expand_as(picture)?)?)
    }
}

/// What to add to similarities so that none attends to patches that are 1 in `hidden`; the style before them is always seen.
fn unseen(hidden: &Tensor) -> Result<Tensor> {
    let hidden = hidden.f_transpose(1, 2)?.f_unsqueeze(1)?.f_mul_scalar(-1e9)?;
    Ok(Tensor::f_cat(&[hidden.f_narrow(-1, 0, 1)?.f_zeros_like()?, hidden], -1)?)
}

impl Harmonizer for Star {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn grid(&self) -> ProxyGrid {
        let multiple = self.patch_pixels() as u32;
        ProxyGrid { long_side: self.config.proxy_size, multiple, cell: 1, crop: false }
    }

    fn harmonize(&self, composite: &Tensor, mask: &Tensor, run: &Run) -> Result<Tensor> {
        let StarConfig { schedule, train_timesteps, steps, .. } = self.config;
        let trained = diffusion::SchedulerConfig::x0(schedule, train_timesteps);
        let latents = self.autoencoder.encode(&signed(composite)?)?;
        let encoded = self.encode(&latents, composite, mask, None)?;
        let harmonized = run.sample(&trained, steps, &latents.size(), self.device, |noisy, timesteps| {
            self.denoise(noisy, timesteps, &encoded, &latents, mask)
        })?;
        let change = self.change(&latents, &harmonized)?.f_mul(mask)?;
        Ok(composite.f_add(&change)?.f_clamp(0.0, 1.0)?)
    }
}
