//! The transformer that Stable Diffusion's U-Net attends to itself and to a text with (Rombach et al. 2022).

use super::attention::{feature_map, tokens};
use super::{Attention, GroupNorm, Init, KeysValues, LayerNorm, Linear, Path};
use anyhow::{Context as _, Result};
use std::slice;
use tch::Tensor;

/// Tokens that go through the feed-forward layer at a time: it is eight times as wide as they are.
const TOKENS: i64 = 1024;

/// The hyper-parameters of one feature map's transformer.
#[derive(Clone, Copy, Debug)]
pub struct TransformerConfig {
    pub heads: i64,
    /// Blocks one after the other.
    pub layers: i64,
    /// Channels of the text.
    pub cross_attention_dim: i64,
    /// The projections in and out are stored as linear layers, not as 1x1 convolutions.
    pub linear_projection: bool,
    pub upcast_attention: bool,
    pub groups: i64,
}

/// Self-attention, cross-attention and a gated feed-forward layer, each added to its input.
#[derive(Debug)]
struct TransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    /// Values and gates.
    feed_forward_in: [Linear; 2],
    feed_forward_out: Linear,
}

impl TransformerBlock {
    fn new(p: &Path, channels: i64, config: &TransformerConfig) -> Result<Self> {
        let norm = |name: &str| LayerNorm::new(&p.sub(name), channels, 1e-5);
        let attention = |name: &str, context| {
            Attention::new(&p.sub(name), channels, context, config.heads, config.upcast_attention)
        };
        let linear = |name: &str, channels| Linear::new(&p.sub(name), channels, Init::FanIn(1.0));
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: attention("attn1", channels)?,
            norm2: norm("norm2")?,
            attn2: attention("attn2", config.cross_attention_dim)?,
            norm3: norm("norm3")?,
            feed_forward_in: linear("ff.net.0.proj", [channels, 8 * channels])?.halves()?,
            feed_forward_out: linear("ff.net.2", [4 * channels, channels])?,
        })
    }

    fn forward(&self, x: &Tensor, text: &KeysValues) -> Result<Tensor> {
        let x = self.attn1.forward_self(&self.norm1.forward(x)?, false)?.f_add_(x)?;
        let x = self.attn2.forward(&self.norm2.forward(&x)?, text, false)?.f_add_(&x)?;
        let parts = x.f_split(TOKENS, 1)?;
        let parts: Vec<_> = parts.iter().map(|x| self.feed_forward(x)).collect::<Result<_>>()?;
        match parts.as_slice() {
            [all] => Ok(all.shallow_clone()),
            parts => Ok(Tensor::f_cat(parts, 1)?),
        }
    }

    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.norm3.forward(x)?;
        let [values, gates] = &self.feed_forward_in;
        let h = values.forward(&h)?.f_mul_(&gates.forward(&h)?.f_gelu("none")?)?;
        Ok(self.feed_forward_out.forward(&h)?.f_add_(x)?)
    }
}

#[derive(Debug)]
pub struct Transformer2D {
    norm: GroupNorm,
    proj_in: Linear,
    blocks: Vec<TransformerBlock>,
    proj_out: Linear,
}

impl Transformer2D {
    pub fn new(p: &Path, channels: i64, config: &TransformerConfig) -> Result<Self> {
        let project = |name: &str| match config.linear_projection {
            true => Linear::new(&p.sub(name), [channels; 2], Init::FanIn(1.0)),
            false => Linear::from_conv(&p.sub(name), [channels; 2], Init::FanIn(1.0)),
        };
        let block = |i| TransformerBlock::new(&p.sub("transformer_blocks").sub(i), channels, config);
        Ok(Self {
            norm: GroupNorm::new(&p.sub("norm"), config.groups, channels, 1e-6)?,
            proj_in: project("proj_in")?,
            blocks: (0..config.layers).map(block).collect::<Result<_>>()?,
            proj_out: project("proj_out")?,
        })
    }

    /// Appends every block's keys and values of `text` (B x M x cross_attention_dim), in the order `forward` takes them.
    pub fn keys_values(&self, text: &Tensor, all: &mut Vec<KeysValues>) -> Result<()> {
        for block in &self.blocks {
            all.push(block.attn2.keys_values(text)?);
        }
        Ok(())
    }

    /// B x C x h x w in and out; the input is added to the result.
    pub fn forward(&self, x: &Tensor, text: &mut slice::Iter<KeysValues>) -> Result<Tensor> {
        let mut h = self.proj_in.forward(&tokens(&self.norm.forward(x)?)?)?;
        for block in &self.blocks {
            h = block.forward(&h, text.next().context("the text's keys and values are another network's")?)?;
        }
        Ok(feature_map(&self.proj_out.forward(&h)?, x)?.f_add_(x)?)
    }
}
