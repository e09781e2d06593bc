//! `UNet2DConditionModel`: the U-Net of Stable Diffusion 1 and 2, conditioned on a timestep and a text.

use super::blocks::{BlockConfig, Conditioning, Ending, MidConfig};
use super::embeddings::{self, TimestepEmbedding};
use super::transformer::TransformerConfig;
use super::unet::{UNet, UNetConfig};
use super::{ConfigReader, KeysValues, Norm, Param, Path};
use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// The hyper-parameters that are honoured.
#[derive(Clone, Debug, PartialEq)]
pub struct UNet2DConditionConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    pub block_out_channels: Vec<i64>,
    /// Whether each down and each up block attends, in the order of the network.
    pub down_attends: Vec<bool>,
    pub up_attends: Vec<bool>,
    pub layers_per_block: i64,
    pub transformer_layers: i64,
    /// Of each down block; the last one's holds in the middle.
    pub heads: Vec<i64>,
    pub cross_attention_dim: i64,
    pub use_linear_projection: bool,
    pub upcast_attention: bool,
    pub time_embedding_dim: i64,
    /// How all down blocks but the last end.
    pub ending: Ending,
    pub norm_num_groups: i64,
    pub norm_eps: f64,
    pub kernels: [i64; 2],
}

impl UNet2DConditionConfig {
    /// From a `config.json`.
    pub fn parse(json: &str) -> Result<Self> {
        let mut c = ConfigReader::parse(json, "_class_name", &["UNet2DConditionModel"])?;
        let block_out_channels = c.counts("block_out_channels")?;
        let blocks = block_out_channels.len();
        let down = c.choices("down_block_types", &["DownBlock2D", "CrossAttnDownBlock2D"], blocks)?;
        let up = c.choices("up_block_types", &["UpBlock2D", "CrossAttnUpBlock2D"], blocks)?;
        // Diffusers' attention_head_dim is the number of heads; num_attention_heads came later and goes before it.
        let head_dim = c.count_per_block("attention_head_dim", blocks)?;
        let heads = c.count_per_block("num_attention_heads", blocks)?.or(head_dim).unwrap_or(vec![8; blocks]);
        let config = Self {
            in_channels: c.count("in_channels", 4)?,
            out_channels: c.count("out_channels", 4)?,
            down_attends: down.iter().map(|&kind| kind == 1).collect(),
            up_attends: up.iter().map(|&kind| kind == 1).collect(),
            layers_per_block: c.layers("layers_per_block", 2)?,
            transformer_layers: c.layers("transformer_layers_per_block", 1)?,
            heads,
            cross_attention_dim: c.count("cross_attention_dim", 1280)?,
            use_linear_projection: c.flag("use_linear_projection", false)?,
            upcast_attention: c.flag("upcast_attention", false)?,
            time_embedding_dim: c.count("time_embedding_dim", 4 * block_out_channels[0])?,
            ending: Ending::parse(&mut c)?,
            norm_num_groups: c.count("norm_num_groups", 32)?,
            norm_eps: c.number("norm_eps", 1e-5)?,
            kernels: [c.count("conv_in_kernel", 3)?, c.count("conv_out_kernel", 3)?],
            block_out_channels,
        };
        refuse_variants(&mut c)?;
        c.finish()?;
        ensure!(config.block_out_channels[0] % 2 == 0, "block_out_channels begins with an odd number");
        Ok(config)
    }

    fn transformer(&self, block: usize) -> TransformerConfig {
        TransformerConfig {
            heads: self.heads[block],
            layers: self.transformer_layers,
            cross_attention_dim: self.cross_attention_dim,
            linear_projection: self.use_linear_projection,
            upcast_attention: self.upcast_attention,
            groups: self.norm_num_groups,
        }
    }
}

