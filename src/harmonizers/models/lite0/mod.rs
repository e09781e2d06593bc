//! `lite0`: a conditional diffusion whose encoder knows what things are, an EfficientNet-Lite0 pretrained on ImageNet.
//!
//! The diffusion variable is x = `residual_scale` * M * D, D the change of sRGB from composite to harmonized picture, as in
//! `compact`. The encoder sees composite and mask once; a small U-Net answers each noisy x with D itself (x0-prediction), as the sum
//! of a global polynomial colour map, a coarse grid of affine maps, a residual, and of two proposals as far as it believes
//! them: the foreground with the mean and deviation of the whole background's colours, and of those of a ring around it. Cells
//! of the foreground attend to those of the background. Beside D it says how large it takes its own error to be.

#[cfg(feature = "train")]
pub mod trainee;

use crate::diffusion::{self, Schedule};
use crate::harmonizers::colour::{
    POLYNOMIAL, average, complement, map_globally, map_locally, moments, polynomial, pooled, signed, statistics,
    statistics_len, upsample_to,
};
use crate::harmonizers::harmonizer::{Harmonizer, ProxyGrid, Run};
use crate::harmonizers::precision::Precision;
use crate::harmonizers::{limits, model};
use crate::nets::efficientnet::{CHANNELS, EfficientNetLite0, HALVINGS};
use crate::nets::vae::Vae;
use crate::nets::weights::channels_last;
use crate::nets::{Conv2d, GroupNorm, Init, Linear, Path, ResnetBlock, SelfAttention, embeddings};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Every hyper-parameter of the network and of its sampler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lite0Config {
    pub class: String,
    /// Channels of the U-Net at 1/4, 1/8 and 1/16 of the proxy.
    pub channels: [i64; 3],
    pub emb_channels: i64,
    pub groups: i64,
    pub heads: i64,
    /// Bins of the colour histograms.
    pub bins: i64,
    pub schedule: Schedule,
    pub train_timesteps: usize,
    pub residual_scale: f64,
    /// How much its own error counts against a change: of a change of mean square d that is expected to be off by e, d / (d +
    /// caution e) is made. 0 makes all of it.
    pub caution: f64,
    /// Long side of the proxy in pixels.
    pub proxy_size: u32,
    /// Sampler steps by default.
    pub steps: u32,
}

impl Default for Lite0Config {
    fn default() -> Self {
        Self {
            class: "lite0".into(),
            channels: [64, 128, 192],
            emb_channels: 256,
            groups: 8,
            heads: 4,
            bins: 8,
            schedule: Schedule::Cosine,
            train_timesteps: 1000,
            residual_scale: 4.0,
            caution: 0.0,
            proxy_size: 128,
            steps: 1,
        }
    }
}

impl model::ModelConfig for Lite0Config {
    fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    fn setup(&self) -> (u32, u32) {
        (self.steps, self.proxy_size)
    }

    fn network(&self, p: &Path, device: Device, _: &dyn Fn() -> Result<Vae>) -> Result<Arc<dyn Harmonizer>> {
        Ok(Arc::new(Lite0::new(p, self.clone(), device)?))
    }
}

/// Both sides of a proxy are multiples of this. Coarser levels are cut off at the right and below.
const MULTIPLE: u32 = 8;
const TIME_CHANNELS: i64 = 64;
/// Pixels to a side of the U-Net's finest cells.
const CELL: i64 = 4;
const PROPOSALS: i64 = 2;
/// The ring around the foreground, in parts of the proxy's long side.
const RING: i64 = 16;
/// Ratio of deviations that a proposal may ask for.
const CONTRAST: [f64; 2] = [0.4, 2.5];

/// The network: (composite, mask) -> [`Scene`], (scene, x, t) -> [`Answer`].
#[derive(Debug)]
pub struct Lite0 {
    pub config: Lite0Config,
    device: Device,
    encoder: EfficientNetLite0,
    norms: [GroupNorm; 4],
    laterals: [Conv2d; 4],
    time: Linear,
    colour: Linear,
    seen: Linear,
    emb: Linear,
    conv_in: Conv2d,
    conv_x: Conv2d,
    down: [ResnetBlock; 2],
    downsample: [Conv2d; 2],
    mid: [ResnetBlock; 2],
    attention: [SelfAttention; 2],
    pooled: Linear,
    pooled_out: Linear,
    lateral: [Conv2d; 2],
    up: [ResnetBlock; 2],
    head_global: Linear,
    head_gates: Linear,
    head_error: Linear,
    head_local: Conv2d,
    head_residual: Conv2d,
}

