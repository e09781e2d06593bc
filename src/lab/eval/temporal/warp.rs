//! What two frames differ by once motion is undone: E_warp and TL.
//!
//! Pictures, masks and weights have the flow's size; a pair without any weight has no figure.

use super::flow::Flow;
use image::{GrayImage, RgbImage};

/// E_warp of one pair (Lai et al. 2018, and their evaluate_WarpError.py): with W taking `next` back along `forward`,
/// sum w mean_c (picture - W(next))^2 / sum w, samples in 0..1. `weights` is 1 on visible pixels for the figure of the whole
/// frame.
pub fn error(picture: &RgbImage, next: &RgbImage, forward: &Flow, weights: &[f32]) -> Option<f64> {
    weighted(weights, |index| apart(next, picture, forward, index) / 3.0)
}

/// The side of the square that TL is measured on.
pub const TL_SIDE: u32 = 256;

/// The weights of TL for one pair: w = W(mask) mean_c exp(-|W(real) - next|), W taking a frame forward along `back`, which leads
/// from the next frame to this one; samples in 0..1.
pub fn tl_weights(real: &RgbImage, next: &RgbImage, mask: &GrayImage, back: &Flow) -> Vec<f32> {
    let (real, mask) = (real.as_raw(), mask.as_raw());
    let weight = |(index, next): (usize, &[u8])| {
        let tap = back.tap(index);
        let likeness = |c: usize| {
            let moved = tap.of(|at| f32::from(real[3 * at + c]));
            (-(moved - f32::from(next[c])).abs() / 255.0).exp()
        };
        let likeness = (0..3).map(likeness).sum::<f32>() / 3.0;
        likeness * tap.of(|at| f32::from(mask[at])) / 255.0
    };
    next.as_raw().chunks_exact(3).enumerate().map(weight).collect()
}

/// TL of one pair as HYouTube and CO2Net measure it (their evaluate_flow.py, whose flow is FlowNet2's of the real frames):
/// 255^2 sum_x,c (w (W(picture) - next))^2 / sum_x w, samples in 0..1; the weight is inside the square, and channels are summed.
pub fn tl(picture: &RgbImage, next: &RgbImage, back: &Flow, weights: &[f32]) -> Option<f64> {
    weighted(weights, |index| 255.0 * 255.0 * f64::from(weights[index]) * apart(picture, next, back, index))
}

/// Squared distance, summed over channels in 0..1, of `to` at the pixel `index` and `from` where `flow` leads.
fn apart(from: &RgbImage, to: &RgbImage, flow: &Flow, index: usize) -> f64 {
    let (from, to) = (from.as_raw(), to.as_raw());
    let tap = flow.tap(index);
    let square = |c: usize| {
        let moved = tap.of(|at| f32::from(from[3 * at + c]));
        f64::from((moved - f32::from(to[3 * index + c])) / 255.0).powi(2)
    };
    (0..3).map(square).sum()
}

/// Mean of `value` of pixel indexes.
fn weighted(weights: &[f32], value: impl Fn(usize) -> f64) -> Option<f64> {
    let (mut sum, mut total) = (0.0, 0.0);
    for (index, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        sum += f64::from(weight) * value(index);
        total += f64::from(weight);
    }
    (total > 0.0).then(|| sum / total)
}
