//! The loops before and after the matrix products, each over whole cache lines of channels.

use crate::simd::vectorized;
use std::array;

/// Channels are worked on in groups of this, a cache line.
pub const LANES: usize = 16;
pub type Lanes = [f32; LANES];

/// A strip of tiles: so many of them, whose input lies in rows of `pitch` pixels of `groups` times `LANES` channels.
#[derive(Clone, Copy)]
pub struct Tiles {
    pub down: usize,
    pub across: usize,
    pub pitch: usize,
    pub groups: usize,
}

/// Rows from `first` on of an image of h x w, which is one of the size `from` resized.
#[derive(Clone, Copy)]
pub struct Rows {
    pub first: usize,
    pub h: usize,
    pub w: usize,
    pub from: [usize; 2],
}

/// The nearest of `from` pixels to the one at `i` of `to`.
#[inline(always)]
fn nearest(i: usize, to: usize, from: usize) -> usize {
    if from == to { i } else { ((i as f32 * (from as f32 / to as f32)) as usize).min(from - 1) }
}

/// Where in an image of h x w x `groups` lanes a strip's result begins.
#[derive(Clone, Copy)]
pub struct Place {
    pub row: usize,
    pub h: usize,
    pub w: usize,
    pub first: usize,
    pub groups: usize,
}

#[inline(always)]
fn lanes(f: impl FnMut(usize) -> f32) -> Lanes {
    array::from_fn(f)
}

vectorized! {
    /// Sums and sums of squares of every channel.
    pub fn moments(x: &[Lanes], groups: usize) -> [Vec<f64>; 2] {
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
    pub fn fill(padded: &mut [Lanes], x: &[Lanes], affine: Option<&[Vec<f32>; 2]>, image: Rows, tiles: Tiles, m: usize) {
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
            for (i, t) in t.iter().enumerate().take(place.h - row) {
                for (j, value) in output_1d::<M, A>(t).iter().enumerate().take(place.w - column) {
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
    pub fn input_2(padded: &[Lanes], v: &mut [Lanes], tiles: Tiles) { input::<2, 4>(padded, v, tiles) }
}
vectorized! {
    pub fn input_4(padded: &[Lanes], v: &mut [Lanes], tiles: Tiles) { input::<4, 6>(padded, v, tiles) }
}
vectorized! {
    pub fn weights_2(g: &[Lanes], u: &mut [Lanes], groups: usize) { weights::<4>(g, u, groups) }
}
vectorized! {
    pub fn weights_4(g: &[Lanes], u: &mut [Lanes], groups: usize) { weights::<6>(g, u, groups) }
}
vectorized! {
    pub fn output_2(m: &[Lanes], bias: &[Lanes], residual: Option<&[Lanes]>, y: &mut [Lanes], place: Place, tiles: Tiles) {
        output::<2, 4>(m, bias, residual, y, place, tiles)
    }
}
vectorized! {
    pub fn output_4(m: &[Lanes], bias: &[Lanes], residual: Option<&[Lanes]>, y: &mut [Lanes], place: Place, tiles: Tiles) {
        output::<4, 6>(m, bias, residual, y, place, tiles)
    }
}
