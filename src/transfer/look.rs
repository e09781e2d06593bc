//! A transfer as a look: one table from colour to colour, written as a .cube file, which grading tools read.
//!
//! A transfer is a map for each place of the frame, so one table for all of it can't be exact. The table holds, for each of
//! its colours, the mean of the maps at the foreground's pixels of a colour near that one, and where there is none, of all of
//! them. How far that is from the transfer is measured: the look's residual.

#[cfg(test)]
mod tests;

use super::{ColourMap, Transfer};
use crate::frame::Proxy;
use anyhow::{Context, Result, ensure};
use std::fmt::{self, Display};
use std::path::Path;

/// Colours along each axis of the table.
pub const SIDE: usize = 33;

/// How near a colour has to be to count: the standard deviation of a Gaussian in R'G'B' of 0..1. Over the full-size foregrounds
/// of HVal and HPeople 0.025 to 0.05 leave the least error, within 0.01 codes; the widest of these makes the smoothest table.
const DEVIATION: f32 = 0.05;
/// Weight of the mean of all maps in each entry, in fully covered proxy pixels.
const RIDGE: f32 = 1.0;

/// Sums of the maps that count for a colour, each times its weight, and the sum of the weights.
type Sums = [f32; 13];

/// What the colours `[r, g, b] / (SIDE - 1)` become, R'G'B' in 0..1 as the composite codes it, not linear light.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// SIDE x SIDE x SIDE, red fastest.
    table: Vec<[f32; 3]>,
    residual: Residual,
}

/// How far a look is from the transfer that it was taken from, in codes of 255 over the foreground's proxy pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residual {
    /// Weighted by the mask.
    pub rms: f64,
    /// The largest difference of a sample, times its mask.
    pub maximum: f64,
    /// For scale, the RMS of the composite without any look.
    pub untouched: f64,
}

/// A pixel of the foreground: how far the mask covers it, its colour, and the map there.
struct ForegroundPixel {
    mask: f32,
    colour: [f32; 3],
    map: ColourMap,
}

impl Look {
    /// The look of `strength` (0 leaves the composite, 1 is the whole) times `transfer`, over the foreground of the `proxy` that
    /// it was inferred from. An error where there is no foreground.
    pub fn new(proxy: &Proxy, transfer: &Transfer, strength: f32) -> Result<Self> {
        let samples = foreground(proxy, transfer, strength)?;
        let (mut all, mut sums) = ([0.0; 13], vec![[0.0; 13]; SIDE.pow(3)]);
        for ForegroundPixel { mask, colour, map } in &samples {
            add(&mut all, map, *mask);
            for (entry, share) in corners(*colour) {
                add(&mut sums[entry], map, mask * share);
            }
        }
        let [maps @ .., weight] = all;
        let mean = maps.map(|a| a / weight);
        let entry = |(i, near): (usize, Sums)| {
            let map = ColourMap(std::array::from_fn(|j| (near[j] + RIDGE * mean[j]) / (near[12] + RIDGE)));
            mapped(&map, [i % SIDE, i / SIDE % SIDE, i / SIDE / SIDE].map(|c| c as f32 / (SIDE - 1) as f32))
        };
        let table: Vec<_> = blur(sums, DEVIATION * (SIDE - 1) as f32).into_iter().enumerate().map(entry).collect();
        let residual = Residual::new(&table, &samples);
        Ok(Self { table, residual })
    }

    /// How far it is from the transfer.
    pub fn residual(&self) -> Residual {
        self.residual
    }

    /// Writes a .cube file. The error names the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_string()).with_context(|| path.display().to_string())
    }
}

impl Display for Look {
    /// The text of a .cube file (Adobe's specification 1.0: lines of at most 250 bytes).
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "TITLE \"The foreground's look, by harmonize\"")?;
        writeln!(f, "# {}", self.residual)?;
        writeln!(
            f,
            "# Made for the foreground of one shot: lay the result over the composite through the foreground's mask."
        )?;
        writeln!(f, "# Colours are R'G'B' as the composite has them, without a conversion to linear light.")?;
        writeln!(f, "LUT_3D_SIZE {SIDE}")?;
        writeln!(f, "DOMAIN_MIN 0 0 0\nDOMAIN_MAX 1 1 1")?;
        self.table.iter().try_for_each(|[r, g, b]| writeln!(f, "{r:.6} {g:.6} {b:.6}"))
    }
}

