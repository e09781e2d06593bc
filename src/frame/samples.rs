//! Samples of a row between their words in memory and floats of the same code values.

use super::{ComponentLayout, Format};
use crate::simd::vectorized;
use std::ops::Range;

/// Samples of a row that are worked on together.
pub(crate) const BLOCK: usize = 256;
/// Loops run over whole multiples of this many samples; what they compute beyond a block is never stored.
pub(crate) const LANES: usize = 16;

pub(crate) type Samples = [f32; BLOCK + LANES];
pub(crate) const NONE: Samples = [0.0; BLOCK + LANES];

/// One component's samples in the rows of its plane.
#[derive(Clone, Copy)]
pub(crate) struct Channel {
    pub plane: usize,
    first: usize,
    step: usize,
    bytes: usize,
    swap: bool,
    shift: u32,
    /// Bits of the sample, at the word's low end.
    mask: u16,
}

impl Channel {
    pub fn new(format: &Format, place: ComponentLayout) -> Self {
        Self {
            plane: usize::from(place.plane),
            first: usize::from(place.first),
            step: usize::from(place.step),
            bytes: usize::from(format.bytes),
            swap: format.bytes == 2 && format.big_endian != cfg!(target_endian = "big"),
            shift: u32::from(format.shift),
            mask: format.highest() as u16,
        }
    }

    /// Whether its samples are bytes without any between.
    pub fn is_contiguous_bytes(&self) -> bool {
        (self.bytes, self.step) == (1, 1)
    }

    pub fn is_bytes(&self) -> bool {
        self.bytes == 1
    }

    /// The words of a row that `samples` of it lie among.
    pub fn words(&self, samples: &Range<usize>) -> Range<usize> {
        samples.start * self.step..samples.end * self.step
    }

    pub fn bytes_of_words(&self, words: &Range<usize>) -> Range<usize> {
        words.start * self.bytes..words.end * self.bytes
    }

    /// The bytes of a row that hold `samples` of it.
    pub fn span(&self, samples: &Range<usize>) -> Range<usize> {
        self.bytes_of_words(&self.words(samples))
    }

    /// Its samples out of `words`, a value for each word, of which its first sample's pixel begins with word `start`.
    pub fn pick<'a>(&self, words: &'a [f32], start: usize, out: &'a mut Vec<f32>) -> &'a [f32] {
        let words = words.get(start..).unwrap_or_default();
        if self.step == 1 {
            return words;
        }
        out.clear();
        out.extend(words.iter().skip(self.first).step_by(self.step));
        out
    }

    /// Adds the codes of all words of `row`, whatever component they are.
    pub fn add_words(&self, sums: &mut [u32], row: &[u8]) {
        add_words(row, self.swap, self.shift, self.mask, sums);
    }

    /// Puts the codes of all words of two rows, each times its weight, in the place of `sums`.
    pub fn weigh_two(&self, row: &[u8], weight: f32, other: &[u8], its: f32, sums: &mut [f32]) {
        match self.bytes {
            1 => weigh_two_of_bytes(row, weight, other, its, sums),
            _ => weigh_two_of_words(row, weight, other, its, self.swap, self.shift, self.mask, sums),
        }
    }

    /// Reads the samples of `row`, which `span` has cut out.
    pub fn load(&self, row: &[u8], out: &mut [f32]) {
        match (self.bytes, self.step, self.first) {
            (1, 1, _) => load_bytes(row, out),
            (1, 2, first) => load_bytes_of_2(row, 8 * first as u32, out),
            (1, 4, first) => load_bytes_of_4(row, 8 * first as u32, out),
            (1, _, 0) => load_bytes_of_3::<0>(row, out),
            (1, _, 1) => load_bytes_of_3::<1>(row, out),
            (1, ..) => load_bytes_of_3::<2>(row, out),
            (_, 1, _) => load_words(row, self.swap, self.shift, self.mask, out),
            (_, 2, first) => load_words_of_2(row, 16 * first as u32, self.swap, self.shift, self.mask, out),
            (_, _, first) => load_words_of_4(row, 16 * first as u32, self.swap, self.shift, self.mask, out),
        }
    }

