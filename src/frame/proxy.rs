//! The proxy: the small picture that a harmonizer sees.

use super::colour::Affine;
use super::{Format, Mask, Picture, Plane};
use crate::simd::vectorized;

/// Box-filtered composite and mask. `rgb` is 3 x height x width (planar), sRGB in 0..1; `mask` is height x width in
/// 0..1.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<f32>,
    pub mask: Vec<f32>,
}

/// Averages `picture` and `mask` (of the same size) over the cells of a `width` x `height` grid. Borders of cells cut
/// through samples, so the grid may have any size, also a larger one than the picture. Y'CbCr is averaged first, each
/// plane at its own rate, and then turned into RGB.
pub fn proxy(picture: &Picture, mask: &Mask, width: usize, height: usize) -> Proxy {
    let n = width * height;
    let mut small = Proxy { width, height, rgb: vec![0.0; 3 * n], mask: vec![0.0; n] };
    if n == 0 || picture.check().is_err() || !mask.covers(picture.width, picture.height) {
        return small;
    }
    let Picture { format, colour, width: w, height: h, planes } = *picture;
    let whole = |plane, samples| Cells::new(plane, samples, (w, h), (w, h), (width, height));
    // Chroma of an odd size ends in half a sample: the grid spans w/2 x h/2 of the ceil(w/2) x ceil(h/2).
    let halved = |plane, samples| {
        Cells::new(plane, samples, (w.div_ceil(2), h.div_ceil(2)), (w, h), (width, height)).at_half_rate()
    };

    let a = colour.rgb_of(format);
    let Proxy { rgb, .. } = &mut small;
    if let Some(packed) = format.packed() {
        let samples = whole(planes[0], packed.bytes).average();
        convert(&a, rgb, |i, c| samples[i * packed.bytes + packed.colour[c]]);
    } else {
        let luma = whole(planes[0], 1).average();
        match format {
            Format::Nv12 => {
                let uv = halved(planes[1], 2).average();
                convert(&a, rgb, |i, c| if c == 0 { luma[i] } else { uv[2 * i + c - 1] });
            }
            Format::Gray8 => convert(&a, rgb, |i, c| if c == 0 { luma[i] } else { 128.0 }),
            _ => {
                let chroma = [halved(planes[1], 1).average(), halved(planes[2], 1).average()];
                convert(&a, rgb, |i, c| if c == 0 { luma[i] } else { chroma[c - 1][i] });
            }
        }
    }
    small.mask = whole(Plane { data: &mask.data, stride: w }, 1).average();
    small.mask.iter_mut().for_each(|m| *m = (*m / 255.0).min(1.0));
    small
}

/// Averaged code values, `code(pixel, sample)`, to planar RGB in 0..1.
fn convert(a: &Affine, rgb: &mut [f32], code: impl Fn(usize, usize) -> f32) {
    let n = rgb.len() / 3;
    let a = a.map(|row| row.map(|x| x as f32));
    for i in 0..n {
        let c = [code(i, 0), code(i, 1), code(i, 2)];
        for (k, [x, y, z, one]) in a.into_iter().enumerate() {
            rgb[k * n + i] = (x * c[0] + y * c[1] + z * c[2] + one).clamp(0.0, 1.0);
        }
    }
}

/// A grid of cells over a plane whose pixels have `samples` interleaved bytes.
struct Cells<'a> {
    plane: Plane<'a>,
    samples: usize,
    size: (usize, usize),
    cells: (usize, usize),
    /// Size of a cell in pixels of the plane.
    pitch: (f64, f64),
}

impl<'a> Cells<'a> {
    fn new(
        plane: Plane<'a>,
        samples: usize,
        size: (usize, usize),
        span: (usize, usize),
        cells: (usize, usize),
    ) -> Self {
        let pitch = (span.0 as f64 / cells.0 as f64, span.1 as f64 / cells.1 as f64);
        Self { plane, samples, size, cells, pitch }
    }

    fn at_half_rate(mut self) -> Self {
        self.pitch = (self.pitch.0 / 2.0, self.pitch.1 / 2.0);
        self
    }

