//! The mask at the composite's size: one byte a pixel, 0 background, 255 foreground.

use super::samples::{BLOCK, Channel, NONE, Samples, accumulate, add_weighted_bytes};
use super::{Format, Picture, Plane, Region};
use crate::bands;
use crate::simd::vectorized;
use anyhow::{Result, ensure};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which samples of the mask stream hold the mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "plugin", derive(glib::Enum), enum_type(name = "GstHarmonizeMaskChannel"))]
pub enum MaskChannel {
    /// Alpha where the format has one, else luma.
    #[default]
    #[cfg_attr(feature = "plugin", enum_value(name = "Alpha if the format has one, else luma", nick = "auto"))]
    Auto,
    #[cfg_attr(feature = "plugin", enum_value(name = "Luma, or the luma of red, green and blue", nick = "luma"))]
    Luma,
    #[cfg_attr(feature = "plugin", enum_value(name = "Alpha", nick = "alpha"))]
    Alpha,
    #[cfg_attr(feature = "plugin", enum_value(name = "Red", nick = "red"))]
    Red,
    #[cfg_attr(feature = "plugin", enum_value(name = "Green", nick = "green"))]
    Green,
    #[cfg_attr(feature = "plugin", enum_value(name = "Blue", nick = "blue"))]
    Blue,
}

/// Which code values mean background and foreground.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "plugin", derive(glib::Enum), enum_type(name = "GstHarmonizeMaskRange"))]
pub enum MaskRange {
    /// Alpha and RGB are full, Y'CbCr is as its colour says. GRAY8 comes both ways and its caps don't tell: it is
    /// limited where this mask's own samples gather at 16 rather than at 0, and, in a mask with neither, at 235 rather
    /// than at 255.
    #[default]
    #[cfg_attr(feature = "plugin", enum_value(name = "Decided by the values that occur", nick = "auto"))]
    Auto,
    /// 0 is background, 255 foreground.
    #[cfg_attr(feature = "plugin", enum_value(name = "0 is background, 255 foreground", nick = "full"))]
    Full,
    /// 16 and below is background, 235 and above foreground.
    #[cfg_attr(feature = "plugin", enum_value(name = "16 is background, 235 foreground", nick = "limited"))]
    Limited,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskSettings {
    pub channel: MaskChannel,
    pub range: MaskRange,
    /// Swaps background and foreground, after the range is read.
    pub invert: bool,
}

impl MaskSettings {
    /// Whether a mask stream of `format` has the samples asked for.
    pub fn check(&self, format: Format) -> Result<()> {
        let named = matches!(self.channel, MaskChannel::Red | MaskChannel::Green | MaskChannel::Blue);
        ensure!(
            self.channel != MaskChannel::Alpha || format.has_alpha(),
            "the mask is to be read from alpha, and {format} has none: choose another mask-channel or a format with alpha"
        );
        ensure!(
            !named || !format.is_yuv(),
            "the mask is to be read from {:?}, and {format} is not RGB: choose another mask-channel or an RGB format",
            self.channel
        );
        Ok(())
    }
}

/// Soft mask, `width * height` bytes without padding, 0 background to 255 foreground.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl Mask {
    /// Reads the mask out of `picture` and scales it to `width` x `height`.
    pub fn from_picture(picture: &Picture, settings: MaskSettings, width: usize, height: usize) -> Self {
        let mut mask = Self::default();
        mask.read(picture, settings, width, height);
        mask
    }

