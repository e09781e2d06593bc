//! Every format against plain f64 arithmetic, pixel by pixel, on pictures with padded rows and guarded borders.

mod apply;
mod digest;
mod mask;
mod proxy;
mod region;

use super::*;
use crate::transfer::Transfer;

pub(super) const FORMATS: [Format; 15] = [
    Format::Rgb,
    Format::Bgr,
    Format::Rgba,
    Format::Bgra,
    Format::Argb,
    Format::Abgr,
    Format::Rgbx,
    Format::Bgrx,
    Format::Xrgb,
    Format::Xbgr,
    Format::Ayuv,
    Format::I420,
    Format::A420,
    Format::Nv12,
    Format::Gray8,
];

pub(super) const COLOURS: [Colour; 4] = [
    Colour { matrix: Matrix::Bt601, full_range: false },
    Colour { matrix: Matrix::Bt709, full_range: false },
    Colour { matrix: Matrix::Bt709, full_range: true },
    Colour { matrix: Matrix::Bt2020, full_range: false },
];

pub(super) const SIZES: [(usize, usize); 8] = [(1, 1), (2, 1), (1, 3), (3, 2), (7, 5), (33, 18), (131, 9), (300, 6)];

/// SplitMix64.
pub(super) struct Dice(pub u64);

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
pub(super) struct Owned {
    pub format: Format,
    pub colour: Colour,
    pub width: usize,
    pub height: usize,
    pub strides: [usize; 4],
    pub planes: [Vec<u8>; 4],
}

impl Owned {
    /// Random bytes everywhere, padding of `pad` bytes a row, none after the last.
    pub fn random(
        format: Format,
        colour: Colour,
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
        Self { format, colour, width, height, strides, planes }
    }

    /// `region` of it, which is to begin at even pixels and end at even ones or the edge, as a picture of its own.
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
        let planes = std::array::from_fn(|i| Plane { data: &self.planes[i], stride: self.strides[i] });
        Picture { format: self.format, colour: self.colour, width: self.width, height: self.height, planes }
    }

    pub fn picture_mut(&mut self) -> PictureMut<'_> {
        let strides = self.strides;
        let mut planes = self.planes.iter_mut();
        let planes = strides.map(|stride| PlaneMut { data: planes.next().unwrap(), stride });
        PictureMut { format: self.format, colour: self.colour, width: self.width, height: self.height, planes }
    }

    /// Plane and byte of colour sample `k` (R, G, B or Y, Cb, Cr) of pixel (x, y).
    pub fn place(&self, x: usize, y: usize, k: usize) -> (usize, usize) {
        let (name, packed) = (format!("{:?}", self.format).to_uppercase(), self.format.plane_sizes(8, 8)[0].0 / 8);
        match (self.format, k) {
            (Format::Gray8, _) | (Format::I420 | Format::A420 | Format::Nv12, 0) => (0, y * self.strides[0] + x),
            (Format::I420 | Format::A420, _) => (k, y / 2 * self.strides[k] + x / 2),
            (Format::Nv12, _) => (1, y / 2 * self.strides[1] + x / 2 * 2 + k - 1),
            (Format::Ayuv, _) => (0, y * self.strides[0] + 4 * x + k + 1),
            _ => (0, y * self.strides[0] + packed * x + name.find(["R", "G", "B"][k]).unwrap()),
        }
    }

    pub fn sample(&self, x: usize, y: usize, k: usize) -> f64 {
        if self.format == Format::Gray8 && k > 0 {
            return 128.0;
        }
        let (plane, byte) = self.place(x, y, k);
        f64::from(self.planes[plane][byte])
    }
}

pub(super) fn is_420(format: Format) -> bool {
    matches!(format, Format::I420 | Format::A420 | Format::Nv12)
}

/// Textbook R'G'B' in 0..1 of code values.
pub(super) fn rgb(format: Format, colour: Colour, c: [f64; 3]) -> [f64; 3] {
    if !format.is_yuv() {
        return c.map(|v| v / 255.0);
    }
    let (kr, kb) = coefficients(colour.matrix);
    let (y, [pb, pr]) = if colour.full_range {
        (c[0] / 255.0, [c[1], c[2]].map(|v| (v - 128.0) / 255.0))
    } else {
        ((c[0] - 16.0) / 219.0, [c[1], c[2]].map(|v| (v - 128.0) / 224.0))
    };
    let (r, b) = (y + 2.0 * (1.0 - kr) * pr, y + 2.0 * (1.0 - kb) * pb);
    [r, (y - kr * r - kb * b) / (1.0 - kr - kb), b]
}

/// The other way round.
pub(super) fn codes(format: Format, colour: Colour, [r, g, b]: [f64; 3]) -> [f64; 3] {
    if !format.is_yuv() {
        return [r, g, b].map(|v| v * 255.0);
    }
    let (kr, kb) = coefficients(colour.matrix);
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (pb, pr) = ((b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr)));
    if colour.full_range {
        [y * 255.0, 128.0 + 255.0 * pb, 128.0 + 255.0 * pr]
    } else {
        [16.0 + 219.0 * y, 128.0 + 224.0 * pb, 128.0 + 224.0 * pr]
    }
}

fn coefficients(matrix: Matrix) -> (f64, f64) {
    match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    }
}

/// A mask with an empty part, a full part, soft values and stray samples.
pub(super) fn patchy(width: usize, height: usize, dice: &mut Dice) -> Mask {
    let data = (0..width * height)
        .map(|i| match (i % width * 5 / width, dice.next() % 16) {
            (0 | 3, 1..) => 0,
            (1, 1..) => 255,
            _ => dice.byte(),
        })
        .collect();
    Mask { width, height, data }
}

pub(super) fn crop_mask(mask: &Mask, region: Region) -> Mask {
    let Region { x, y, width, height } = region;
    let rows = mask.data.chunks_exact(mask.width).skip(y).take(height);
    Mask { width, height, data: rows.flat_map(|row| row[x..x + width].iter().copied()).collect() }
}

/// Regions of a `width` x `height` picture that begin and end at even pixels or its edge.
pub(super) fn even_regions(width: usize, height: usize) -> Vec<Region> {
    let spans = |side: usize| [(0, side), (side / 4 * 2, side), (side / 6 * 2, side / 3 * 2)];
    let filled = |(from, to): &(usize, usize)| from < to;
    let mut regions = Vec::new();
    for (x, right) in spans(width).into_iter().filter(filled) {
        for (y, bottom) in spans(height).into_iter().filter(filled) {
            regions.push(Region { x, y, width: right - x, height: bottom - y });
        }
    }
    regions
}

pub(super) fn uniform(width: usize, height: usize, value: u8) -> Mask {
    Mask { width, height, data: vec![value; width * height] }
}

/// Maps that differ from cell to cell and drive some colours out of range.
pub(super) fn varied(cols: usize, rows: usize, dice: &mut Dice) -> Transfer {
    let maps = (0..cols * rows)
        .map(|_| std::array::from_fn(|i| (if i % 5 == 0 { 1.0 } else { 0.0 } + 0.8 * (dice.real() - 0.5)) as f32))
        .collect();
    Transfer { cols, rows, region: None, maps }
}