    /// Mean of each cell, `samples` values a cell. The plane is read once, row by row: whole rows of a cell are summed
    /// as integers, the two it shares with its neighbours by their part in it.
    fn average(&self) -> Vec<f32> {
        let bytes = self.size.0 * self.samples;
        let (mut whole, mut sums) = (vec![0u16; bytes], vec![0f32; bytes]);
        let mut means = vec![0.0; self.cells.0 * self.cells.1 * self.samples];
        for (cy, line) in means.chunks_exact_mut(self.cells.0 * self.samples).enumerate() {
            sums.fill(0.0);
            let mut pending = 0;
            let rows = Span::new(cy, self.pitch.1, self.size.1);
            for y in rows.first..rows.end {
                let row = self.plane.row(y, bytes);
                let weight = rows.weight(y);
                if weight == 1.0 {
                    add_row(&mut whole, row);
                    pending += 1;
                    // 257 rows of 255 are what 16 bits hold.
                    if pending == 256 {
                        drain(&mut whole, &mut sums);
                        pending = 0;
                    }
                } else {
                    add_weighted(&mut sums, row, weight);
                }
            }
            drain(&mut whole, &mut sums);
            self.reduce(&sums, line);
        }
        means
    }

    /// Sums of columns to means of cells.
    fn reduce(&self, sums: &[f32], line: &mut [f32]) {
        let area = (self.pitch.0 * self.pitch.1) as f32;
        match self.samples {
            1 => self.reduce_by::<1>(sums, line, area),
            2 => self.reduce_by::<2>(sums, line, area),
            3 => self.reduce_by::<3>(sums, line, area),
            _ => self.reduce_by::<4>(sums, line, area),
        }
    }

    fn reduce_by<const N: usize>(&self, sums: &[f32], line: &mut [f32], area: f32) {
        let (columns, _) = sums.as_chunks::<N>();
        let (cells, _) = line.as_chunks_mut::<N>();
        for (cx, cell) in cells.iter_mut().enumerate() {
            let span = Span::new(cx, self.pitch.0, self.size.0);
            let mut total = columns[span.first].map(|c| c * span.weight(span.first));
            if let Some(last) = span.last() {
                for column in &columns[span.first + 1..last] {
                    total.iter_mut().zip(column).for_each(|(t, c)| *t += c);
                }
                let weight = span.weight(last);
                total.iter_mut().zip(&columns[last]).for_each(|(t, c)| *t += weight * c);
            }
            *cell = total.map(|t| t / area);
        }
    }
}

/// The samples `first..end` that a cell touches along one axis.
struct Span {
    from: f64,
    to: f64,
    first: usize,
    end: usize,
}

impl Span {
    fn new(cell: usize, pitch: f64, samples: usize) -> Self {
        // A border within rounding of a sample's edge is on it.
        let snap = |x: f64| if (x - x.round()).abs() < 1e-6 { x.round() } else { x };
        let (from, to) = (snap(cell as f64 * pitch), snap((cell + 1) as f64 * pitch).min(samples as f64));
        Self { from, to, first: from as usize, end: (to.ceil() as usize).min(samples) }
    }

    /// The last sample, where it isn't the first.
    fn last(&self) -> Option<usize> {
        (self.end > self.first + 1).then(|| self.end - 1)
    }

    /// How much of sample `i` lies in the cell, 0..1.
    #[inline]
    fn weight(&self, i: usize) -> f32 {
        (self.to.min((i + 1) as f64) - self.from.max(i as f64)) as f32
    }
}

vectorized! {
    fn add_row(sums: &mut [u16], row: &[u8]) {
        for (s, &b) in sums.iter_mut().zip(row) {
            *s = s.wrapping_add(u16::from(b));
        }
    }
}

vectorized! {
    fn add_weighted(sums: &mut [f32], row: &[u8], weight: f32) {
        for (s, &b) in sums.iter_mut().zip(row) {
            *s += weight * f32::from(b);
        }
    }
}

vectorized! {
    fn drain(whole: &mut [u16], sums: &mut [f32]) {
        for (s, w) in sums.iter_mut().zip(whole) {
            *s += f32::from(*w);
            *w = 0;
        }
    }
}
