//! `gift`: globally guided transformation of foreground features, after GiftNet (Niu et al. 2023). A U-Net whose encoder features
//! are transformed in the foreground by kernels that the whole picture decides, then decoded into a map of colours.
//!
//! Published is the idea; layers and sizes are our reading (models/gift/README.md). One pass, no noise.

#[cfg(feature = "train")]
pub mod trainee;

use crate::harmonizers::colour::{
    POLYNOMIAL, average, map_globally, map_locally, polynomial, pooled, signed, statistics, statistics_len, upsample,
    weighted_mean,
};
use crate::harmonizers::harmonizer::{Harmonizer, ProxyGrid, Run};
use crate::harmonizers::precision::Precision;
use crate::harmonizers::{limits, model};
use crate::nets::vae::Vae;
use crate::nets::weights::channels_last;
use crate::nets::{Conv2d, GroupNorm, Init, Linear, Path};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Every hyper-parameter of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiftConfig {
    pub class: String,
    /// Feature channels at 1/2, 1/4, 1/8 and 1/16 of the proxy.
    pub channels: [i64; LEVELS],
    /// Of the global code.
    pub code_channels: i64,
    /// Of the kernels that transform the foreground's features.
    pub rank: i64,
    pub groups: i64,
    /// Bins of the colour histograms.
    pub bins: i64,
    /// Long side of the proxy in pixels.
    pub proxy_size: u32,
}

impl Default for GiftConfig {
    fn default() -> Self {
        Self {
            class: "gift".into(),
            channels: [48, 96, 160, 224],
            code_channels: 128,
            rank: 8,
            groups: 8,
            bins: 8,
            proxy_size: 96,
        }
    }
}

impl model::ModelConfig for GiftConfig {
    fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    fn setup(&self) -> (u32, u32) {
        (1, self.proxy_size)
    }

    fn network(&self, p: &Path, _: Device, _: &dyn Fn() -> Result<Vae>) -> Result<Arc<dyn Harmonizer>> {
        Ok(Arc::new(Gift::new(p, self.clone())?))
    }
}

const LEVELS: usize = 4;
/// Both sides of a proxy are multiples of this: four halvings.
const MULTIPLE: u32 = 16;

/// Convolution, normalization, ReLU, twice.
#[derive(Debug)]
struct Block {
    convs: [Conv2d; 2],
    norms: [GroupNorm; 2],
}

impl Block {
    fn new(p: &Path, [input, output]: [i64; 2], groups: i64) -> Result<Self> {
        let conv = |name: &str, input| Conv2d::new(&p.sub(name), [input, output], 3, 1, Init::FanIn(2.4));
        let norm = |name: &str| GroupNorm::new(&p.sub(name), groups, output, 1e-5);
        Ok(Self { convs: [conv("conv1", input)?, conv("conv2", output)?], norms: [norm("norm1")?, norm("norm2")?] })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for (conv, norm) in self.convs.iter().zip(&self.norms) {
            x = norm.forward(&conv.forward(&x)?)?.f_relu()?;
        }
        Ok(x)
    }
}

/// F + M (scale F + shift + U V^T F), scale, shift, U and V decided by the global code: the dynamic kernel of one level. New, it
/// changes nothing.
#[derive(Debug)]
struct Transform {
    filters: Linear,
    mix: Linear,
    channels: i64,
    rank: i64,
}

impl Transform {
    fn new(p: &Path, code: i64, channels: i64, rank: i64) -> Result<Self> {
        Ok(Self {
            filters: Linear::new(&p.sub("filters"), [code, channels * rank], Init::FanIn(1.0))?,
            mix: Linear::new(&p.sub("mix"), [code, channels * (rank + 2)], Init::Const(0.0))?,
            channels,
            rank,
        })
    }

    /// `features` B x C x h x w, `code` B x K, `mask` B x 1 x h x w.
    fn forward(&self, features: &Tensor, code: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = features.size4()?;
        let kind = features.kind();
        let code = code.f_to_kind(kind)?;
        let filters = self.filters.forward(&code)?.f_view([b, self.rank, self.channels])?;
        let filters = filters.f_mul_scalar((self.channels as f64).powf(-0.5))?;
        let mix = self.mix.forward(&code)?.f_view([b, c, self.rank + 2])?;
        let u = mix.f_narrow(2, 0, self.rank)?;
        let affine = |i: i64| -> Result<Tensor> { Ok(mix.f_narrow(2, self.rank + i, 1)?.f_unsqueeze(-1)?) };
        let kernel = u.f_bmm(&filters)?;
        let mixed = kernel.f_bmm(&features.f_reshape([b, c, h * w])?)?.f_view([b, c, h, w])?;
        let change = features.f_mul(&affine(0)?)?.f_add(&affine(1)?)?.f_add(&mixed)?;
        Ok(features.f_add(&change.f_mul(&mask.f_to_kind(kind)?)?)?)
    }
}

/// Features of a picture, from 1/2 to 1/16 of the proxy.
pub type Features = Vec<Tensor>;

/// The network: (composite, mask) -> D, the change of sRGB.
#[derive(Debug)]
pub struct Gift {
    pub config: GiftConfig,
    encoder: Vec<Block>,
    code: [Linear; 2],
    transforms: Vec<Transform>,
    decoder: Vec<Block>,
    lateral: Vec<Conv2d>,
    head_global: Linear,
    head_local: Conv2d,
}

