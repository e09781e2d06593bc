//! Self-attention over the positions of a feature map (Vaswani et al. 2017).

use super::{GroupNorm, Init, Linear, Path};
use anyhow::Result;
use tch::Tensor;

#[derive(Debug)]
pub struct SelfAttention {
    norm: GroupNorm,
    qkv: Linear,
    out: Linear,
    heads: i64,
}

impl SelfAttention {
    pub fn new(p: &Path, channels: i64, heads: i64, groups: i64) -> Result<Self> {
        Ok(Self {
            norm: GroupNorm::new(&p.sub("norm"), groups, channels, 1e-5)?,
            qkv: Linear::new(&p.sub("qkv"), [channels, 3 * channels], Init::FanIn(1.0))?,
            out: Linear::new(&p.sub("out"), [channels; 2], Init::FanIn(0.2))?,
            heads,
        })
    }

    /// B x C x h x w in and out; the input is added to the result.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.size4()?;
        let tokens = self.norm.forward(x)?.f_permute([0, 2, 3, 1])?.f_reshape([b, h * w, c])?;
        let qkv = self.qkv.forward(&tokens)?.f_view([b, h * w, 3, self.heads, c / self.heads])?;
        let qkv = qkv.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?;
        let mixed = Tensor::f_scaled_dot_product_attention(
            &qkv[0],
            &qkv[1],
            &qkv[2],
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        )?;
        let mixed = mixed.f_permute([0, 2, 1, 3])?.f_reshape([b, h, w, c])?;
        Ok(self.out.forward(&mixed)?.f_permute([0, 3, 1, 2])?.f_add(x)?)
    }
}
