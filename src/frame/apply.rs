//! A transfer applied to a picture in place, in its own format.
//!
//! Colour maps are closed under the change between RGB and Y'CbCr, so each map is turned into one that acts on the
//! picture's own code values, less the identity, and its difference is added by the mask: no sample is converted, and
//! a mask or a difference of zero leaves a sample as it is, whatever its value.

use super::colour::compose;
use super::{Colour, Format, Mask, Packed, PictureMut, PlaneMut, Region};
use crate::simd::vectorized;
use crate::transfer::Transfer;
use std::ops::Range;

/// Samples of a row that are worked on together.
const BLOCK: usize = 128;
/// Loops run over whole multiples of this many samples; what they compute beyond a block is never stored.
const LANES: usize = 8;

type Samples = [f32; BLOCK + LANES];

/// O = C + strength * M * (T(C) - C) on the samples whose mask is not zero; no other byte changes. A 4:2:0 chroma
/// sample takes the mean mask and the mean luma of its pixels. Results are rounded to the nearest code and held in the
/// nominal range, but for samples that were beyond it already: they may stay. Alpha and padding are never written. A
/// map with a coefficient that is not finite, or absurdly large, leaves its samples alone.
pub fn apply(picture: &mut PictureMut, mask: &Mask, transfer: &Transfer, strength: f32) {
    let (w, h) = (picture.width, picture.height);
    let usable = picture.as_picture().check().is_ok() && mask.covers(w, h) && transfer.is_complete();
    if strength == 0.0 || !usable {
        return;
    }
    let (format, colour) = (picture.format, picture.colour);
    let maps = Maps::new(transfer, Region::whole(w, h), format, colour, strength);
    let limits = colour.limits(format);
    let [first, second, third, _] = &mut picture.planes;
    match format.packed() {
        Some(packed) => apply_packed(first, packed, mask, &maps, limits),
        None if format == Format::Gray8 => apply_luma(first, mask, &maps, limits[0]),
        None if format == Format::Nv12 => apply_420(first, Chroma::Interleaved(second), mask, &maps, limits),
        None => apply_420(first, Chroma::Planar(second, third), mask, &maps, limits),
    }
}

fn apply_packed(plane: &mut PlaneMut, packed: Packed, mask: &Mask, maps: &Maps, limits: [[f32; 2]; 3]) {
    let w = mask.width;
    let across = maps.across(w, |x| x as f64 + 0.5);
    let mut line = maps.line();
    let (mut c, mut o, mut m) = ([[0.0; BLOCK + LANES]; 3], [[0.0; BLOCK + LANES]; 3], [0.0; BLOCK + LANES]);
    for (y, mask_row) in mask.data.chunks_exact(w).enumerate() {
        let mut fresh = false;
        for x in foreground(mask_row, mask_row, 1) {
            if !fresh {
                maps.interpolate(y as f64 + 0.5, &mut line);
                fresh = true;
            }
            let row = &mut plane.row_mut(y, w * packed.bytes)[x.start * packed.bytes..x.end * packed.bytes];
            widen(&mask_row[x.clone()], &mut m);
            load_packed(row, packed, &mut c);
            for (k, out) in o.iter_mut().enumerate() {
                blend(&c, k, &m, &across, x.clone(), &line, limits[k], out);
            }
            store_packed(row, packed, &o);
        }
    }
}

fn apply_luma(plane: &mut PlaneMut, mask: &Mask, maps: &Maps, limits: [f32; 2]) {
    let w = mask.width;
    let across = maps.across(w, |x| x as f64 + 0.5);
    let mut line = maps.line();
    let (mut c, mut o, mut m) = ([[128.0; BLOCK + LANES]; 3], [0.0; BLOCK + LANES], [0.0; BLOCK + LANES]);
    for (y, mask_row) in mask.data.chunks_exact(w).enumerate() {
        for x in foreground(mask_row, mask_row, 1) {
            maps.interpolate(y as f64 + 0.5, &mut line);
            let row = &mut plane.row_mut(y, w)[x.clone()];
            widen(&mask_row[x.clone()], &mut m);
            widen(row, &mut c[0]);
            blend(&c, 0, &m, &across, x, &line, limits, &mut o);
            narrow(&o, row);
        }
    }
}

/// The two chroma planes of 4:2:0, or the one that holds both.
enum Chroma<'a, 'b> {
    Planar(&'a mut PlaneMut<'b>, &'a mut PlaneMut<'b>),
    Interleaved(&'a mut PlaneMut<'b>),
}