    /// `from_picture` into this mask's own memory. A channel that the format lacks (`MaskSettings::check`) reads as
    /// luma. Averages where the mask shrinks, interpolates linearly where it grows; what is all background stays
    /// exactly 0.
    pub fn read(&mut self, picture: &Picture, settings: MaskSettings, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        let is_sound = picture.check().is_ok();
        if !is_sound {
            self.data.clear();
        }
        // What it held is overwritten below.
        self.data.resize(width * height, 0);
        if self.data.is_empty() || !is_sound {
            return;
        }
        let mut source = Source::new(picture, settings.channel);
        let levels = Levels::new(picture, settings, &source);
        if !levels.is_limited() {
            source.stretch(picture.format);
        }
        let (w, h) = (picture.width, picture.height);
        if (w, h) == (width, height) {
            let rows = bands::height(width, height, 1);
            bands::each(self.data.chunks_mut(width * rows).enumerate(), |(band, lines)| {
                for (y, line) in lines.chunks_exact_mut(width).enumerate() {
                    source.read_row(band * rows + y, line);
                    levels.apply(line);
                }
            });
            return;
        }
        self.scale(w, h, |y, line| {
            source.read_row(y, line);
            levels.apply(line);
        });
    }

    /// Fills the mask from rows of a `w` x `h` one: along y first, then along x.
    fn scale(&mut self, w: usize, h: usize, mut row: impl FnMut(usize, &mut [u8])) {
        let (across, down) = (Taps::new(w, self.width), Taps::new(h, self.height));
        let mut line = vec![0u8; w];
        let mut sums = vec![0f32; w + 1];
        for (y, out) in self.data.chunks_exact_mut(self.width).enumerate() {
            sums.fill(0.0);
            for (source, weight) in down.of(y) {
                row(source, &mut line);
                add_weighted_bytes(&line, weight, &mut sums);
            }
            across.resample(&sums, out);
        }
    }

    /// Whether no sample belongs to the foreground.
    pub fn is_empty(&self) -> bool {
        self.data.chunks(4096).all(|samples| highest(samples) == 0)
    }

    /// The smallest region that holds every sample of at least an eighth; `None` without one. What is fainter is the noise
    /// of a coded mask, or a change that hardly shows.
    pub fn bounds(&self) -> Option<Region> {
        const MIN_SPAN: u8 = 32;
        if self.data.is_empty() || !self.covers(self.width, self.height) {
            return None;
        }
        let mut columns = vec![0; self.width];
        let (mut top, mut bottom) = (None, 0);
        for (y, row) in self.data.chunks_exact(self.width).enumerate() {
            if highest(row) >= MIN_SPAN {
                raise(&mut columns, row);
                top.get_or_insert(y);
                bottom = y + 1;
            }
        }
        let (x, y) = (columns.iter().position(|&m| m >= MIN_SPAN)?, top?);
        let right = columns.iter().rposition(|&m| m >= MIN_SPAN)? + 1;
        Some(Region { x, y, width: right - x, height: bottom - y })
    }

    /// Whether this is a mask for a `width` x `height` picture.
    pub(crate) fn covers(&self, width: usize, height: usize) -> bool {
        (self.width, self.height) == (width, height) && width.checked_mul(height) == Some(self.data.len())
    }
}

/// The samples that hold the mask: a sum of components, one or luma of RGB, times `scale`.
struct Source<'a> {
    planes: [Plane<'a>; 4],
    parts: [Option<(Channel, f32)>; 3],
    scale: f32,
    /// The plane that is the mask, byte for byte.
    bytes: Option<Plane<'a>>,
}

impl<'a> Source<'a> {
    fn new(picture: &Picture<'a>, channel: MaskChannel) -> Self {
        let Picture { format, planes, colour, .. } = *picture;
        let weights = match channel {
            _ if is_alpha(channel, format) => [0.0, 0.0, 0.0, 1.0],
            _ if format.is_yuv() => [1.0, 0.0, 0.0, 0.0],
            MaskChannel::Red => [1.0, 0.0, 0.0, 0.0],
            MaskChannel::Green => [0.0, 1.0, 0.0, 0.0],
            MaskChannel::Blue => [0.0, 0.0, 1.0, 0.0],
            _ => {
                let [r, g, b] = colour.matrix.luma().map(|weight| weight as f32);
                [r, g, b, 0.0]
            }
        };
        let mut parts = [None; 3];
        let places = format.places.iter().zip(weights).filter(|(_, weight)| *weight > 0.0);
        for (part, (place, weight)) in parts.iter_mut().zip(places) {
            *part = place.map(|place| (Channel::new(&format, place), weight));
        }
        let bytes = match parts {
            [Some((channel, _)), None, None] if channel.is_contiguous_bytes() => Some(planes[channel.plane]),
            _ => None,
        };
        Self { planes, parts, scale: 1.0 / f32::from(1u16 << (format.depth - 8)), bytes }
    }

