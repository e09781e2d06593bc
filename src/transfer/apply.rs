//! A transfer applied to a picture in place, in its own format.
//!
//! Colour maps are closed under the change between RGB and Y'CbCr, so each map is turned into one that acts on the
//! picture's own code values, less the identity, and its difference is added by the mask: no sample is converted, and
//! a mask or a difference of zero leaves a sample as it is, whatever its value. Each sample is read and written once.

use super::Transfer;
use super::maps::{Axis, Line, Maps};
use crate::bands;
use crate::frame::samples::{BLOCK, Channel, LANES, NONE, Samples};
use crate::frame::{Colorimetry, Format, Mask, PictureMut, Plane, PlaneMut, Region};
use crate::simd::{fused, vectorized};
use std::cell::RefCell;
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
    colour: Colorimetry,
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
    colour: Colorimetry,
}

/// A thread's memory for the rows at hand.
struct Work {
    /// Maps of luma's rows, up to four, and of chroma's.
    lines: [Line; 5],
    masks: [Samples; 4],
    /// Luma's rows, and the other components at its rate.
    luma: [Samples; 4],
    colours: [Samples; 3],
    /// Components and mask at chroma's rate.
    sites: [Samples; 3],
    site_mask: Samples,
    out: [Samples; 3],
}

thread_local! {
    static WORK: RefCell<Box<Work>> = RefCell::new(Box::new(Work {
        lines: Default::default(),
        masks: [NONE; 4],
        luma: [NONE; 4],
        colours: [NONE; 3],
        sites: [NONE; 3],
        site_mask: NONE,
        out: [NONE; 3],
    }));
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
        WORK.with_borrow_mut(|work| {
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
                        self.group(band, &group, across, work);
                    }
                }
            }
        });
    }

    fn mask_row(&self, band: &Band, row: usize) -> &[u8] {
        let width = self.mask.width;
        &self.mask.data[(band.top + row) * width..][..width]
    }

    fn group(&self, band: &mut Band, group: &Group, across: usize, work: &mut Work) {
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
        for (line, &row) in work.lines.iter_mut().zip(group.rows()) {
            plan.maps.interpolate(centre(row), plan.luma.columns(&extent), line);
        }
        let is_subsampled = self.format.is_subsampled();
        if is_subsampled {
            let sites = extent.start / across..extent.end.div_ceil(across);
            let shared = (1usize << self.format.sub[1]) - 1;
            let down = if self.colour.siting.down { 0.0 } else { (shared * group.pitch) as f64 / 2.0 };
            let y = centre(group.rows[0]) + down;
            plan.maps.interpolate(y, plan.chroma.columns(&sites), &mut work.lines[4]);
        }
        let format = &self.format;
        let channels = [0, 1, 2].map(|c| format.places[c].map(|place| Channel::new(format, place)));
        let mut rows = Rows { worker: self, band, group, carried: [(usize::MAX, 0.0); 4] };
        let mut start = extent.start;
        while start < extent.end {
            let end = (start + BLOCK).min(extent.end);
            match (is_subsampled, channels) {
                (true, [Some(luma), Some(cb), Some(cr)]) => rows.shared(start..end, [luma, cb, cr], work),
                (_, channels) => rows.own(start..end, channels, work),
            }
            start = end;
        }
    }
}

/// Rows of a group at work, block by block.
struct Rows<'a, 'b> {
    worker: &'a Worker<'a>,
    band: &'a mut Band<'b>,
    group: &'a Group,
    /// Where each row's last block ended, and its last sample before it was changed.
    carried: [(usize, f32); 4],
}

impl Rows<'_, '_> {
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

    /// Whether any of it isn't zero.
    fn load_mask(&self, row: usize, x: &Range<usize>, out: &mut [f32]) -> bool {
        widen(&self.worker.mask_row(self.band, row)[x.clone()], out) > 0
    }