impl Chroma<'_, '_> {
    fn load(&self, y: usize, x: &Range<usize>, width: usize, [u, v]: [&mut Samples; 2]) {
        match self {
            Self::Planar(a, b) => {
                widen(&a.row(y, width)[x.clone()], u);
                widen(&b.row(y, width)[x.clone()], v);
            }
            Self::Interleaved(uv) => widen_pairs(&uv.row(y, 2 * width)[2 * x.start..2 * x.end], u, v),
        }
    }

    fn store(&mut self, y: usize, x: &Range<usize>, width: usize, [u, v]: [&Samples; 2]) {
        match self {
            Self::Planar(a, b) => {
                narrow(u, &mut a.row_mut(y, width)[x.clone()]);
                narrow(v, &mut b.row_mut(y, width)[x.clone()]);
            }
            Self::Interleaved(uv) => narrow_pairs(u, v, &mut uv.row_mut(y, 2 * width)[2 * x.start..2 * x.end]),
        }
    }
}

fn apply_420(luma: &mut PlaneMut, mut chroma: Chroma, mask: &Mask, maps: &Maps, limits: [[f32; 2]; 3]) {
    let (w, h) = (mask.width, mask.height);
    let half = w.div_ceil(2);
    let across = maps.across(w, |x| x as f64 + 0.5);
    let across_chroma = maps.across(half, |x| (2 * x + 1) as f64);
    let mut lines = [maps.line(), maps.line(), maps.line()];
    const NONE: Samples = [0.0; BLOCK + LANES];
    // Luma, Cb and Cr at luma's rate for each of the two rows, the same at chroma's rate, their masks, and the result.
    let (mut rows, mut sites) = ([[NONE; 3], [NONE; 3]], [NONE; 3]);
    let (mut m, mut m_sites, mut o) = ([NONE; 2], NONE, [NONE; 2]);
    for cy in 0..h.div_ceil(2) {
        // The last row of an odd height stands for both: written twice, from what it was before.
        let ys = [2 * cy, (2 * cy + 1).min(h - 1)];
        let mask_rows = ys.map(|y| &mask.data[y * w..][..w]);
        let mut fresh = false;
        for x in foreground(mask_rows[0], mask_rows[1], 2) {
            if !fresh {
                for (line, y) in lines.iter_mut().zip([ys[0] as f64 + 0.5, ys[1] as f64 + 0.5, (2 * cy + 1) as f64]) {
                    maps.interpolate(y, line);
                }
                fresh = true;
            }
            let site = x.start / 2..x.end.div_ceil(2);
            let [_, u, v] = &mut sites;
            chroma.load(cy, &site, half, [u, v]);
            for ((row, m), (y, mask_row)) in rows.iter_mut().zip(&mut m).zip(ys.into_iter().zip(mask_rows)) {
                widen(&mask_row[x.clone()], m);
                widen(&luma.row(y, w)[x.clone()], &mut row[0]);
                double(&sites[1], &mut row[1]);
                double(&sites[2], &mut row[2]);
            }
            let n = x.len();
            let [a, b] = &mut rows;
            average(&mut a[0], &mut b[0], n, &mut sites[0]);
            let [a, b] = &mut m;
            average(a, b, n, &mut m_sites);

            for (((row, m), line), y) in rows.iter().zip(&m).zip(&lines).zip(ys) {
                blend(row, 0, m, &across, x.clone(), line, limits[0], &mut o[0]);
                narrow(&o[0], &mut luma.row_mut(y, w)[x.clone()]);
            }
            for (k, out) in o.iter_mut().enumerate() {
                let (k, line) = (k + 1, &lines[2]);
                blend(&sites, k, &m_sites, &across_chroma, site.clone(), line, limits[k], out);
            }
            chroma.store(cy, &site, half, [&o[0], &o[1]]);
        }
    }
}

/// The stretches of a row, or of two together, where a mask isn't zero: at most one a block, from its first such sample
/// to its last, widened to multiples of `step`.
fn foreground<'a>(a: &'a [u8], b: &'a [u8], step: usize) -> impl Iterator<Item = Range<usize>> + 'a {
    a.chunks(BLOCK).zip(b.chunks(BLOCK)).enumerate().filter_map(move |(i, (a, b))| {
        if a.iter().chain(b).fold(0, |any, &m| any | m) == 0 {
            return None;
        }
        let first = a.iter().zip(b).position(|(&a, &b)| a | b != 0)?;
        let last = a.iter().zip(b).rposition(|(&a, &b)| a | b != 0)?;
        let start = i * BLOCK + first / step * step;
        Some(start..i * BLOCK + ((last + 1).next_multiple_of(step)).min(a.len()))
    })
}