    /// Writes them, rounded to the nearest code; all other bits of `row` stay. Samples lie between 0 and the highest code.
    pub fn store(&self, samples: &[f32], row: &mut [u8]) {
        match (self.bytes, self.step, self.first) {
            (1, 1, _) => store_bytes(samples, row),
            (1, 2, first) => store_bytes_of_2(samples, 8 * first as u32, row),
            (1, 4, first) => store_bytes_of_4(samples, 8 * first as u32, row),
            (1, _, 0) => store_bytes_of_3::<0>(samples, row),
            (1, _, 1) => store_bytes_of_3::<1>(samples, row),
            (1, ..) => store_bytes_of_3::<2>(samples, row),
            (_, 1, _) => store_words(samples, self.swap, self.shift, self.mask, row),
            (_, 2, first) => store_words_of_2(samples, 16 * first as u32, self.swap, self.shift, self.mask, row),
            (_, _, first) => store_words_of_4(samples, 16 * first as u32, self.swap, self.shift, self.mask, row),
        }
    }
}

/// The nearest code; `x` lies in 0..=65535. Adding 2^23 leaves no bits for a fraction, so the sum is rounded, half to
/// even.
#[inline(always)]
fn code(x: f32) -> u32 {
    (x + 8_388_608.0).to_bits() & 0xffff
}

#[inline(always)]
fn swapped(word: u16, swap: bool) -> u16 {
    if swap { word.swap_bytes() } else { word }
}

vectorized! {
    fn load_bytes(row: &[u8], out: &mut [f32]) {
        for (o, &b) in out.iter_mut().zip(row) {
            *o = f32::from(b);
        }
    }
}

vectorized! {
    fn load_bytes_of_2(row: &[u8], bit: u32, out: &mut [f32]) {
        for (o, &pair) in out.iter_mut().zip(row.as_chunks::<2>().0) {
            *o = f32::from(u16::from_le_bytes(pair) >> bit & 255);
        }
    }
}

vectorized! {
    fn load_bytes_of_3<const FIRST: usize>(row: &[u8], out: &mut [f32]) {
        for (o, pixel) in out.iter_mut().zip(row.as_chunks::<3>().0) {
            *o = f32::from(pixel[FIRST]);
        }
    }
}

vectorized! {
    fn load_bytes_of_4(row: &[u8], bit: u32, out: &mut [f32]) {
        for (o, &pixel) in out.iter_mut().zip(row.as_chunks::<4>().0) {
            *o = (u32::from_le_bytes(pixel) >> bit & 255) as i32 as f32;
        }
    }
}

vectorized! {
    fn load_words(row: &[u8], swap: bool, shift: u32, mask: u16, out: &mut [f32]) {
        for (o, &word) in out.iter_mut().zip(row.as_chunks::<2>().0) {
            *o = f32::from(swapped(u16::from_ne_bytes(word), swap) >> shift & mask);
        }
    }
}

vectorized! {
    fn load_words_of_2(row: &[u8], bit: u32, swap: bool, shift: u32, mask: u16, out: &mut [f32]) {
        for (o, &pair) in out.iter_mut().zip(row.as_chunks::<4>().0) {
            let word = (u32::from_le_bytes(pair) >> bit) as u16;
            *o = f32::from(swapped(word, swap) >> shift & mask);
        }
    }
}

vectorized! {
    fn load_words_of_4(row: &[u8], bit: u32, swap: bool, shift: u32, mask: u16, out: &mut [f32]) {
        for (o, &pixel) in out.iter_mut().zip(row.as_chunks::<8>().0) {
            let word = (u64::from_le_bytes(pixel) >> bit) as u16;
            *o = f32::from(swapped(word, swap) >> shift & mask);
        }
    }
}

vectorized! {
    fn add_words(row: &[u8], swap: bool, shift: u32, mask: u16, sums: &mut [u32]) {
        for (s, &word) in sums.iter_mut().zip(row.as_chunks::<2>().0) {
            *s += u32::from(swapped(u16::from_ne_bytes(word), swap) >> shift & mask);
        }
    }
}

