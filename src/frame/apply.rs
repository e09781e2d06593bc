//! A transfer applied to a picture in place, in its own format.
//!
//! Colour maps are closed under the change between RGB and Y'CbCr, so each map is turned into one that acts on the
//! picture's own code values, less the identity, and its difference is added by the mask: no sample is converted, and
//! a mask or a difference of zero leaves a sample as it is, whatever its value. Each sample is read and written once.

use super::maps::{Axis, Maps};
use super::samples::{BLOCK, Channel, LANES, NONE, Samples, accumulate, load_bytes};
use super::{Colour, Format, Mask, PictureMut, Plane, PlaneMut, Region};
use crate::bands;
use crate::simd::vectorized;
use crate::transfer::Transfer;
use std::ops::Range;

/// O = C + strength * M * (T(C) - C) on the samples whose mask is not zero; no other bit changes. A chroma sample that
/// several pixels share takes the mean mask of those pixels, and their luma where it is sited: in their middle the mean; on the
/// first across a quarter, half and quarter of its neighbours and itself; on the first down that row alone. Rows of interlaced
/// pictures share chroma within their field. Results are rounded to the nearest code and held in the nominal range, but for samples that were
/// beyond it already: they may stay. Alpha and padding are never written. A map with a coefficient that is not finite, or
/// absurdly large, leaves its samples alone.
pub fn apply(picture: &mut PictureMut, mask: &Mask, transfer: &Transfer, strength: f32) {
    Plan::default().apply(picture, mask, transfer, strength);
}

/// What `apply` knows of a transfer and pictures before it sees one. Kept from frame to frame it allocates nothing, and is made
/// again only where one of these changes.
#[derive(Default)]
pub struct Plan {
    made_of: Option<(Target, Transfer)>,
    maps: Maps,
    luma: Axis,
    chroma: Axis,
}

#[derive(Clone, Copy, PartialEq)]
struct Target {
    size: [usize; 2],
    format: Format,
    colour: Colour,
    strength: f32,
}

/// A band begins at a multiple of this many rows: those of two chroma rows, one of each field, of 4:1:0.
const ROWS: usize = 8;

impl Plan {
    /// As the function `apply`.
    pub fn apply(&mut self, picture: &mut PictureMut, mask: &Mask, transfer: &Transfer, strength: f32) {
        let (width, height) = (picture.width, picture.height);
        let usable = picture.as_picture().check().is_ok() && mask.covers(width, height) && transfer.is_complete();
        if strength == 0.0 || !usable {
            return;
        }
        let (format, colour) = (picture.format, picture.colour);
        self.make(Target { size: [width, height], format, colour, strength }, transfer);
        let rows = bands::height(width, height, ROWS);
        let mut rest = Some(Band::whole(picture));
        let bands = std::iter::from_fn(|| {
            let (band, below) = rest.take()?.split(rows);
            rest = below;
            Some(band)
        });
        let worker = Worker { plan: self, mask, format, colour };
        bands::each(bands, |mut band| worker.work(&mut band));
    }

    fn make(&mut self, target: Target, transfer: &Transfer) {
        match &mut self.made_of {
            Some((made, of)) if *made == target && of == transfer => return,
            Some((made, of)) => {
                *made = target;
                of.clone_from(transfer);
            }
            none => *none = Some((target, transfer.clone())),
        }
        let Target { size: [width, height], format, colour, strength } = target;
        self.maps.set(transfer, Region::whole(width, height), format, colour, strength);
        self.maps.across(&mut self.luma, width, |x| x as f64 + 0.5);
        if format.is_subsampled() {
            let [samples, _] = format.size(1, width, height);
            let pixels = 1usize << format.sub[0];
            let centre = if colour.siting.across { 0.5 } else { pixels as f64 / 2.0 };
            self.maps.across(&mut self.chroma, samples, |x| (x * pixels) as f64 + centre);
        }
    }
}

/// Rows of a picture, from `top` on; its planes begin with them.
struct Band<'a> {
    planes: [PlaneMut<'a>; 4],
    format: Format,
    interlaced: bool,
    top: usize,
    rows: usize,
}

impl<'a> Band<'a> {
    fn whole(picture: &'a mut PictureMut) -> Self {
        let (format, interlaced, rows) = (picture.format, picture.interlaced, picture.height);
        let planes = picture.planes.each_mut().map(|p| PlaneMut { data: &mut *p.data, stride: p.stride });
        Self { planes, format, interlaced, top: 0, rows }
    }

