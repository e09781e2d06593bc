//! Distances between a picture and the truth, on 8-bit RGB as the field defines them.
//!
//! Pixels count over all three channels, 0..255. The f-metrics count the foreground alone. SSIM is that of Wang et al. 2004 per
//! channel on 0..1: Gaussian window 11 x 11 of sigma 1.5, zeros beyond the border, C1 = 0.01^2, C2 = 0.03^2.

use image::RgbImage;
use serde::Serialize;

/// Identical pictures count as this many dB, so that a mean over pictures stays finite.
pub const PSNR_CEILING: f64 = 100.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    pub mse: f64,
    pub fmse: f64,
    pub psnr: f64,
    pub fpsnr: f64,
    pub ssim: f64,
    pub fssim: f64,
}

impl Metrics {
    /// The mean of each figure over pictures, PSNR included; `None` without any.
    pub fn mean(all: impl ExactSizeIterator<Item = Metrics>) -> Option<Metrics> {
        let n = all.len() as f64;
        let sum = all.reduce(|a, b| Metrics {
            mse: a.mse + b.mse,
            fmse: a.fmse + b.fmse,
            psnr: a.psnr + b.psnr,
            fpsnr: a.fpsnr + b.fpsnr,
            ssim: a.ssim + b.ssim,
            fssim: a.fssim + b.fssim,
        })?;
        Some(Metrics {
            mse: sum.mse / n,
            fmse: sum.fmse / n,
            psnr: sum.psnr / n,
            fpsnr: sum.fpsnr / n,
            ssim: sum.ssim / n,
            fssim: sum.fssim / n,
        })
    }
}

/// All figures of `picture` against `real`, both of one size; `foreground` has one entry a pixel, at least one of them true.
pub fn measure(picture: &RgbImage, real: &RgbImage, foreground: &[bool]) -> Metrics {
    let [mse, fmse] = errors(picture, real, foreground);
    let (ssim, fssim) = ssim(picture, real, foreground);
    Metrics { mse, fmse, psnr: psnr(mse), fpsnr: psnr(fmse), ssim, fssim }
}

/// MSE and fMSE alone, for many frames: SSIM takes a hundred times as long. fMSE without any foreground is not a number.
pub fn errors(picture: &RgbImage, real: &RgbImage, foreground: &[bool]) -> [f64; 2] {
    let (mut all, mut inside) = (0u64, 0u64);
    for ((a, b), &m) in picture.pixels().zip(real.pixels()).zip(foreground) {
        let d: u64 = a.0.iter().zip(b.0).map(|(&a, b)| u64::from(a.abs_diff(b)).pow(2)).sum();
        all += d;
        inside += if m { d } else { 0 };
    }
    let count = foreground.iter().filter(|&&m| m).count();
    [all as f64 / (3 * foreground.len()) as f64, inside as f64 / (3 * count) as f64]
}

/// In dB for 8-bit samples, at most [`PSNR_CEILING`].
pub fn psnr(mse: f64) -> f64 {
    (10.0 * (255.0f64.powi(2) / mse).log10()).min(PSNR_CEILING)
}

/// Mean of the SSIM map over the picture and over the foreground, channels averaged.
fn ssim(picture: &RgbImage, real: &RgbImage, foreground: &[bool]) -> (f64, f64) {
    const C1: f64 = 0.01 * 0.01;
    const C2: f64 = 0.03 * 0.03;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let kernel = gaussian();
    let smooth = |plane: Vec<f64>| blur(&plane, width, height, &kernel);
    let (mut all, mut inside) = (0.0, 0.0);
    for channel in 0..3 {
        let plane =
            |image: &RgbImage| -> Vec<f64> { image.pixels().map(|p| f64::from(p.0[channel]) / 255.0).collect() };
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect();
        let (x, y) = (plane(picture), plane(real));
        let (xx, yy, xy) = (smooth(product(&x, &x)), smooth(product(&y, &y)), smooth(product(&x, &y)));
        let (x, y) = (smooth(x), smooth(y));
        for (i, &m) in foreground.iter().enumerate() {
            let (mu_x, mu_y) = (x[i], y[i]);
            let (var_x, var_y, cov) = (xx[i] - mu_x * mu_x, yy[i] - mu_y * mu_y, xy[i] - mu_x * mu_y);
            let s =
                (2.0 * mu_x * mu_y + C1) * (2.0 * cov + C2) / ((mu_x * mu_x + mu_y * mu_y + C1) * (var_x + var_y + C2));
            all += s;
            inside += if m { s } else { 0.0 };
        }
    }
    let count = foreground.iter().filter(|&&m| m).count();
    (all / (3 * foreground.len()) as f64, inside / (3 * count) as f64)
}

const RADIUS: usize = 5;

fn gaussian() -> [f64; 2 * RADIUS + 1] {
    let mut kernel = std::array::from_fn(|i| (-(i as f64 - RADIUS as f64).powi(2) / (2.0 * 1.5 * 1.5)).exp());
    let sum: f64 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);
    kernel
}

/// Separable convolution with zeros beyond the border.
fn blur(plane: &[f64], width: usize, height: usize, kernel: &[f64; 2 * RADIUS + 1]) -> Vec<f64> {
    let mut rows = vec![0.0; plane.len()];
    let mut padded = vec![0.0; width + 2 * RADIUS];
    for (from, to) in plane.chunks_exact(width).zip(rows.chunks_exact_mut(width)) {
        padded[RADIUS..RADIUS + width].copy_from_slice(from);
        for (to, window) in to.iter_mut().zip(padded.windows(kernel.len())) {
            *to = window.iter().zip(kernel).map(|(p, k)| p * k).sum();
        }
    }
    let mut blurred = vec![0.0; plane.len()];
    for (y, to) in blurred.chunks_exact_mut(width).enumerate() {
        for (row, k) in
            (y.saturating_sub(RADIUS)..(y + RADIUS + 1).min(height)).map(|row| (row, kernel[row + RADIUS - y]))
        {
            for (to, from) in to.iter_mut().zip(&rows[row * width..(row + 1) * width]) {
                *to += k * from;
            }
        }
    }
    blurred
}
