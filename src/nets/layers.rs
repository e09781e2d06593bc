//! The plain layers: their parameters and their one operation.

use super::{Init, Path};
use anyhow::Result;
use tch::Tensor;

/// Convolution with bias, square kernel.
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Keeps the spatial size for `stride` 1 and an odd `kernel`.
    pub fn new(p: &Path, channels: [i64; 2], kernel: i64, stride: i64, init: Init) -> Result<Self> {
        let weight = p.get("weight", &[channels[1], channels[0], kernel, kernel], init)?;
        Ok(Self { weight, bias: p.get("bias", &[channels[1]], Init::Const(0.0))?, stride, padding: kernel / 2 })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        Ok(x.f_conv2d(&weight, Some(&bias), [self.stride; 2], [self.padding; 2], [1; 2], 1)?)
    }
}

/// y = x W^T + b on the last dimension.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub fn new(p: &Path, channels: [i64; 2], init: Init) -> Result<Self> {
        let weight = p.get("weight", &[channels[1], channels[0]], init)?;
        Ok(Self { weight, bias: p.get("bias", &[channels[1]], Init::Const(0.0))? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight.f_to_kind(x.kind())?, Some(&self.bias.f_to_kind(x.kind())?))?)
    }
}

/// Group normalization (Wu & He 2018).
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    pub fn new(p: &Path, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        let weight = p.get("weight", &[channels], Init::Const(1.0))?;
        Ok(Self { weight, bias: p.get("bias", &[channels], Init::Const(0.0))?, groups, eps })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        Ok(x.f_group_norm(self.groups, Some(&weight), Some(&bias), self.eps, false)?)
    }
}