    /// Samples `x` of formats in which each pixel has its own of all components, or luma alone.
    fn own(&mut self, x: Range<usize>, channels: [Option<Channel>; 3], work: &mut Work) {
        let row = self.group.rows[0];
        let Worker { plan, format, colour, .. } = *self.worker;
        let Work { lines, masks: [m, ..], colours, out, .. } = work;
        if !self.load_mask(row, &x, m) {
            return;
        }
        for (channel, colours) in channels.iter().zip(colours.iter_mut()) {
            match channel {
                Some(channel) => self.load(channel, row, &x, colours),
                None => colours.fill(Colorimetry::neutral(format)),
            }
        }
        let (colours, limits) = (colours.each_ref(), colour.limits(format));
        let blend = match (format.is_gray(), colour.full_range) {
            (true, _) => blend::<0, 1, false>,
            (false, true) => blend::<0, 3, true>,
            (false, false) => blend::<0, 3, false>,
        };
        blend(colours, m, &plan.luma, x.clone(), &lines[0], limits, out);
        for (channel, out) in channels.iter().zip(out) {
            if let Some(channel) = channel {
                self.store(channel, row, &x, out);
            }
        }
    }

    /// Samples `x` of formats whose chroma belongs to several pixels.
    fn shared(&mut self, x: Range<usize>, [luma, cb, cr]: [Channel; 3], work: &mut Work) {
        let Worker { plan, format, colour, .. } = *self.worker;
        let (across, limits) = (1usize << format.sub[0], colour.limits(format));
        let Work { lines, masks, luma: rows, colours: [_, u, v], sites: [site_luma, site_u, site_v], site_mask, out } =
            work;
        let mut any = false;
        for (m, &row) in masks.iter_mut().zip(self.group.rows()) {
            any |= self.load_mask(row, &x, m);
        }
        if !any {
            return;
        }
        let sites = x.start / across..x.end.div_ceil(across);
        let [_, chroma_lines] = format.size(1, 1, self.band.rows);
        let line = self.group.chroma.min(chroma_lines - 1);
        for (channel, at_sites, at_luma) in [(&cb, &mut *site_u, &mut *u), (&cr, &mut *site_v, &mut *v)] {
            self.load(channel, line, &sites, at_sites);
            repeat(at_sites, across, at_luma);
        }
        let (count, mut left) = (if colour.siting.down { 1 } else { self.group.count }, 0.0);
        for (i, (c, &row)) in rows.iter_mut().zip(self.group.rows()).enumerate() {
            self.load(&luma, row, &x, c);
            if i < count {
                left += self.left(i, &luma, &x, c[0]) / count as f32;
            }
            self.carried[i] = (x.end, c[x.len() - 1]);
            blend::<0, 1, false>([c, u, v], &masks[i], &plan.luma, x.clone(), &lines[i], limits, out);
            self.store(&luma, row, &x, &out[0]);
        }
        if self.group.chroma >= chroma_lines {
            return;
        }
        average(&mut masks[..self.group.count], across, x.len(), site_mask);
        if colour.siting.across && across == 2 {
            filter(&rows[..count], left, x.len(), site_luma);
        } else {
            average(&mut rows[..count], across, x.len(), site_luma);
        }
        let at_sites: [&Samples; 3] = [site_luma, site_u, site_v];
        blend::<1, 3, false>(at_sites, site_mask, &plan.chroma, sites.clone(), &lines[4], limits, out);
        self.store(&cb, line, &sites, &out[1]);
        self.store(&cr, line, &sites, &out[2]);
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

vectorized! {
    /// From the first sample that is not zero to the last.
    fn foreground(mask: &[u8]) -> Option<Range<usize>> {
        const STEP: usize = 64;
        let any = |part: &[u8]| part.iter().fold(0, |any, &m| any | m) != 0;
        let first = mask.chunks(STEP).position(any)? * STEP;
        let last = mask.len() - mask.rchunks(STEP).position(any)? * STEP;
        let first = first + mask[first..].iter().position(|&m| m != 0)?;
        let last = mask[..last].iter().rposition(|&m| m != 0)?;
        Some(first..last + 1)
    }
}

vectorized! {
    /// Bytes to floats, and the bits that any of them has.
    fn widen(bytes: &[u8], out: &mut [f32]) -> u8 {
        let mut bits = 0;
        for (o, &b) in out.iter_mut().zip(bytes) {
            *o = f32::from(b);
            bits |= b;
        }
        bits
    }
}

vectorized! {
    /// out = c + m (d . colours) for the components from `FIRST` up to `END` of the samples `x` of a row, d from the maps of `line`,
    /// held in `limits`. Where `ALL` codes are within these, samples are not looked at for whether they were beyond.
    fn blend<const FIRST: usize, const END: usize, const ALL: bool>(
        colours: [&Samples; 3], m: &Samples, across: &Axis, x: Range<usize>, line: &Line, limits: [[f32; 2]; 3],
        out: &mut [Samples; 3],
    ) {
        let mut at = x.start;
        while at < x.end {
            let cell = across.cells[at] as usize;
            let (base, slope) = (&line.maps[cell], &line.slopes[cell]);
            let end = across.ends[cell].min(x.end);
            // Lanes beyond `end` are computed with the wrong cell, and then again with theirs.
            let span = at - x.start..at - x.start + (end - at).next_multiple_of(LANES);
            let n = span.len();
            let f = &across.fractions[at..at + n];
            let c = colours.map(|s| &s[span.clone()][..n]);
            let (m, o) = (&m[span.clone()][..n], out.each_mut().map(|s| &mut s[span.clone()][..n]));
            for i in 0..n {
                for k in FIRST..END {
                    let d = |j: usize| fused::<FUSED>(f[i], slope[4 * k + j], base[4 * k + j]);
                    let change = fused::<FUSED>(d(2), c[2][i], d(3));
                    let change = fused::<FUSED>(d(0), c[0][i], fused::<FUSED>(d(1), c[1][i], change));
                    let v = fused::<FUSED>(m[i], change, c[k][i]);
                    let [low, high] = limits[k];
                    let low = if !ALL && c[k][i] < low { c[k][i] } else { low };
                    let high = if !ALL && c[k][i] > high { c[k][i] } else { high };
                    let v = if v > low { v } else { low };
                    o[k][i] = if v < high { v } else { high };
                }
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
    /// Means of each `of` of the first `n` samples of some rows together, at the end of those that are left.
    fn average(rows: &mut [Samples], of: usize, n: usize, out: &mut Samples) {
        let (whole, rest) = (n / of, n % of);
        if rest > 0 {
            for row in rows.iter_mut() {
                let mean = row[whole * of..n].iter().sum::<f32>() / rest as f32;
                row[whole * of..][..of].fill(mean);
            }
        }
        let weight = 1.0 / (of * rows.len()) as f32;
        match (rows, of) {
            ([a, b], 2) => {
                for ((o, [a, c]), [b, d]) in out.iter_mut().zip(a.as_chunks::<2>().0).zip(b.as_chunks::<2>().0) {
                    *o = weight * ((a + b) + (c + d));
                }
            }
            (rows, of) => {
                out.fill(0.0);
                for row in rows {
                    for (o, samples) in out.iter_mut().zip(row.chunks_exact(of)) {
                        *o += weight * samples.iter().sum::<f32>();
                    }
                }
            }
        }
    }
}

vectorized! {
    /// A quarter, half and a quarter about every other of the first `n` samples of the mean of some rows. The last of an odd number
    /// stands for the one after it.
    fn filter(rows: &[Samples], left: f32, n: usize, out: &mut Samples) {
        let weight = 1.0 / rows.len() as f32;
        let (mut here, mut after) = ([0.0; BLOCK / 2 + LANES], [0.0; BLOCK / 2 + LANES + 1]);
        for row in rows {
            for ((h, a), [first, second]) in here.iter_mut().zip(&mut after[1..]).zip(row.as_chunks::<2>().0) {
                *h += weight * first;
                *a += weight * second;
            }
        }
        after[0] = left;
        if n % 2 == 1 {
            after[n / 2 + 1] = here[n / 2];
        }
        for (((o, here), before), after) in out.iter_mut().zip(&here).zip(&after).zip(&after[1..]) {
            *o = 0.25 * (before + after) + 0.5 * here;
        }
    }
}
