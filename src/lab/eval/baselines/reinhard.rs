//! Reinhard et al. 2001 from the background: in CIELAB, the foreground's mean and standard deviation of each channel become the
//! background's.

use super::super::lab;
use super::{recolour, weights};
use image::{GrayImage, RgbImage};

/// The colour mapping of one picture's statistics, which its mask weighs (0 background to 255 foreground).
#[derive(Clone, Copy)]
pub struct Reinhard {
    foreground: [Statistics; 3],
    background: [Statistics; 3],
}

impl Reinhard {
    /// `None` where one side is empty.
    pub fn of(composite: &RgbImage, mask: &GrayImage) -> Option<Self> {
        let [foreground, background] = weights(mask);
        let foreground = statistics(composite, foreground)?;
        let background = statistics(composite, background)?;
        Some(Self { foreground, background })
    }

    pub fn apply(&self, composite: &RgbImage, mask: &GrayImage) -> RgbImage {
        recolour(composite, mask, |rgb| {
            let lab = lab::from_rgb(rgb);
            let moved = std::array::from_fn(|c| {
                let (from, to) = (self.foreground[c], self.background[c]);
                // A channel without any spread has nothing to stretch.
                let scale = if from.deviation > 1e-6 { to.deviation / from.deviation } else { 1.0 };
                (lab[c] - from.mean) * scale + to.mean
            });
            lab::to_rgb(moved).map(f64::from)
        })
    }
}

#[derive(Clone, Copy)]
struct Statistics {
    mean: f64,
    deviation: f64,
}

/// Of L*, a* and b*; `None` where no pixel has any weight.
fn statistics(picture: &RgbImage, weights: impl Iterator<Item = u8>) -> Option<[Statistics; 3]> {
    let (mut total, mut sum, mut squares) = (0.0, [0.0; 3], [0.0; 3]);
    for (pixel, weight) in picture.pixels().zip(weights).filter(|(_, weight)| *weight != 0) {
        let weight = f64::from(weight);
        total += weight;
        for (c, v) in lab::from_rgb(pixel.0).into_iter().enumerate() {
            sum[c] += weight * v;
            squares[c] += weight * v * v;
        }
    }
    (total > 0.0).then(|| {
        std::array::from_fn(|c| {
            let mean = sum[c] / total;
            Statistics { mean, deviation: (squares[c] / total - mean * mean).max(0.0).sqrt() }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Luma, Rgb};

    /// Grey squares: a dark, flat-ish foreground in the left half, a light, varied background in the right.
    fn halves() -> (RgbImage, GrayImage) {
        let picture = RgbImage::from_fn(64, 32, |x, y| {
            let v = if x < 32 { 60 + (x + y) % 8 } else { 140 + 5 * ((x * y) % 8) };
            Rgb([v as u8, v as u8, (v + 10) as u8])
        });
        (picture, GrayImage::from_fn(64, 32, |x, _| Luma([if x < 32 { 255 } else { 0 }])))
    }

    #[test]
    fn the_foreground_takes_on_the_backgrounds_statistics() {
        let (composite, mask) = halves();
        let harmonized = Reinhard::of(&composite, &mask).unwrap().apply(&composite, &mask);
        let [got, wanted] = weights(&mask).map(|side| statistics(&harmonized, side).unwrap());
        for (got, wanted) in got.iter().zip(&wanted) {
            assert!((got.mean - wanted.mean).abs() < 0.2, "mean {} instead of {}", got.mean, wanted.mean);
            assert!(
                (got.deviation - wanted.deviation).abs() < 0.2,
                "{} instead of {}",
                got.deviation,
                wanted.deviation
            );
        }
    }
}
