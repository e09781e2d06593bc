//! A raw frame in memory: its formats, its mask, its proxy, and a transfer applied to it in place.
//!
//! Knows neither GStreamer nor tensors. A sample whose mask is zero is never changed. Whoever makes a picture from
//! memory of someone else's calls `check` once and reports its error; on a picture that would fail it nothing here
//! panics: its mask is empty, its proxy black, and `apply` leaves it alone.

pub mod apply;
mod colour;
pub mod mask;
pub mod proxy;
pub mod region;
#[cfg(test)]
mod tests;

use anyhow::{Result, ensure};

pub use apply::apply;
pub use mask::{Mask, MaskChannel, MaskRange, MaskSettings};
pub use proxy::{Proxy, proxy};
pub use region::{Region, View};

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

/// A format with all its samples in one plane, pixel by pixel.
#[derive(Clone, Copy)]
pub(crate) struct Packed {
    /// Bytes a pixel, 3 or 4.
    pub bytes: usize,
    /// Which byte holds R, G, B, or Y, Cb, Cr.
    pub colour: [usize; 3],
    pub alpha: Option<usize>,
}

impl Format {
    /// `None` for the formats with a plane for luma.
    pub(crate) fn packed(self) -> Option<Packed> {
        let (bytes, colour, alpha) = match self {
            Self::Rgb => (3, [0, 1, 2], None),
            Self::Bgr => (3, [2, 1, 0], None),
            Self::Rgba => (4, [0, 1, 2], Some(3)),
            Self::Bgra => (4, [2, 1, 0], Some(3)),
            Self::Argb => (4, [1, 2, 3], Some(0)),
            Self::Abgr => (4, [3, 2, 1], Some(0)),
            Self::Rgbx => (4, [0, 1, 2], None),
            Self::Bgrx => (4, [2, 1, 0], None),
            Self::Xrgb => (4, [1, 2, 3], None),
            Self::Xbgr => (4, [3, 2, 1], None),
            Self::Ayuv => (4, [1, 2, 3], Some(0)),
            Self::I420 | Self::A420 | Self::Nv12 | Self::Gray8 => return None,
        };
        Some(Packed { bytes, colour, alpha })
    }

    /// Whether the colour samples are Y'CbCr, or luma alone.
    pub(crate) fn is_yuv(self) -> bool {
        matches!(self, Self::Ayuv | Self::I420 | Self::A420 | Self::Nv12 | Self::Gray8)
    }

    pub fn has_alpha(self) -> bool {
        self == Self::A420 || self.packed().is_some_and(|p| p.alpha.is_some())
    }

    /// Bytes of a row without padding, and rows, of each plane of a `width` x `height` picture; 0 x 0 where it has
    /// none. Chroma of 4:2:0 covers odd edges: ceil(width / 2) x ceil(height / 2).
    pub fn plane_sizes(self, width: usize, height: usize) -> [(usize, usize); 4] {
        let (luma, none) = ((width, height), (0, 0));
        let chroma = (width.div_ceil(2), height.div_ceil(2));
        match self {
            Self::I420 => [luma, chroma, chroma, none],
            Self::A420 => [luma, chroma, chroma, luma],
            Self::Nv12 => [luma, (chroma.0.saturating_mul(2), chroma.1), none, none],
            Self::Gray8 => [luma, none, none, none],
            _ => [(width.saturating_mul(self.packed().map_or(1, |p| p.bytes)), height), none, none, none],
        }
    }
}

/// Y'CbCr coefficients (ITU-R BT.601, 709, 2020). For RGB only what a mask's or a proxy's luma is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    Bt601,
    Bt709,
    Bt2020,
}

/// How code values map to signal: which matrix, and 0..255 or 16..235. RGB is always read as 0..255.
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

impl<'a> Plane<'a> {
    /// The first `bytes` bytes of row `y`; none where the plane doesn't reach.
    pub(crate) fn row(&self, y: usize, bytes: usize) -> &'a [u8] {
        let start = y * self.stride;
        self.data.get(start..start + bytes).unwrap_or_default()
    }

    /// The plane from byte `x` of row `y` on.
    pub(crate) fn offset(&self, x: usize, y: usize) -> Self {
        Self { data: self.data.get(y * self.stride + x..).unwrap_or_default(), stride: self.stride }
    }
}

#[derive(Default)]
pub struct PlaneMut<'a> {
    pub data: &'a mut [u8],
    pub stride: usize,
}

impl PlaneMut<'_> {
    pub(crate) fn row(&self, y: usize, bytes: usize) -> &[u8] {
        Plane { data: self.data, stride: self.stride }.row(y, bytes)
    }

    pub(crate) fn row_mut(&mut self, y: usize, bytes: usize) -> &mut [u8] {
        let start = y * self.stride;
        self.data.get_mut(start..start + bytes).unwrap_or_default()
    }
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

impl Picture<'_> {
    /// Whether every sample lies inside its plane. The error names the plane and what it lacks.
    pub fn check(&self) -> Result<()> {
        let Self { format, width, height, .. } = *self;
        ensure!(width > 0 && height > 0, "a picture of {width}x{height} has no samples");
        for (i, (bytes, rows)) in format.plane_sizes(width, height).into_iter().enumerate() {
            let Plane { data, stride } = self.planes[i];
            if rows == 0 {
                continue;
            }
            ensure!(
                stride >= bytes,
                "plane {i} of a {format:?} picture {width}x{height}: rows of {bytes} bytes do not fit a stride of {stride}"
            );
            let needed = (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(bytes));
            ensure!(
                needed.is_some_and(|n| n <= data.len()),
                "plane {i} of a {format:?} picture {width}x{height} is cut short: {rows} rows of stride {stride} do not fit its {} bytes",
                data.len()
            );
        }
        Ok(())
    }
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
