//! `AutoencoderKL`, Stable Diffusion's autoencoder (Rombach et al. 2022), and DiffHarmony++'s `ConditionVAE` (Harmony-VAE): the
//! same with a second encoder that sees composite and mask and reaches the decoder at every layer.
//!
//! Latents are the network's own: whoever samples them multiplies and divides by `scaling_factor`.

use super::blocks::{BlockConfig, Conditioning, DownBlock, Ending, MidBlock, MidConfig, UpBlock};
use super::layers::Extras;
use super::tiles::Tiling;
use super::weights::channels_last;
use super::{ConfigReader, Conv2d, GroupNorm, Init, Norm, Path};
use anyhow::{Context, Result, ensure};
use tch::Tensor;

/// The hyper-parameters that are honoured.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    pub latent_channels: i64,
    pub block_out_channels: Vec<i64>,
    pub layers_per_block: i64,
    pub norm_num_groups: i64,
    pub scaling_factor: f64,
    /// Channels that the conditional encoder sees besides the picture's; none is a plain autoencoder.
    pub additional_in_channels: Option<i64>,
}

impl VaeConfig {
    /// From a `config.json`.
    pub fn parse(json: &str) -> Result<Self> {
        let mut c = ConfigReader::parse(json, "_class_name", &["AutoencoderKL", "ConditionVAE"])?;
        let block_out_channels = c.counts("block_out_channels")?;
        let blocks = block_out_channels.len();
        for (key, kind) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
            c.choices(key, &[kind], blocks)?;
        }
        let conditional = c.class() == "ConditionVAE";
        let config = Self {
            in_channels: c.count("in_channels", 3)?,
            out_channels: c.count("out_channels", 3)?,
            latent_channels: c.count("latent_channels", 4)?,
            layers_per_block: c.layers("layers_per_block", 1)?,
            norm_num_groups: c.count("norm_num_groups", 32)?,
            scaling_factor: c.number("scaling_factor", 0.18215)?,
            additional_in_channels: conditional.then(|| c.count("additional_in_channels", 1)).transpose()?,
            block_out_channels,
        };
        c.only("act_fn", "silu")?;
        for key in ["use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"] {
            c.only(key, true)?;
        }
        c.only_null(&["shift_factor", "latents_mean", "latents_std"])?;
        // force_upcast is advice on f16, sample_size on tiling.
        c.without_effect(&["force_upcast", "sample_size"]);
        c.finish()?;
        Ok(config)
    }

    /// That of Stable Diffusion 1 and 2.
    pub fn stable_diffusion() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            additional_in_channels: None,
        }
    }

    /// How much smaller than the picture the latents are, on each side.
    pub fn downscale(&self) -> i64 {
        1 << (self.block_out_channels.len() - 1)
    }

    fn blocks(&self, layers: i64) -> BlockConfig {
        BlockConfig { layers, emb_channels: None, norm: Norm { groups: self.norm_num_groups, eps: 1e-6 } }
    }

    fn norm_out(&self, p: &Path) -> Result<GroupNorm> {
        GroupNorm::new(&p.sub("conv_norm_out"), self.norm_num_groups, self.block_out_channels[0], 1e-6)
    }
}

fn conv3(p: &Path, name: &str, channels: [i64; 2]) -> Result<Conv2d> {
    Conv2d::new(&p.sub(name), channels, 3, 1, Init::FanIn(1.0))
}

