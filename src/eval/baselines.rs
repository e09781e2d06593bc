//! What a harmonizer has to beat: corrections that need no model.

use super::lab;
use image::{GrayImage, Rgb, RgbImage};

/// Reinhard et al. 2001 from the background: in CIELAB, the foreground's mean and standard deviation of each channel become the
/// background's. `mask` (of the composite's size, 0 background to 255 foreground) weighs both statistics and the change. A
/// picture that is all foreground or all background comes back as it is.
pub fn reinhard(composite: &RgbImage, mask: &GrayImage) -> RgbImage {
    Reinhard::of(composite, mask).map_or_else(|| composite.clone(), |mapping| mapping.apply(composite, mask))
}

/// The colour mapping of one picture's statistics.
#[derive(Clone, Copy)]
pub struct Reinhard {
    foreground: [Statistics; 3],
    background: [Statistics; 3],
}

impl Reinhard {
    /// `None` where one side is empty.
    pub fn of(composite: &RgbImage, mask: &GrayImage) -> Option<Self> {
        let foreground = statistics(composite, mask.iter().map(|&m| f64::from(m)))?;
        let background = statistics(composite, mask.iter().map(|&m| f64::from(255 - m)))?;
        Some(Self { foreground, background })
    }

    pub fn apply(&self, composite: &RgbImage, mask: &GrayImage) -> RgbImage {
        let mut harmonized = composite.clone();
        for (pixel, &m) in harmonized.pixels_mut().zip(mask.iter()).filter(|(_, m)| **m != 0) {
            let lab = lab::from_rgb(pixel.0);
            let moved = std::array::from_fn(|c| {
                let (from, to) = (self.foreground[c], self.background[c]);
                // A channel without any spread has nothing to stretch.
                let scale = if from.deviation > 1e-6 { to.deviation / from.deviation } else { 1.0 };
                (lab[c] - from.mean) * scale + to.mean
            });
            let moved = lab::to_rgb(moved);
            let share = f64::from(m) / 255.0;
            let blend = |c: usize| f64::from(pixel.0[c]) * (1.0 - share) + f64::from(moved[c]) * share;
            *pixel = Rgb([0, 1, 2].map(|c| blend(c).round() as u8));
        }
        harmonized
    }
}

#[derive(Clone, Copy)]
struct Statistics {
    mean: f64,
    deviation: f64,
}

/// Of L*, a* and b*; `None` where no pixel has any weight.
fn statistics(picture: &RgbImage, weights: impl Iterator<Item = f64>) -> Option<[Statistics; 3]> {
    let (mut total, mut sum, mut squares) = (0.0, [0.0; 3], [0.0; 3]);
    for (pixel, weight) in picture.pixels().zip(weights).filter(|(_, weight)| *weight > 0.0) {
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
    use image::Luma;

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
        let harmonized = reinhard(&composite, &mask);
        let side = |foreground: bool| mask.iter().map(move |&m| f64::from(u8::from((m != 0) == foreground)));
        let [got, wanted] = [true, false].map(|side_of| statistics(&harmonized, side(side_of)).unwrap());
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

    #[test]
    fn the_background_stays() {
        let (composite, mask) = halves();
        let harmonized = reinhard(&composite, &mask);
        for ((before, after), &m) in composite.pixels().zip(harmonized.pixels()).zip(mask.iter()) {
            assert!(m != 0 || before == after);
        }
        assert_ne!(harmonized, composite);
        assert_eq!(reinhard(&composite, &GrayImage::new(64, 32)), composite);
    }
}
