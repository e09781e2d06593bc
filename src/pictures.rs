//! Picture files, and one photograph harmonized at its own size.

use crate::engine::still::Still;
use crate::engine::{Applied, Engine, Entry, Frame, Outcome, Parameters, Policy, Stream};
use crate::frame::Mask;
use crate::transfer::{Transfer, apply};
use anyhow::{Context, Result, bail};
use image::{DynamicImage, GrayImage, ImageReader, RgbImage};
use std::path::Path;
use std::sync::Arc;

/// A picture harmonized, and by what; `None` where the mask is black.
pub struct Harmonized {
    pub picture: RgbImage,
    pub applied: Option<Applied>,
}

/// `composite` with the pixels under `mask` (0 background to 255 foreground) harmonized.
pub fn harmonize(
    engine: &Engine,
    composite: &RgbImage,
    mask: &GrayImage,
    parameters: Parameters,
) -> Result<Harmonized> {
    let frame = still(composite.clone())?;
    let mask = foreground(&frame, mask);
    if mask.is_empty() {
        return Ok(Harmonized { picture: composite.clone(), applied: None });
    }
    let stream = Stream::default();
    let mask = Arc::new(mask);
    let entry = Entry { frame, mask, time: 0, running_time: 0, begins: true, is_margin: false, parameters };
    stream.push(engine, entry, Policy::Exact { shows_first: false }, &mut |ended| ended.map(drop))?;
    let ready = stream.next(true, 0, &mut |ended| ended.map(drop)).context("a frame that came to nothing")?;
    match ready.outcome? {
        Outcome::Harmonized(applied) => Ok(Harmonized { picture: picture(ready.frame)?, applied: Some(applied) }),
        _ => bail!("a frame without a transfer"),
    }
}

/// `composite` with the pixels under `mask` changed by `transfer`.
pub fn changed(composite: &RgbImage, mask: &GrayImage, transfer: &Transfer, strength: f32) -> Result<RgbImage> {
    let mut frame = still(composite.clone())?;
    let mask = foreground(&frame, mask);
    frame.write(|picture| apply(picture, &mask, transfer, strength))?;
    picture(frame)
}

/// As a frame of a stream.
pub fn still(picture: RgbImage) -> Result<Still> {
    Still::new(picture.width() as usize, picture.height() as usize, picture.into_raw())
}

/// Back from a frame.
pub fn picture(still: Still) -> Result<RgbImage> {
    let (width, height) = (still.width() as u32, still.height() as u32);
    RgbImage::from_raw(width, height, still.into_rgb()).context("a picture of another size than its samples")
}

/// The mask of `frame` from a picture of it.
pub fn foreground(frame: &Still, mask: &GrayImage) -> Mask {
    frame.mask(mask, mask.width() as usize, mask.height() as usize)
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
