//! A raw frame in memory: its formats, its mask and its proxy.
//!
//! Knows neither GStreamer nor tensors. Whoever makes a picture from
//! memory of someone else's calls `check` once and reports its error; on a picture that would fail it nothing here
//! panics: its mask is empty, its proxy black, and a transfer leaves it alone.

mod cells;
pub(crate) mod colour;
pub mod descriptor;
pub mod format;
pub mod mask;
pub mod proxy;
pub mod region;
pub(crate) mod samples;
#[cfg(test)]
pub(crate) mod tests;

use anyhow::{Result, ensure};

pub use descriptor::{Describer, Descriptor};
pub use format::{ComponentLayout, Components, Format};
pub use mask::{Mask, MaskChannel, MaskRange, MaskSettings};
pub use proxy::{Proxy, proxy};
pub use region::{Region, View};

/// Y'CbCr coefficients (ITU-R BT.601, 709, 2020). For RGB only what a mask's or a proxy's luma is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    Bt601,
    Bt709,
    Bt2020,
}

/// Where a chroma sample lies among the pixels that share it, along each axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChromaSite {
    /// On the first of them, as MPEG-2 and all that came after have it across; in their middle otherwise.
    pub across: bool,
    pub down: bool,
}

/// How code values map to signal: which matrix, the whole range of codes or the nominal one (16..235 and 16..240 for chroma, in 8
/// bits), and where chroma lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colorimetry {
    pub matrix: Matrix,
    pub full_range: bool,
    pub siting: ChromaSite,
}

impl Colorimetry {
    /// With chroma in the middle of its pixels.
    pub const fn new(matrix: Matrix, full_range: bool) -> Self {
        Self { matrix, full_range, siting: ChromaSite { across: false, down: false } }
    }
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
}

#[derive(Default)]
pub struct PlaneMut<'a> {
    pub data: &'a mut [u8],
    pub stride: usize,
}

impl PlaneMut<'_> {
    pub(crate) fn row_mut(&mut self, y: usize, bytes: usize) -> &mut [u8] {
        let start = y * self.stride;
        self.data.get_mut(start..start + bytes).unwrap_or_default()
    }
}

/// A picture to read. Planes beyond the format's own are empty.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    pub format: Format,
    pub colour: Colorimetry,
    pub width: usize,
    pub height: usize,
    /// Whether its rows belong to two fields by turns: then a row of subsampled chroma belongs to rows of one field.
    pub interlaced: bool,
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
                "plane {i} of a {format} picture {width}x{height}: rows of {bytes} bytes do not fit a stride of {stride}"
            );
            let needed = (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(bytes));
            ensure!(
                needed.is_some_and(|n| n <= data.len()),
                "plane {i} of a {format} picture {width}x{height} is cut short: {rows} rows of stride {stride} do not fit its {} bytes",
                data.len()
            );
        }
        Ok(())
    }
}

/// A picture to change in place.
pub struct PictureMut<'a> {
    pub format: Format,
    pub colour: Colorimetry,
    pub width: usize,
    pub height: usize,
    pub interlaced: bool,
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
            interlaced: self.interlaced,
            planes: [
                Plane { data: a.data, stride: a.stride },
                Plane { data: b.data, stride: b.stride },
                Plane { data: c.data, stride: c.stride },
                Plane { data: d.data, stride: d.stride },
            ],
        }
    }
}
