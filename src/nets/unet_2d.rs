//! `UNet2DCustom`: DiffHarmony's refinement network, a U-Net without timestep or text that corrects what was decoded.

use super::blocks::{BlockConfig, Conditioning, Ending, MidConfig};
use super::unet::{UNet, UNetConfig};
use super::{ConfigReader, Norm, Path};
use anyhow::{Result, ensure};
use tch::Tensor;

/// The hyper-parameters that are honoured.
#[derive(Clone, Debug, PartialEq)]
pub struct UNet2DConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    pub block_out_channels: Vec<i64>,
    pub layers_per_block: i64,
    /// Attention in the middle.
    pub add_attention: bool,
    /// Channels of one head; none is one head of all.
    pub attention_head_dim: Option<i64>,
    /// The input's first `out_channels` channels are added to the result.
    pub input_residual: bool,
    /// How all down blocks but the last end.
    pub ending: Ending,
    pub norm_num_groups: i64,
    pub norm_eps: f64,
}

impl UNet2DConfig {
    /// From a `config.json`.
    pub fn parse(json: &str) -> Result<Self> {
        let mut c = ConfigReader::parse(json, "_class_name", &["UNet2DCustom"])?;
        let block_out_channels = c.counts("block_out_channels")?;
        let blocks = block_out_channels.len();
        for (key, kind) in [("down_block_types", "DownBlock2D"), ("up_block_types", "UpBlock2D")] {
            c.choices(key, &[kind], blocks)?;
        }
        let config = Self {
            in_channels: c.count("in_channels", 3)?,
            out_channels: c.count("out_channels", 3)?,
            layers_per_block: c.layers("layers_per_block", 2)?,
            add_attention: c.flag("add_attention", true)?,
            attention_head_dim: match c.has("attention_head_dim") {
                true => c.count_per_block("attention_head_dim", 1)?.map(|dim| dim[0]),
                false => Some(8),
            },
            input_residual: c.flag("input_residual", false)?,
            ending: Ending::parse(&mut c)?,
            norm_num_groups: c.count("norm_num_groups", 32)?,
            norm_eps: c.number("norm_eps", 1e-5)?,
            block_out_channels,
        };
        c.only("act_fn", "silu")?;
        c.only("downsample_type", "conv")?;
        c.only("upsample_type", "conv")?;
        c.only("mid_block_scale_factor", 1)?;
        c.only("resnet_time_scale_shift", "default")?;
        c.without_effect(&["dropout", "sample_size"]);
        c.finish()?;
        let residual = !config.input_residual || config.in_channels >= config.out_channels;
        ensure!(residual, "input_residual needs at least {} in_channels", config.out_channels);
        Ok(config)
    }
}

#[derive(Debug)]
pub struct UNet2DModel {
    pub config: UNet2DConfig,
    unet: UNet,
}

impl UNet2DModel {
    pub fn new(p: &Path, config: UNet2DConfig) -> Result<Self> {
        let blocks = config.block_out_channels.len();
        let channels = config.block_out_channels[blocks - 1];
        let head_dim = config.attention_head_dim.unwrap_or(channels);
        ensure!(channels % head_dim == 0, "{channels} channels don't divide into heads of {head_dim}");
        let unet = UNet::new(
            p,
            &UNetConfig {
                in_channels: config.in_channels,
                out_channels: config.out_channels,
                channels: &config.block_out_channels,
                blocks: BlockConfig {
                    layers: config.layers_per_block,
                    emb_channels: None,
                    norm: Norm { groups: config.norm_num_groups, eps: config.norm_eps },
                },
                down: vec![None; blocks],
                mid: if config.add_attention { MidConfig::Spatial(channels / head_dim) } else { MidConfig::None },
                up: vec![None; blocks],
                ending: config.ending,
                kernels: [3; 2],
            },
        )?;
        Ok(Self { unet, config })
    }

    /// B x in_channels x h x w (harmonized picture in -1..1, then mask in 0..1, then composite in -1..1, as many of them
    /// as in_channels holds) to B x out_channels x h x w in about -1..1.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let out = self.unet.forward(x, Conditioning::default())?;
        match self.config.input_residual {
            true => Ok(out.f_add(&x.f_narrow(1, 0, self.config.out_channels)?)?),
            false => Ok(out),
        }
    }
}