    /// The first `rows` rows, and those below if there are any.
    fn split(self, rows: usize) -> (Self, Option<Self>) {
        if rows >= self.rows {
            return (self, None);
        }
        let Self { planes, format, interlaced, top, rows: all } = self;
        let sizes = format.plane_sizes(1, rows);
        let mut halves = planes.into_iter().zip(sizes).map(|(PlaneMut { data, stride }, (_, lines))| {
            let (above, below) = data.split_at_mut((lines * stride).min(data.len()));
            [above, below].map(|data| Some(PlaneMut { data, stride }))
        });
        let mut halves: [_; 4] = std::array::from_fn(|_| halves.next().unwrap_or_default());
        let mut half = |i: usize| halves.each_mut().map(|half| half[i].take().unwrap_or_default());
        let (above, below) = (half(0), half(1));
        (
            Self { planes: above, format, interlaced, top, rows },
            Some(Self { planes: below, format, interlaced, top: top + rows, rows: all - rows }),
        )
    }
}

struct Worker<'a> {
    plan: &'a Plan,
    mask: &'a Mask,
    format: Format,
    colour: Colour,
}

thread_local! {
    /// The maps of the rows at hand: luma's, of up to four, and chroma's.
    static LINES: std::cell::RefCell<[Vec<[f32; 12]>; 5]> = Default::default();
}

/// Rows of a band that share a row of chroma, and its number in the band.
struct Group {
    rows: [usize; 4],
    count: usize,
    /// From one to the next.
    pitch: usize,
    chroma: usize,
}

impl Group {
    fn rows(&self) -> &[usize] {
        &self.rows[..self.count]
    }
}

impl Worker<'_> {
    fn work(&self, band: &mut Band) {
        LINES.with_borrow_mut(|lines| {
            for line in lines.iter_mut() {
                line.resize(self.plan.maps.cols(), [0.0; 12]);
            }
            let [across, down] = self.format.sub.map(|sub| 1usize << sub);
            let fields = if band.interlaced && down > 1 { 2 } else { 1 };
            for start in (0..band.rows).step_by(down * fields) {
                // The second field first: at an odd edge it can lack chroma of its own, and looks at the first's.
                for field in (0..fields).rev() {
                    let mut group = Group { rows: [0; 4], count: 0, pitch: fields, chroma: start / down + field };
                    for row in (0..down).map(|i| start + field + i * fields).filter(|&row| row < band.rows) {
                        group.rows[group.count] = row;
                        group.count += 1;
                    }
                    if group.count > 0 {
                        self.group(band, &group, across, lines);
                    }
                }
            }
        });
    }

    fn mask_row(&self, band: &Band, row: usize) -> &[u8] {
        let width = self.mask.width;
        &self.mask.data[(band.top + row) * width..][..width]
    }

    fn group(&self, band: &mut Band, group: &Group, across: usize, lines: &mut [Vec<[f32; 12]>; 5]) {
        let (plan, width) = (self.plan, self.mask.width);
        let mut extent: Option<Range<usize>> = None;
        for &row in group.rows() {
            if let Some(Range { start, end }) = foreground(self.mask_row(band, row)) {
                extent = Some(extent.map_or(start..end, |e| e.start.min(start)..e.end.max(end)));
            }
        }
        let Some(extent) = extent else { return };
        let extent = extent.start / across * across..extent.end.next_multiple_of(across).min(width);

        let centre = |row: usize| (band.top + row) as f64 + 0.5;
        for (line, &row) in lines.iter_mut().zip(group.rows()) {
            plan.maps.interpolate(centre(row), plan.luma.columns(&extent), line);
        }
        let is_subsampled = self.format.is_subsampled();
        if is_subsampled {
            let sites = extent.start / across..extent.end.div_ceil(across);
            let shared = (1usize << self.format.sub[1]) - 1;
            let down = if self.colour.siting.down { 0.0 } else { (shared * group.pitch) as f64 / 2.0 };
            plan.maps.interpolate(centre(group.rows[0]) + down, plan.chroma.columns(&sites), &mut lines[4]);
        }
        let mut row = Row { worker: self, band, group, lines, carried: [(usize::MAX, 0.0); 4] };
        let mut start = extent.start;
        while start < extent.end {
            let end = (start + BLOCK).min(extent.end);
            if is_subsampled {
                row.shared(start..end)
            } else {
                row.own(start..end)
            };
            start = end;
        }
    }
}

