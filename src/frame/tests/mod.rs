//! Every format against plain f64 arithmetic, pixel by pixel, on pictures with padded rows and guarded borders.

mod mask;
mod proxy;
pub(crate) mod region;

use super::*;

pub(crate) const fn place(plane: u8, first: u8, step: u8) -> Option<ComponentLayout> {
    Some(ComponentLayout { plane, first, step })
}

pub(crate) const fn packed(
    components: Components,
    step: u8,
    [a, b, c]: [u8; 3],
    alpha: Option<ComponentLayout>,
) -> Format {
    let places = [place(0, a, step), place(0, b, step), place(0, c, step), alpha];
    Format { components, places, ..Format::RGB }
}

pub(crate) const fn planar(
    components: Components,
    sub: [u8; 2],
    [a, b, c]: [u8; 3],
    alpha: Option<ComponentLayout>,
) -> Format {
    let places = [place(a, 0, 1), place(b, 0, 1), place(c, 0, 1), alpha];
    Format { components, sub, places, ..Format::RGB }
}

pub(crate) const fn semi_planar(sub: [u8; 2], [b, c]: [u8; 2]) -> Format {
    let places = [place(0, 0, 1), place(1, b, 2), place(1, c, 2), None];
    Format { components: Components::Yuv, sub, places, ..Format::RGB }
}

pub(crate) const fn packed_422([y, u, v]: [u8; 3]) -> Format {
    let places = [place(0, y, 2), place(0, u, 4), place(0, v, 4), None];
    Format { components: Components::Yuv, sub: [1, 0], places, ..Format::RGB }
}

/// The same in words of two bytes.
pub(crate) const fn wide(depth: u8, shift: u8, big_endian: bool, format: Format) -> Format {
    Format { depth, shift, big_endian, bytes: 2, ..format }
}

pub(crate) const NV12: Format = semi_planar([1, 1], [0, 1]);
pub(crate) const BGR: Format = packed(RGB, 3, [2, 1, 0], None);
pub(crate) const ARGB: Format = packed(RGB, 4, [1, 2, 3], place(0, 0, 4));
pub(crate) const AYUV: Format = packed(YUV, 4, [1, 2, 3], place(0, 0, 4));
pub(crate) const A420: Format = planar(YUV, [1, 1], [0, 1, 2], place(3, 0, 1));
pub(crate) const P010: Format = wide(10, 6, false, NV12);
pub(crate) const GRAY16_BE: Format = wide(16, 0, true, Format::GRAY8);
pub(crate) const GBR_10: Format = wide(10, 0, false, planar(RGB, [0, 0], [2, 0, 1], None));
pub(crate) const RGB: Components = Components::Rgb;
pub(crate) const YUV: Components = Components::Yuv;

/// One of each kind: every step, word, order, shift, depth and subsampling, with alpha and without.
pub(crate) const FORMATS: [Format; 32] = [
    Format::RGB,
    BGR,
    Format::RGBA,
    packed(RGB, 4, [2, 1, 0], place(0, 3, 4)),
    ARGB,
    packed(RGB, 4, [3, 2, 1], None),
    AYUV,
    packed(YUV, 3, [1, 0, 2], None),
    Format::I420,
    A420,
    NV12,
    semi_planar([1, 1], [1, 0]),
    semi_planar([1, 0], [0, 1]),
    semi_planar([0, 0], [0, 1]),
    Format::GRAY8,
    packed_422([0, 1, 3]),
    packed_422([1, 2, 0]),
    planar(YUV, [0, 0], [0, 1, 2], None),
    planar(YUV, [1, 0], [0, 1, 2], place(3, 0, 1)),
    planar(YUV, [2, 0], [0, 1, 2], None),
    planar(YUV, [2, 2], [0, 2, 1], None),
    planar(RGB, [0, 0], [2, 0, 1], place(3, 0, 1)),
    P010,
    wide(12, 4, true, NV12),
    wide(10, 0, true, Format::I420),
    wide(12, 0, false, planar(YUV, [1, 0], [0, 1, 2], None)),
    GBR_10,
    wide(16, 0, false, Format::RGBA),
    wide(16, 0, true, ARGB),
    wide(12, 4, false, packed(YUV, 4, [1, 0, 2], place(0, 3, 4))),
    wide(10, 6, false, packed_422([0, 1, 3])),
    GRAY16_BE,
];

pub(crate) const fn sited(across: bool, down: bool, colour: Colorimetry) -> Colorimetry {
    Colorimetry { siting: ChromaSite { across, down }, ..colour }
}

