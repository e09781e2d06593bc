//! The plain layers: their parameters and their one operation.

use super::{Init, Param, Path};
use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

/// Convolution with a square kernel.
#[derive(Debug)]
pub struct Conv2d {
    weight: Param,
    bias: Option<Param>,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Keeps the spatial size for `stride` 1 and an odd `kernel`.
    pub fn new(p: &Path, channels: [i64; 2], kernel: i64, stride: i64, init: Init) -> Result<Self> {
        let bias = Some(p.get("bias", &[channels[1]], Init::Const(0.0))?);
        Ok(Self { bias, ..Self::without_bias(p, channels, kernel, stride, init)? })
    }

    pub fn without_bias(p: &Path, channels: [i64; 2], kernel: i64, stride: i64, init: Init) -> Result<Self> {
        let weight = p.get("weight", &[channels[1], channels[0], kernel, kernel], init)?;
        Ok(Self { weight, bias: None, stride, padding: kernel / 2 })
    }

    /// The same without zeros around its input.
    pub fn unpadded(self) -> Self {
        Self { padding: 0, ..self }
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, to_kind(&self.bias, x.kind())?);
        Ok(x.f_conv2d(&weight, bias.as_ref(), [self.stride; 2], [self.padding; 2], [1; 2], 1)?)
    }
}

/// y = x W^T + b on the last dimension.
#[derive(Debug)]
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
}

impl Linear {
    pub fn new(p: &Path, channels: [i64; 2], init: Init) -> Result<Self> {
        let bias = Some(p.get("bias", &[channels[1]], Init::Const(0.0))?);
        Ok(Self { bias, ..Self::without_bias(p, channels, init)? })
    }

    pub fn without_bias(p: &Path, channels: [i64; 2], init: Init) -> Result<Self> {
        Ok(Self { weight: p.get("weight", &[channels[1], channels[0]], init)?, bias: None })
    }

    /// Stored as the 1x1 convolution that it equals on channels.
    pub fn from_conv(p: &Path, channels: [i64; 2], init: Init) -> Result<Self> {
        let weight = p.get("weight", &[channels[1], channels[0], 1, 1], init)?.f_reshape([channels[1], channels[0]])?;
        Ok(Self { weight: Param::new(weight), bias: Some(p.get("bias", &[channels[1]], Init::Const(0.0))?) })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight.f_to_kind(x.kind())?, to_kind(&self.bias, x.kind())?.as_ref())?)
    }
}

/// Group normalization (Wu & He 2018).
#[derive(Debug)]
pub struct GroupNorm {
    weight: Param,
    bias: Param,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    pub fn new(p: &Path, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        ensure!(groups > 0 && channels % groups == 0, "{channels} channels don't divide into {groups} groups");
        let weight = p.get("weight", &[channels], Init::Const(1.0))?;
        Ok(Self { weight, bias: p.get("bias", &[channels], Init::Const(0.0))?, groups, eps })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        Ok(x.f_group_norm(self.groups, Some(&weight), Some(&bias), self.eps, false)?)
    }
}

/// Layer normalization of the last dimension (Ba et al. 2016).
#[derive(Debug)]
pub struct LayerNorm {
    weight: Param,
    bias: Param,
    eps: f64,
}

impl LayerNorm {
    pub fn new(p: &Path, channels: i64, eps: f64) -> Result<Self> {
        let weight = p.get("weight", &[channels], Init::Const(1.0))?;
        Ok(Self { weight, bias: p.get("bias", &[channels], Init::Const(0.0))?, eps })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.f_to_kind(x.kind())?, self.bias.f_to_kind(x.kind())?);
        Ok(x.f_layer_norm(weight.size(), Some(&weight), Some(&bias), self.eps, false)?)
    }
}

fn to_kind(bias: &Option<Param>, kind: Kind) -> Result<Option<Tensor>> {
    Ok(bias.as_ref().map(|bias| bias.f_to_kind(kind)).transpose()?)
}
