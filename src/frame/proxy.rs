//! The proxy: the small picture that a harmonizer sees.

use super::colour::Affine;
use super::{Format, Mask, Picture, Plane, Region, View};
use crate::simd::vectorized;

/// Box-filtered composite and mask of the whole frame, or of a region of it. `rgb` is 3 x height x width (planar), sRGB in
/// 0..1; `mask` is height x width in 0..1.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    pub width: usize,
    pub height: usize,
    /// What it shows, in pixels of the frame; `None` is the whole frame.
    pub region: Option<Region>,
    pub rgb: Vec<f32>,
    pub mask: Vec<f32>,
}

/// Averages what `view` shows of `picture` and `mask` (of the same size) over the cells of its grid. Borders of cells
/// cut through samples, so the grid may have any size, also a larger one than the picture, and its region begin at any
/// pixel. Y'CbCr is averaged first, each plane at its own rate, and then turned into RGB. A region that reaches beyond
/// the picture gives a proxy without a foreground.
pub fn proxy(picture: &Picture, mask: &Mask, view: View) -> Proxy {
    let View { region, cols: width, rows: height } = view;
    let n = width * height;
    let mut small = Proxy { width, height, region, rgb: vec![0.0; 3 * n], mask: vec![0.0; n] };
    let Picture { format, colour, planes, .. } = *picture;
    let region = region.unwrap_or(Region::whole(picture.width, picture.height));
    let usable = picture.check().is_ok() && mask.covers(picture.width, picture.height);
    if n == 0 || !usable || !region.is_within(picture.width, picture.height) {
        return small;
    }
    let whole = |plane, samples| Cells::new(plane, samples, region, 1, (width, height));
    let halved = |plane, samples| Cells::new(plane, samples, region, 2, (width, height));

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
    small.mask = whole(Plane { data: &mask.data, stride: mask.width }, 1).average();
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

/// A grid of cells over the pixels of a plane that a region touches, each of `samples` interleaved bytes.
struct Cells<'a> {
    /// Begins with the first of these pixels.
    plane: Plane<'a>,
    samples: usize,
    size: (usize, usize),
    cells: (usize, usize),
    /// How much of the first pixel lies before the region.
    start: (f64, f64),
    /// Size of a cell in pixels of the plane.
    pitch: (f64, f64),
}

impl<'a> Cells<'a> {
    /// The plane has a pixel for `rate` of the frame's along each axis. Where the region begins or ends within one, the
    /// grid has its part of it: so does chroma's at the edge of a frame of odd size.
    fn new(plane: Plane<'a>, samples: usize, region: Region, rate: usize, cells: (usize, usize)) -> Self {
        let axis = |from: usize, length: usize, cells: usize| {
            let first = from / rate;
            let size = (from + length).div_ceil(rate) - first;
            let (start, pitch) = ((from % rate) as f64 / rate as f64, length as f64 / cells as f64 / rate as f64);
            (first, size, start, pitch)
        };
        let across = axis(region.x, region.width, cells.0);
        let down = axis(region.y, region.height, cells.1);
        Self {
            plane: plane.offset(across.0 * samples, down.0),
            samples,
            size: (across.1, down.1),
            cells,
            start: (across.2, down.2),
            pitch: (across.3, down.3),
        }
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
            let rows = Span::new(cy, self.start.1, self.pitch.1, self.size.1);
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
            let span = Span::new(cx, self.start.0, self.pitch.0, self.size.0);
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
    fn new(cell: usize, start: f64, pitch: f64, samples: usize) -> Self {
        // A border within rounding of a sample's edge is on it.
        let snap = |x: f64| if (x - x.round()).abs() < 1e-6 { x.round() } else { x };
        let border = |cell: usize| snap(start + cell as f64 * pitch);
        let (from, to) = (border(cell), border(cell + 1).min(samples as f64));
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