fn conv1(p: &Path, name: &str, channels: [i64; 2], init: Init) -> Result<Conv2d> {
    Conv2d::new(&p.sub(name), channels, 1, 1, init)
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn new(p: &Path, config: &VaeConfig) -> Result<Self> {
        let channels = &config.block_out_channels;
        let (last, blocks) = (channels.len() - 1, config.blocks(config.layers_per_block));
        let down = |i: usize| {
            let ending = if i == last { Ending::Same } else { Ending::HalvedAsymmetric };
            let channels = [channels[i.saturating_sub(1)], channels[i]];
            DownBlock::new(&p.sub("down_blocks").sub(i), channels, &blocks, None, ending)
        };
        let moments = GroupNorm::new(&p.sub("conv_norm_out"), config.norm_num_groups, channels[last], 1e-6)?;
        Ok(Self {
            conv_in: conv3(p, "conv_in", [config.in_channels, channels[0]])?,
            down: (0..=last).map(down).collect::<Result<_>>()?,
            mid: MidBlock::new(&p.sub("mid_block"), channels[last], &blocks, MidConfig::Spatial(1))?,
            norm_out: moments,
            conv_out: conv3(p, "conv_out", [channels[last], 2 * config.latent_channels])?,
        })
    }

    /// Everything between the first convolution and the last normalization; appends each layer's features to `taps`.
    fn body(&self, x: Tensor, mut taps: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        let mut x = x;
        for block in &self.down {
            x = block.forward(x, &mut Conditioning::default(), taps.as_deref_mut())?;
        }
        self.mid.forward(&x, &mut Conditioning::default())
    }

    fn head(&self, x: &Tensor) -> Result<Tensor> {
        self.conv_out.forward_activated(&self.norm_out, x, Extras::default())
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.head(&self.body(self.conv_in.forward(&channels_last(x)?)?, None)?)
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn new(p: &Path, config: &VaeConfig) -> Result<Self> {
        let channels: Vec<_> = config.block_out_channels.iter().rev().copied().collect();
        let (last, blocks) = (channels.len() - 1, config.blocks(config.layers_per_block));
        let up = |i: usize| {
            let mut inputs = vec![channels[i]; config.layers_per_block as usize + 1];
            inputs[0] = channels[i.saturating_sub(1)];
            UpBlock::new(&p.sub("up_blocks").sub(i), &inputs, channels[i], &blocks, None, i != last)
        };
        Ok(Self {
            conv_in: conv3(p, "conv_in", [config.latent_channels, channels[0]])?,
            mid: MidBlock::new(&p.sub("mid_block"), channels[0], &blocks, MidConfig::Spatial(1))?,
            up: (0..=last).map(up).collect::<Result<_>>()?,
            norm_out: config.norm_out(p)?,
            conv_out: conv3(p, "conv_out", [channels[last], config.out_channels])?,
        })
    }

    /// `mid` is added in the middle, `skips` from the last one after each layer. In tiles where a side is longer than `tiling` says:
    /// what precedes them, with its attention over all positions, sees the whole.
    fn forward(&self, z: &Tensor, mid: Option<&Tensor>, skips: Vec<Tensor>, tiling: Tiling) -> Result<Tensor> {
        let z = self.conv_in.forward(&channels_last(z)?)?;
        let mut x = self.mid.forward(&z, &mut Conditioning::default())?;
        if let Some(mid) = mid {
            x = x.f_add(mid)?;
        }
        let (_, _, h, w) = x.size4()?;
        if h.max(w) <= tiling.tile {
            return self.grow(x, skips);
        }
        tiling.paint([h, w], 1 << (self.up.len() - 1), |[rows, columns]| {
            let crop = |x: &Tensor| -> Result<Tensor> {
                let scale = x.size()[2] / h;
                let x = x.f_narrow(2, scale * rows.start, scale * rows.len)?;
                Ok(x.f_narrow(3, scale * columns.start, scale * columns.len)?)
            };
            self.grow(channels_last(&crop(&x)?)?, skips.iter().map(crop).collect::<Result<_>>()?)
        })
    }

    fn grow(&self, x: Tensor, mut skips: Vec<Tensor>) -> Result<Tensor> {
        let mut x = x;
        for block in &self.up {
            x = block.forward_add(x, &mut skips)?;
        }
        self.conv_out.forward_activated(&self.norm_out, &x, Extras::default())
    }
}

/// The conditional encoder and what leads from it to the decoder. New, its bridges are zero: a plain autoencoder.
#[derive(Debug)]
struct ConditionalEncoder {
    encoder: Encoder,
    add_conv_in: Conv2d,
    down_block_skip_convs: Vec<Conv2d>,
    mid_block_skip_conv: Conv2d,
    latent_skip_conv: Conv2d,
}

impl ConditionalEncoder {
    fn new(p: &Path, config: &VaeConfig, additional: i64) -> Result<Self> {
        let place = p.sub("conditional_encoder");
        let channels = &config.block_out_channels;
        let last = channels.len() - 1;
        // The decoder takes skip i after the layer that it mirrors, whose channels are those of the encoder's block
        // i / (layers + 1): a halving's features join the next block's.
        let layers = config.layers_per_block as usize;
        let skips = std::iter::once(channels[0])
            .chain((0..=last).flat_map(|i| vec![channels[i]; if i == last { layers } else { layers + 1 }]));
        let skip = |(i, tapped): (usize, i64)| {
            let channels = [tapped, channels[i / (layers + 1)]];
            conv1(&place.sub("down_block_skip_convs"), &i.to_string(), channels, Init::Const(0.0))
        };
        let zero = Init::Const(0.0);
        Ok(Self {
            encoder: Encoder::new(&place, config)?,
            add_conv_in: conv3(&place, "add_conv_in", [additional, channels[0]])?,
            down_block_skip_convs: skips.enumerate().map(skip).collect::<Result<_>>()?,
            mid_block_skip_conv: conv1(&place, "mid_block_skip_conv", [channels[last]; 2], zero)?,
            latent_skip_conv: conv1(p, "latent_skip_conv", [config.latent_channels; 2], zero)?,
        })
    }
}

/// What the encoder says about the latents: independent normals, B x latent_channels x h x w.
#[derive(Debug)]
pub struct Posterior {
    pub mean: Tensor,
    /// Within -30..20.
    pub logvar: Tensor,
}

impl Posterior {
    fn new(moments: &Tensor) -> Result<Self> {
        let halves = moments.f_chunk(2, 1)?;
        Ok(Self { mean: halves[0].shallow_clone(), logvar: halves[1].f_clamp(-30.0, 20.0)? })
    }

    /// The sample that standard normal `noise` stands for; the mode is `mean`.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        Ok(self.logvar.f_mul_scalar(0.5)?.f_exp()?.f_mul(noise)?.f_add(&self.mean)?)
    }
}

