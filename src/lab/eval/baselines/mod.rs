//! What a harmonizer has to beat: corrections that need no model. None changes a pixel whose mask is 0, and a picture that is all
//! foreground or all background comes back as it is where the correction looks at the background.

mod affine;
mod histogram;
mod reinhard;
mod symmetric;

use super::{EvalSample, Method};
use clap::ValueEnum;
use image::{GrayImage, Rgb, RgbImage};
pub use reinhard::Reinhard;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    /// The composite as it is: always measured
    Untouched,
    /// Mean and deviation of each CIELAB channel become the background's (Reinhard et al. 2001)
    Reinhard,
    /// The linear map of sRGB that gives the background's mean and covariance, moving colours least (Pitie and Kokaram 2007)
    Mkl,
    /// Each sRGB channel's histogram becomes the background's
    Histogram,
    /// The affine map of sRGB that comes nearest to the real picture, which it has to know: what one colour map can reach
    BestAffine,
}

impl Baseline {
    pub const ALL: [Self; 5] = [Self::Untouched, Self::Reinhard, Self::Mkl, Self::Histogram, Self::BestAffine];

    /// As the command line and every table has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Reinhard => "reinhard",
            Self::Mkl => "mkl",
            Self::Histogram => "histogram",
            Self::BestAffine => "best-affine",
        }
    }

    /// Masks with grey in them weigh the statistics and the change.
    pub fn harmonize(self, EvalSample { composite, mask, real }: &EvalSample) -> RgbImage {
        let by_affine =
            |map: Option<affine::Affine>| map.map(|map| recolour(composite, mask, |rgb| map.apply(rgb.map(f64::from))));
        let harmonized = match self {
            Self::Untouched => None,
            Self::Reinhard => Reinhard::of(composite, mask).map(|mapping| mapping.apply(composite, mask)),
            Self::Mkl => by_affine(affine::monge_kantorovich(composite, mask)),
            Self::Histogram => histogram::match_background(composite, mask),
            Self::BestAffine => by_affine(affine::best(composite, mask, real)),
        };
        harmonized.unwrap_or_else(|| composite.clone())
    }
}

impl From<Baseline> for Method<'static> {
    fn from(baseline: Baseline) -> Self {
        Self::new(baseline.name(), move |sample| Ok(baseline.harmonize(sample)))
    }
}

/// `composite` with what `map` makes of its colours (codes 0..255, cut to that range) as far as `mask` says.
fn recolour(composite: &RgbImage, mask: &GrayImage, map: impl Fn([u8; 3]) -> [f64; 3]) -> RgbImage {
    let mut harmonized = composite.clone();
    for (pixel, &m) in harmonized.pixels_mut().zip(mask.iter()).filter(|(_, m)| **m != 0) {
        let moved = map(pixel.0);
        let share = f64::from(m) / 255.0;
        let blend = |c: usize| f64::from(pixel.0[c]) * (1.0 - share) + moved[c].clamp(0.0, 255.0) * share;
        *pixel = Rgb([0, 1, 2].map(|c| blend(c).round() as u8));
    }
    harmonized
}

/// How much each pixel counts as foreground and as background, 0..=255.
fn weights(mask: &GrayImage) -> [impl Iterator<Item = u8> + Clone + '_; 2] {
    [false, true].map(|background| mask.iter().map(move |&m| if background { 255 - m } else { m }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Luma;

    /// Left half foreground, right half background, both of many colours; the real foreground has others.
    pub(super) fn sample() -> EvalSample {
        let colour =
            |x: u32, y: u32, [a, b, c]: [u32; 3]| [40 + x * a % 97 + y, 30 + (y * b + x) % 80, 20 + x * c % 61];
        let picture = |left: [u32; 3]| {
            RgbImage::from_fn(64, 48, |x, y| {
                Rgb(colour(x, y, if x < 32 { left } else { [13, 3, 29] }).map(|v| v.min(255) as u8))
            })
        };
        let mask = GrayImage::from_fn(64, 48, |x, _| Luma([if x < 32 { 255 } else { 0 }]));
        EvalSample { composite: picture([5, 7, 11]), mask, real: picture([7, 6, 10]) }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for baseline in Baseline::ALL {
            assert_eq!(baseline.to_possible_value().unwrap().get_name(), baseline.name());
        }
    }

    #[test]
    fn the_foreground_alone_changes() {
        let sample = sample();
        for baseline in Baseline::ALL {
            let harmonized = baseline.harmonize(&sample);
            for ((before, after), &m) in sample.composite.pixels().zip(harmonized.pixels()).zip(sample.mask.iter()) {
                assert!(m != 0 || before == after, "{baseline:?}");
            }
            assert_eq!(harmonized == sample.composite, baseline == Baseline::Untouched, "{baseline:?}");
        }
    }

    #[test]
    fn a_picture_of_one_side_stays() {
        let EvalSample { composite, real, .. } = sample();
        for (level, baselines) in [(0, &Baseline::ALL[..]), (255, &Baseline::ALL[..4])] {
            let mask = GrayImage::from_pixel(64, 48, Luma([level]));
            let sample = EvalSample { composite: composite.clone(), mask, real: real.clone() };
            for baseline in baselines {
                assert!(baseline.harmonize(&sample) == composite, "{baseline:?} at {level}");
            }
        }
    }

    #[test]
    fn a_grey_mask_takes_a_part_of_the_change() {
        let EvalSample { composite, .. } = sample();
        let half =
            recolour(&composite, &GrayImage::from_pixel(64, 48, Luma([51])), |rgb| rgb.map(|v| f64::from(v) + 40.0));
        assert!(composite.iter().zip(half.iter()).all(|(before, after)| *after == before + 8));
        let beyond = recolour(&composite, &GrayImage::from_pixel(64, 48, Luma([255])), |_| [-9.0, 300.0, 7.4]);
        assert!(beyond.pixels().all(|pixel| pixel.0 == [0, 255, 7]));
    }
}
