//! Pictures composed of pictures, with text on them.

use anyhow::{Result, anyhow};
use image::{DynamicImage, GrayImage, RgbImage};
use plotters::prelude::*;
use std::path::Path;

/// Black text whose upper left corner is at `place`; `size` in pixels.
pub struct Label {
    pub text: String,
    pub place: [i32; 2],
    pub size: f64,
}

/// Writes `canvas` with `labels` on it; the file's name tells the format.
pub fn save(canvas: RgbImage, labels: &[Label], file: &Path) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("can't draw {}: {e}", file.display());
    let size = canvas.dimensions();
    let mut pixels = canvas.into_raw();
    {
        let root = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        for Label { text, place: [x, y], size } in labels {
            let text = Text::new(text.as_str(), (*x, *y), ("sans-serif", *size).into_font().color(&BLACK));
            root.draw(&text).map_err(|e| failed(&e))?;
        }
        root.present().map_err(|e| failed(&e))?;
    }
    image::save_buffer(file, &pixels, size.0, size.1, image::ColorType::Rgb8).map_err(|e| failed(&e))
}

/// A mask as a picture.
pub fn grey(mask: &GrayImage) -> RgbImage {
    DynamicImage::from(mask.clone()).into_rgb8()
}
