//! The colour mapping that a frame's foreground went through, estimated from what went in and what came out, and how it goes on from
//! frame to frame. A constant mapping counts nothing however the foreground moves under it, where [`super::correction::change`]
//! counts that other colours come to a place.

use super::correction::Corrected;
use crate::frame::{Colour, Format, Mask, Matrix, Picture, Plane, Proxy, View, proxy};
use crate::transfer::{Transfer, fit};
use image::{GrayImage, RgbImage};

/// Long side of the pictures that mappings are fitted to.
const LONG_SIDE: u32 = 96;

/// One frame's foreground, and the local affine colour maps that take it to what came out ([`crate::transfer::fit`]).
#[derive(Clone, Debug)]
pub struct Mapping {
    composite: Proxy,
    maps: Transfer,
}

impl Mapping {
    pub fn new(frame: Corrected) -> Self {
        let (width, height) = frame.composite.dimensions();
        let side = |length: u32| (length * LONG_SIDE).div_ceil(width.max(height).max(1)) as usize;
        let view = View::whole(side(width), side(height));
        let mask = foreground(frame.mask);
        let [composite, picture] = [frame.composite, frame.picture].map(|picture| proxy(&rgb(picture), &mask, view));
        let maps = fit(&composite, &picture.rgb, 1);
        Self { composite, maps }
    }

    /// Mean over the foreground and channels of what this frame's maps and those of the one before make different of this frame,
    /// in codes of 255; `None` where there is no foreground, or the frames differ in size.
    pub fn change(&self, before: &Self) -> Option<f64> {
        let Self { composite, maps } = self;
        let grid = |maps: &Transfer| (maps.cols, maps.rows, composite.mask.len());
        let n = composite.width * composite.height;
        if grid(maps) != (composite.width, composite.height, n) || grid(&before.maps) != grid(maps) {
            return None;
        }
        let (mut sum, mut weight) = (0.0, 0.0);
        for (i, (after, before)) in maps.maps.iter().zip(&before.maps.maps).enumerate() {
            let [r, g, b] = [0, 1, 2].map(|c| f64::from(composite.rgb[c * n + i]));
            let apart = after.chunks_exact(4).zip(before.chunks_exact(4)).map(|(a, b4)| {
                let d = [0, 1, 2, 3].map(|k| f64::from(a[k]) - f64::from(b4[k]));
                (d[0] * r + d[1] * g + d[2] * b + d[3]).abs()
            });
            let m = f64::from(composite.mask[i]);
            sum += m * apart.sum::<f64>();
            weight += 3.0 * m;
        }
        (weight > 0.0).then(|| 255.0 * sum / weight)
    }
}

const RGB: Colour = Colour::new(Matrix::Bt709, true);

fn rgb(picture: &RgbImage) -> Picture<'_> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixels = Plane { data: picture.as_raw(), stride: 3 * width };
    let planes = [pixels, Plane::default(), Plane::default(), Plane::default()];
    Picture { format: Format::RGB, colour: RGB, width, height, interlaced: false, planes }
}

fn foreground(mask: &GrayImage) -> Mask {
    Mask { width: mask.width() as usize, height: mask.height() as usize, data: mask.as_raw().clone() }
}
