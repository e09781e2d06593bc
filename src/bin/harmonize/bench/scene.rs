//! The frame that is measured: texture everywhere, and an ellipse of 30 % of the picture as its foreground.

use gstharmonize::frame::{Colour, Format, Mask, Matrix, Picture, PictureMut, Plane, PlaneMut};

/// The formats measured: ours, and GStreamer's name for it.
pub const FORMATS: [(Format, &str); 2] = [(Format::I420, "I420"), (Format::RGBA, "RGBA")];

pub struct Scene {
    pub format: Format,
    pub width: usize,
    pub height: usize,
    /// All planes one after the other, without padding, as GStreamer lays them out at these sizes.
    pub data: Vec<u8>,
    pub mask: Mask,
}

const COLOUR: Colour = Colour::new(Matrix::Bt709, false);

impl Scene {
    pub fn new(format: Format, width: usize, height: usize) -> Self {
        let bytes: usize = format.plane_sizes(width, height).iter().map(|(row, rows)| row * rows).sum();
        // Values within 16..235 of a hash of their place: as costly to code and to map as any picture.
        let data = (0..bytes as u32).map(|i| 16 + (i.wrapping_mul(2_654_435_761) >> 24) as u8 % 220).collect();
        Self { format, width, height, data, mask: ellipse(width, height, HALF_AXIS, 0.5) }
    }

    pub fn picture(&self) -> Picture<'_> {
        let mut rest = &self.data[..];
        let planes = self.format.plane_sizes(self.width, self.height).map(|(stride, rows)| {
            let (data, behind) = rest.split_at(stride * rows);
            rest = behind;
            Plane { data, stride }
        });
        Picture {
            format: self.format,
            colour: COLOUR,
            width: self.width,
            height: self.height,
            interlaced: false,
            planes,
        }
    }

    /// The picture to change in place, and its mask.
    pub fn picture_mut(&mut self) -> (PictureMut<'_>, &Mask) {
        let mut rest = &mut self.data[..];
        let planes = self.format.plane_sizes(self.width, self.height).map(|(stride, rows)| {
            let (data, behind) = std::mem::take(&mut rest).split_at_mut(stride * rows);
            rest = behind;
            PlaneMut { data, stride }
        });
        let (format, width, height) = (self.format, self.width, self.height);
        (PictureMut { format, colour: COLOUR, width, height, interlaced: false, planes }, &self.mask)
    }
}

/// Half-axes of an ellipse that covers 30 %, as a share of width and height: pi k^2 = 0.3.
const HALF_AXIS: f64 = 0.309;

/// An ellipse of `half_axis` as a share of width and height, with an edge four pixels wide; `centre` is its place across.
pub fn ellipse(width: usize, height: usize, half_axis: f64, centre: f64) -> Mask {
    let (a, b) = (half_axis * width as f64, half_axis * height as f64);
    let value = |x: usize, y: usize| {
        let (x, y) = (x as f64 + 0.5 - centre * width as f64, y as f64 + 0.5 - height as f64 / 2.0);
        let inside = (1.0 - (x / a).hypot(y / b)) * b;
        ((inside / 4.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
    };
    let data = (0..height).flat_map(|y| (0..width).map(move |x| value(x, y))).collect();
    Mask { width, height, data }
}