pub(crate) const COLOURS: [Colorimetry; 4] = [
    Colorimetry::new(Matrix::Bt601, false),
    sited(true, false, Colorimetry::new(Matrix::Bt709, false)),
    Colorimetry::new(Matrix::Bt709, true),
    sited(true, true, Colorimetry::new(Matrix::Bt2020, false)),
];

pub(crate) const SIZES: [(usize, usize); 8] = [(1, 1), (2, 1), (1, 3), (3, 2), (7, 5), (33, 18), (131, 9), (300, 6)];

/// SplitMix64.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0..1
    pub fn real(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

/// A picture that owns its planes.
#[derive(Clone)]
pub(crate) struct Owned {
    pub format: Format,
    pub colour: Colorimetry,
    pub width: usize,
    pub height: usize,
    pub interlaced: bool,
    pub strides: [usize; 4],
    pub planes: [Vec<u8>; 4],
}

impl Owned {
    /// Random bytes everywhere, padding of `pad` bytes a row, none after the last.
    pub fn random(
        format: Format,
        colour: Colorimetry,
        (width, height): (usize, usize),
        pad: usize,
        dice: &mut Dice,
    ) -> Self {
        let sizes = format.plane_sizes(width, height);
        let strides = sizes.map(|(bytes, _)| bytes + pad);
        let planes = std::array::from_fn(|i| {
            let (bytes, rows) = sizes[i];
            let length = if rows == 0 { 0 } else { (rows - 1) * strides[i] + bytes };
            (0..length).map(|_| dice.byte()).collect()
        });
        Self { format, colour, width, height, interlaced: false, strides, planes }
    }

    /// `region` of it, which is to begin at pixels that share chroma with none before and end at such or the edge, as a picture of
    /// its own.
    pub fn crop(&self, region: Region) -> Self {
        let Region { x, y, width, height } = region;
        let sizes = self.format.plane_sizes(width, height);
        let first = self.format.plane_sizes(x, y);
        let planes = std::array::from_fn(|i| {
            let row = |line: usize| &self.planes[i][(first[i].1 + line) * self.strides[i] + first[i].0..][..sizes[i].0];
            (0..sizes[i].1).flat_map(|line| row(line).iter().copied()).collect()
        });
        Self { width, height, strides: sizes.map(|(bytes, _)| bytes), planes, ..*self }
    }

    pub fn picture(&self) -> Picture<'_> {
        let Self { format, colour, width, height, interlaced, .. } = *self;
        let planes = std::array::from_fn(|i| Plane { data: &self.planes[i], stride: self.strides[i] });
        Picture { format, colour, width, height, interlaced, planes }
    }

    pub fn picture_mut(&mut self) -> PictureMut<'_> {
        let Self { format, colour, width, height, interlaced, strides, .. } = *self;
        let mut planes = self.planes.iter_mut();
        let planes = strides.map(|stride| PlaneMut { data: planes.next().unwrap(), stride });
        PictureMut { format, colour, width, height, interlaced, planes }
    }

    /// The row of component `k` that goes with the picture's row `y`.
    pub fn line(&self, y: usize, k: usize) -> usize {
        match self.format.rate(k)[1] {
            0 => y,
            down if self.interlaced => {
                let lines = self.height.div_ceil(1 << down);
                (((y / 2) >> down) * 2 + y % 2).min(lines - 1)
            }
            down => y >> down,
        }
    }

    /// Plane and first byte of sample (x, line) of component `k` (R, G, B or Y, Cb, Cr, then alpha).
    pub fn place(&self, x: usize, line: usize, k: usize) -> (usize, usize) {
        let ComponentLayout { plane, first, step } = self.format.places[k].unwrap();
        let [plane, first, step, bytes] = [plane, first, step, self.format.bytes].map(usize::from);
        (plane, line * self.strides[plane] + (x * step + first) * bytes)
    }

    /// Sample (x, line) of component `k`.
    pub fn code(&self, x: usize, line: usize, k: usize) -> u16 {
        let (plane, byte) = self.place(x, line, k);
        let word = match (self.format.bytes, self.format.big_endian) {
            (1, _) => u16::from(self.planes[plane][byte]),
            (_, false) => u16::from_le_bytes(self.planes[plane][byte..byte + 2].try_into().unwrap()),
            (_, true) => u16::from_be_bytes(self.planes[plane][byte..byte + 2].try_into().unwrap()),
        };
        (u32::from(word) >> self.format.shift & ((1 << self.format.depth) - 1)) as u16
    }

    pub fn set_code(&mut self, x: usize, line: usize, k: usize, code: u16) {
        let old = self.code(x, line, k);
        let (plane, byte) = self.place(x, line, k);
        // Bits that differ, in the sample's place.
        let flipped = (old ^ code) << self.format.shift;
        let bytes = if self.format.big_endian { flipped.to_be_bytes() } else { flipped.to_le_bytes() };
        for (i, b) in bytes.into_iter().enumerate().take(usize::from(self.format.bytes)) {
            self.planes[plane][byte + i] ^= b;
        }
    }

    /// Component `k` at pixel (x, y).
    pub fn sample(&self, x: usize, y: usize, k: usize) -> f64 {
        if self.format.is_gray() && k > 0 {
            return f64::from(128u32 << (self.format.depth - 8));
        }
        f64::from(self.code(x >> self.format.rate(k)[0], self.line(y, k), k))
    }
}