/// Rows of a group at work, block by block.
struct Row<'a, 'b> {
    worker: &'a Worker<'a>,
    band: &'a mut Band<'b>,
    group: &'a Group,
    lines: &'a [Vec<[f32; 12]>; 5],
    /// Where each row's last block ended, and its last sample before it was changed.
    carried: [(usize, f32); 4],
}

impl Row<'_, '_> {
    fn channel(&self, c: usize) -> Option<Channel> {
        let format = &self.worker.format;
        format.places[c].map(|place| Channel::new(format, place))
    }

    /// `line` is the row's number in its plane.
    fn load(&self, channel: &Channel, line: usize, samples: &Range<usize>, out: &mut [f32]) {
        let Range { start, end } = channel.span(samples);
        let plane = &self.band.planes[channel.plane];
        let row = Plane { data: plane.data, stride: plane.stride }.row(line, end);
        channel.load(row.get(start..).unwrap_or_default(), out);
    }

    fn store(&mut self, channel: &Channel, line: usize, samples: &Range<usize>, values: &[f32]) {
        let Range { start, end } = channel.span(samples);
        let row = self.band.planes[channel.plane].row_mut(line, end);
        channel.store(&values[..samples.len()], row.get_mut(start..).unwrap_or_default());
    }

    fn load_mask(&self, row: usize, x: &Range<usize>, out: &mut [f32]) -> bool {
        let mask = &self.worker.mask_row(self.band, row)[x.clone()];
        let any = any(mask);
        if any {
            load_bytes(mask, out);
        } else {
            out[..x.len()].fill(0.0);
        }
        any
    }

    /// Samples `x` of formats in which each pixel has its own of all components, or luma alone.
    fn own(&mut self, x: Range<usize>) {
        let row = self.group.rows[0];
        let Worker { plan, format, colour, .. } = *self.worker;
        let mut m = NONE;
        if !self.load_mask(row, &x, &mut m) {
            return;
        }
        let channels = [0, 1, 2].map(|c| self.channel(c));
        let mut c = if format.is_gray() { [[Colour::neutral(format); BLOCK + LANES]; 3] } else { [NONE; 3] };
        for (channel, c) in channels.iter().zip(&mut c) {
            if let Some(channel) = channel {
                self.load(channel, row, &x, c);
            }
        }
        let (mut o, limits) = (NONE, colour.limits(format));
        for (k, channel) in channels.iter().enumerate() {
            if let Some(channel) = channel {
                blend(&c, k, &m, &plan.luma, x.clone(), &self.lines[0], limits[k], &mut o);
                self.store(channel, row, &x, &o);
            }
        }
    }

    /// Samples `x` of formats whose chroma belongs to several pixels.
    fn shared(&mut self, x: Range<usize>) {
        let Worker { plan, format, colour, .. } = *self.worker;
        let [Some(luma), Some(cb), Some(cr)] = [0, 1, 2].map(|c| self.channel(c)) else { return };
        let (across, limits) = (1usize << format.sub[0], colour.limits(format));
        let mut m = [NONE; 4];
        let mut any = false;
        for (m, &row) in m.iter_mut().zip(self.group.rows()) {
            any |= self.load_mask(row, &x, m);
        }
        if !any {
            return;
        }
        let sites = x.start / across..x.end.div_ceil(across);
        let [_, lines] = format.size(1, 1, self.band.rows);
        let line = self.group.chroma.min(lines - 1);
        // Cb and Cr at luma's rate under each row's luma, and all three at chroma's.
        let (mut c, mut s) = ([NONE; 3], [NONE; 3]);
        for (channel, k) in [(&cb, 1), (&cr, 2)] {
            self.load(channel, line, &sites, &mut s[k]);
            repeat(&s[k], across, &mut c[k]);
        }
        let mut o = NONE;
        let (mut mean, mut left) = (NONE, 0.0);
        let of_site = if colour.siting.down { 1 } else { self.group.count };
        for (i, (m, &row)) in m.iter().zip(self.group.rows()).enumerate() {
            self.load(&luma, row, &x, &mut c[0]);
            if i < of_site {
                left += self.left(i, &luma, &x, c[0][0]) / of_site as f32;
                accumulate(&mut mean, &c[0], 1.0 / of_site as f32);
            }
            self.carried[i] = (x.end, c[0][x.len() - 1]);
            blend(&c, 0, m, &plan.luma, x.clone(), &self.lines[i], limits[0], &mut o);
            self.store(&luma, row, &x, &o);
        }
        if self.group.chroma >= lines {
            return;
        }
        let [first, others @ ..] = &mut m;
        for other in others.iter().take(self.group.count - 1) {
            accumulate(first, other, 1.0);
        }
        let mut m_sites = NONE;
        average(first, across, x.len(), 1.0 / self.group.count as f32, &mut m_sites);
        if colour.siting.across && across == 2 {
            filter(&mean, left, x.len(), &mut s[0]);
        } else {
            average(&mut mean, across, x.len(), 1.0, &mut s[0]);
        }
        for (channel, k) in [(&cb, 1), (&cr, 2)] {
            blend(&s, k, &m_sites, &plan.chroma, sites.clone(), &self.lines[4], limits[k], &mut o);
            self.store(channel, line, &sites, &o);
        }
    }

