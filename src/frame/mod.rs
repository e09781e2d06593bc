//! A raw frame in memory: its formats, its mask, its proxy, and a transfer applied to it in place.
//!
//! Knows neither GStreamer nor tensors. A sample whose mask is zero is never written.

pub mod apply;
pub mod mask;
pub mod proxy;

pub use apply::apply;
pub use mask::{Mask, MaskChannel, MaskRange, MaskSettings};
pub use proxy::{Proxy, proxy};

/// Memory layouts, named as GStreamer names them (bytes in memory order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Rgb,
    Bgr,
    Rgba,
    Bgra,
    Argb,
    Abgr,
    Rgbx,
    Bgrx,
    Xrgb,
    Xbgr,
    Ayuv,
    I420,
    A420,
    Nv12,
    Gray8,
}

/// Y'CbCr coefficients (ITU-R BT.601, 709, 2020). Of no meaning for RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    Bt601,
    Bt709,
    Bt2020,
}

/// How code values map to signal: which matrix, and 0..255 or 16..235.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    pub matrix: Matrix,
    pub full_range: bool,
}

/// One plane of samples. Rows start `stride` bytes apart; the last row may be shorter than `stride`.
#[derive(Clone, Copy, Default)]
pub struct Plane<'a> {
    pub data: &'a [u8],
    pub stride: usize,
}

#[derive(Default)]
pub struct PlaneMut<'a> {
    pub data: &'a mut [u8],
    pub stride: usize,
}

/// A picture to read. Planes beyond the format's own are empty.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    pub format: Format,
    pub colour: Colour,
    pub width: usize,
    pub height: usize,
    pub planes: [Plane<'a>; 4],
}

/// A picture to change in place.
pub struct PictureMut<'a> {
    pub format: Format,
    pub colour: Colour,
    pub width: usize,
    pub height: usize,
    pub planes: [PlaneMut<'a>; 4],
}

impl PictureMut<'_> {
    /// The same picture, to read.
    pub fn as_picture(&self) -> Picture<'_> {
        let [a, b, c, d] = &self.planes;
        Picture {
            format: self.format,
            colour: self.colour,
            width: self.width,
            height: self.height,
            planes: [
                Plane { data: a.data, stride: a.stride },
                Plane { data: b.data, stride: b.stride },
                Plane { data: c.data, stride: c.stride },
                Plane { data: d.data, stride: d.stride },
            ],
        }
    }
}
