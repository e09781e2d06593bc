//! Affine maps of sRGB codes, fitted in closed form.

use super::symmetric::{self, Matrix, product};
use super::weights;
use image::{GrayImage, RgbImage};

/// Variance in codes squared below which there is nothing to stretch: one pixel in a million that is a code off has more.
const NOTHING: f64 = 1e-8;

pub struct Affine {
    matrix: Matrix,
    from: [f64; 3],
    to: [f64; 3],
}

impl Affine {
    /// Codes to codes, not cut to 0..255.
    pub fn apply(&self, rgb: [f64; 3]) -> [f64; 3] {
        let row = |row: usize| (0..3).map(|k| self.matrix[row][k] * (rgb[k] - self.from[k])).sum::<f64>();
        std::array::from_fn(|i| self.to[i] + row(i))
    }
}

/// Pitie and Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer": of all linear
/// maps that give the foreground the background's mean and covariance the one that moves colours least. `None` where one side
/// is empty.
pub fn monge_kantorovich(composite: &RgbImage, mask: &GrayImage) -> Option<Affine> {
    let [foreground, background] = weights(mask);
    let foreground = joint(composite, composite, foreground)?;
    let background = joint(composite, composite, background)?;
    let root = symmetric::function(&foreground.covariance, |value| value.max(0.0).sqrt());
    let inverse = symmetric::function(&foreground.covariance, |value| inverse(value).sqrt());
    let middle = product(&product(&root, &background.covariance), &root);
    let middle = symmetric::function(&middle, |value| value.max(0.0).sqrt());
    let matrix = product(&product(&inverse, &middle), &inverse);
    Some(Affine { matrix, from: foreground.first, to: background.first })
}

/// Least squares from the foreground's colours to the real picture's; `None` without any foreground.
pub fn best(composite: &RgbImage, mask: &GrayImage, real: &RgbImage) -> Option<Affine> {
    let [foreground, _] = weights(mask);
    let own = joint(composite, composite, foreground.clone())?;
    let shared = joint(composite, real, foreground)?;
    let solved = product(&symmetric::function(&own.covariance, inverse), &shared.covariance);
    let matrix = std::array::from_fn(|i| std::array::from_fn(|j| solved[j][i]));
    Some(Affine { matrix, from: shared.first, to: shared.second })
}

/// That of a pseudoinverse.
fn inverse(value: f64) -> f64 {
    if value > NOTHING { 1.0 / value } else { 0.0 }
}

/// The mean colours of two pictures and the covariance between them.
struct Joint {
    first: [f64; 3],
    second: [f64; 3],
    /// `[channel of the first][channel of the second]`
    covariance: Matrix,
}

/// `None` where no pixel has any weight.
fn joint(first: &RgbImage, second: &RgbImage, weights: impl Iterator<Item = u8>) -> Option<Joint> {
    let (mut total, mut sums, mut products) = (0.0, [[0.0; 3]; 2], [[0.0; 3]; 3]);
    for ((a, b), weight) in first.pixels().zip(second.pixels()).zip(weights).filter(|(_, weight)| *weight != 0) {
        let (a, b, weight) = (a.0.map(f64::from), b.0.map(f64::from), f64::from(weight));
        total += weight;
        for i in 0..3 {
            sums[0][i] += weight * a[i];
            sums[1][i] += weight * b[i];
            for j in 0..3 {
                products[i][j] += weight * a[i] * b[j];
            }
        }
    }
    let [first, second] = sums.map(|sum| sum.map(|sum| sum / total));
    let entry = |i: usize, j: usize| products[i][j] / total - first[i] * second[j];
    let covariance = std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j)));
    (total > 0.0).then_some(Joint { first, second, covariance })
}

#[cfg(test)]
mod tests {
    use super::super::EvalSample;
    use super::super::tests::sample;
    use super::*;
    use image::Rgb;

