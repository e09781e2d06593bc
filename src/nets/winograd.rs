//! 3x3 convolution on the CPU by minimal filtering (Winograd 1980; Lavin & Gray 2016): tiles of M x M outputs from A x A inputs,
//! A = M + 2, with A^2 multiplications a channel pair instead of 9 M^2. The products are matrix products, which libtorch does;
//! the transforms before and after them take the normalization, the activation, the bias and the residual along, so that no
//! feature map is read or written for these alone.
//!
//! Weights are transformed when they are used: transformed they would take two to four times their memory, and bf16 ones
//! are read as they are. f32 features, channels last. Off from a direct convolution by 1e-6 in relative L2 norm.

use super::GroupNorm;
use crate::simd::vectorized;
use anyhow::{Result, ensure};
use std::array;
use tch::{Device, Kind, Tensor};

/// Channels are worked on in groups of this, a cache line.
const LANES: usize = 16;
type Lanes = [f32; LANES];

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
    /// Whether `forward` can do this for `x`, and is faster than a direct convolution.
    pub fn suits(&self, x: &Tensor) -> bool {
        let (x_size, weight) = (x.size(), self.weight.size());
        let [_, i, h, w] = x_size[..] else { return false };
        let [h, w] = self.size.unwrap_or([h, w]);
        x.device() == Device::Cpu
            && x.kind() == Kind::Float
            && matches!(self.weight.kind(), Kind::Float | Kind::BFloat16)
            && weight[2..] == [3, 3]
            && weight[1] == i
            && i.min(weight[0]) >= 64
            && i % LANES as i64 == 0
            && weight[0] % LANES as i64 == 0
            && h.min(w) >= 8
    }

    /// B x I x h x w to B x O x h x w, or x `size`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ensure!(self.suits(x), "not a convolution for minimal filtering: {:?} of {:?}", self.weight, x);
        let (batch, _, h, w) = x.size4()?;
        let [h, w] = self.size.unwrap_or([h, w]);
        let inside_out = |x: &Tensor| -> Result<Tensor> { Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?) };
        let (x, weight) = (inside_out(x)?, inside_out(self.weight)?);
        let outputs = weight.size()[0];
        let y = Tensor::f_empty([batch, h, w, outputs], (Kind::Float, Device::Cpu))?;
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
    let dense = x.is_contiguous() && x.kind() == Kind::Float && x.device() == Device::Cpu;
    ensure!(dense, "{x:?} is not contiguous f32 on the CPU");
    // SAFETY: a dense f32 tensor in this process' memory, which nothing writes while it is borrowed.
    let floats = unsafe { std::slice::from_raw_parts(x.data_ptr() as *const f32, x.numel()) };
    Ok(floats.as_chunks().0)
}

/// As `floats`, of a tensor that this module has made itself.
fn floats_mut(x: &mut Tensor) -> Result<&mut [Lanes]> {
    let all = floats(x)?;
    let (start, len) = (all.as_ptr() as *mut Lanes, all.len());
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

/// A strip of tiles: so many of them, whose input lies in rows of `pitch` pixels of `groups` times `LANES` channels.
#[derive(Clone, Copy)]
struct Tiles {
    down: usize,
    across: usize,
    pitch: usize,
    groups: usize,
}

/// Rows from `first` on of an image of h x w, which is one of the size `from` resized.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    h: usize,
    w: usize,
    from: [usize; 2],
}

/// The nearest of `from` pixels to the one at `i` of `to`.
#[inline(always)]
fn nearest(i: usize, to: usize, from: usize) -> usize {
    if from == to { i } else { ((i as f32 * (from as f32 / to as f32)) as usize).min(from - 1) }
}

/// Where in an image of h x w x `groups` lanes a strip's result begins.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    h: usize,
    w: usize,
    first: usize,
    groups: usize,
}

#[inline(always)]
fn lanes(f: impl FnMut(usize) -> f32) -> Lanes {
    array::from_fn(f)
}

vectorized! {
    /// Sums and sums of squares of every channel.
    fn moments(x: &[Lanes], groups: usize) -> [Vec<f64>; 2] {
        let mut totals = [vec![0.0; groups * LANES], vec![0.0; groups * LANES]];
        let mut sums = vec![[[0.0f32; LANES]; 2]; groups];
        // In f32 over a few pixels, in f64 over these.
        for pixels in x.chunks(32 * groups) {
            sums.fill([[0.0; LANES]; 2]);
            for pixel in pixels.chunks_exact(groups) {
                for (x, [sum, square]) in pixel.iter().zip(&mut sums) {
                    *sum = lanes(|l| sum[l] + x[l]);
                    *square = lanes(|l| square[l] + x[l] * x[l]);
                }
            }
            for (k, sums) in sums.iter().enumerate() {
                for (total, sum) in totals.iter_mut().zip(sums) {
                    for (total, sum) in total[k * LANES..].iter_mut().zip(sum) {
                        *total += f64::from(*sum);
                    }
                }
            }
        }
        totals
    }
}

/// e^x to 2 units in the last place, 0 or infinity never reached.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to a whole number, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    // ln 2 in two parts, the first short enough for n times it to be exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23)
}

