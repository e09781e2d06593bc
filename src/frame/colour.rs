//! From code values to signal and back, as affine maps.

use super::{Colour, Format, Matrix};

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

impl Colour {
    /// Code value of black, codes from black to white, codes from -1/2 to 1/2 of chroma.
    fn codes(self) -> (f64, f64, f64) {
        if self.full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) }
    }

    /// (Y, Cb, Cr) codes to R'G'B' in 0..1.
    fn rgb_of_yuv(self) -> Affine {
        let [r, g, b] = self.matrix.luma();
        let (black, luma, chroma) = self.codes();
        let (y, cr, cb) = (1.0 / luma, 2.0 * (1.0 - r) / chroma, 2.0 * (1.0 - b) / chroma);
        let row = |u: f64, v: f64| [y, u, v, -black * y - 128.0 * (u + v)];
        [row(0.0, cr), row(-cb * b / g, -cr * r / g), row(cb, 0.0)]
    }

    /// R'G'B' in 0..1 to (Y, Cb, Cr) codes.
    fn yuv_of_rgb(self) -> Affine {
        let [r, g, b] = self.matrix.luma();
        let (black, luma, chroma) = self.codes();
        let (u, v) = (0.5 * chroma / (1.0 - b), 0.5 * chroma / (1.0 - r));
        [
            [r * luma, g * luma, b * luma, black],
            [-r * u, -g * u, (1.0 - b) * u, 128.0],
            [(1.0 - r) * v, -g * v, -b * v, 128.0],
        ]
    }

    /// Colour samples of `format`, in the order of `Packed::colour`, to R'G'B' in 0..1.
    pub(crate) fn rgb_of(self, format: Format) -> Affine {
        if format.is_yuv() { self.rgb_of_yuv() } else { scale(1.0 / 255.0) }
    }

    /// The inverse of `rgb_of`.
    pub(crate) fn of_rgb(self, format: Format) -> Affine {
        if format.is_yuv() { self.yuv_of_rgb() } else { scale(255.0) }
    }

    /// Lowest and highest code of each colour sample of `format`.
    pub(crate) fn limits(self, format: Format) -> [[f32; 2]; 3] {
        if format.is_yuv() && !self.full_range {
            [[16.0, 235.0], [16.0, 240.0], [16.0, 240.0]]
        } else {
            [[0.0, 255.0]; 3]
        }
    }
}

fn scale(s: f64) -> Affine {
    [[s, 0.0, 0.0, 0.0], [0.0, s, 0.0, 0.0], [0.0, 0.0, s, 0.0]]
}