    /// Mean and covariance of `colours`.
    fn moments(colours: &[[f64; 3]]) -> ([f64; 3], Matrix) {
        let mean_of = |f: &dyn Fn(&[f64; 3]) -> f64| colours.iter().map(f).sum::<f64>() / colours.len() as f64;
        let mean = [0, 1, 2].map(|c| mean_of(&|colour| colour[c]));
        let entry = |i: usize, j: usize| mean_of(&|colour| (colour[i] - mean[i]) * (colour[j] - mean[j]));
        (mean, std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j))))
    }

    fn colours(picture: &RgbImage, mask: &GrayImage, foreground: bool) -> Vec<[f64; 3]> {
        let side = picture.pixels().zip(mask.iter()).filter(|(_, m)| (**m != 0) == foreground);
        side.map(|(pixel, _)| pixel.0.map(f64::from)).collect()
    }

    #[test]
    fn monge_kantorovich_gives_the_backgrounds_mean_and_covariance() {
        let EvalSample { composite, mask, .. } = sample();
        let map = monge_kantorovich(&composite, &mask).unwrap();
        let mapped: Vec<_> = colours(&composite, &mask, true).into_iter().map(|rgb| map.apply(rgb)).collect();
        let ((mean, covariance), (wanted_mean, wanted)) =
            (moments(&mapped), moments(&colours(&composite, &mask, false)));
        for (found, wanted) in mean.iter().zip(wanted_mean) {
            assert!((found - wanted).abs() < 1e-6, "mean {found} instead of {wanted}");
        }
        for (found, wanted) in covariance.iter().flatten().zip(wanted.iter().flatten()) {
            assert!((found - wanted).abs() < 1e-6, "covariance {found} instead of {wanted}");
        }
        // Which a rotation would do as well: the one that moves least is symmetric, and turns no colour round.
        for (i, j) in [(0, 1), (0, 2), (1, 2)] {
            assert!((map.matrix[i][j] - map.matrix[j][i]).abs() < 1e-9);
        }
        assert!((0..3).all(|i| map.matrix[i][i] > 0.0), "{:?}", map.matrix);
    }

    #[test]
    fn a_flat_foreground_takes_the_backgrounds_mean() {
        let EvalSample { mut composite, mask, .. } = sample();
        for (pixel, _) in composite.pixels_mut().zip(mask.iter()).filter(|(_, m)| **m != 0) {
            *pixel = Rgb([90, 80, 70]);
        }
        let map = monge_kantorovich(&composite, &mask).unwrap();
        let (mean, _) = moments(&colours(&composite, &mask, false));
        for (found, wanted) in map.apply([90.0, 80.0, 70.0]).into_iter().zip(mean) {
            assert!((found - wanted).abs() < 1e-9, "{found} instead of {wanted}");
        }
    }

    #[test]
    fn the_best_affine_map_is_no_worse_than_any_other() {
        let EvalSample { composite, mask, real } = sample();
        let pairs: Vec<_> = colours(&composite, &mask, true).into_iter().zip(colours(&real, &mask, true)).collect();
        let error = |map: &Affine| -> f64 {
            let off = |(from, to): &([f64; 3], [f64; 3])| -> f64 {
                map.apply(*from).iter().zip(to).map(|(a, b)| (a - b).powi(2)).sum()
            };
            pairs.iter().map(off).sum()
        };
        let least = error(&best(&composite, &mask, &real).unwrap());
        let identity =
            Affine { matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], from: [0.0; 3], to: [0.0; 3] };
        assert!(least < error(&identity) && least < error(&monge_kantorovich(&composite, &mask).unwrap()));
        for parameter in 0..12 {
            for step in [-1e-3, 1e-3] {
                let mut other = best(&composite, &mask, &real).unwrap();
                if parameter < 9 {
                    other.matrix[parameter / 3][parameter % 3] += step
                } else {
                    other.to[parameter - 9] += step
                }
                assert!(error(&other) > least, "parameter {parameter} by {step}");
            }
        }
    }

    #[test]
    fn an_affine_change_is_undone() {
        let EvalSample { composite, mask, .. } = sample();
        let changed = |[r, g, b]: [u8; 3]| [r / 2 + 30, 200 - g, b.saturating_add(9)];
        let real = RgbImage::from_fn(64, 48, |x, y| Rgb(changed(composite.get_pixel(x, y).0)));
        let map = best(&composite, &mask, &real).unwrap();
        for (from, to) in colours(&composite, &mask, true).into_iter().zip(colours(&real, &mask, true)) {
            let found = map.apply(from);
            // Halving an odd red is off by a half.
            assert!(
                (found[0] - to[0]).abs() < 0.6 && (found[1] - to[1]).abs() < 0.05 && (found[2] - to[2]).abs() < 0.05
            );
        }
    }
}
