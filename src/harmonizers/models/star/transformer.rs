//! Layers of the Transformers of `star` (Dosovitskiy et al. 2021): normalization first, each sublayer added to its input.

use crate::nets::{Init, LayerNorm, Linear, Path};
use anyhow::Result;
use tch::{Kind, Tensor};

#[derive(Debug)]
pub struct Layer {
    norm1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    wide: Linear,
    narrow: Linear,
    heads: i64,
}

impl Layer {
    pub fn new(p: &Path, channels: i64, heads: i64) -> Result<Self> {
        let linear = |name: &str, channels, gain| Linear::new(&p.sub(name), channels, Init::FanIn(gain));
        let norm = |name: &str| LayerNorm::new(&p.sub(name), channels, 1e-6);
        Ok(Self {
            norm1: norm("norm1")?,
            qkv: linear("qkv", [channels, 3 * channels], 1.0)?,
            out: linear("out", [channels; 2], 0.5)?,
            norm2: norm("norm2")?,
            wide: linear("wide", [channels, 4 * channels], 1.0)?,
            narrow: linear("narrow", [4 * channels, channels], 0.5)?,
            heads,
        })
    }

    /// B x N x channels in and out; `unseen` (B x 1 x 1 x N) is added to all similarities to a position.
    pub fn forward(&self, x: &Tensor, unseen: Option<&Tensor>) -> Result<Tensor> {
        let (b, n, c) = x.size3()?;
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?.f_view([b, n, 3, self.heads, c / self.heads])?;
        let qkv = qkv.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?;
        let mixed = Tensor::f_scaled_dot_product_attention(&qkv[0], &qkv[1], &qkv[2], unseen, 0.0, false, None, false)?;
        let mixed = mixed.f_permute([0, 2, 1, 3])?.f_reshape([b, n, c])?;
        let x = x.f_add(&self.out.forward(&mixed)?)?;
        let wide = self.wide.forward(&self.norm2.forward(&x)?)?.f_gelu("tanh")?;
        Ok(x.f_add(&self.narrow.forward(&wide)?)?)
    }
}

/// Sines and cosines of where each patch of B x C x h x w is, 1 x patches x `channels`: in eighths of the long side, so that a
/// proxy of another size has the same places.
pub fn places(latents: &Tensor, patch: i64, channels: i64) -> Result<Tensor> {
    let (_, _, h, w) = latents.size4()?;
    let (h, w) = (h / patch, w / patch);
    let long = h.max(w) as f64;
    let frequencies = channels / 4;
    let mut values = Vec::with_capacity((h * w * channels) as usize);
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        for place in [y, x].map(|i| (i as f64 + 0.5) * 8.0 / long) {
            for f in 0..frequencies {
                let angle = place * std::f64::consts::PI / 64f64.powf(f as f64 / frequencies as f64);
                values.extend([angle.sin() as f32, angle.cos() as f32]);
            }
        }
    }
    Ok(Tensor::f_from_slice(&values)?
        .f_view([1, h * w, channels])?
        .f_to_kind(Kind::Float)?
        .f_to_device(latents.device())?)
}
