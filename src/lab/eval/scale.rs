//! Pictures scaled as PIL scales them, byte for byte: the field's figures were measured on such pictures.
//!
//! RGB by the triangle filter, which widens with a reduction, first along rows and then along columns with 8 bits between, in
//! fixed point. Rounding counts: where a picture is halved a sixteenth of a code value comes in with each direction, as every
//! eighth sum is a tie.

use image::imageops::{self, FilterType};
use image::{GrayImage, RgbImage};

const BITS: u32 = 22;

/// To `side` x `side` whatever the aspect: PIL's BILINEAR.
pub fn square(picture: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let side = side as usize;
    let rows = reduce(picture, 3, width, side);
    // Columns are rows of the picture's rows.
    let columns = reduce(&rows, 3 * side, height, side);
    RgbImage::from_raw(side as u32, side as u32, columns).unwrap_or_default()
}

/// Nearest neighbour, so what is binary stays so: PIL's NEAREST.
pub fn square_mask(mask: &GrayImage, side: u32) -> GrayImage {
    imageops::resize(mask, side, side, FilterType::Nearest)
}

/// Every run of `from` groups of `channels` bytes to a run of `to` groups.
fn reduce(bytes: &[u8], channels: usize, from: usize, to: usize) -> Vec<u8> {
    if from == to {
        return bytes.to_vec();
    }
    let taps = taps(from, to);
    let mut scaled = vec![0; bytes.len() / from * to];
    let mut sums = vec![0i32; channels];
    for (run, out) in bytes.chunks_exact(from * channels).zip(scaled.chunks_exact_mut(to * channels)) {
        for ((first, weights), out) in taps.iter().zip(out.chunks_exact_mut(channels)) {
            sums.fill(1 << (BITS - 1));
            for (group, weight) in run[first * channels..].chunks_exact(channels).zip(weights) {
                for (sum, &byte) in sums.iter_mut().zip(group) {
                    *sum += i32::from(byte) * weight;
                }
            }
            for (byte, sum) in out.iter_mut().zip(&sums) {
                *byte = (sum >> BITS).clamp(0, 255) as u8;
            }
        }
    }
    scaled
}

/// For each of `to` places the first of the `from` that count there, and the weights from it on: their sum is 1 << BITS.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<i32>)> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let tap = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |at: usize| (1.0 - ((at as f64 + 0.5 - centre) / support).abs()).max(0.0);
        let total: f64 = (first..end).map(weight).sum();
        let fixed = |at: usize| (weight(at) / total * f64::from(1 << BITS)).round() as i32;
        (first, (first..end).map(fixed).collect())
    };
    (0..to).map(tap).collect()
}
