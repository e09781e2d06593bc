//! `compact`: a small conditional diffusion U-Net that predicts how the foreground's colours are to change.
//!
//! The diffusion variable is x = `residual_scale` * M * D, D the change of sRGB from composite to harmonized picture; the
//! network answers a noisy x with D itself (x0-prediction), as the sum of a global polynomial colour map, a coarse grid of
//! affine maps and a residual. Its features see the picture at half the proxy's size; statistics of foreground and
//! background (moments, histograms, pooled features) reach every block through the embedding.

#[cfg(feature = "train")]
pub mod trainee;

use crate::diffusion::{self, Schedule};
use crate::harmonizers::colour::{
    POLYNOMIAL, average, map_globally, map_locally, polynomial, pooled, signed, statistics, statistics_len, upsample,
};
use crate::harmonizers::harmonizer::{Harmonizer, ProxyGrid, Run};
use crate::harmonizers::precision::Precision;
use crate::harmonizers::{limits, model};
use crate::nets::vae::Vae;
use crate::nets::weights::channels_last;
use crate::nets::{Conv2d, Init, Linear, Path, ResnetBlock, SelfAttention, embeddings};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Every hyper-parameter of the network and of its sampler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompactConfig {
    pub class: String,
    /// Feature channels at 1/2, 1/4 and 1/8 of the proxy.
    pub channels: [i64; 3],
    pub emb_channels: i64,
    pub groups: i64,
    pub heads: i64,
    /// Bins of the colour histograms.
    pub bins: i64,
    pub schedule: Schedule,
    pub train_timesteps: usize,
    pub residual_scale: f64,
    /// Long side of the proxy in pixels.
    pub proxy_size: u32,
    /// Sampler steps by default.
    pub steps: u32,
}

impl Default for CompactConfig {
    fn default() -> Self {
        Self {
            class: "compact".into(),
            channels: [64, 128, 192],
            emb_channels: 256,
            groups: 8,
            heads: 4,
            bins: 8,
            schedule: Schedule::Cosine,
            train_timesteps: 1000,
            residual_scale: 4.0,
            proxy_size: 96,
            steps: 1,
        }
    }
}

impl model::ModelConfig for CompactConfig {
    fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    fn setup(&self) -> (u32, u32) {
        (self.steps, self.proxy_size)
    }

    fn network(&self, p: &Path, device: Device, _: &dyn Fn() -> Result<Vae>) -> Result<Arc<dyn Harmonizer>> {
        Ok(Arc::new(Compact::new(p, self.clone(), device)?))
    }
}

/// Both sides of a proxy are multiples of this: three halvings.
const MULTIPLE: u32 = 8;
const TIME_CHANNELS: i64 = 64;

/// The network: (x, composite, mask, t) -> D.
#[derive(Debug)]
pub struct Compact {
    pub config: CompactConfig,
    device: Device,
    time: Linear,
    colour: Linear,
    emb: Linear,
    conv_in: Conv2d,
    down: [ResnetBlock; 2],
    downsample: [Conv2d; 2],
    mid: [ResnetBlock; 2],
    attention: SelfAttention,
    pooled: Linear,
    pooled_out: Linear,
    lateral: [Conv2d; 2],
    up: [ResnetBlock; 2],
    head_global: Linear,
    head_local: Conv2d,
    head_residual: Conv2d,
}

impl Compact {
    pub fn new(p: &Path, config: CompactConfig, device: Device) -> Result<Self> {
        let CompactConfig { channels: [c0, c1, c2], emb_channels: e, groups, heads, bins, .. } = config;
        limits::unet(config.channels, &[c2], groups, heads, bins)?;
        limits::proxy_size(config.proxy_size, 8)?;
        limits::steps(config.train_timesteps, config.steps)?;
        limits::residual_scale(config.residual_scale)?;
        let zero = Init::Const(0.0);
        let conv =
            |name: &str, channels, kernel, stride, init| Conv2d::new(&p.sub(name), channels, kernel, stride, init);
        let linear = |name: &str, channels, init| Linear::new(&p.sub(name), channels, init);
        let block = |name: &str, channels| ResnetBlock::new(&p.sub(name), channels, e, groups);
        Ok(Self {
            device,
            time: linear("time", [TIME_CHANNELS, e], Init::FanIn(1.0))?,
            colour: linear("colour", [statistics_len(bins), e], Init::FanIn(1.0))?,
            emb: linear("emb", [e, e], Init::FanIn(1.7))?,
            conv_in: conv("conv_in", [4 * 7, c0], 3, 1, Init::FanIn(1.7))?,
            down: [block("down.0", c0)?, block("down.1", c1)?],
            downsample: [
                conv("downsample.0", [c0, c1], 3, 2, Init::FanIn(1.0))?,
                conv("downsample.1", [c1, c2], 3, 2, Init::FanIn(1.0))?,
            ],
            mid: [block("mid.0", c2)?, block("mid.1", c2)?],
            attention: SelfAttention::new(&p.sub("attention"), c2, heads, groups)?,
            pooled: linear("pooled", [4 * (c0 + c1 + c2), e], Init::FanIn(1.0))?,
            pooled_out: linear("pooled_out", [e, e], Init::FanIn(1.0))?,
            lateral: [
                conv("lateral.0", [c1, c0], 1, 1, Init::FanIn(1.0))?,
                conv("lateral.1", [c2, c1], 1, 1, Init::FanIn(1.0))?,
            ],
            up: [block("up.0", c0)?, block("up.1", c1)?],
            head_global: linear("head_global", [e, 3 * POLYNOMIAL], zero)?,
            head_local: conv("head_local", [c1, 12], 3, 1, zero)?,
            head_residual: conv("head_residual", [c0, 12], 3, 1, zero)?,
            config,
        })
    }