/// T - 1 in code values, times strength / 255: what a mask value of 1 adds.
struct Maps {
    cols: usize,
    rows: usize,
    /// What the grid lies over.
    region: Region,
    maps: Vec<[f32; 12]>,
}

impl Maps {
    fn new(transfer: &Transfer, frame: Region, format: Format, colour: Colour, strength: f32) -> Self {
        let (inner, outer) = (colour.rgb_of(format), colour.of_rgb(format));
        let difference = |map: &[f32; 12]| {
            let rows = [0, 4, 8].map(|i| [0, 1, 2, 3].map(|j| f64::from(map[i + j])));
            let mut rows = compose(&outer, &compose(&rows, &inner));
            let mut flat = [0.0; 12];
            for (i, row) in rows.iter_mut().enumerate() {
                row[i] -= 1.0;
                for (j, x) in row.iter().enumerate() {
                    flat[4 * i + j] = (x * f64::from(strength) / 255.0) as f32;
                }
            }
            // No colour map needs a gain of a million; beyond, sums might overflow.
            if flat.iter().all(|x| x.abs() < 1e6) { flat } else { [0.0; 12] }
        };
        let Transfer { cols, rows, region, .. } = *transfer;
        Self { cols, rows, region: region.unwrap_or(frame), maps: transfer.maps.iter().map(difference).collect() }
    }

    fn line(&self) -> Vec<[f32; 12]> {
        vec![[0.0; 12]; self.cols]
    }

    /// Where the samples of a row lie between the centres of cells; `x` tells their centres in pixels of the frame.
    fn across(&self, samples: usize, x: impl Fn(usize) -> f64) -> Axis {
        let Region { x: left, width, .. } = self.region;
        Axis::new(samples, self.cols, |sample| (x(sample) - left as f64) / width as f64)
    }

