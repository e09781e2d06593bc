//! 3x3 convolution on the CPU by minimal filtering (Winograd 1980; Lavin & Gray 2016): tiles of M x M outputs from A x A inputs,
//! A = M + 2, with A^2 multiplications a channel pair instead of 9 M^2. The products are matrix products, which libtorch does;
//! the transforms before and after them take the normalization, the activation, the bias and the residual along, so that no
//! feature map is read or written for these alone.
//!
//! Weights are transformed when they are used: transformed they would take two to four times their memory, and bf16 ones
//! are read as they are. f32 features, channels last. Off from a direct convolution by 1e-6 in relative L2 norm.

mod transforms;

use crate::nets::GroupNorm;
use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};
use transforms::{LANES, Lanes, Place, Rows, Tiles, fill, moments};

/// Floats of transformed input to have at a time, if that is more than one row of tiles.
const STRIP: usize = 4 << 20;
/// Output channels to transform weights for at a time, where all tiles fit in one strip.
const BLOCK: usize = 64;

/// One convolution, stride 1, zeros around: `weight` is O x I x 3 x 3, channels last, f32 or bf16.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'a> {
    pub weight: &'a Tensor,
    /// One for each output channel.
    pub bias: Option<&'a Tensor>,
    /// What x is resized to first, by its nearest pixels.
    pub size: Option<[i64; 2]>,
    /// Replaces the input x by SiLU(norm(x)).
    pub norm: Option<&'a GroupNorm>,
    /// Is added to the result.
    pub residual: Option<&'a Tensor>,
}

impl Convolution<'_> {
    /// Whether `forward` can do this for `x` and is faster than libtorch, which it is not with few channels and pixels.
    pub fn suits(&self, x: &Tensor) -> bool {
        let (Ok((_, i, h, w)), outputs) = (x.size4(), self.weight.size()[0]) else { return false };
        let [h, w] = self.size.unwrap_or([h, w]);
        let least = i.min(outputs);
        self.possible(x) && h.min(w) >= 8 && (least >= 256 || least >= 128 && h * w >= 64 * 64)
    }

    fn possible(&self, x: &Tensor) -> bool {
        let weight = self.weight.size();
        x.device() == Device::Cpu
            && x.kind() == Kind::Float
            && matches!(self.weight.kind(), Kind::Float | Kind::BFloat16)
            && x.dim() == 4
            && weight[1..] == [x.size()[1], 3, 3]
            && weight[..2].iter().all(|channels| channels % LANES as i64 == 0)
    }

    /// B x I x h x w to B x O x h x w, or x `size`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ensure!(self.possible(x), "not a convolution for minimal filtering: {:?} of {:?}", self.weight, x);
        let (batch, _, h, w) = x.size4()?;
        let [h, w] = self.size.unwrap_or([h, w]);
        let inside_out = |x: &Tensor| -> Result<Tensor> { Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?) };
        let (x, weight) = (inside_out(x)?, inside_out(self.weight)?);
        let outputs = weight.size()[0];
        let y = Tensor::f_empty([batch, h, w, outputs], (Kind::Float, Device::Cpu))?;
        let fits = self.bias.is_none_or(|bias| bias.size() == [outputs])
            && self.norm.is_none_or(|norm| norm.weight.size() == [x.size()[3]])
            && self.residual.is_none_or(|residual| residual.size() == [batch, outputs, h, w]);
        ensure!(fits, "bias, norm or residual don't fit a convolution of {x:?} by {weight:?}");
        let residual = self.residual.map(inside_out).transpose()?;
        let bias = match self.bias {
            Some(bias) => bias.f_to_kind(Kind::Float)?.f_contiguous()?,
            None => Tensor::f_zeros([outputs], (Kind::Float, Device::Cpu))?,
        };
        for b in 0..batch {
            let (x, y) = (x.f_select(0, b)?, y.f_select(0, b)?);
            let residual = residual.as_ref().map(|residual| residual.f_select(0, b)).transpose()?;
            let affine = self.norm.map(|norm| affine(norm, &x)).transpose()?;
            let image = Image { x: &x, affine, weight: &weight, bias: &bias, residual: residual.as_ref(), y: &y };
            match h.min(w) {
                ..32 => image.convolve::<2, 4, 16>()?,
                _ => image.convolve::<4, 6, 36>()?,
            }
        }
        Ok(y.f_permute([0, 3, 1, 2])?)
    }
}

