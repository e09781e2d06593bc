//! Means of a plane's samples over the cells of a grid whose borders cut through samples.
//!
//! The plane is read once, row by row: whole rows of a cell are summed as integers, the two that it shares with its neighbours by
//! their part in it. Sums are in words, so that the components of a packed plane are summed together.

use super::Plane;
use super::samples::{Channel, LANES};
use crate::simd::vectorized;
use std::ops::Range;

/// The samples that a cell touches along one axis: `first` by its `before`, those between whole, `last` by its `after`; no `last`
/// where `first` is all.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    last: usize,
    before: f32,
    after: f32,
}

/// Cells along one axis of a region, over samples of one rate.
#[derive(Default)]
pub(super) struct Axis {
    first: usize,
    samples: usize,
    /// Samples of a cell.
    pitch: f32,
    cells: Vec<Span>,
}

/// Samples along an axis that a region touches, how much of the first lies before it, and the size of a cell, all in samples of
/// 2^`rate` pixels.
struct Grid {
    first: usize,
    samples: usize,
    start: f64,
    pitch: f64,
}

impl Grid {
    /// Where the region begins or ends within a sample, the grid has its part of it: so does chroma's at the edge of a frame of
    /// odd size.
    fn new(from: usize, length: usize, cells: usize, rate: u8) -> Self {
        let rate = 1usize << rate;
        let first = from / rate;
        Self {
            first,
            samples: (from + length).div_ceil(rate) - first,
            start: (from % rate) as f64 / rate as f64,
            pitch: length as f64 / cells as f64 / rate as f64,
        }
    }

    /// Where cell `cell` begins. A border within rounding of a sample's edge is on it.
    fn border(&self, cell: usize) -> f64 {
        let x = self.start + cell as f64 * self.pitch;
        let nearest = (x + 0.5).floor();
        if (x - nearest).abs() < 1e-6 { nearest } else { x }
    }

    fn span(&self, from: f64, to: f64) -> Span {
        let to = to.min(self.samples as f64);
        let (first, end) = (from as usize, (to.ceil() as usize).min(self.samples));
        let weight = |i: usize| (to.min((i + 1) as f64) - from.max(i as f64)) as f32;
        let last = end.saturating_sub(1).max(first);
        Span { first, last, before: weight(first), after: if last > first { weight(last) } else { 0.0 } }
    }
}

impl Axis {
    /// `cells` over `length` pixels from pixel `from` on.
    pub fn set(&mut self, from: usize, length: usize, cells: usize, rate: u8) {
        let grid = Grid::new(from, length, cells, rate);
        (self.first, self.samples, self.pitch) = (grid.first, grid.samples, grid.pitch as f32);
        self.cells.clear();
        let mut from = grid.border(0);
        for cell in 0..cells {
            let to = grid.border(cell + 1);
            self.cells.push(grid.span(from, to));
            from = to;
        }
    }

    /// All that the cells touch.
    pub fn samples(&self) -> Range<usize> {
        self.first..self.first + self.samples
    }
}

/// Sums of columns, at work. Its memory is kept.
#[derive(Default)]
pub(super) struct Scratch {
    bytes: Vec<u16>,
    words: Vec<u32>,
    /// Of each word over the rows of a cell.
    sums: Vec<f32>,
    /// One component's, without what lies between.
    columns: Vec<f32>,
    /// Rows of a cell, with the parts of the first and the last.
    height: f32,
}