    /// The maps `y` pixels below the frame's upper edge.
    fn interpolate(&self, y: f64, line: &mut [[f32; 12]]) {
        let (row, f) = cell((y - self.region.y as f64) / self.region.height as f64, self.rows);
        let below = (row + 1).min(self.rows - 1);
        let of = |row: usize| &self.maps[row * self.cols..][..self.cols];
        mix(of(row), of(below), f, line);
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
struct Axis {
    cells: Vec<usize>,
    fractions: Vec<f32>,
    /// For each cell, the sample after its last.
    ends: Vec<usize>,
}

impl Axis {
    fn new(samples: usize, cols: usize, u: impl Fn(usize) -> f64) -> Self {
        let (cells, mut fractions): (Vec<_>, Vec<_>) = (0..samples).map(|x| cell(u(x), cols)).unzip();
        fractions.resize(samples + BLOCK + LANES, 0.0);
        let mut ends = vec![0; cols];
        for (x, &cell) in cells.iter().enumerate() {
            ends[cell] = x + 1;
        }
        Self { cells, fractions, ends }
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
    /// out = c + m (d . colours) for sample `k` of the pixels `x` of a row, d from the maps of `line`, held in
    /// `limits`.
    fn blend(
        colours: &[Samples; 3], k: usize, m: &Samples, across: &Axis, x: Range<usize>, line: &[[f32; 12]],
        limits: [f32; 2], out: &mut Samples,
    ) {
        let mut at = x.start;
        while at < x.end {
            let cell = across.cells[at];
            let (here, next) = (&line[cell][4 * k..][..4], &line[(cell + 1).min(line.len() - 1)][4 * k..][..4]);
            let end = across.ends[cell].min(x.end);
            // Lanes beyond `end` are computed with the wrong cell, and then again with theirs.
            let span = at - x.start..at - x.start + (end - at).next_multiple_of(LANES);
            let n = span.len();
            let f = &across.fractions[at..at + n];
            let [p, q, r] = colours.each_ref().map(|s| &s[span.clone()]);
            let (c, m, out) = (&colours[k][span.clone()], &m[span.clone()], &mut out[span]);
            let base = [here[0], here[1], here[2], here[3]];
            let slope = [next[0] - here[0], next[1] - here[1], next[2] - here[2], next[3] - here[3]];
            for ((((((out, p), q), r), c), m), f) in out.iter_mut().zip(p).zip(q).zip(r).zip(c).zip(m).zip(f) {
                let d = |j: usize| base[j] + f * slope[j];
                let o = c + m * (d(0) * p + d(1) * q + d(2) * r + d(3));
                let low = if *c < limits[0] { *c } else { limits[0] };
                let high = if *c > limits[1] { *c } else { limits[1] };
                let o = if o > low { o } else { low };
                *out = if o < high { o } else { high };
            }
            at = end;
        }
    }
}

/// The nearest code; `x` lies in 0..=255. Adding 2^23 leaves no bits for a fraction, so the sum is rounded, half to
/// even.
#[inline(always)]
fn code(x: f32) -> u32 {
    (x + 8_388_608.0).to_bits() & 255
}

vectorized! {
    fn widen(bytes: &[u8], out: &mut Samples) {
        for (o, &b) in out.iter_mut().zip(bytes) {
            *o = f32::from(b);
        }
    }
}

vectorized! {
    fn narrow(samples: &Samples, bytes: &mut [u8]) {
        for (b, &s) in bytes.iter_mut().zip(samples) {
            *b = code(s) as u8;
        }
    }
}

vectorized! {
    fn widen_pairs(bytes: &[u8], a: &mut Samples, b: &mut Samples) {
        for ((a, b), &[first, second]) in a.iter_mut().zip(b).zip(bytes.as_chunks::<2>().0) {
            (*a, *b) = (f32::from(first), f32::from(second));
        }
    }
}

vectorized! {
    fn narrow_pairs(a: &Samples, b: &Samples, bytes: &mut [u8]) {
        for ((&a, &b), pair) in a.iter().zip(b).zip(bytes.as_chunks_mut::<2>().0) {
            *pair = [code(a) as u8, code(b) as u8];
        }
    }
}

vectorized! {
    fn double(samples: &Samples, out: &mut Samples) {
        for (pair, &s) in out.as_chunks_mut::<2>().0.iter_mut().zip(samples) {
            *pair = [s, s];
        }
    }
}

vectorized! {
    /// Means of 2x2 of the first `n` samples of two rows. The last sample of an odd row stands for two.
    fn average(a: &mut Samples, b: &mut Samples, n: usize, out: &mut Samples) {
        if n % 2 == 1 {
            (a[n], b[n]) = (a[n - 1], b[n - 1]);
        }
        for ((o, a), b) in out.iter_mut().zip(a.as_chunks::<2>().0).zip(b.as_chunks::<2>().0) {
            *o = 0.25 * (a[0] + a[1] + b[0] + b[1]);
        }
    }
}

vectorized! {
    fn load_packed(bytes: &[u8], packed: Packed, out: &mut [Samples; 3]) {
        let [a, b, c] = out;
        let samples = a.iter_mut().zip(b).zip(c);
        if packed.bytes == 4 {
            let shifts = packed.colour.map(|i| 8 * i as u32);
            for (((a, b), c), &pixel) in samples.zip(bytes.as_chunks::<4>().0) {
                let pixel = u32::from_le_bytes(pixel);
                let sample = |shift: u32| (pixel >> shift & 255) as i32 as f32;
                (*a, *b, *c) = (sample(shifts[0]), sample(shifts[1]), sample(shifts[2]));
            }
        } else {
            let swap = packed.colour[0] == 2;
            for (((a, b), c), &[first, second, third]) in samples.zip(bytes.as_chunks::<3>().0) {
                let (red, blue) = if swap { (third, first) } else { (first, third) };
                (*a, *b, *c) = (f32::from(red), f32::from(second), f32::from(blue));
            }
        }
    }
}

vectorized! {
    fn store_packed(bytes: &mut [u8], packed: Packed, samples: &[Samples; 3]) {
        let [a, b, c] = samples;
        let samples = a.iter().zip(b).zip(c);
        if packed.bytes == 4 {
            let shifts = packed.colour.map(|i| 8 * i as u32);
            let kept = !shifts.iter().fold(0, |bits, shift| bits | 255 << shift);
            for (((&a, &b), &c), pixel) in samples.zip(bytes.as_chunks_mut::<4>().0) {
                let other = u32::from_le_bytes(*pixel) & kept;
                *pixel = (other | code(a) << shifts[0] | code(b) << shifts[1] | code(c) << shifts[2]).to_le_bytes();
            }
        } else {
            let swap = packed.colour[0] == 2;
            for (((&a, &b), &c), pixel) in samples.zip(bytes.as_chunks_mut::<3>().0) {
                let (first, third) = if swap { (c, a) } else { (a, c) };
                *pixel = [code(first) as u8, code(b) as u8, code(third) as u8];
            }
        }
    }
}
