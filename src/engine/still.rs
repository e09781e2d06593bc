//! A picture in memory, as a frame of a stream: 8-bit sRGB, packed.

use super::stream::Frame;
use crate::frame::{Colorimetry, Format, Mask, MaskRange, MaskSettings, Matrix, Picture, PictureMut, Plane, PlaneMut};
use anyhow::{Result, ensure};

const RGB: Colorimetry = Colorimetry::new(Matrix::Bt709, true);

/// Pixels of three bytes, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Still {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Still {
    /// `rgb` holds `width` x `height` pixels of three bytes, row by row without gaps; an error if it doesn't.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let needed = width.saturating_mul(height).saturating_mul(3);
        ensure!(rgb.len() == needed, "{width}x{height} pixels of RGB are {needed} bytes, not {}", rgb.len());
        Ok(Self { width, height, rgb })
    }

    /// In pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// In pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The pixels, kept.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// A mask of this picture's size from grey of any size, 0 background to 255 foreground, rows of `width` bytes.
    pub fn mask(&self, grey: &[u8], width: usize, height: usize) -> Mask {
        let picture = Picture {
            format: Format::GRAY8,
            colour: RGB,
            width,
            height,
            interlaced: false,
            planes: [Plane { data: grey, stride: width }, Plane::default(), Plane::default(), Plane::default()],
        };
        // A picture file's grey is always full range.
        let settings = MaskSettings { range: MaskRange::Full, ..Default::default() };
        Mask::from_picture(&picture, settings, self.width, self.height)
    }
}

impl Frame for Still {
    fn read<R>(&self, f: impl FnOnce(&Picture) -> R) -> Result<R> {
        let &Self { width, height, ref rgb } = self;
        let planes = [Plane { data: rgb, stride: 3 * width }, Plane::default(), Plane::default(), Plane::default()];
        Ok(f(&Picture { format: Format::RGB, colour: RGB, width, height, interlaced: false, planes }))
    }

    fn write<R>(&mut self, f: impl FnOnce(&mut PictureMut) -> R) -> Result<R> {
        let &mut Self { width, height, ref mut rgb } = self;
        let pixels = PlaneMut { data: rgb, stride: 3 * width };
        let planes = [pixels, PlaneMut::default(), PlaneMut::default(), PlaneMut::default()];
        Ok(f(&mut PictureMut { format: Format::RGB, colour: RGB, width, height, interlaced: false, planes }))
    }
}
