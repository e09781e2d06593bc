//! The residual block of diffusion U-Nets (Dhariwal & Nichol 2021) and of their autoencoders.

use super::layers::{Extras, silu};
use super::{Conv2d, GroupNorm, Init, Linear, Path};
use anyhow::{Result, ensure};
use tch::Tensor;

/// What a network's group normalizations share.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub groups: i64,
    pub eps: f64,
}

/// What an embedding e does to the features h after the first convolution.
#[derive(Debug)]
enum Modulation {
    None,
    /// norm(h + proj(e))
    Shift(Linear),
    /// norm(h) * (1 + scale(e)) + shift(e)
    ScaleShift(Linear),
}

/// GroupNorm, SiLU, convolution, twice; an embedding's effect between; plus the input.
#[derive(Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    modulation: Modulation,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    /// With scale and shift from the embedding.
    pub fn new(p: &Path, channels: i64, emb_channels: i64, groups: i64) -> Result<Self> {
        let projection = Linear::new(&p.sub("emb_proj"), [emb_channels, 2 * channels], Init::FanIn(0.5))?;
        Self::build(p, [channels; 2], Modulation::ScaleShift(projection), Norm { groups, eps: 1e-5 })
    }

    /// Stable Diffusion's: from one number of channels to another, a shift from the embedding where there is one.
    pub fn resizing(p: &Path, channels: [i64; 2], emb_channels: Option<i64>, norm: Norm) -> Result<Self> {
        let modulation = match emb_channels {
            None => Modulation::None,
            Some(e) => Modulation::Shift(Linear::new(&p.sub("time_emb_proj"), [e, channels[1]], Init::FanIn(0.5))?),
        };
        Self::build(p, channels, modulation, norm)
    }

    fn build(p: &Path, channels: [i64; 2], modulation: Modulation, norm: Norm) -> Result<Self> {
        let [input, output] = channels;
        let shortcut = || Conv2d::new(&p.sub("conv_shortcut"), channels, 1, 1, Init::FanIn(1.0));
        Ok(Self {
            norm1: GroupNorm::new(&p.sub("norm1"), norm.groups, input, norm.eps)?,
            conv1: Conv2d::new(&p.sub("conv1"), channels, 3, 1, Init::FanIn(1.7))?,
            modulation,
            norm2: GroupNorm::new(&p.sub("norm2"), norm.groups, output, norm.eps)?,
            conv2: Conv2d::new(&p.sub("conv2"), [output; 2], 3, 1, Init::FanIn(0.2))?,
            shortcut: (input != output).then(shortcut).transpose()?,
        })
    }

    /// What `emb` (B x E, after its activation) adds after the first convolution, B x C, in a block where that is all it does.
    pub fn shift(&self, emb: &Tensor) -> Result<Option<Tensor>> {
        match &self.modulation {
            Modulation::Shift(projection) => Ok(Some(projection.forward(emb)?)),
            Modulation::None | Modulation::ScaleShift(_) => Ok(None),
        }
    }

    /// `x` is B x C x h x w, `emb` B x E after its activation.
    pub fn forward(&self, x: &Tensor, emb: &Tensor) -> Result<Tensor> {
        let Modulation::ScaleShift(projection) = &self.modulation else {
            return self.forward_shifted(x, self.shift(emb)?.as_ref());
        };
        let h = self.norm2.forward(&self.conv1.forward_activated(&self.norm1, x, Extras::default())?)?;
        let emb = projection.forward(emb)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?.f_chunk(2, 1)?;
        let h = silu(h.f_mul(&emb[0].f_add_scalar(1.0)?)?.f_add(&emb[1])?)?;
        self.conv2.forward_with(&h, Extras { shift: None, residual: Some(&self.shortcut(x)?) })
    }

    /// As `forward`, with what `shift` gave for the embedding.
    pub fn forward_shifted(&self, x: &Tensor, shift: Option<&Tensor>) -> Result<Tensor> {
        let fits = match &self.modulation {
            Modulation::None => shift.is_none(),
            Modulation::Shift(_) => shift.is_some(),
            Modulation::ScaleShift(_) => false,
        };
        ensure!(fits, "the embedding is another network's");
        let h = self.conv1.forward_activated(&self.norm1, x, Extras { shift, residual: None })?;
        self.conv2.forward_activated(&self.norm2, &h, Extras { shift: None, residual: Some(&self.shortcut(x)?) })
    }

    fn shortcut(&self, x: &Tensor) -> Result<Tensor> {
        self.shortcut.as_ref().map_or_else(|| Ok(x.shallow_clone()), |shortcut| shortcut.forward(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::Weights;
    use std::collections::BTreeMap;
    use tch::{Device, Kind};

    #[test]
    fn weights_in_training_and_at_rest_compute_the_same() {
        let _guard = tch::no_grad_guard();
        let norm = Norm { groups: 8, eps: 1e-5 };
        let block = |weights: &Weights| ResnetBlock::resizing(&weights.root(), [256, 320], Some(32), norm).unwrap();
        let new = Weights::new(Device::Cpu);
        let training = block(&new);
        let tensors: BTreeMap<_, _> = new.finish().unwrap().into_iter().map(|(name, t)| (name, t.detach())).collect();
        let resting = block(&Weights::given(tensors, Device::Cpu));
        for (b, size) in [(1, [40, 33]), (2, [12, 17])] {
            let x = Tensor::randn([b, 256, size[0], size[1]], (Kind::Float, Device::Cpu)) * 3 + 1;
            for rows in [1, b] {
                let emb = Tensor::randn([rows, 32], (Kind::Float, Device::Cpu));
                let (found, expected) = (resting.forward(&x, &emb).unwrap(), training.forward(&x, &emb).unwrap());
                let error = ((found - &expected).norm() / expected.norm()).double_value(&[]);
                assert!(error > 0.0 && error < 3e-6, "{b} x {size:?} with {rows} embeddings: off by {error}");
            }
        }
    }
}
