//! CIELAB of 8-bit sRGB, and back: D65, the 2 degree observer, CIE's exact constants.

use image::{GrayImage, RgbImage};
use once_cell::sync::Lazy;

/// Linear sRGB to XYZ, each row divided by the white point's coordinate.
const TO_XYZ: [[f64; 3]; 3] = [
    [0.4124564 / WHITE[0], 0.3575761 / WHITE[0], 0.1804375 / WHITE[0]],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339 / WHITE[2], 0.1191920 / WHITE[2], 0.9503041 / WHITE[2]],
];
const FROM_XYZ: [[f64; 3]; 3] = [
    [3.2404542 * WHITE[0], -1.5371385, -0.4985314 * WHITE[2]],
    [-0.9692660 * WHITE[0], 1.8760108, 0.0415560 * WHITE[2]],
    [0.0556434 * WHITE[0], -0.2040259, 1.0572252 * WHITE[2]],
];
const WHITE: [f64; 3] = [0.95047, 1.0, 1.08883];
/// Below `EPSILON` the cube root gives way to a line of slope `KAPPA` / 116.
const EPSILON: f64 = 216.0 / 24389.0;
const KAPPA: f64 = 24389.0 / 27.0;

static LINEAR: Lazy<[f64; 256]> = Lazy::new(|| {
    std::array::from_fn(|code| {
        let v = code as f64 / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    })
});

/// L* 0..100, a* and b*.
pub fn from_rgb(rgb: [u8; 3]) -> [f64; 3] {
    let linear = rgb.map(|code| LINEAR[usize::from(code)]);
    let [x, y, z] =
        multiply(&TO_XYZ, linear).map(|v| if v > EPSILON { v.cbrt() } else { KAPPA.mul_add(v, 16.0) / 116.0 });
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// The nearest codes; colours outside sRGB end at its border, channel by channel.
pub fn to_rgb([l, a, b]: [f64; 3]) -> [u8; 3] {
    let y = (l + 16.0) / 116.0;
    let xyz = [y + a / 500.0, y, y - b / 200.0].map(|f| {
        let cube = f.powi(3);
        if cube > EPSILON { cube } else { (116.0 * f - 16.0) / KAPPA }
    });
    multiply(&FROM_XYZ, xyz).map(|v| {
        let v = v.clamp(0.0, 1.0);
        let v = if v <= 0.0031308 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        (255.0 * v).round() as u8
    })
}

fn multiply(matrix: &[[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|row| matrix[row].iter().zip(v).map(|(m, v)| m * v).sum())
}

/// Mean of L*, a* and b* over the foreground, each pixel weighted by its mask; `None` where the mask is black.
pub fn mean(picture: &RgbImage, mask: &GrayImage) -> Option<[f64; 3]> {
    let (mut sum, mut total) = ([0.0; 3], 0.0);
    for (pixel, &m) in picture.pixels().zip(mask.iter()).filter(|(_, m)| **m != 0) {
        let weight = f64::from(m);
        let lab = from_rgb(pixel.0);
        sum = std::array::from_fn(|c| sum[c] + weight * lab[c]);
        total += weight;
    }
    (total > 0.0).then(|| sum.map(|sum| sum / total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_are_where_cie_has_them() {
        // Bruce Lindbloom's calculator, sRGB and D65.
        for (rgb, expected) in [
            ([255, 255, 255], [100.0, 0.0, 0.0]),
            ([0, 0, 0], [0.0, 0.0, 0.0]),
            ([255, 0, 0], [53.2408, 80.0925, 67.2032]),
            ([0, 0, 255], [32.2970, 79.1875, -107.8602]),
        ] {
            for (value, expected) in from_rgb(rgb).into_iter().zip(expected) {
                assert!((value - expected).abs() < 5e-3, "{rgb:?}: {value} instead of {expected}");
            }
        }
    }

    #[test]
    fn every_colour_comes_back() {
        for code in (0..1 << 24).step_by(997) {
            let rgb = [code >> 16, code >> 8 & 255, code & 255].map(|v: u32| v as u8);
            assert_eq!(to_rgb(from_rgb(rgb)), rgb);
        }
    }
}