/// What is known of a composite before there is any x.
#[derive(Debug)]
pub struct Scene {
    colours: Tensor,
    polynomial: Tensor,
    proposals: [Tensor; PROPOSALS as usize],
    mask: Tensor,
    /// The foreground's share of each cell, at the encoder's scales.
    shares: Vec<Tensor>,
    emb: Tensor,
    input: Tensor,
    levels: [Tensor; 3],
}

#[derive(Debug)]
pub struct Answer {
    /// D, B x 3 x h x w, f32.
    pub change: Tensor,
    /// Natural logarithm of the mean squared error that it expects of D in the foreground, sRGB in 0..1, B x 1, f32.
    pub log_error: Tensor,
}

impl Lite0 {
    pub fn new(p: &Path, config: Lite0Config, device: Device) -> Result<Self> {
        let Lite0Config { channels: [c0, c1, c2], emb_channels: e, groups, heads, bins, .. } = config;
        limits::unet(config.channels, &[c1, c2], groups, heads, bins)?;
        limits::proxy_size(config.proxy_size, 8)?;
        limits::steps(config.train_timesteps, config.steps)?;
        limits::residual_scale(config.residual_scale)?;
        let caution = config.caution;
        ensure!(caution.is_finite() && caution >= 0.0, "caution {caution} is below 0");
        let zero = Init::Const(0.0);
        let conv =
            |name: &str, channels, kernel, stride, init| Conv2d::new(&p.sub(name), channels, kernel, stride, init);
        let linear = |name: &str, channels, init| Linear::new(&p.sub(name), channels, init);
        let block = |name: &str, channels| ResnetBlock::new(&p.sub(name), channels, e, groups);
        let norm = |i: usize| GroupNorm::new(&p.sub(format!("norms.{i}")), groups, CHANNELS[i], 1e-5);
        let lateral = |i: usize, out| conv(&format!("laterals.{i}"), [CHANNELS[i], out], 1, 1, Init::FanIn(1.0));
        let attention = |name: &str, channels| SelfAttention::new(&p.sub(name), channels, heads, groups);
        let known = statistics_len(bins) + 6 * PROPOSALS;
        let pixels = CELL * CELL;
        Ok(Self {
            device,
            encoder: EfficientNetLite0::new(&p.sub("efficientnet"))?,
            norms: [norm(0)?, norm(1)?, norm(2)?, norm(3)?],
            laterals: [lateral(0, c0)?, lateral(1, c1)?, lateral(2, c2)?, lateral(3, c2)?],
            time: linear("time", [TIME_CHANNELS, e], Init::FanIn(1.0))?,
            colour: linear("colour", [known, e], Init::FanIn(1.0))?,
            seen: linear("seen", [4 * CHANNELS.iter().sum::<i64>(), e], Init::FanIn(1.0))?,
            emb: linear("emb", [e, e], Init::FanIn(1.7))?,
            conv_in: conv("conv_in", [4 * pixels + 3 * PROPOSALS, c0], 3, 1, Init::FanIn(1.0))?,
            conv_x: conv("conv_x", [3 * pixels, c0], 3, 1, Init::FanIn(1.0))?,
            down: [block("down.0", c0)?, block("down.1", c1)?],
            downsample: [
                conv("downsample.0", [c0, c1], 3, 2, Init::FanIn(1.0))?,
                conv("downsample.1", [c1, c2], 3, 2, Init::FanIn(1.0))?,
            ],
            mid: [block("mid.0", c2)?, block("mid.1", c2)?],
            attention: [attention("attention.0", c1)?, attention("attention.1", c2)?],
            pooled: linear("pooled", [4 * (c0 + c1 + c2), e], Init::FanIn(1.0))?,
            pooled_out: linear("pooled_out", [e, e], Init::FanIn(1.0))?,
            lateral: [
                conv("lateral.0", [c1, c0], 1, 1, Init::FanIn(1.0))?,
                conv("lateral.1", [c2, c1], 1, 1, Init::FanIn(1.0))?,
            ],
            up: [block("up.0", c0)?, block("up.1", c1)?],
            head_global: linear("head_global", [e, 3 * POLYNOMIAL], zero)?,
            head_gates: linear("head_gates", [e, PROPOSALS], zero)?,
            head_error: linear("head_error", [e, 1], zero)?,
            head_local: conv("head_local", [c1, 12 + PROPOSALS], 3, 1, zero)?,
            head_residual: conv("head_residual", [c0, 3 * pixels], 3, 1, zero)?,
            config,
        })
    }

