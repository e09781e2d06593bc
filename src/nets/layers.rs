//! The plain layers: their parameters and their one operation.

use super::cpu::winograd::Convolution;
use super::{Init, Param, Path};
use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

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
        self.apply(x, None, Extras::default())
    }

    pub fn forward_with(&self, x: &Tensor, extras: Extras) -> Result<Tensor> {
        self.apply(x, None, extras)
    }

    /// The convolution of x resized to `size` by its nearest pixels.
    pub fn forward_resized(&self, x: &Tensor, size: [i64; 2]) -> Result<Tensor> {
        let bias = self.bias.as_deref();
        let fast = Convolution { weight: &self.weight, bias, size: Some(size), norm: None, residual: None };
        match self.keeps_size(x) && fast.suits(x) {
            true => fast.forward(x),
            false => self.forward(&x.f_upsample_nearest2d(size, None, None)?),
        }
    }

    /// Whether the result has the size of x and nothing of it is recorded for training.
    fn keeps_size(&self, x: &Tensor) -> bool {
        self.stride == 1 && self.padding == 1 && !self.weight.requires_grad() && !x.requires_grad()
    }

    /// The convolution of SiLU(norm(x)), with `extras`.
    pub fn forward_activated(&self, norm: &GroupNorm, x: &Tensor, extras: Extras) -> Result<Tensor> {
        self.apply(x, Some(norm), extras)
    }

    /// What each output pixel sees, B x h x w x k k I, where the convolution is faster as a product of matrices: on the CPU, where
    /// many weights meet few pixels, a convolution spends its time on bringing the weights in order.
    fn columns(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let (b, c, h, w) = x.size4()?;
        let side = self.weight.size()[2];
        let out = |n: i64| (n + 2 * self.padding - side) / self.stride + 1;
        let few = b * out(h) * out(w) <= 256 && side > 1 && self.weight.numel() >= 1 << 20;
        if !few
            || x.device() != Device::Cpu
            || x.kind() != Kind::Float
            || x.requires_grad()
            || self.weight.requires_grad()
        {
            return Ok(None);
        }
        let p = self.padding;
        let x = x.f_permute([0, 2, 3, 1])?.f_constant_pad_nd([0, 0, p, p, p, p])?.f_contiguous()?;
        let [image, row, pixel, _] = x.stride()[..] else { return Ok(None) };
        let strides = [image, self.stride * row, self.stride * pixel, row, pixel, 1];
        let columns = x.f_as_strided([b, out(h), out(w), side, side, c], strides, None)?;
        Ok(Some(columns.f_reshape([b, out(h), out(w), side * side * c])?))
    }

    fn apply(&self, x: &Tensor, norm: Option<&GroupNorm>, extras: Extras) -> Result<Tensor> {
        // A shift that all members of a batch share joins the bias.
        let (shared, own) = match extras.shift {
            Some(shift) if shift.size()[0] == 1 => (Some(shift), None),
            own => (None, own),
        };
        let bias = match (&self.bias, shared) {
            (Some(bias), Some(shift)) => Some(bias.f_to_kind(shift.kind())?.f_add(&shift.f_view([-1])?)?),
            (None, Some(shift)) => Some(shift.f_view([-1])?),
            (Some(bias), None) => Some(bias.shallow_clone()),
            (None, None) => None,
        };
        let fast =
            Convolution { weight: &self.weight, bias: bias.as_ref(), size: None, norm, residual: extras.residual };
        if own.is_none() && self.keeps_size(x) && fast.suits(x) {
            return fast.forward(x);
        }
        let activated = norm.map(|norm| silu(norm.forward(x)?)).transpose()?;
        let x = activated.as_ref().unwrap_or(x);
        let mut y = match self.columns(x)? {
            Some(columns) => feature_map_product(&columns, &self.weight, bias.as_ref())?,
            None => {
                let bias = bias.map(|bias| bias.f_to_kind(x.kind())).transpose()?;
                let weight = self.weight.f_to_kind(x.kind())?;
                x.f_conv2d(&weight, bias.as_ref(), [self.stride; 2], [self.padding; 2], [1; 2], 1)?
            }
        };
        if let Some(shift) = own {
            y = y.f_add_(&shift.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?;
        }
        match extras.residual {
            Some(residual) => Ok(y.f_add_(residual)?),
            None => Ok(y),
        }
    }
}

/// A convolution as the product of its columns, B x h x w x k k I, and its weights.
fn feature_map_product(columns: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let matrix = weight.f_permute([0, 2, 3, 1])?.f_reshape([weight.size()[0], -1])?;
    Ok(product(columns, &matrix, bias)?.f_permute([0, 3, 1, 2])?)
}

/// What may be added to a convolution's result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// B x C, or 1 x C for all of a batch.
    pub shift: Option<&'a Tensor>,
    /// Of the result's shape.
    pub residual: Option<&'a Tensor>,
}