/// What the conditional encoder made of composite and mask.
#[derive(Debug)]
pub struct Condition {
    /// Of the composite's own latents.
    pub posterior: Posterior,
    skips: Vec<Tensor>,
    mid: Tensor,
}

#[derive(Debug)]
pub struct Vae {
    pub config: VaeConfig,
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Conv2d,
    post_quant_conv: Conv2d,
    conditional: Option<ConditionalEncoder>,
    tiling: Tiling,
}

/// Latents of more than 128 a side, those of pictures of more than 1024, are decoded in tiles.
const TILING: Tiling = Tiling { tile: 128, overlap: 24 };

impl Vae {
    pub fn new(p: &Path, config: VaeConfig) -> Result<Self> {
        let latent = config.latent_channels;
        let conditional = |additional| ConditionalEncoder::new(p, &config, additional);
        Ok(Self {
            encoder: Encoder::new(&p.sub("encoder"), &config)?,
            decoder: Decoder::new(&p.sub("decoder"), &config)?,
            quant_conv: conv1(p, "quant_conv", [2 * latent; 2], Init::FanIn(1.0))?,
            post_quant_conv: conv1(p, "post_quant_conv", [latent; 2], Init::FanIn(1.0))?,
            conditional: config.additional_in_channels.map(conditional).transpose()?,
            tiling: TILING,
            config,
        })
    }

    /// The same, decoding in tiles of at most `tile` latents a side, which share `overlap`. Normalization sees one tile at a time:
    /// the result is near that of the whole, not equal to it.
    pub fn tiled(self, tile: i64, overlap: i64) -> Result<Self> {
        ensure!(0 < overlap && 3 * overlap <= tile, "tiles of {tile} can't share {overlap}");
        Ok(Self { tiling: Tiling { tile, overlap }, ..self })
    }

    /// Whether it is a Harmony-VAE.
    pub fn is_conditional(&self) -> bool {
        self.conditional.is_some()
    }

    /// `x` is B x in_channels x H x W in -1..1, both sides multiples of `downscale`.
    pub fn encode(&self, x: &Tensor) -> Result<Posterior> {
        Posterior::new(&self.quant_conv.forward(&self.encoder.forward(x)?)?)
    }

    /// Latents to B x out_channels x H x W in about -1..1.
    pub fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.decoder.forward(&self.post_quant_conv.forward(z)?, None, Vec::new(), self.tiling)
    }

    /// `composite` in -1..1 and `mask` in 0..1, at the size of the picture to decode.
    pub fn condition(&self, composite: &Tensor, mask: &Tensor) -> Result<Condition> {
        let c = self.conditional.as_ref().context("this autoencoder has no conditional encoder")?;
        let x = c.encoder.conv_in.forward(&channels_last(composite)?)?;
        let x = x.f_add(&c.add_conv_in.forward(&channels_last(mask)?)?)?;
        let mut taps = vec![x.shallow_clone()];
        let x = c.encoder.body(x, Some(&mut taps))?;
        let skips = taps.into_iter().zip(&c.down_block_skip_convs).map(|(tap, conv)| conv.forward(&tap));
        Ok(Condition {
            skips: skips.collect::<Result<_>>()?,
            mid: c.mid_block_skip_conv.forward(&x)?,
            posterior: Posterior::new(&self.quant_conv.forward(&c.encoder.head(&x)?)?)?,
        })
    }

    /// As `decode`, led by `condition`, whose features are let go of one by one, and by `z_condition`, its posterior's mean or a
    /// sample of it.
    pub fn decode_conditioned(&self, z: &Tensor, condition: Condition, z_condition: &Tensor) -> Result<Tensor> {
        let c = self.conditional.as_ref().context("this autoencoder has no conditional encoder")?;
        let bridge = c.latent_skip_conv.forward(&self.post_quant_conv.forward(z_condition)?)?;
        let z = self.post_quant_conv.forward(z)?.f_add(&bridge)?;
        self.decoder.forward(&z, Some(&condition.mid), condition.skips, self.tiling)
    }
}