impl Residual {
    fn new(table: &[[f32; 3]], samples: &[ForegroundPixel]) -> Self {
        let (mut squares, mut untouched, mut weights, mut maximum) = (0.0, 0.0, 0.0, 0.0_f64);
        for &ForegroundPixel { mask, colour, ref map } in samples {
            let (truth, look) = (mapped(map, colour), interpolated(table, colour));
            let mask = f64::from(mask);
            weights += 3.0 * mask;
            for c in 0..3 {
                let error = f64::from(look[c] - truth[c]);
                squares += mask * error.powi(2);
                untouched += mask * f64::from(colour[c] - truth[c]).powi(2);
                maximum = maximum.max(mask * error.abs());
            }
        }
        let rms = |squares: f64| 255.0 * (squares / weights).sqrt();
        Self { rms: rms(squares), maximum: 255.0 * maximum, untouched: rms(untouched) }
    }
}

impl Display for Residual {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { rms, maximum, untouched } = self;
        write!(
            f,
            "error against the true transfer: {rms:.1} codes of 255 RMS, {maximum:.1} at most (the composite itself is \
             {untouched:.1} away)"
        )
    }
}

/// The pixels of the foreground, at least one. Pixels with a colour that is not finite count for nothing.
fn foreground(proxy: &Proxy, transfer: &Transfer, strength: f32) -> Result<Vec<ForegroundPixel>> {
    let Proxy { width, height, region, rgb, mask } = proxy;
    let n = width * height;
    ensure!(rgb.len() == 3 * n && mask.len() == n, "the proxy is not whole");
    ensure!(transfer.is_complete() && transfer.region == *region, "the transfer is not that of the proxy");
    ensure!(transfer.maps.iter().all(ColourMap::is_finite), "the transfer has values that are not finite");
    let centre = |i: usize, cells: usize| (i as f64 + 0.5) / cells as f64;
    let samples: Vec<_> = (0..n)
        .filter(|&i| mask[i] > 0.0 && (0..3).all(|c| rgb[c * n + i].is_finite()))
        .map(|i| {
            let map = transfer.at(centre(i % width, *width), centre(i / width, *height));
            ForegroundPixel {
                mask: mask[i],
                colour: [0, 1, 2].map(|c| rgb[c * n + i]),
                map: ColourMap::IDENTITY.mix(&map, strength),
            }
        })
        .collect();
    ensure!(!samples.is_empty(), "there is no foreground to take a look from: the mask is empty");
    Ok(samples)
}

/// `map` applied to a colour, held in 0..1 as `apply` does.
fn mapped(map: &ColourMap, colour: [f32; 3]) -> [f32; 3] {
    map.of(colour).map(|v| v.clamp(0.0, 1.0))
}

/// What a table makes of a colour, by trilinear interpolation.
fn interpolated(table: &[[f32; 3]], colour: [f32; 3]) -> [f32; 3] {
    corners(colour).fold([0.0; 3], |sum, (entry, share)| std::array::from_fn(|c| sum[c] + share * table[entry][c]))
}

fn add(sums: &mut Sums, map: &ColourMap, weight: f32) {
    let [of_maps @ .., of_weights] = sums;
    of_maps.iter_mut().zip(&**map).for_each(|(sum, a)| *sum += weight * a);
    *of_weights += weight;
}

/// The eight entries around a colour and their shares of it.
fn corners(colour: [f32; 3]) -> impl Iterator<Item = (usize, f32)> {
    let places = colour.map(|c| c.clamp(0.0, 1.0) * (SIDE - 1) as f32);
    let first = places.map(|place| (place as usize).min(SIDE - 2));
    (0..8).map(move |corner| {
        let (mut entry, mut share) = (0, 1.0);
        for axis in (0..3).rev() {
            let (upper, fraction) = (corner >> axis & 1, places[axis] - first[axis] as f32);
            entry = entry * SIDE + first[axis] + upper;
            share *= if upper == 1 { fraction } else { 1.0 - fraction };
        }
        (entry, share)
    })
}

/// Sums over a Gaussian neighbourhood of each entry, 1 at its centre; `deviation` in entries.
fn blur(mut sums: Vec<Sums>, deviation: f32) -> Vec<Sums> {
    let radius = (3.0 * deviation).ceil() as usize;
    let kernel: Vec<f32> = (0..=radius).map(|d| (-0.5 * (d as f32 / deviation).powi(2)).exp()).collect();
    for stride in [1, SIDE, SIDE * SIDE] {
        let mut blurred = vec![[0.0; 13]; sums.len()];
        for (i, sum) in blurred.iter_mut().enumerate() {
            let place = i / stride % SIDE;
            for other in place.saturating_sub(radius)..=(place + radius).min(SIDE - 1) {
                let (from, weight) = (&sums[i + other * stride - place * stride], kernel[place.abs_diff(other)]);
                sum.iter_mut().zip(from).for_each(|(sum, from)| *sum += weight * from);
            }
        }
        sums = blurred;
    }
    sums
}
