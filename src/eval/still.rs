//! One photograph harmonized, at its own size.

use crate::engine::{Engine, Request};
use crate::frame::{
    Colour, Format, Mask, MaskRange, MaskSettings, Matrix, Picture, PictureMut, Plane, PlaneMut, Proxy, proxy,
};
use crate::transfer::{Transfer, apply};
use anyhow::{Context, Result, anyhow};
use image::{DynamicImage, GrayImage, ImageReader, RgbImage};
use std::path::Path;
use std::sync::Arc;

/// What harmonizing a picture depends on besides picture, mask and model; the element's properties of the same names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub request: Request,
    /// Long side of the proxy; 0 takes the model's own.
    pub proxy_size: u32,
    /// 0 leaves the composite, 1 applies the whole transfer.
    pub strength: f32,
}

const RGB: Colour = Colour::new(Matrix::Bt709, true);

/// A picture harmonized, and by what.
pub struct Harmonized {
    pub picture: RgbImage,
    /// The proxy that the model saw, and the transfer that it found; `None` where the mask is black.
    pub inferred: Option<(Arc<Proxy>, Arc<Transfer>)>,
}

/// `composite` with the pixels under `mask` (of the same size, 0 background to 255 foreground) harmonized.
pub fn harmonize(engine: &Engine, composite: &RgbImage, mask: &GrayImage, settings: Settings) -> Result<Harmonized> {
    let (width, height) = (composite.width() as usize, composite.height() as usize);
    let mask = foreground(mask, width, height);
    let mut harmonized = composite.clone();
    if mask.is_empty() {
        return Ok(Harmonized { picture: harmonized, inferred: None });
    }
    let view = engine.view(&mask, settings.proxy_size);
    let proxy = Arc::new(proxy(&picture(composite), &mask, view));
    let pending = engine.submit(proxy.clone(), settings.request);
    let transfer = pending.wait().ok_or_else(|| anyhow!("the inference was cancelled"))??;
    apply(&mut picture_mut(&mut harmonized), &mask, &transfer, settings.strength);
    Ok(Harmonized { picture: harmonized, inferred: Some((proxy, transfer)) })
}

/// `composite` with the pixels under `mask` changed by `transfer`.
pub fn changed(composite: &RgbImage, mask: &GrayImage, transfer: &Transfer, strength: f32) -> RgbImage {
    let mut changed = composite.clone();
    let mask = foreground(mask, composite.width() as usize, composite.height() as usize);
    apply(&mut picture_mut(&mut changed), &mask, transfer, strength);
    changed
}

pub(super) fn picture(picture: &RgbImage) -> Picture<'_> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixels = Plane { data: picture, stride: 3 * width };
    let planes = [pixels, Plane::default(), Plane::default(), Plane::default()];
    Picture { format: Format::RGB, colour: RGB, width, height, interlaced: false, planes }
}

pub(super) fn picture_mut(picture: &mut RgbImage) -> PictureMut<'_> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixels = PlaneMut { data: picture, stride: 3 * width };
    let planes = [pixels, PlaneMut::default(), PlaneMut::default(), PlaneMut::default()];
    PictureMut { format: Format::RGB, colour: RGB, width, height, interlaced: false, planes }
}

pub(super) fn foreground(mask: &GrayImage, width: usize, height: usize) -> Mask {
    let stride = mask.width() as usize;
    let picture = Picture {
        format: Format::GRAY8,
        colour: RGB,
        width: stride,
        height: mask.height() as usize,
        interlaced: false,
        planes: [Plane { data: mask, stride }, Plane::default(), Plane::default(), Plane::default()],
    };
    // A picture file's grey is always full range.
    Mask::from_picture(&picture, MaskSettings { range: MaskRange::Full, ..Default::default() }, width, height)
}

/// Reads a JPEG or PNG, whatever its file is called; the error names the file.
pub fn open(path: &Path) -> Result<DynamicImage> {
    let read = || ImageReader::open(path)?.with_guessed_format()?.decode();
    read().with_context(|| path.display().to_string())
}

/// A mask file's foreground: its alpha where that says anything, else its luma (editors add an opaque alpha to any PNG).
pub fn open_mask(path: &Path) -> Result<GrayImage> {
    let mask = open(path)?;
    if mask.color().has_alpha() {
        let rgba = mask.to_rgba8();
        if rgba.pixels().any(|p| p.0[3] != 255) {
            return Ok(GrayImage::from_fn(rgba.width(), rgba.height(), |x, y| {
                image::Luma([rgba.get_pixel(x, y).0[3]])
            }));
        }
    }
    Ok(mask.into_luma8())
}