    /// `composite` (sRGB in 0..1) is B x 3 x h x w, `mask` B x 1 x h x w in 0..1; h and w multiples of 8. Features are computed in `kind`.
    pub fn look(&self, composite: &Tensor, mask: &Tensor, kind: Kind) -> Result<Scene> {
        let polynomial = polynomial(composite)?;
        let background = complement(mask)?;
        let proposals = [proposal(composite, mask, &background)?, proposal(composite, mask, &ring(mask)?)?];
        let mut known = vec![statistics(composite, &polynomial, mask, self.config.bins)?];
        for proposal in &proposals {
            known.extend(moments(proposal, mask)?);
        }

        let picture = channels_last(&composite.f_to_kind(kind)?)?;
        let levels = self.encoder.forward(&picture, &channels_last(&mask.f_to_kind(kind)?)?)?;
        let shares = HALVINGS.iter().map(|&n| average(mask, 1 << n)).collect::<Result<Vec<_>>>()?;
        let mut seen = Vec::new();
        let mut features = Vec::new();
        for (i, level) in levels.iter().enumerate() {
            let level = self.norms[i].forward(level)?;
            seen.push(pooled(&level, &shares[i])?);
            features.push(self.laterals[i].forward(&level)?);
        }
        let emb = self.colour.forward(&Tensor::f_cat(&known, 1)?)?;
        let emb = emb.f_add(&self.seen.forward(&Tensor::f_cat(&seen, 1)?)?)?;

        let colours = signed(composite)?;
        let mut input = vec![Tensor::f_cat(&[&colours, mask], 1)?.f_pixel_unshuffle(CELL)?];
        for proposal in &proposals {
            input.push(average(proposal, CELL)?);
        }
        let input = channels_last(&Tensor::f_cat(&input, 1)?.f_to_kind(kind)?)?;
        let [f0, f1, f2] = [&features[0], &features[1], &features[2]].map(Tensor::shallow_clone);
        let coarsest = upsample_to(&features[3], &f2)?;
        let input = self.conv_in.forward(&input)?.f_add(&f0)?;
        let levels = [f0, f1, f2.f_add(&coarsest)?];
        Ok(Scene { colours, polynomial, proposals, mask: mask.shallow_clone(), shares, emb, input, levels })
    }

    /// `x` is B x 3 x h x w, one timestep each.
    pub fn answer(&self, scene: &Scene, x: &Tensor, timesteps: &[f64], kind: Kind) -> Result<Answer> {
        let time = embeddings::timestep(timesteps, TIME_CHANNELS, self.device)?;
        let emb = self.emb.forward(&self.time.forward(&time)?.f_add(&scene.emb)?.f_silu()?)?;
        let encoder_emb = emb.f_silu()?.f_to_kind(kind)?;

        let x = channels_last(&x.f_mul(&scene.mask)?.f_pixel_unshuffle(CELL)?.f_to_kind(kind)?)?;
        let h0 = self.down[0].forward(&self.conv_x.forward(&x)?.f_add(&scene.input)?, &encoder_emb)?;
        let h1 = self.downsample[0].forward(&h0)?.f_add(&scene.levels[1])?;
        let h1 = self.down[1].forward(&h1, &encoder_emb)?;
        let h2 = self.downsample[1].forward(&h1)?.f_add(&scene.levels[2])?;
        let h2 = self.mid[0].forward(&h2, &encoder_emb)?;
        let h2 = self.attention[1].forward_to(&h2, &complement(&scene.shares[2])?)?;

        let levels = [&h0, &h1, &h2].into_iter().zip(&scene.shares);
        let levels: Vec<_> = levels.map(|(features, share)| pooled(features, share)).collect::<Result<_>>()?;
        let pooled = self.pooled.forward(&Tensor::f_cat(&levels, 1)?)?.f_silu()?;
        let emb = emb.f_add(&self.pooled_out.forward(&pooled)?)?.f_silu()?;
        let decoder_emb = emb.f_to_kind(kind)?;

        let h2 = self.mid[1].forward(&h2, &decoder_emb)?;
        let h1 = upsample_to(&self.lateral[1].forward(&h2)?, &h1)?.f_add(&h1)?;
        let h1 = self.attention[0].forward_to(&h1, &complement(&scene.shares[1])?)?;
        let h1 = self.up[1].forward(&h1, &decoder_emb)?;
        let h0 = upsample_to(&self.lateral[0].forward(&h1)?, &h0)?.f_add(&h0)?;
        let h0 = self.up[0].forward(&h0, &decoder_emb)?;

        let global = map_globally(&self.head_global.forward(&emb)?, &scene.polynomial)?;
        let local = self.head_local.forward(&h1.f_silu()?)?.f_to_kind(Kind::Float)?;
        let affine = map_locally(&local.f_narrow(1, 0, 12)?, &scene.colours)?;
        let residual = self.head_residual.forward(&h0.f_silu()?)?.f_to_kind(Kind::Float)?.f_pixel_shuffle(CELL)?;
        let mut change = global.f_add(&affine)?.f_add(&residual)?;
        let (_, _, h, w) = change.size4()?;
        let gates = local.f_narrow(1, 12, PROPOSALS)?.f_upsample_bilinear2d([h, w], false, None, None)?;
        let gates = gates.f_add(&self.head_gates.forward(&emb)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?;
        for (i, proposal) in (0..).zip(&scene.proposals) {
            change = change.f_add(&proposal.f_mul(&gates.f_narrow(1, i, 1)?)?)?;
        }
        Ok(Answer { change, log_error: self.head_error.forward(&emb)? })
    }
}

impl Harmonizer for Lite0 {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn grid(&self) -> ProxyGrid {
        ProxyGrid { long_side: self.config.proxy_size, multiple: MULTIPLE, cell: 1, crop: false }
    }