/// Scale and shift of every channel that make `norm` of x (h x w x C).
fn affine(norm: &GroupNorm, x: &Tensor) -> Result<[Vec<f32>; 2]> {
    let values = |x: &Tensor| -> Result<Vec<f64>> { Ok(x.f_to_kind(Kind::Double)?.try_into()?) };
    let (weight, bias) = (values(&norm.weight)?, values(&norm.bias)?);
    let (h, w, c) = x.size3()?;
    let [sums, squares] = moments(floats(x)?, c as usize / LANES);
    let group = (c / norm.groups) as usize;
    let count = (h * w) as f64 * group as f64;
    let mut scale = Vec::with_capacity(c as usize);
    let mut shift = Vec::with_capacity(c as usize);
    for i in (0..c as usize).step_by(group) {
        let sum = |values: &[f64]| values[i..i + group].iter().sum::<f64>() / count;
        let mean = sum(&sums);
        let deviation = ((sum(&squares) - mean * mean).max(0.0) + norm.eps).sqrt();
        for i in i..i + group {
            scale.push((weight[i] / deviation) as f32);
            shift.push((bias[i] - mean * weight[i] / deviation) as f32);
        }
    }
    Ok([scale, shift])
}

/// The values of a contiguous tensor.
fn floats(x: &Tensor) -> Result<&[Lanes]> {
    let (start, len) = dense(x)?;
    // SAFETY: `len` values in this process' memory, which nothing writes while `x` is borrowed.
    Ok(unsafe { std::slice::from_raw_parts(start, len) })
}

/// Where the values of a contiguous tensor begin, and how many whole `Lanes` they are.
fn dense(x: &Tensor) -> Result<(*mut Lanes, usize)> {
    let dense = x.is_contiguous() && x.kind() == Kind::Float && x.device() == Device::Cpu;
    ensure!(dense, "{x:?} is not contiguous f32 on the CPU");
    Ok((x.data_ptr() as *mut Lanes, x.numel() / LANES))
}

/// As `floats`, of a tensor that this module has made itself.
fn floats_mut(x: &mut Tensor) -> Result<&mut [Lanes]> {
    let (start, len) = dense(x)?;
    // SAFETY: as above; `x` is borrowed for writing and shares its memory with no tensor in use.
    Ok(unsafe { std::slice::from_raw_parts_mut(start, len) })
}

/// One member of a batch.
struct Image<'a> {
    /// h x w x I
    x: &'a Tensor,
    affine: Option<[Vec<f32>; 2]>,
    /// O x 3 x 3 x I
    weight: &'a Tensor,
    bias: &'a Tensor,
    residual: Option<&'a Tensor>,
    /// h x w x O
    y: &'a Tensor,
}

impl Image<'_> {
    fn convolve<const M: usize, const A: usize, const A2: usize>(&self) -> Result<()> {
        let (h, w, _) = self.y.size3()?;
        let (from_h, from_w, inputs) = self.x.size3()?;
        let outputs = self.weight.size()[0] as usize;
        let (channels, h, w) = (inputs as usize, h as usize, w as usize);
        let (down, across) = (h.div_ceil(M), w.div_ceil(M));
        let rows = (STRIP / (A2 * across * channels)).clamp(1, down);
        let one_strip = rows == down;
        let block = if one_strip { BLOCK } else { outputs };
        let empty = |shape: [usize; 3]| Tensor::f_empty(shape.map(|n| n as i64), (Kind::Float, Device::Cpu));

        let pitch = across * M + 2;
        let groups = channels / LANES;
        let mut padded = vec![[0.0; LANES]; (rows * M + 2) * pitch * groups];
        let mut u = empty([A2, block, channels])?;
        for start in (0..down).step_by(rows) {
            let rows = rows.min(down - start);
            let tiles = Tiles { down: rows, across, pitch, groups };
            let image = Rows { first: start * M, h, w, from: [from_h as usize, from_w as usize] };
            fill(&mut padded, floats(self.x)?, self.affine.as_ref(), image, tiles, M);
            let mut v = empty([A2, rows * across, channels])?;
            transform_input::<M>(&padded, floats_mut(&mut v)?, tiles);
            for first in (0..outputs).step_by(block) {
                let block = block.min(outputs - first);
                if start == 0 || one_strip {
                    if u.size()[1] as usize != block {
                        u = empty([A2, block, channels])?;
                    }
                    transform_weights::<M>(self.weight, first, &mut u)?;
                }
                let mut m = empty([A2, rows * across, block])?;
                m = v.f_bmm_out(&m, &u.f_transpose(1, 2)?)?;
                let place = Place { row: start * M, h, w, first: first / LANES, groups: outputs / LANES };
                let residual = self.residual.map(floats).transpose()?;
                let tiles = Tiles { groups: block / LANES, ..tiles };
                let mut y = self.y.shallow_clone();
                transform_output::<M>(floats(&m)?, floats(self.bias)?, residual, floats_mut(&mut y)?, place, tiles);
            }
        }
        Ok(())
    }
}