impl Scratch {
    /// Sums the words `span` of each row of `plane` in cell `cell` of `cells` over `length` pixels from `from` on, in samples of
    /// 2^`rate` pixels, as `channel` reads them.
    pub fn sum(
        &mut self,
        plane: &Plane,
        channel: &Channel,
        span: Range<usize>,
        (from, length, cells, rate): (usize, usize, usize, u8),
        cell: usize,
    ) {
        let grid = Grid::new(from, length, cells, rate);
        let rows = grid.span(grid.border(cell), grid.border(cell + 1));
        self.height = grid.pitch as f32;
        self.sums.resize(span.len(), 0.0);
        let bytes = channel.bytes_of_words(&span);
        let row = |y: usize| plane.row(grid.first + y, bytes.end).get(bytes.start..).unwrap_or_default();
        // Rows that count whole are summed as integers.
        let part = |weight: f32| if weight == 1.0 { 0.0 } else { weight };
        let (before, after) = (part(rows.before), part(rows.after));
        channel.weigh_two(row(rows.first), before, row(rows.last), after, &mut self.sums);
        let end = if rows.last > rows.first { rows.last + usize::from(after == 0.0) } else { rows.first + 1 };
        let whole = rows.first + usize::from(before > 0.0)..end;
        if channel.is_bytes() {
            self.bytes.resize(span.len(), 0);
            // 257 rows of 255 are what 16 bits hold.
            for rows in chunks(whole, 256) {
                self.bytes.fill(0);
                for y in rows.clone().step_by(2) {
                    match y + 1 < rows.end {
                        true => add_two_of_bytes(&mut self.bytes, row(y), row(y + 1)),
                        false => add_bytes(&mut self.bytes, row(y)),
                    }
                }
                drain_bytes(&mut self.sums, &self.bytes);
            }
        } else {
            self.words.resize(span.len(), 0);
            for rows in chunks(whole, 1 << 16) {
                self.words.fill(0);
                rows.for_each(|y| channel.add_words(&mut self.words, row(y)));
                drain_words(&mut self.sums, &self.words);
            }
        }
    }

    /// Means of `channel`'s part of the sums, which begin with word `start` of the row.
    pub fn average(&mut self, channel: &Channel, start: usize, axis: &Axis, means: &mut [f32]) {
        let columns = channel.pick(&self.sums, channel.words(&axis.samples()).start - start, &mut self.columns);
        reduce(columns, &axis.cells, axis.pitch * self.height, means);
    }
}

fn chunks(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(most).map(move |start| start..(start + most).min(range.end))
}

vectorized! {
    fn add_bytes(sums: &mut [u16], row: &[u8]) {
        for (s, &b) in sums.iter_mut().zip(row) {
            *s = s.wrapping_add(u16::from(b));
        }
    }
}

vectorized! {
    /// Two rows at once, so that the sums are read and written half as often.
    fn add_two_of_bytes(sums: &mut [u16], row: &[u8], next: &[u8]) {
        for ((s, &a), &b) in sums.iter_mut().zip(row).zip(next) {
            *s = s.wrapping_add(u16::from(a) + u16::from(b));
        }
    }
}

vectorized! {
    fn drain_bytes(sums: &mut [f32], whole: &[u16]) {
        for (s, &w) in sums.iter_mut().zip(whole) {
            *s += f32::from(w);
        }
    }
}

vectorized! {
    fn drain_words(sums: &mut [f32], whole: &[u32]) {
        for (s, &w) in sums.iter_mut().zip(whole) {
            *s += w as f32;
        }
    }
}

/// The sum in an order that adds many at a time.
#[inline(always)]
fn total(values: &[f32]) -> f32 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, v)| *lane += v);
    }
    let (fours, rest) = rest.as_chunks::<4>();
    let mut four = [0.0; 4];
    for block in fours.iter().chain(lanes.as_chunks::<4>().0) {
        four.iter_mut().zip(block).for_each(|(lane, v)| *lane += v);
    }
    (four[0] + four[1]) + (four[2] + four[3]) + rest.iter().sum::<f32>()
}

vectorized! {
    /// Sums of columns to means of cells.
    fn reduce(columns: &[f32], cells: &[Span], area: f32, means: &mut [f32]) {
        for (mean, &Span { first, last, before, after }) in means.iter_mut().zip(cells) {
            let mut sum = before * columns[first];
            if last > first {
                sum += total(&columns[first + 1..last]) + after * columns[last];
            }
            *mean = sum / area;
        }
    }
}
