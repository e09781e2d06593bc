//! A transfer's maps as differences of code values, and where a picture's samples lie among them.

use super::Transfer;
use crate::frame::colour::compose;
use crate::frame::samples::{BLOCK, LANES};
use crate::frame::{Colorimetry, Format, Region};
use crate::simd::vectorized;

/// The maps of a row of cells at some height, and by how much each is less than the next.
#[derive(Default)]
pub(super) struct Line {
    pub maps: Vec<[f32; 12]>,
    pub slopes: Vec<[f32; 12]>,
}

/// T - 1 in code values, times strength / 255: what a mask value of 1 adds.
#[derive(Default)]
pub(super) struct Maps {
    cols: usize,
    rows: usize,
    /// What the grid lies over, in pixels: left, top, width, height.
    region: [f64; 4],
    maps: Vec<[f32; 12]>,
}

impl Maps {
    /// The maps of `transfer` for a frame of `format` and `colour`, in the memory of those before.
    pub fn set(&mut self, transfer: &Transfer, frame: Region, format: Format, colour: Colorimetry, strength: f32) {
        let (inner, outer) = (colour.rgb_of(format), colour.of_rgb(format));
        let Region { x, y, width, height } = transfer.region.unwrap_or(frame);
        (self.cols, self.rows) = (transfer.cols, transfer.rows);
        self.region = [x, y, width, height].map(|v| v as f64);
        self.maps.clear();
        self.maps.extend(transfer.maps.iter().map(|map| {
            let mut rows = compose(&outer, &compose(&map.rows(), &inner));
            let mut flat = [0.0; 12];
            for (i, row) in rows.iter_mut().enumerate() {
                row[i] -= 1.0;
                for (j, x) in row.iter().enumerate() {
                    flat[4 * i + j] = (x * f64::from(strength) / 255.0) as f32;
                }
            }
            // No colour map needs coefficients like that; beyond, sums might overflow.
            if flat.iter().all(|x| x.abs() < 1e8) { flat } else { [0.0; 12] }
        }));
    }

    /// Tells `axis` where the samples of a row lie between the centres of cells; `x` tells their centres in pixels of the frame.
    pub fn across(&self, axis: &mut Axis, samples: usize, x: impl Fn(usize) -> f64) {
        let [left, _, width, _] = self.region;
        axis.set(samples, self.cols, |sample| (x(sample) - left) / width);
    }

    /// The maps of `cells` (a range of columns) `y` pixels below the frame's upper edge.
    pub fn interpolate(&self, y: f64, cells: std::ops::Range<usize>, line: &mut Line) {
        let [_, top, _, height] = self.region;
        let (row, f) = cell((y - top) / height, self.rows);
        let below = (row + 1).min(self.rows - 1);
        let of = |row: usize| &self.maps[row * self.cols..][cells.clone()];
        line.maps.resize(self.cols, [0.0; 12]);
        line.slopes.resize(self.cols, [0.0; 12]);
        let (maps, slopes) = (&mut line.maps[cells.clone()], &mut line.slopes[cells.clone()]);
        mix(of(row), of(below), f, maps);
        subtract(&maps[1..], &maps[..maps.len() - 1], slopes);
        // After the last centre the map is held. Where that isn't the grid's last, nobody asks.
        if let Some(last) = slopes.last_mut() {
            *last = [0.0; 12];
        }
    }
}

/// The cell whose centre lies before `u` (0..1 along an axis of `cells`, held beyond), and how far on the way to the next
/// one `u` is.
fn cell(u: f64, cells: usize) -> (usize, f32) {
    let at = (u * cells as f64 - 0.5).clamp(0.0, (cells - 1) as f64);
    let first = (at as usize).min(cells.saturating_sub(2));
    (first, (at - first as f64) as f32)
}

/// Where the samples of a row lie between the centres of the transfer's cells.
#[derive(Default)]
pub(super) struct Axis {
    pub cells: Vec<u32>,
    pub fractions: Vec<f32>,
    /// For each cell, the sample after its last.
    pub ends: Vec<usize>,
}

impl Axis {
    fn set(&mut self, samples: usize, cols: usize, u: impl Fn(usize) -> f64) {
        self.cells.clear();
        self.fractions.clear();
        self.ends.clear();
        self.ends.resize(cols, 0);
        for x in 0..samples {
            let (cell, fraction) = cell(u(x), cols);
            self.cells.push(cell as u32);
            self.fractions.push(fraction);
            self.ends[cell] = x + 1;
        }
        self.fractions.resize(samples + BLOCK + LANES, 0.0);
    }

    /// The columns of cells that samples `x` need.
    pub fn columns(&self, x: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        let first = self.cells[x.start] as usize;
        let last = self.cells[x.end - 1] as usize;
        first..(last + 2).min(self.ends.len())
    }
}

vectorized! {
    fn mix(above: &[[f32; 12]], below: &[[f32; 12]], f: f32, line: &mut [[f32; 12]]) {
        for ((out, a), b) in line.as_flattened_mut().iter_mut().zip(above.as_flattened()).zip(below.as_flattened()) {
            *out = a + f * (b - a);
        }
    }
}

vectorized! {
    fn subtract(more: &[[f32; 12]], less: &[[f32; 12]], out: &mut [[f32; 12]]) {
        for ((out, a), b) in out.as_flattened_mut().iter_mut().zip(more.as_flattened()).zip(less.as_flattened()) {
            *out = a - b;
        }
    }
}