    /// Takes the highest code to 255 rather than white to 235.
    fn stretch(&mut self, format: Format) {
        self.scale = 255.0 / format.highest() as f32;
    }

    /// Row `y` in codes of 8 bits.
    fn read_row(&self, y: usize, line: &mut [u8]) {
        if let Some(plane) = self.bytes {
            return line.copy_from_slice(plane.row(y, line.len()));
        }
        for (i, line) in line.chunks_mut(BLOCK).enumerate() {
            self.read(y, i * BLOCK, line);
        }
    }

    /// At most `BLOCK` samples of row `y` from sample `x` on.
    fn read(&self, y: usize, x: usize, line: &mut [u8]) {
        let (mut sum, mut samples) = (NONE, NONE);
        for (channel, weight) in self.parts.iter().flatten() {
            let Range { start, end } = channel.span(&(x..x + line.len()));
            channel.load(self.planes[channel.plane].row(y, end).get(start..).unwrap_or_default(), &mut samples);
            accumulate(&mut sum, &samples, weight * self.scale);
        }
        round(&sum, line);
    }
}

fn is_alpha(channel: MaskChannel, format: Format) -> bool {
    matches!(channel, MaskChannel::Auto | MaskChannel::Alpha) && format.has_alpha()
}

/// Whether the samples of a mask of luma alone gather at the ends of 16..235 rather than of 0..255. Lossy coding spreads an end
/// over a few codes; the windows at the inner ends are the narrower ones, so an even ramp counts as full.
fn gathers_at_16_235(source: &Source, width: usize, height: usize) -> bool {
    let counts: [AtomicU64; 4] = Default::default();
    let rows = bands::height(width, height, 1);
    bands::each((0..height).step_by(rows), |top| {
        let (mut sums, mut line) = ([0u64; 4], [0; BLOCK]);
        for y in top..(top + rows).min(height) {
            let mut count = |row: &[u8]| sums.iter_mut().zip(count_ends(row)).for_each(|(s, c)| *s += u64::from(c));
            match source.bytes {
                Some(plane) => count(plane.row(y, width)),
                None => (0..width).step_by(BLOCK).for_each(|x| {
                    let line = &mut line[..BLOCK.min(width - x)];
                    source.read(y, x, line);
                    count(line);
                }),
            }
        }
        for (count, sum) in counts.iter().zip(sums) {
            count.fetch_add(sum, Ordering::Relaxed);
        }
    });
    let [at_0, at_16, at_235, at_255] = counts.map(AtomicU64::into_inner);
    at_16 > at_0 || (at_16 == at_0 && at_235 > at_255)
}

vectorized! {
    /// Samples near 0, 16, 235 and 255.
    fn count_ends(row: &[u8]) -> [u32; 4] {
        let mut counts = [0; 4];
        // Few enough samples at a time for counters of a byte, which is what makes it fast.
        for part in row.chunks(255) {
            let mut few = [0u8; 4];
            for &m in part {
                few[0] += u8::from(m <= 7);
                few[1] += u8::from(m.wrapping_sub(13) <= 6);
                few[2] += u8::from(m.wrapping_sub(232) <= 6);
                few[3] += u8::from(m >= 248);
            }
            counts.iter_mut().zip(few).for_each(|(c, f)| *c += u32::from(f));
        }
        counts
    }
}

/// Code values to 0..255.
struct Levels {
    black: u8,
    /// In 1/65536.
    gain: u32,
    /// 255 to invert, else 0.
    invert: u8,
}