impl Gift {
    pub fn new(p: &Path, config: GiftConfig) -> Result<Self> {
        let GiftConfig { channels, code_channels: k, rank, groups, bins, proxy_size, .. } = config;
        ensure!(
            groups > 0 && bins > 0 && rank > 0 && k > 0,
            "{groups} groups, {bins} bins, rank {rank} and {k} code channels: each must be at least 1"
        );
        ensure!(
            channels.iter().all(|c| *c > 0 && c % groups == 0),
            "channels {channels:?} must divide into {groups} groups"
        );
        limits::proxy_size(proxy_size, 16)?;
        let level = |name: &str, i: usize| p.sub(name).sub(i);
        let encoder = |i: usize| {
            let input = if i == 0 { 4 * 4 } else { channels[i - 1] };
            Block::new(&level("encoder", i), [input, channels[i]], groups)
        };
        let code_inputs = statistics_len(bins) + 4 * channels.iter().sum::<i64>() + channels[LEVELS - 1];
        let linear = |name: &str, channels, init| Linear::new(&p.sub(name), channels, init);
        Ok(Self {
            encoder: (0..LEVELS).map(encoder).collect::<Result<_>>()?,
            code: [linear("code.0", [code_inputs, k], Init::FanIn(1.0))?, linear("code.1", [k, k], Init::FanIn(1.7))?],
            transforms: (0..LEVELS)
                .map(|i| Transform::new(&level("transform", i), k, channels[i], rank))
                .collect::<Result<_>>()?,
            decoder: (0..LEVELS - 1)
                .map(|i| Block::new(&level("decoder", i), [2 * channels[i], channels[i]], groups))
                .collect::<Result<_>>()?,
            lateral: (0..LEVELS - 1)
                .map(|i| Conv2d::new(&level("lateral", i), [channels[i + 1], channels[i]], 1, 1, Init::FanIn(1.0)))
                .collect::<Result<_>>()?,
            head_global: linear("head_global", [k, 3 * POLYNOMIAL], Init::Const(0.0))?,
            head_local: Conv2d::new(&p.sub("head_local"), [channels[0], 12], 3, 1, Init::Const(0.0))?,
            config,
        })
    }

    /// The encoder's features, not yet transformed: of a harmonious picture they are what transformed ones are to be like. `composite`
    /// is B x 3 x h x w, sRGB in 0..1, `mask` B x 1 x h x w; h and w multiples of 16.
    pub fn encode(&self, composite: &Tensor, mask: &Tensor, kind: Kind) -> Result<Features> {
        let input = Tensor::f_cat(&[&signed(composite)?, mask], 1)?.f_pixel_unshuffle(2)?.f_to_kind(kind)?;
        let mut features: Features = Vec::with_capacity(LEVELS);
        let mut x = channels_last(&input)?;
        for (i, block) in self.encoder.iter().enumerate() {
            if i > 0 {
                x = x.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?;
            }
            x = block.forward(&x)?;
            features.push(x.shallow_clone());
        }
        Ok(features)
    }

    /// D in f32, and the transformed features; arguments as those of `encode`.
    pub fn forward(&self, composite: &Tensor, mask: &Tensor, kind: Kind) -> Result<(Tensor, Features)> {
        let masks: Vec<_> = (0..LEVELS).map(|level| average(mask, 2 << level)).collect::<Result<_>>()?;
        let features = self.encode(composite, mask, kind)?;
        let polynomial = polynomial(composite)?;
        let mut known = vec![statistics(composite, &polynomial, mask, self.config.bins)?];
        for (features, mask) in features.iter().zip(&masks) {
            known.push(pooled(features, mask)?);
        }
        let last = features[LEVELS - 1].f_to_kind(Kind::Float)?;
        known.push(weighted_mean(&last, &masks[LEVELS - 1].f_ones_like()?)?);
        let code = self.code[0].forward(&Tensor::f_cat(&known, 1)?)?.f_relu()?;
        let code = self.code[1].forward(&code)?.f_relu()?;

        let transform = |((transform, features), mask): ((&Transform, &Tensor), &Tensor)| {
            channels_last(&transform.forward(features, &code, mask)?)
        };
        let transformed: Features =
            self.transforms.iter().zip(&features).zip(&masks).map(transform).collect::<Result<_>>()?;
        let mut x = transformed[LEVELS - 1].shallow_clone();
        for level in (0..LEVELS - 1).rev() {
            let up = upsample(&self.lateral[level].forward(&x)?)?;
            x = self.decoder[level].forward(&channels_last(&Tensor::f_cat(&[&up, &transformed[level]], 1)?)?)?;
        }
        let global = map_globally(&self.head_global.forward(&code)?, &polynomial)?;
        let local = map_locally(&self.head_local.forward(&x)?, &signed(composite)?)?;
        Ok((global.f_add(&local)?, transformed))
    }
}

impl Harmonizer for Gift {
    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn grid(&self) -> ProxyGrid {
        ProxyGrid { long_side: self.config.proxy_size, multiple: MULTIPLE, cell: 1, crop: false }
    }

    fn max_steps(&self) -> u32 {
        1
    }

    fn harmonize(&self, composite: &Tensor, mask: &Tensor, run: &Run) -> Result<Tensor> {
        run.sampling.check(self.max_steps())?;
        run.check()?;
        let (change, _) = self.forward(composite, mask, Kind::Float)?;
        Ok(composite.f_add(&change.f_mul(mask)?)?.f_clamp(0.0, 1.0)?)
    }
}
