//! The residual block of diffusion U-Nets (Dhariwal & Nichol 2021), its embedding applied as scale and shift.

use super::{Conv2d, GroupNorm, Init, Linear, Path};
use anyhow::Result;
use tch::Tensor;

/// GroupNorm, SiLU, convolution, twice; scale and shift from an embedding between; plus the input.
#[derive(Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
}

impl ResnetBlock {
    pub fn new(p: &Path, channels: i64, emb_channels: i64, groups: i64) -> Result<Self> {
        let conv = |name: &str, init| Conv2d::new(&p.sub(name), [channels; 2], 3, 1, init);
        Ok(Self {
            norm1: GroupNorm::new(&p.sub("norm1"), groups, channels, 1e-5)?,
            conv1: conv("conv1", Init::FanIn(1.7))?,
            emb_proj: Linear::new(&p.sub("emb_proj"), [emb_channels, 2 * channels], Init::FanIn(0.5))?,
            norm2: GroupNorm::new(&p.sub("norm2"), groups, channels, 1e-5)?,
            conv2: conv("conv2", Init::FanIn(0.2))?,
        })
    }

    /// `x` is B x C x h x w, `emb` B x E.
    pub fn forward(&self, x: &Tensor, emb: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?.f_silu()?)?;
        let emb = self.emb_proj.forward(emb)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?.f_chunk(2, 1)?;
        let h = self.norm2.forward(&h)?.f_mul(&emb[0].f_add_scalar(1.0)?)?.f_add(&emb[1])?;
        Ok(self.conv2.forward(&h.f_silu()?)?.f_add(x)?)
    }
}