    fn harmonize(&self, composite: &Tensor, mask: &Tensor, run: &Run) -> Result<Tensor> {
        let Lite0Config { schedule, train_timesteps, residual_scale, steps, caution, .. } = self.config;
        let trained = diffusion::SchedulerConfig::x0(schedule, train_timesteps);
        let scene = self.look(composite, mask, Kind::Float)?;
        let expected = RefCell::new(None);
        let change = run.sample(&trained, steps, &composite.size(), self.device, |x, timesteps| {
            let Answer { change, log_error } = self.answer(&scene, x, timesteps, Kind::Float)?;
            expected.replace(Some(log_error));
            Ok(change.f_mul(mask)?.f_mul_scalar(residual_scale)?)
        })?;
        let mut change = change.f_div_scalar(residual_scale)?;
        if let Some(log_error) = expected.into_inner().filter(|_| caution > 0.0) {
            change = change.f_mul(&sure(&change, mask, &log_error, caution)?)?;
        }
        Ok(composite.f_add(&change)?.f_clamp(0.0, 1.0)?)
    }
}

/// The part of a change to make, B x 1 x 1 x 1: see [`Lite0Config::caution`].
fn sure(change: &Tensor, mask: &Tensor, log_error: &Tensor, caution: f64) -> Result<Tensor> {
    let all = [1i64, 2, 3];
    let sum = |x: &Tensor| x.f_sum_dim_intlist(all.as_slice(), true, Kind::Float);
    let square = sum(&change.f_square()?)?.f_div(&sum(mask)?.f_mul_scalar(3.0)?.f_clamp_min(1e-6)?)?;
    let error = places(log_error.f_exp()?.f_mul_scalar(caution)?)?;
    Ok(square.f_div(&square.f_add(&error)?.f_clamp_min(1e-12)?)?)
}

/// What Reinhard et al.'s transfer (2001) of the colours' means and deviations, in Y'CbCr, from where `from` (B x 1 x h x w) weighs
/// would add to the foreground: B x 3 x h x w, 0 where the mask is.
fn proposal(composite: &Tensor, mask: &Tensor, from: &Tensor) -> Result<Tensor> {
    let colours = ycbcr(composite)?;
    let [mean, deviation] = moments(&colours, mask)?.map(places);
    let [aim, its_deviation] = moments(&colours, from)?.map(places);
    let ratio = its_deviation?.f_div(&deviation?)?.f_clamp(CONTRAST[0], CONTRAST[1])?;
    let moved = colours.f_sub(&mean?)?.f_mul(&ratio)?.f_add(&aim?)?;
    Ok(rgb(&moved)?.f_clamp(0.0, 1.0)?.f_sub(composite)?.f_mul(mask)?)
}

/// B x C to B x C x 1 x 1.
fn places(x: Tensor) -> Result<Tensor> {
    Ok(x.f_unsqueeze(-1)?.f_unsqueeze(-1)?)
}

/// Weights of the background near the foreground; the rest of it counts where there is none.
fn ring(mask: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = mask.size4()?;
    let radius = (h.max(w) / RING).max(1);
    let grown = mask.f_max_pool2d([2 * radius + 1, 1], [1, 1], [radius, 0], [1, 1], false)?;
    let grown = grown.f_max_pool2d([1, 2 * radius + 1], [1, 1], [0, radius], [1, 1], false)?;
    Ok(grown.f_add_scalar(1e-3)?.f_mul(&complement(mask)?)?.f_add_scalar(1e-6)?)
}

/// ITU-R BT.601's, chroma about 0.
const YCBCR: [[f32; 3]; 3] = [[0.299, 0.587, 0.114], [-0.168_736, -0.331_264, 0.5], [0.5, -0.418_688, -0.081_312]];
const RGB: [[f32; 3]; 3] = [[1.0, 0.0, 1.402], [1.0, -0.344_136, -0.714_136], [1.0, 1.772, 0.0]];

fn ycbcr(picture: &Tensor) -> Result<Tensor> {
    mixed(picture, YCBCR)
}

fn rgb(picture: &Tensor) -> Result<Tensor> {
    mixed(picture, RGB)
}

/// `matrix` times the channels of B x 3 x h x w.
fn mixed(picture: &Tensor, matrix: [[f32; 3]; 3]) -> Result<Tensor> {
    let kernel = Tensor::f_from_slice(matrix.as_flattened())?.f_view([3, 3, 1, 1])?.f_to_device(picture.device())?;
    Ok(picture.f_conv2d(&kernel, None::<Tensor>, [1; 2], [0; 2], [1; 2], 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::Weights;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// The left half.
    fn half(height: i64, width: i64) -> Tensor {
        let mask = Tensor::zeros([1, 1, height, width], CPU);
        let _ = mask.narrow(3, 0, width / 2).fill_(1.0);
        mask
    }

    #[test]
    fn a_proposal_has_the_background_s_mean_and_deviation() {
        let mask = half(24, 32);
        let left = Tensor::rand([1, 3, 24, 32], CPU) * 0.2 + 0.5;
        let right = Tensor::rand([1, 3, 24, 32], CPU) * 0.3 + 0.3;
        let background = complement(&mask).unwrap();
        let composite = left * &mask + right * &background;
        let moved = proposal(&composite, &mask, &background).unwrap() + &composite;
        let found = moments(&ycbcr(&moved).unwrap(), &mask).unwrap();
        let aim = moments(&ycbcr(&composite).unwrap(), &background).unwrap();
        for (found, aim) in found.iter().zip(&aim) {
            assert!((found - aim).abs().max().double_value(&[]) < 2e-3, "{found:?} {aim:?}");
        }
        assert_eq!(moved.narrow(3, 16, 16), composite.narrow(3, 16, 16));
    }

    #[test]
    fn a_ring_is_the_background_near_the_foreground() {
        let ring = ring(&half(32, 32)).unwrap();
        let weight = |x: i64| ring.double_value(&[0, 0, 9, x]);
        assert!(weight(15) < 1e-5 && weight(16) > 0.99 && weight(17) > 0.99 && weight(18) < 1e-2);
        // Where all is foreground there is something still to take a mean of.
        let all = super::ring(&Tensor::ones([1, 1, 16, 16], CPU)).unwrap();
        assert!(all.min().double_value(&[]) > 0.0);
    }

    #[test]
    fn a_change_is_made_as_far_as_it_is_sure() {
        let mask = half(8, 8);
        let change = Tensor::full([1, 3, 8, 8], 0.1, CPU) * &mask;
        let part = |error: f64, caution: f64| {
            let log_error = Tensor::from_slice(&[error.ln() as f32]).view([1, 1]);
            sure(&change, &mask, &log_error, caution).unwrap().double_value(&[])
        };
        assert!((part(0.01, 1.0) - 0.5).abs() < 1e-4, "{}", part(0.01, 1.0));
        assert!((part(0.01, 3.0) - 0.25).abs() < 1e-4);
        assert!(part(1e-8, 1.0) > 0.999 && part(10.0, 1.0) < 0.002);
    }

    #[test]
    fn a_new_network_changes_nothing_at_any_size() {
        let weights = Weights::new(Device::Cpu);
        let config = Lite0Config { channels: [8, 16, 16], emb_channels: 16, ..Default::default() };
        let net = Lite0::new(&weights.root(), config, Device::Cpu).unwrap();
        let _guard = tch::no_grad_guard();
        for (height, width) in [(128, 128), (72, 128), (8, 8), (40, 16)] {
            let composite = Tensor::rand([1, 3, height, width], CPU);
            let noise = crate::diffusion::Noise::fixed(7);
            let run = Run::new(&noise, Default::default());
            assert_eq!(net.harmonize(&composite, &half(height, width), &run).unwrap(), composite);
        }
    }
}