fn transform_input<const M: usize>(padded: &[Lanes], v: &mut [Lanes], tiles: Tiles) {
    if M == 2 { transforms::input_2(padded, v, tiles) } else { transforms::input_4(padded, v, tiles) }
}

fn transform_weights<const M: usize>(weight: &Tensor, first: usize, u: &mut Tensor) -> Result<()> {
    let (block, inputs) = (u.size()[1], u.size()[2]);
    let g = weight.f_narrow(0, first as i64, block)?.f_to_kind(Kind::Float)?;
    let (g, u, groups) = (floats(&g)?, floats_mut(u)?, inputs as usize / LANES);
    if M == 2 {
        transforms::weights_2(g, u, groups)
    } else {
        transforms::weights_4(g, u, groups)
    }
    Ok(())
}

fn transform_output<const M: usize>(
    m: &[Lanes],
    bias: &[Lanes],
    residual: Option<&[Lanes]>,
    y: &mut [Lanes],
    place: Place,
    tiles: Tiles,
) {
    if M == 2 {
        transforms::output_2(m, bias, residual, y, place, tiles)
    } else {
        transforms::output_4(m, bias, residual, y, place, tiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::{Path, Weights};

    fn normal(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn check(batch: i64, [i, o]: [i64; 2], [h, w]: [i64; 2], kind: Kind) {
        let _guard = tch::no_grad_guard();
        let (x, bias, residual) = (normal(&[batch, i, h, w]) * 2 + 1, normal(&[o]), normal(&[batch, o, h, w]));
        let weight = (normal(&[o, i, 3, 3]) / (9.0 * i as f64).sqrt()).to_kind(kind);
        let tensors = [("weight", normal(&[i])), ("bias", normal(&[i]))].map(|(name, t)| (name.to_owned(), t));
        let weights = Weights::given(tensors.into(), Device::Cpu);
        let norm = |p: &Path| GroupNorm::new(p, 32, i, 1e-5);
        let norm = norm(&weights.root()).unwrap();
        let exact = |x: &Tensor| {
            let double = |x: &Tensor| x.to_kind(Kind::Double);
            double(x).conv2d(&double(&weight), Some(&double(&bias)), [1], [1], [1], 1)
        };
        let expect = |what: &str, found: Tensor, expected: Tensor| {
            let error = ((found - &expected).norm() / expected.norm()).double_value(&[]);
            assert!(error < 5e-6, "{what} of {batch} x {i} x {h} x {w} to {o} channels is off by {error}");
        };
        let plain = Convolution { weight: &weight, bias: Some(&bias), size: None, norm: None, residual: None };
        expect("convolution", plain.forward(&x).unwrap(), exact(&x));
        for size in [[2 * h, 2 * w], [2 * h - 1, 2 * w - 3]] {
            let grown = Convolution { size: Some(size), ..plain };
            expect("resized", grown.forward(&x).unwrap(), exact(&x.upsample_nearest2d(size, None, None)));
        }
        let all = Convolution { norm: Some(&norm), residual: Some(&residual), ..plain };
        expect("block", all.forward(&x).unwrap(), exact(&norm.forward(&x).unwrap().silu()) + residual);
    }

    #[test]
    fn equals_the_direct_convolution() {
        check(1, [64, 128], [32, 48], Kind::Float);
        check(2, [128, 64], [33, 38], Kind::Float);
        check(1, [96, 160], [9, 15], Kind::Float);
        check(1, [64, 64], [70, 200], Kind::BFloat16);
        check(1, [512, 64], [64, 96], Kind::Float);
    }
}
