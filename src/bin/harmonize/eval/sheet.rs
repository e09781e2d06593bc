//! The pictures that a model does best, as usual and worst on, beside what the other methods make of them.

use crate::canvas::{self, Label};
use anyhow::Result;
use gstharmonize::lab::eval::dataset::Subset;
use gstharmonize::lab::eval::{self, Background, Measured, Method, Size, groups, order};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use std::path::Path;

/// Pictures of each kind.
const EACH: usize = 3;
/// Larger pictures are made to fit a square of this side.
const CELL: u32 = 256;
const GAP: u32 = 8;
const LEFT: u32 = 190;
const TOP: u32 = 30;
const CAPTION: u32 = 22;
const STEP: [u32; 2] = [CELL + GAP, CELL + CAPTION + GAP];

/// What the figures are of.
pub struct Measurement<'a> {
    pub subsets: &'a [Subset],
    pub methods: &'a [Method<'a>],
    pub size: Size,
    /// The first of those that were measured.
    pub background: Background,
    pub measured: &'a [Vec<Option<Measured>>],
}

/// Draws the pictures at the ends and in the middle of the order that method `judged` (its place among the methods) puts them in
/// by the fMSE that it leaves.
pub fn draw(measurement: &Measurement, judged: usize, file: &Path) -> Result<()> {
    let Measurement { subsets, methods, size, background, measured } = *measurement;
    let known: Vec<_> = groups::by_picture(subsets, measured)
        .filter_map(|(subset, triple, measured)| Some((subset, triple, measured?)))
        .collect();
    // The first row is the untouched composite.
    let ratios: Vec<f64> = known.iter().map(|(_, _, measured)| measured.fmse_ratio(judged + 1)).collect();
    let kinds = ["best", "median", "worst"].into_iter().zip(order::extremes(&ratios, EACH));
    let places: Vec<(&str, usize)> =
        kinds.flat_map(|(kind, places)| places.into_iter().map(move |i| (kind, i))).collect();

    let columns = methods.len() as u32 + 3;
    let mut canvas = RgbImage::from_pixel(LEFT + columns * STEP[0], TOP + places.len() as u32 * STEP[1], Rgb([255; 3]));
    let mut labels = heads(methods);
    for (row, (kind, place)) in places.into_iter().enumerate() {
        let (subset, triple, measured) = known[place];
        let (sample, pictures) = eval::pictures(triple, methods, size, background)?;
        let top = TOP + row as u32 * STEP[1];
        let name = triple.composite.file_stem().unwrap_or_default().to_string_lossy();
        let ratio = format!("fMSE ratio {:.3}", ratios[place]);
        for (line, text) in [kind, &subset.name, &name, &ratio].into_iter().enumerate() {
            labels.push(label(text.to_owned(), [GAP, top + 8 + 22 * line as u32]));
        }
        let mask = canvas::grey(&sample.mask);
        let fmse = measured.rows.iter().map(|row| format!("fMSE {:.1}", row[0].fmse));
        let of_rows = pictures.iter().zip(fmse).collect::<Vec<_>>();
        let (composite, harmonized) = of_rows.split_at(1);
        let share = format!("{:.1} % foreground", 100.0 * measured.foreground);
        let cells = composite.iter().cloned().chain([(&mask, share)]);
        let cells = cells.chain(harmonized.iter().cloned()).chain([(&sample.real, String::new())]);
        for (column, (picture, caption)) in cells.enumerate() {
            let left = left(column);
            imageops::replace(&mut canvas, &fitted(picture), i64::from(left), i64::from(top));
            labels.push(label(caption, [left, top + CELL + 4]));
        }
    }
    canvas::save(canvas, &labels, file)
}

fn heads(methods: &[Method]) -> Vec<Label> {
    let methods = methods.iter().map(|method| method.name.as_str());
    let names = ["composite", "mask"].into_iter().chain(methods).chain(["real"]);
    names.enumerate().map(|(column, name)| label(name.to_owned(), [left(column), 7])).collect()
}

fn left(column: usize) -> u32 {
    LEFT + column as u32 * STEP[0]
}

fn label(text: String, [x, y]: [u32; 2]) -> Label {
    Label { text, place: [x as i32, y as i32], size: 17.0 }
}

/// `picture` no larger than a cell, its aspect kept.
fn fitted(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = width.max(height);
    if longer <= CELL {
        return picture.clone();
    }
    let [width, height] = [width, height].map(|side| (side * CELL / longer).max(1));
    imageops::resize(picture, width, height, FilterType::Triangle)
}