/// The hyper-parameters of diffusers' class that have one value here.
fn refuse_variants(c: &mut ConfigReader) -> Result<()> {
    c.only("act_fn", "silu")?;
    for key in ["center_input_sample", "only_cross_attention", "dual_cross_attention", "resnet_skip_time_act"] {
        c.only(key, false)?;
    }
    c.only("class_embeddings_concat", false)?;
    c.only("flip_sin_to_cos", true)?;
    c.only("freq_shift", 0)?;
    c.only("mid_block_scale_factor", 1)?;
    c.only("mid_block_type", "UNetMidBlock2DCrossAttn")?;
    c.only("resnet_out_scale_factor", 1)?;
    c.only("resnet_time_scale_shift", "default")?;
    c.only("time_embedding_type", "positional")?;
    c.only("attention_type", "default")?;
    c.only_null(&[
        "addition_embed_type",
        "class_embed_type",
        "cross_attention_norm",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "mid_block_only_cross_attention",
        "num_class_embeds",
        "reverse_transformer_layers_per_block",
        "time_cond_proj_dim",
        "time_embedding_act_fn",
        "timestep_post_act",
    ])?;
    // The last three only size embeddings that were refused above; dropout is for training, sample_size for information.
    c.without_effect(&[
        "dropout",
        "sample_size",
        "addition_embed_type_num_heads",
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
    ]);
    Ok(())
}

/// A text as this network's transformers attend to it, computed once for all steps and frames.
#[derive(Debug)]
pub struct TextContext(Vec<KeysValues>);

/// Timesteps as this network's residual blocks see them, computed once for all frames.
#[derive(Debug)]
pub struct TimeContext(Vec<Param>);

#[derive(Debug)]
pub struct UNet2DConditionModel {
    pub config: UNet2DConditionConfig,
    unet: UNet,
    time_embedding: TimestepEmbedding,
}

impl UNet2DConditionModel {
    pub fn new(p: &Path, config: UNet2DConditionConfig) -> Result<Self> {
        let last = config.block_out_channels.len() - 1;
        let middle = config.transformer(last);
        let attending = |attends: bool, block| attends.then(|| config.transformer(block));
        let down = config.down_attends.iter().enumerate().map(|(i, &attends)| attending(attends, i)).collect();
        let up = config.up_attends.iter().enumerate().map(|(i, &attends)| attending(attends, last - i)).collect();
        let unet = UNet::new(
            p,
            &UNetConfig {
                in_channels: config.in_channels,
                out_channels: config.out_channels,
                channels: &config.block_out_channels,
                blocks: BlockConfig {
                    layers: config.layers_per_block,
                    emb_channels: Some(config.time_embedding_dim),
                    norm: Norm { groups: config.norm_num_groups, eps: config.norm_eps },
                },
                down,
                mid: MidConfig::Text(&middle),
                up,
                ending: config.ending,
                kernels: config.kernels,
            },
        )?;
        let channels = [config.block_out_channels[0], config.time_embedding_dim];
        let time_embedding = TimestepEmbedding::new(&p.sub("time_embedding"), channels)?;
        Ok(Self { unet, time_embedding, config })
    }

    /// `text` is B x M x cross_attention_dim; with B = 1 it serves every member of a batch.
    pub fn text_context(&self, text: &Tensor) -> Result<TextContext> {
        Ok(TextContext(self.unet.keys_values(text)?))
    }

    /// The embedding of timesteps, which may be fractional, one for each member of a batch or one for all; in `kind`.
    pub fn time_embedding(&self, timesteps: &[f64], kind: Kind, device: Device) -> Result<TimeContext> {
        let sinusoids = embeddings::timestep(timesteps, self.config.block_out_channels[0], device)?;
        let emb = self.time_embedding.forward(&sinusoids.f_to_kind(kind)?)?.f_silu()?;
        Ok(TimeContext(self.unet.shifts(&emb)?))
    }

    /// `x` is B x in_channels x h x w, `time` from `time_embedding`, `text` from `text_context`.
    /// Returns the predicted noise, or whatever the network was trained to predict, B x out_channels x h x w.
    pub fn forward(&self, x: &Tensor, time: &TimeContext, text: &TextContext) -> Result<Tensor> {
        self.unet.forward(x, Conditioning { shifts: time.0.iter(), text: text.0.iter() })
    }
}
