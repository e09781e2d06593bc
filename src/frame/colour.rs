//! From code values to signal and back, as affine maps.

use super::{Colorimetry, Format, Matrix};

/// Row-major 3x4, acting on (a, b, c, 1).
pub(crate) type Affine = [[f64; 4]; 3];

/// `outer` after `inner`.
pub(crate) fn compose(outer: &Affine, inner: &Affine) -> Affine {
    let mut product = [[0.0; 4]; 3];
    for (row, o) in product.iter_mut().zip(outer) {
        for (j, value) in row.iter_mut().enumerate() {
            *value = (0..3).map(|k| o[k] * inner[k][j]).sum::<f64>() + if j == 3 { o[3] } else { 0.0 };
        }
    }
    product
}

impl Matrix {
    /// What red, green and blue weigh in luma.
    pub(crate) fn luma(self) -> [f64; 3] {
        let (r, b) = match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
        };
        [r, 1.0 - r - b, b]
    }
}

impl Colorimetry {
    /// Code value of black, codes from black to white, codes from -1/2 to 1/2 of chroma, the code of no chroma.
    fn codes(self, format: Format) -> [f64; 4] {
        let scale = f64::from(1u32 << (format.depth - 8));
        match self.full_range {
            true => [0.0, f64::from(format.highest()), f64::from(format.highest()), 128.0 * scale],
            false => [16.0 * scale, 219.0 * scale, 224.0 * scale, 128.0 * scale],
        }
    }

    /// (Y, Cb, Cr) codes to R'G'B' in 0..1.
    fn rgb_of_yuv(self, format: Format) -> Affine {
        let [r, g, b] = self.matrix.luma();
        let [black, luma, chroma, neutral] = self.codes(format);
        let (y, cr, cb) = (1.0 / luma, 2.0 * (1.0 - r) / chroma, 2.0 * (1.0 - b) / chroma);
        let row = |u: f64, v: f64| [y, u, v, -black * y - neutral * (u + v)];
        [row(0.0, cr), row(-cb * b / g, -cr * r / g), row(cb, 0.0)]
    }

    /// R'G'B' in 0..1 to (Y, Cb, Cr) codes.
    fn yuv_of_rgb(self, format: Format) -> Affine {
        let [r, g, b] = self.matrix.luma();
        let [black, luma, chroma, neutral] = self.codes(format);
        let (u, v) = (0.5 * chroma / (1.0 - b), 0.5 * chroma / (1.0 - r));
        [
            [r * luma, g * luma, b * luma, black],
            [-r * u, -g * u, (1.0 - b) * u, neutral],
            [(1.0 - r) * v, -g * v, -b * v, neutral],
        ]
    }

    /// Code values of `format`, in the order of its components, to R'G'B' in 0..1.
    pub(crate) fn rgb_of(self, format: Format) -> Affine {
        if format.is_yuv() {
            return self.rgb_of_yuv(format);
        }
        let [black, white, ..] = self.codes(format);
        grey(1.0 / white, -black / white)
    }

    /// The inverse of `rgb_of`.
    pub(crate) fn of_rgb(self, format: Format) -> Affine {
        if format.is_yuv() {
            return self.yuv_of_rgb(format);
        }
        let [black, white, ..] = self.codes(format);
        grey(white, black)
    }

    /// The code that says no chroma.
    pub(crate) fn neutral(format: Format) -> f32 {
        f32::from(128u16 << (format.depth - 8))
    }

    /// Lowest and highest nominal code of each colour sample of `format`.
    pub(crate) fn limits(self, format: Format) -> [[f32; 2]; 3] {
        let [black, luma, chroma, neutral] = self.codes(format);
        let highest = f64::from(format.highest());
        let chroma = if self.full_range { [0.0, highest] } else { [neutral - chroma / 2.0, neutral + chroma / 2.0] };
        let luma = [black, black + luma];
        let limits = if format.is_yuv() { [luma, chroma, chroma] } else { [luma; 3] };
        limits.map(|limits| limits.map(|code| code as f32))
    }
}

/// The same for all three: x to `gain` x + `offset`.
fn grey(gain: f64, offset: f64) -> Affine {
    [[gain, 0.0, 0.0, offset], [0.0, gain, 0.0, offset], [0.0, 0.0, gain, offset]]
}