/// Textbook R'G'B' in 0..1 of code values.
pub(crate) fn rgb(format: Format, colour: Colorimetry, c: [f64; 3]) -> [f64; 3] {
    let (scale, highest) = (f64::from(1u32 << (format.depth - 8)), f64::from((1u32 << format.depth) - 1));
    if !format.is_yuv() {
        return if colour.full_range { c.map(|v| v / highest) } else { c.map(|v| (v / scale - 16.0) / 219.0) };
    }
    let (kr, kb) = coefficients(colour.matrix);
    let (y, [pb, pr]) = if colour.full_range {
        (c[0] / highest, [c[1], c[2]].map(|v| (v - 128.0 * scale) / highest))
    } else {
        ((c[0] / scale - 16.0) / 219.0, [c[1], c[2]].map(|v| (v / scale - 128.0) / 224.0))
    };
    let (r, b) = (y + 2.0 * (1.0 - kr) * pr, y + 2.0 * (1.0 - kb) * pb);
    [r, (y - kr * r - kb * b) / (1.0 - kr - kb), b]
}

/// The other way round.
pub(crate) fn codes(format: Format, colour: Colorimetry, [r, g, b]: [f64; 3]) -> [f64; 3] {
    let (scale, highest) = (f64::from(1u32 << (format.depth - 8)), f64::from((1u32 << format.depth) - 1));
    if !format.is_yuv() {
        return [r, g, b].map(|v| if colour.full_range { v * highest } else { (v * 219.0 + 16.0) * scale });
    }
    let (kr, kb) = coefficients(colour.matrix);
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (pb, pr) = ((b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr)));
    if colour.full_range {
        [y * highest, 128.0 * scale + highest * pb, 128.0 * scale + highest * pr]
    } else {
        [(16.0 + 219.0 * y) * scale, (128.0 + 224.0 * pb) * scale, (128.0 + 224.0 * pr) * scale]
    }
}

pub(crate) fn coefficients(matrix: Matrix) -> (f64, f64) {
    match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    }
}

/// A mask with an empty part, a full part, soft values and stray samples.
pub(crate) fn patchy(width: usize, height: usize, dice: &mut Dice) -> Mask {
    let data = (0..width * height)
        .map(|i| match (i % width * 5 / width, dice.next() % 16) {
            (0 | 3, 1..) => 0,
            (1, 1..) => 255,
            _ => dice.byte(),
        })
        .collect();
    Mask { width, height, data }
}

pub(crate) fn crop_mask(mask: &Mask, region: Region) -> Mask {
    let Region { x, y, width, height } = region;
    let rows = mask.data.chunks_exact(mask.width).skip(y).take(height);
    Mask { width, height, data: rows.flat_map(|row| row[x..x + width].iter().copied()).collect() }
}

/// Regions of a `width` x `height` picture that begin and end at every fourth pixel or its edge.
pub(crate) fn even_regions(width: usize, height: usize) -> Vec<Region> {
    let spans = |side: usize| [(0, side), (side / 8 * 4, side), (side / 12 * 4, side / 6 * 4)];
    let filled = |(from, to): &(usize, usize)| from < to;
    let mut regions = Vec::new();
    for (x, right) in spans(width).into_iter().filter(filled) {
        for (y, bottom) in spans(height).into_iter().filter(filled) {
            regions.push(Region { x, y, width: right - x, height: bottom - y });
        }
    }
    regions
}

pub(crate) fn uniform(width: usize, height: usize, value: u8) -> Mask {
    Mask { width, height, data: vec![value; width * height] }
}