impl Levels {
    fn new(picture: &Picture, settings: MaskSettings, source: &Source) -> Self {
        let alpha = is_alpha(settings.channel, picture.format);
        let limited = match settings.range {
            MaskRange::Full => false,
            MaskRange::Limited => true,
            MaskRange::Auto if alpha || !picture.format.is_yuv() => false,
            MaskRange::Auto if !picture.format.is_gray() => !picture.colour.full_range,
            MaskRange::Auto => gathers_at_16_235(source, picture.width, picture.height),
        };
        let invert = if settings.invert { 255 } else { 0 };
        if limited {
            Levels { black: 16, gain: (255 << 16) / 219 + 1, invert }
        } else {
            Levels { black: 0, gain: 1 << 16, invert }
        }
    }

    fn is_limited(&self) -> bool {
        self.black > 0
    }

    fn apply(&self, line: &mut [u8]) {
        if self.is_limited() {
            stretch(line, self.black, self.gain);
        }
        if self.invert != 0 {
            line.iter_mut().for_each(|m| *m ^= 255);
        }
    }
}

vectorized! {
    fn highest(row: &[u8]) -> u8 {
        row.iter().fold(0, |highest, &m| highest.max(m))
    }
}

vectorized! {
    fn raise(columns: &mut [u8], row: &[u8]) {
        for (c, &m) in columns.iter_mut().zip(row) {
            *c = m.max(*c);
        }
    }
}

vectorized! {
    fn stretch(line: &mut [u8], black: u8, gain: u32) {
        for m in line {
            *m = ((u32::from(m.saturating_sub(black)) * gain + (1 << 15)) >> 16).min(255) as u8;
        }
    }
}

vectorized! {
    /// To the nearest code; none is below 0.
    fn round(samples: &Samples, line: &mut [u8]) {
        for (m, s) in line.iter_mut().zip(samples) {
            *m = ((s + 0.5) as i32).min(255) as u8;
        }
    }
}

/// Which source samples make up each sample along one axis: the part of each that it covers where the mask shrinks, its
/// two neighbours where it grows. The weights of a sample add up to 1.
struct Taps {
    /// First source sample, and where its weights end in `weights`.
    spans: Vec<(usize, usize)>,
    weights: Vec<f32>,
    /// Whether each sample has two weights. The second is 0 where its sample would lie beyond the last.
    linear: bool,
}

impl Taps {
    fn new(from: usize, to: usize) -> Self {
        let (mut spans, mut weights) = (Vec::with_capacity(to), Vec::new());
        let linear = from <= to;
        let ratio = from as f64 / to as f64;
        for i in 0..to {
            let (left, right) = (i as f64 * ratio, (i + 1) as f64 * ratio);
            let first;
            if linear {
                let centre = ((left + right) / 2.0 - 0.5).clamp(0.0, (from - 1) as f64);
                first = centre as usize;
                let f = (centre - first as f64) as f32;
                weights.extend([1.0 - f, f]);
            } else {
                first = left as usize;
                let end = (right.ceil() as usize).clamp(first + 1, from);
                let part = |s: usize| right.min((s + 1) as f64) - left.max(s as f64);
                weights.extend((first..end).map(|s| (part(s) / ratio) as f32));
            }
            spans.push((first, weights.len()));
        }
        Self { spans, weights, linear }
    }

    /// The samples of weight that make up sample `i`.
    fn of(&self, i: usize) -> impl Iterator<Item = (usize, f32)> {
        let (first, end) = self.spans[i];
        let start = if i == 0 { 0 } else { self.spans[i - 1].1 };
        (first..).zip(self.weights[start..end].iter().copied()).filter(|&(_, weight)| weight > 0.0)
    }

    /// `line` has one sample more than the source, of any value.
    fn resample(&self, line: &[f32], out: &mut [u8]) {
        if self.linear {
            for ((o, &(first, _)), [a, b]) in out.iter_mut().zip(&self.spans).zip(self.weights.as_chunks::<2>().0) {
                *o = (a * line[first] + b * line[first + 1] + 0.5) as u8;
            }
        } else {
            for (i, o) in out.iter_mut().enumerate() {
                *o = (self.of(i).map(|(source, weight)| weight * line[source]).sum::<f32>() + 0.5) as u8;
            }
        }
    }
}