    /// Luma of the pixel before `x` in the group's row `i`, as it was; at the picture's edge `first`.
    fn left(&self, i: usize, luma: &Channel, x: &Range<usize>, first: f32) -> f32 {
        if x.start == 0 {
            return first;
        }
        if self.carried[i].0 == x.start {
            return self.carried[i].1;
        }
        let mut left = [0.0; LANES];
        self.load(luma, self.group.rows[i], &(x.start - 1..x.start), &mut left);
        left[0]
    }
}

/// From the first sample that is not zero to the last.
fn foreground(mask: &[u8]) -> Option<Range<usize>> {
    const STEP: usize = 128;
    let first = mask.chunks(STEP).position(any)? * STEP;
    let first = first + mask[first..].iter().position(|&m| m != 0)?;
    let last = mask.len() - mask.rchunks(STEP).position(any)? * STEP;
    let last = mask[..last].iter().rposition(|&m| m != 0)?;
    Some(first..last + 1)
}

vectorized! {
    fn any(mask: &[u8]) -> bool {
        mask.iter().fold(0, |any, &m| any | m) != 0
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
            let cell = across.cells[at] as usize;
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

vectorized! {
    /// Each sample `times` times over.
    fn repeat(samples: &Samples, times: usize, out: &mut Samples) {
        match times {
            1 => *out = *samples,
            2 => {
                for (pair, &s) in out.as_chunks_mut::<2>().0.iter_mut().zip(samples) {
                    *pair = [s; 2];
                }
            }
            _ => {
                for (four, &s) in out.as_chunks_mut::<4>().0.iter_mut().zip(samples) {
                    *four = [s; 4];
                }
            }
        }
    }
}

vectorized! {
    /// Means of each `of` of the first `n` samples, the last one of those that are left, times `weight`.
    fn average(samples: &mut Samples, of: usize, n: usize, weight: f32, out: &mut Samples) {
        let (whole, rest) = (n / of, n % of);
        if rest > 0 {
            let mean = samples[whole * of..n].iter().sum::<f32>() / rest as f32;
            samples[whole * of..][..of].fill(mean);
        }
        match of {
            1 => out.iter_mut().zip(&*samples).for_each(|(o, s)| *o = weight * s),
            2 => {
                let weight = 0.5 * weight;
                out.iter_mut().zip(samples.as_chunks::<2>().0).for_each(|(o, [a, b])| *o = weight * (a + b));
            }
            _ => {
                let weight = 0.25 * weight;
                let fours = samples.as_chunks::<4>().0;
                out.iter_mut().zip(fours).for_each(|(o, [a, b, c, d])| *o = weight * (a + b + c + d));
            }
        }
    }
}

vectorized! {
    /// A quarter, half and a quarter about every other of the first `n` samples. The last of an odd number stands for the one after it.
    fn filter(samples: &Samples, left: f32, n: usize, out: &mut Samples) {
        let mut before = NONE;
        before[0] = left;
        for (b, [_, s]) in before[1..].iter_mut().zip(samples.as_chunks::<2>().0) {
            *b = *s;
        }
        for ((o, [a, b]), left) in out.iter_mut().zip(samples.as_chunks::<2>().0).zip(&before) {
            *o = 0.25 * (left + b) + 0.5 * a;
        }
        if n % 2 == 1 {
            let last = samples[n - 1];
            out[n / 2] = 0.25 * (before[n / 2] + last) + 0.5 * last;
        }
    }
}