vectorized! {
    fn weigh_two_of_words(
        row: &[u8], weight: f32, other: &[u8], its: f32, swap: bool, shift: u32, mask: u16, sums: &mut [f32],
    ) {
        let code = |word: [u8; 2]| f32::from(swapped(u16::from_ne_bytes(word), swap) >> shift & mask);
        for ((s, &a), &b) in sums.iter_mut().zip(row.as_chunks::<2>().0).zip(other.as_chunks::<2>().0) {
            *s = weight * code(a) + its * code(b);
        }
    }
}

vectorized! {
    fn weigh_two_of_bytes(row: &[u8], weight: f32, other: &[u8], its: f32, sums: &mut [f32]) {
        for ((s, &a), &b) in sums.iter_mut().zip(row).zip(other) {
            *s = weight * f32::from(a) + its * f32::from(b);
        }
    }
}

vectorized! {
    pub(super) fn add_weighted_bytes(row: &[u8], weight: f32, sums: &mut [f32]) {
        for (s, &b) in sums.iter_mut().zip(row) {
            *s += weight * f32::from(b);
        }
    }
}

vectorized! {
    fn store_bytes(samples: &[f32], row: &mut [u8]) {
        for (b, &s) in row.iter_mut().zip(samples) {
            *b = code(s) as u8;
        }
    }
}

vectorized! {
    fn store_bytes_of_2(samples: &[f32], bit: u32, row: &mut [u8]) {
        let kept = !(255 << bit);
        for (pair, &s) in row.as_chunks_mut::<2>().0.iter_mut().zip(samples) {
            *pair = (u16::from_le_bytes(*pair) & kept | (code(s) as u16) << bit).to_le_bytes();
        }
    }
}

vectorized! {
    fn store_bytes_of_3<const FIRST: usize>(samples: &[f32], row: &mut [u8]) {
        for (pixel, &s) in row.as_chunks_mut::<3>().0.iter_mut().zip(samples) {
            pixel[FIRST] = code(s) as u8;
        }
    }
}

vectorized! {
    fn store_bytes_of_4(samples: &[f32], bit: u32, row: &mut [u8]) {
        let kept = !(255 << bit);
        for (pixel, &s) in row.as_chunks_mut::<4>().0.iter_mut().zip(samples) {
            *pixel = (u32::from_le_bytes(*pixel) & kept | code(s) << bit).to_le_bytes();
        }
    }
}

/// `word` with the sample in its bits.
#[inline(always)]
fn with_sample(word: u16, sample: f32, swap: bool, shift: u32, mask: u16) -> u16 {
    let kept = swapped(word, swap) & !(mask << shift);
    swapped(kept | (code(sample) as u16) << shift, swap)
}

vectorized! {
    fn store_words(samples: &[f32], swap: bool, shift: u32, mask: u16, row: &mut [u8]) {
        for (word, &s) in row.as_chunks_mut::<2>().0.iter_mut().zip(samples) {
            *word = with_sample(u16::from_ne_bytes(*word), s, swap, shift, mask).to_ne_bytes();
        }
    }
}

vectorized! {
    fn store_words_of_2(samples: &[f32], bit: u32, swap: bool, shift: u32, mask: u16, row: &mut [u8]) {
        for (pair, &s) in row.as_chunks_mut::<4>().0.iter_mut().zip(samples) {
            let all = u32::from_le_bytes(*pair);
            let word = with_sample((all >> bit) as u16, s, swap, shift, mask);
            *pair = (all & !(0xffff << bit) | u32::from(word) << bit).to_le_bytes();
        }
    }
}

vectorized! {
    fn store_words_of_4(samples: &[f32], bit: u32, swap: bool, shift: u32, mask: u16, row: &mut [u8]) {
        for (pixel, &s) in row.as_chunks_mut::<8>().0.iter_mut().zip(samples) {
            let all = u64::from_le_bytes(*pixel);
            let word = with_sample((all >> bit) as u16, s, swap, shift, mask);
            *pixel = (all & !(0xffff << bit) | u64::from(word) << bit).to_le_bytes();
        }
    }
}

vectorized! {
    pub(super) fn accumulate(sums: &mut [f32], samples: &[f32], weight: f32) {
        for (sum, s) in sums.iter_mut().zip(samples) {
            *sum += weight * s;
        }
    }
}
