//! One column of pixels over time: what flickers shows as stripes.

use crate::canvas::{self, Label};
use anyhow::Result;
use image::{Rgb, RgbImage};
use std::path::Path;

/// Grows by a column each frame; panels side by side, time to the right.
pub struct Strip {
    column: u32,
    panels: Vec<Panel>,
}

struct Panel {
    name: &'static str,
    /// Columns, top to bottom, in order of time.
    columns: Vec<Vec<Rgb<u8>>>,
}

/// What is worth comparing by eye.
const SHOWN: [&str; 4] = ["composite", "real", "noise per frame", "harmonize"];
/// A panel is widened to about this many pixels.
const WIDTH: usize = 420;
const GAP: usize = 12;
const TOP: usize = 34;

impl Strip {
    /// For pictures in the order of `names`, of which some are drawn.
    pub fn new(column: u32, names: impl Iterator<Item = &'static str>) -> Self {
        Self { column, panels: names.map(|name| Panel { name, columns: Vec::new() }).collect() }
    }

    pub fn push<'a>(&mut self, pictures: impl Iterator<Item = &'a RgbImage>) {
        for (panel, picture) in self.panels.iter_mut().zip(pictures) {
            if SHOWN.contains(&panel.name) && self.column < picture.width() {
                panel.columns.push((0..picture.height()).map(|y| *picture.get_pixel(self.column, y)).collect());
            }
        }
    }

    pub fn save(&self, file: &Path) -> Result<()> {
        let shown: Vec<&Panel> =
            SHOWN.iter().filter_map(|name| self.panels.iter().find(|panel| panel.name == *name)).collect();
        let shown: Vec<&Panel> = shown.into_iter().filter(|panel| !panel.columns.is_empty()).collect();
        let frames = shown.iter().map(|panel| panel.columns.len()).max().unwrap_or(0);
        let height = shown.iter().flat_map(|panel| &panel.columns).map(Vec::len).max().unwrap_or(0);
        let scale = (WIDTH / frames.max(1)).max(1);
        let step = frames * scale + GAP;
        let size = [shown.len() * step + GAP, height + TOP + GAP].map(|side| side as u32);
        let mut canvas = RgbImage::from_pixel(size[0], size[1], Rgb([255; 3]));
        for (index, panel) in shown.iter().enumerate() {
            for (time, column) in panel.columns.iter().enumerate() {
                for (y, pixel) in column.iter().enumerate() {
                    for x in 0..scale {
                        let x = GAP + index * step + time * scale + x;
                        canvas.put_pixel(x as u32, (TOP + y) as u32, *pixel);
                    }
                }
            }
        }
        let label = |(index, panel): (usize, &&Panel)| Label {
            text: panel.name.to_owned(),
            place: [(GAP + index * step) as i32, 9],
            size: 18.0,
        };
        let labels: Vec<Label> = shown.iter().enumerate().map(label).collect();
        canvas::save(canvas, &labels, file)
    }
}
