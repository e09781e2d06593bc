//! Histogram matching, channel by channel.

use super::{recolour, weights};
use image::{GrayImage, RgbImage};

/// `None` where one side is empty.
pub fn match_background(composite: &RgbImage, mask: &GrayImage) -> Option<RgbImage> {
    let [foreground, background] = weights(mask);
    let (foreground, background) = (cumulative(composite, foreground)?, cumulative(composite, background)?);
    let tables = [0, 1, 2].map(|c| table(&foreground[c], &background[c]));
    Some(recolour(composite, mask, |rgb| std::array::from_fn(|c| f64::from(tables[c][usize::from(rgb[c])]))))
}

/// The weight of all pixels up to each code.
type Cumulative = [u64; 256];

/// `None` where no pixel has any weight.
fn cumulative(picture: &RgbImage, weights: impl Iterator<Item = u8>) -> Option<[Cumulative; 3]> {
    let mut channels = [[0; 256]; 3];
    for (pixel, weight) in picture.pixels().zip(weights) {
        for (channel, &code) in channels.iter_mut().zip(&pixel.0) {
            channel[usize::from(code)] += u64::from(weight);
        }
    }
    for channel in &mut channels {
        for code in 1..256 {
            channel[code] += channel[code - 1];
        }
    }
    (channels[0][255] > 0).then_some(channels)
}

/// For each code of `from` the first of `to` up to which there is as large a share.
fn table(from: &Cumulative, to: &Cumulative) -> [u8; 256] {
    let mut reached = 0;
    std::array::from_fn(|code| {
        // Shares compared as whole numbers.
        let is_less = |reached: usize| {
            u128::from(to[reached]) * u128::from(from[255]) < u128::from(from[code]) * u128::from(to[255])
        };
        while reached < 255 && is_less(reached) {
            reached += 1;
        }
        reached as u8
    })
}

#[cfg(test)]
mod tests {
    use super::super::EvalSample;
    use super::super::tests::sample;
    use super::*;
    use image::{Luma, Rgb};

    fn sorted(picture: &RgbImage, mask: &GrayImage, foreground: bool, channel: usize) -> Vec<u8> {
        let side = picture.pixels().zip(mask.iter()).filter(|(_, m)| (**m != 0) == foreground);
        let mut codes: Vec<u8> = side.map(|(pixel, _)| pixel.0[channel]).collect();
        codes.sort_unstable();
        codes
    }

    #[test]
    fn the_foreground_takes_on_the_backgrounds_distribution() {
        // As many pixels of each of 128 codes on either side, so that nothing is left to ties.
        let composite = RgbImage::from_fn(128, 4, |x, y| {
            let code = (x % 64 * 2 + y % 2) as u8;
            Rgb(if x < 64 { [code, code / 2, 255 - code] } else { [255 - code, code, code / 3] })
        });
        let mask = GrayImage::from_fn(128, 4, |x, _| Luma([if x < 64 { 255 } else { 0 }]));
        let harmonized = match_background(&composite, &mask).unwrap();
        // The red channel has its 128 codes once a row pair on both sides: the match is exact.
        assert_eq!(sorted(&harmonized, &mask, true, 0), sorted(&composite, &mask, false, 0));
        assert_eq!(sorted(&harmonized, &mask, true, 2), sorted(&composite, &mask, false, 2));
    }

    #[test]
    fn shares_are_as_near_as_ties_allow() {
        let EvalSample { composite, mask, .. } = sample();
        let harmonized = match_background(&composite, &mask).unwrap();
        for channel in 0..3 {
            let [found, wanted] =
                [(&harmonized, true), (&composite, false)].map(|(picture, side)| sorted(picture, &mask, side, channel));
            let share = |codes: &[u8], code: u8| codes.partition_point(|&c| c <= code) as f64 / codes.len() as f64;
            let largest = |codes: &[u8]| {
                (0..=255).map(|code| codes.iter().filter(|&&c| c == code).count()).max().unwrap() as f64
                    / codes.len() as f64
            };
            // A code's pixels go together: a share is off by no more than the fullest code's.
            let bound = largest(&sorted(&composite, &mask, true, channel)) + 1e-9;
            for code in 0..=255 {
                let off = (share(&found, code) - share(&wanted, code)).abs();
                assert!(off <= bound, "channel {channel}, code {code}: {off}, {bound} at most");
            }
        }
    }

    #[test]
    fn what_has_the_backgrounds_distribution_stays() {
        let composite = RgbImage::from_fn(64, 8, |x, y| Rgb([(x % 32 * 3) as u8, (y * 9 + x % 32) as u8, 7]));
        let mask = GrayImage::from_fn(64, 8, |x, _| Luma([if x < 32 { 255 } else { 0 }]));
        assert!(match_background(&composite, &mask).unwrap() == composite);
    }
}
