//! What is done to the foreground, O - C in codes of 255, and how it goes on from frame to frame. Needs no flow.
//!
//! Pixels count by their mask; masks and pictures of a frame have one size, that of all frames.

use image::{GrayImage, RgbImage};

/// One frame: what came out, what went in, and where its foreground is.
#[derive(Clone, Copy)]
pub struct Corrected<'a> {
    pub picture: &'a RgbImage,
    pub composite: &'a RgbImage,
    pub mask: &'a GrayImage,
}

/// Mean correction of each channel over the foreground; `None` where the mask is black.
pub fn mean(frame: Corrected) -> Option<[f64; 3]> {
    let (mut sum, mut total) = ([0.0; 3], 0.0);
    for ((o, c), &m) in frame.picture.pixels().zip(frame.composite.pixels()).zip(frame.mask.iter()) {
        let weight = f64::from(m);
        sum = std::array::from_fn(|i| sum[i] + weight * (f64::from(o.0[i]) - f64::from(c.0[i])));
        total += weight;
    }
    (total > 0.0).then(|| sum.map(|sum| sum / total))
}

/// Mean over foreground and channels of |(O - C) of the next frame - (O - C) of this one| at the same place. A pixel weighs as
/// much as the smaller of its two mask values, so only what is foreground in both frames counts; `None` where nothing is.
pub fn change(frame: Corrected, next: Corrected) -> Option<f64> {
    let corrections = |frame: Corrected<'_>| {
        let pairs = frame.picture.as_raw().chunks_exact(3).zip(frame.composite.as_raw().chunks_exact(3));
        let weighted = pairs.zip(frame.mask.as_raw());
        weighted.map(|((o, c), &m)| ([0, 1, 2].map(|i| i32::from(o[i]) - i32::from(c[i])), m)).collect::<Vec<_>>()
    };
    let (mut sum, mut total) = (0u64, 0u64);
    for ((before, m), (after, n)) in corrections(frame).into_iter().zip(corrections(next)) {
        let weight = u64::from(m.min(n));
        let apart: u32 = before.iter().zip(after).map(|(before, after)| before.abs_diff(after)).sum();
        sum += weight * u64::from(apart);
        total += 3 * weight;
    }
    (total > 0).then(|| sum as f64 / total as f64)
}

/// Mean over foreground and channels of how far `again`, a frame by the colour mapping of the frame before, is from `picture`, the
/// same frame by its own: 0 for a constant mapping, however the foreground moves under it. Pixels weigh as the mask.
pub fn remapping(picture: &RgbImage, again: &RgbImage, mask: &GrayImage) -> Option<f64> {
    let (mut sum, mut total) = (0u64, 0u64);
    for ((o, a), &m) in picture.pixels().zip(again.pixels()).zip(mask.iter()) {
        let apart: u64 = o.0.iter().zip(a.0).map(|(o, a)| u64::from(o.abs_diff(a))).sum();
        sum += u64::from(m) * apart;
        total += 3 * u64::from(m);
    }
    (total > 0).then(|| sum as f64 / total as f64)
}

/// The flicker index: root of the mean over time of |m[t+1] - 2 m[t] + m[t-1]|^2, m being the mean foreground in CIELAB, so that
/// a steady drift counts nothing. Three frames in a row with a foreground are needed once; `None` without.
pub fn flicker(colours: &[Option<[f64; 3]>]) -> Option<f64> {
    let squares: Vec<f64> = colours
        .windows(3)
        .filter_map(|three| match three {
            [Some(a), Some(b), Some(c)] => Some((0..3).map(|i| (c[i] - 2.0 * b[i] + a[i]).powi(2)).sum()),
            _ => None,
        })
        .collect();
    (!squares.is_empty()).then(|| (squares.iter().sum::<f64>() / squares.len() as f64).sqrt())
}