vectorized! {
    /// A strip's input with the border around it: rows from one above the strip's first.
    fn fill(padded: &mut [Lanes], x: &[Lanes], affine: Option<&[Vec<f32>; 2]>, image: Rows, tiles: Tiles, m: usize) {
        let Tiles { pitch, groups, .. } = tiles;
        for row in 0..tiles.down * m + 2 {
            let padded = &mut padded[row * pitch * groups..][..pitch * groups];
            let Some(y) = (image.first + row).checked_sub(1).filter(|y| *y < image.h) else {
                padded.fill([0.0; LANES]);
                continue;
            };
            let [from_h, from_w] = image.from;
            let x = &x[nearest(y, image.h, from_h) * from_w * groups..][..from_w * groups];
            let (left, inner) = padded.split_at_mut(groups);
            let (inner, right) = inner.split_at_mut(image.w * groups);
            left.fill([0.0; LANES]);
            right.fill([0.0; LANES]);
            for (i, to) in inner.chunks_exact_mut(groups).enumerate() {
                let from = &x[nearest(i, image.w, from_w) * groups..][..groups];
                let Some([scale, shift]) = affine else {
                    to.copy_from_slice(from);
                    continue;
                };
                let affine = scale.as_chunks::<LANES>().0.iter().zip(shift.as_chunks::<LANES>().0);
                for ((to, from), (scale, shift)) in to.iter_mut().zip(from).zip(affine) {
                    *to = lanes(|l| {
                        let x = from[l] * scale[l] + shift[l];
                        x / (1.0 + exp(-x))
                    });
                }
            }
        }
    }
}

/// B^T d, for F(2, 3) and F(4, 3).
#[inline(always)]
fn input_1d<const A: usize>(d: &[Lanes; A]) -> [Lanes; A] {
    let mut t = [[0.0; LANES]; A];
    if A == 4 {
        t[0] = lanes(|l| d[0][l] - d[2][l]);
        t[1] = lanes(|l| d[1][l] + d[2][l]);
        t[2] = lanes(|l| d[2][l] - d[1][l]);
        t[3] = lanes(|l| d[1][l] - d[3][l]);
    } else {
        t[0] = lanes(|l| 4.0 * d[0][l] - 5.0 * d[2][l] + d[4][l]);
        t[1] = lanes(|l| d[4][l] - 4.0 * d[2][l] + (d[3][l] - 4.0 * d[1][l]));
        t[2] = lanes(|l| d[4][l] - 4.0 * d[2][l] - (d[3][l] - 4.0 * d[1][l]));
        t[3] = lanes(|l| d[4][l] - d[2][l] + 2.0 * (d[3][l] - d[1][l]));
        t[4] = lanes(|l| d[4][l] - d[2][l] - 2.0 * (d[3][l] - d[1][l]));
        t[5] = lanes(|l| 4.0 * d[1][l] - 5.0 * d[3][l] + d[5][l]);
    }
    t
}

/// G g, likewise.
#[inline(always)]
fn weight_1d<const A: usize>(g: &[Lanes; 3]) -> [Lanes; A] {
    let mut t = [[0.0; LANES]; A];
    t[A - 1] = g[2];
    if A == 4 {
        t[0] = g[0];
        t[1] = lanes(|l| 0.5 * (g[0][l] + g[2][l] + g[1][l]));
        t[2] = lanes(|l| 0.5 * (g[0][l] + g[2][l] - g[1][l]));
    } else {
        t[0] = lanes(|l| 0.25 * g[0][l]);
        t[1] = lanes(|l| (g[0][l] + g[2][l] + g[1][l]) * (-1.0 / 6.0));
        t[2] = lanes(|l| (g[0][l] + g[2][l] - g[1][l]) * (-1.0 / 6.0));
        t[3] = lanes(|l| g[0][l] * (1.0 / 24.0) + g[2][l] * (1.0 / 6.0) + g[1][l] * (1.0 / 12.0));
        t[4] = lanes(|l| g[0][l] * (1.0 / 24.0) + g[2][l] * (1.0 / 6.0) - g[1][l] * (1.0 / 12.0));
    }
    t
}

/// A^T m, likewise.
#[inline(always)]
fn output_1d<const M: usize, const A: usize>(m: &[Lanes; A]) -> [Lanes; M] {
    let mut t = [[0.0; LANES]; M];
    if A == 4 {
        t[0] = lanes(|l| m[0][l] + m[1][l] + m[2][l]);
        t[1] = lanes(|l| m[1][l] - m[2][l] - m[3][l]);
    } else {
        t[0] = lanes(|l| m[0][l] + (m[1][l] + m[2][l]) + (m[3][l] + m[4][l]));
        t[1] = lanes(|l| m[1][l] - m[2][l] + 2.0 * (m[3][l] - m[4][l]));
        t[2] = lanes(|l| m[1][l] + m[2][l] + 4.0 * (m[3][l] + m[4][l]));
        t[3] = lanes(|l| m[1][l] - m[2][l] + 8.0 * (m[3][l] - m[4][l]) + m[5][l]);
    }
    t
}