    /// `x` and `composite` (sRGB in 0..1) are B x 3 x h x w, `mask` B x 1 x h x w in 0..1, one timestep each; h and w multiples
    /// of 8. Returns D in f32; features are computed in `kind`.
    pub fn forward(
        &self,
        x: &Tensor,
        composite: &Tensor,
        mask: &Tensor,
        timesteps: &[f64],
        kind: Kind,
    ) -> Result<Tensor> {
        let polynomial = polynomial(composite)?;
        let statistics = statistics(composite, &polynomial, mask, self.config.bins)?;
        let time = embeddings::timestep(timesteps, TIME_CHANNELS, self.device)?;
        let emb = self.time.forward(&time)?.f_add(&self.colour.forward(&statistics)?)?.f_silu()?;
        let emb = self.emb.forward(&emb)?;
        let encoder_emb = emb.f_silu()?.f_to_kind(kind)?;

        let colours = signed(composite)?;
        let input = Tensor::f_cat(&[x.f_mul(mask)?, colours.shallow_clone(), mask.shallow_clone()], 1)?;
        let input = channels_last(&input.f_pixel_unshuffle(2)?.f_to_kind(kind)?)?;
        let h0 = self.down[0].forward(&self.conv_in.forward(&input)?, &encoder_emb)?;
        let h1 = self.down[1].forward(&self.downsample[0].forward(&h0)?, &encoder_emb)?;
        let h2 = self.mid[0].forward(&self.downsample[1].forward(&h1)?, &encoder_emb)?;
        let h2 = self.attention.forward(&h2)?;

        let levels = [&h0, &h1, &h2].into_iter().enumerate();
        let levels: Vec<_> =
            levels.map(|(level, features)| pooled(features, &average(mask, 2 << level)?)).collect::<Result<_>>()?;
        let pooled = self.pooled.forward(&Tensor::f_cat(&levels, 1)?)?.f_silu()?;
        let emb = emb.f_add(&self.pooled_out.forward(&pooled)?)?.f_silu()?;
        let decoder_emb = emb.f_to_kind(kind)?;

        let h2 = self.mid[1].forward(&h2, &decoder_emb)?;
        let h1 = self.up[1].forward(&upsample(&self.lateral[1].forward(&h2)?)?.f_add(&h1)?, &decoder_emb)?;
        let h0 = self.up[0].forward(&upsample(&self.lateral[0].forward(&h1)?)?.f_add(&h0)?, &decoder_emb)?;

        let global = map_globally(&self.head_global.forward(&emb)?, &polynomial)?;
        let local = map_locally(&self.head_local.forward(&h1.f_silu()?)?, &colours)?;
        let residual = self.head_residual.forward(&h0.f_silu()?)?.f_to_kind(Kind::Float)?.f_pixel_shuffle(2)?;
        Ok(global.f_add(&local)?.f_add(&residual)?)
    }
}

impl Harmonizer for Compact {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn grid(&self) -> ProxyGrid {
        ProxyGrid { long_side: self.config.proxy_size, multiple: MULTIPLE, cell: 1, crop: false }
    }

    fn harmonize(&self, composite: &Tensor, mask: &Tensor, run: &Run) -> Result<Tensor> {
        let CompactConfig { schedule, train_timesteps, residual_scale, steps, .. } = self.config;
        let trained = diffusion::SchedulerConfig::x0(schedule, train_timesteps);
        let change = run.sample(&trained, steps, &composite.size(), self.device, |x, timesteps| {
            let change = self.forward(x, composite, mask, timesteps, Kind::Float)?;
            Ok(change.f_mul(mask)?.f_mul_scalar(residual_scale)?)
        })?;
        let change = change.f_div_scalar(residual_scale)?;
        Ok(composite.f_add(&change)?.f_clamp(0.0, 1.0)?)
    }
}