/// x sigmoid(x), in the memory of x where nobody needs x again.
pub fn silu(mut x: Tensor) -> Result<Tensor> {
    match x.requires_grad() {
        true => Ok(x.f_silu()?),
        false => Ok(x.f_silu_()?),
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
        product(x, &self.weight, self.bias.as_deref())
    }

    /// The layers that give the first and the second half of this one's result, on the same memory.
    pub fn halves(&self) -> Result<[Self; 2]> {
        let half = |i: i64| -> Result<Self> {
            let part = |x: &Tensor| x.f_narrow(0, i * (x.size()[0] / 2), x.size()[0] / 2).map(Param::new);
            Ok(Self { weight: part(&self.weight)?, bias: self.bias.as_deref().map(part).transpose()? })
        };
        Ok([half(0)?, half(1)?])
    }
}

/// Most elements of a matrix to convert at once: what the C library gives out again without asking the system.
const CONVERTED: i64 = 4 << 20;

/// x W^T + b on the last dimension, in the kind of x.
fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let kind = x.kind();
    let bias = bias.map(|bias| bias.f_to_kind(kind)).transpose()?;
    let (outputs, inputs) = weight.size2()?;
    if weight.kind() == kind || outputs * inputs <= CONVERTED || x.requires_grad() {
        return Ok(x.f_linear(&weight.f_to_kind(kind)?, bias.as_ref())?);
    }
    let mut shape = x.size();
    let rows = x.f_reshape([-1, inputs])?;
    let y = Tensor::f_empty([rows.size()[0], outputs], (kind, x.device()))?;
    let step = (CONVERTED / inputs).max(1);
    for first in (0..outputs).step_by(step as usize) {
        let len = step.min(outputs - first);
        let weight = weight.f_narrow(0, first, len)?.f_to_kind(kind)?.f_transpose(0, 1)?;
        let part = y.f_narrow(1, first, len)?;
        let _part = match &bias {
            Some(bias) => bias.f_narrow(0, first, len)?.f_addmm_out(&part, &rows, &weight)?,
            None => rows.f_mm_out(&part, &weight)?,
        };
    }
    shape.pop();
    shape.push(outputs);
    Ok(y.f_view(shape.as_slice())?)
}

/// Group normalization (Wu & He 2018).
#[derive(Debug)]
pub struct GroupNorm {
    pub(super) weight: Param,
    pub(super) bias: Param,
    pub(super) groups: i64,
    pub(super) eps: f64,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::Weights;

    fn normal(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn given(shape: &[i64], kind: Kind) -> (Weights, Tensor, Tensor) {
        let fan_in: i64 = shape[1..].iter().product();
        let weight = (normal(shape) / (fan_in as f64).sqrt()).to_kind(kind);
        let bias = normal(&shape[..1]).to_kind(kind);
        let tensors = [("weight", &weight), ("bias", &bias)].map(|(name, t)| (name.to_owned(), t.shallow_clone()));
        (Weights::given(tensors.into(), Device::Cpu), weight.to_kind(Kind::Double), bias.to_kind(Kind::Double))
    }

    fn expect(what: &str, found: &Tensor, expected: &Tensor) {
        let error = ((found - expected).norm() / expected.norm()).double_value(&[]);
        assert!(error < 1e-6, "{what} is off by {error}");
    }

    #[test]
    fn many_weights_over_few_pixels_are_a_product() {
        let _guard = tch::no_grad_guard();
        for (kind, side, stride, [h, w]) in
            [(Kind::Float, 3, 1, [5, 6]), (Kind::BFloat16, 3, 2, [9, 8]), (Kind::BFloat16, 3, 1, [7, 7])]
        {
            let (weights, weight, bias) = given(&[700, 720, side, side], kind);
            let conv = Conv2d::new(&weights.root(), [720, 700], side, stride, Init::Const(0.0)).unwrap();
            let x = normal(&[2, 720, h, w]);
            assert!(conv.columns(&x).unwrap().is_some());
            let exact = x.to_kind(Kind::Double).conv2d(&weight, Some(&bias), [stride], [1], [1], 1);
            let (shift, residual) = (normal(&[1, 700]), normal(&exact.size()));
            let expected = exact + &residual + shift.unsqueeze(-1).unsqueeze(-1);
            let extras = Extras { shift: Some(&shift), residual: Some(&residual) };
            expect("convolution", &conv.forward_with(&x, extras).unwrap(), &expected);
        }
    }

    #[test]
    fn large_weights_of_another_kind_are_converted_in_parts() {
        let _guard = tch::no_grad_guard();
        let (weights, weight, bias) = given(&[2500, 2000], Kind::BFloat16);
        let linear = Linear::new(&weights.root(), [2000, 2500], Init::Const(0.0)).unwrap();
        let x = normal(&[2, 3, 2000]);
        let expected = x.to_kind(Kind::Double).linear(&weight, Some(&bias));
        let found = linear.forward(&x).unwrap();
        assert_eq!(found.kind(), Kind::Float);
        expect("linear layer", &found, &expected);
        let [first, second] = linear.halves().unwrap().map(|half| half.forward(&x).unwrap());
        expect("first half", &first, &expected.narrow(-1, 0, 1250));
        expect("second half", &second, &expected.narrow(-1, 1250, 1250));
    }
}