/// B^T d B of every tile: A^2 x tiles x channels.
#[inline(always)]
fn input<const M: usize, const A: usize>(padded: &[Lanes], v: &mut [Lanes], tiles: Tiles) {
    let Tiles { down, across, pitch, groups } = tiles;
    for tile in 0..down * across {
        let corner = ((tile / across) * M * pitch + (tile % across) * M) * groups;
        for k in 0..groups {
            let mut t = [[[0.0; LANES]; A]; A];
            for j in 0..A {
                let column = input_1d::<A>(&array::from_fn(|i| padded[corner + (i * pitch + j) * groups + k]));
                for i in 0..A {
                    t[i][j] = column[i];
                }
            }
            for i in 0..A {
                for (j, value) in input_1d(&t[i]).into_iter().enumerate() {
                    v[((i * A + j) * down * across + tile) * groups + k] = value;
                }
            }
        }
    }
}

/// G g G^T: A^2 x outputs x inputs from outputs x 3 x 3 x inputs.
#[inline(always)]
fn weights<const A: usize>(g: &[Lanes], u: &mut [Lanes], groups: usize) {
    let outputs = g.len() / (9 * groups);
    for o in 0..outputs {
        for k in 0..groups {
            let mut t = [[[0.0; LANES]; 3]; A];
            for j in 0..3 {
                let column = weight_1d::<A>(&array::from_fn(|i| g[(o * 9 + i * 3 + j) * groups + k]));
                for i in 0..A {
                    t[i][j] = column[i];
                }
            }
            for i in 0..A {
                for (j, value) in weight_1d::<A>(&t[i]).into_iter().enumerate() {
                    u[((i * A + j) * outputs + o) * groups + k] = value;
                }
            }
        }
    }
}

/// A^T m A of every tile, with bias and residual, to its place.
#[inline(always)]
fn output<const M: usize, const A: usize>(
    m: &[Lanes],
    bias: &[Lanes],
    residual: Option<&[Lanes]>,
    y: &mut [Lanes],
    place: Place,
    tiles: Tiles,
) {
    let Tiles { down, across, groups, .. } = tiles;
    for tile in 0..down * across {
        let (row, column) = (place.row + (tile / across) * M, (tile % across) * M);
        for k in 0..groups {
            let mut t = [[[0.0; LANES]; A]; M];
            for j in 0..A {
                let from = output_1d::<M, A>(&array::from_fn(|i| m[((i * A + j) * down * across + tile) * groups + k]));
                for i in 0..M {
                    t[i][j] = from[i];
                }
            }
            let bias = &bias[place.first + k];
            for i in 0..M.min(place.h - row) {
                for (j, value) in output_1d::<M, A>(&t[i]).iter().enumerate().take(place.w - column) {
                    let at = ((row + i) * place.w + column + j) * place.groups + place.first + k;
                    y[at] = match residual {
                        None => lanes(|l| value[l] + bias[l]),
                        Some(residual) => lanes(|l| value[l] + bias[l] + residual[at][l]),
                    };
                }
            }
        }
    }
}

vectorized! {
    fn input_2(padded: &[Lanes], v: &mut [Lanes], tiles: Tiles) { input::<2, 4>(padded, v, tiles) }
}
vectorized! {
    fn input_4(padded: &[Lanes], v: &mut [Lanes], tiles: Tiles) { input::<4, 6>(padded, v, tiles) }
}
vectorized! {
    fn weights_2(g: &[Lanes], u: &mut [Lanes], groups: usize) { weights::<4>(g, u, groups) }
}
vectorized! {
    fn weights_4(g: &[Lanes], u: &mut [Lanes], groups: usize) { weights::<6>(g, u, groups) }
}
vectorized! {
    fn output_2(m: &[Lanes], bias: &[Lanes], residual: Option<&[Lanes]>, y: &mut [Lanes], place: Place, tiles: Tiles) {
        output::<2, 4>(m, bias, residual, y, place, tiles)
    }
}
vectorized! {
    fn output_4(m: &[Lanes], bias: &[Lanes], residual: Option<&[Lanes]>, y: &mut [Lanes], place: Place, tiles: Tiles) {
        output::<4, 6>(m, bias, residual, y, place, tiles)
    }
}

fn transform_input<const M: usize>(padded: &[Lanes], v: &mut [Lanes], tiles: Tiles) {
    if M == 2 { input_2(padded, v, tiles) } else { input_4(padded, v, tiles) }
}

fn transform_weights<const M: usize>(weight: &Tensor, first: usize, u: &mut Tensor) -> Result<()> {
    let (block, inputs) = (u.size()[1], u.size()[2]);
    let g = weight.f_narrow(0, first as i64, block)?.f_to_kind(Kind::Float)?;
    let (g, u, groups) = (floats(&g)?, floats_mut(u)?, inputs as usize / LANES);
    if M == 2 {
        weights_2(g, u, groups)
    } else {
        weights_4(g, u, groups)
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
    if M == 2 { output_2(m, bias, residual, y, place, tiles) } else { output_4(m, bias, residual, y, place, tiles) }
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
