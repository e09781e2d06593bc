//! The figures of a run as a picture: a panel for each size, a bar for each part, on one logarithmic axis.

use super::Figures;
use super::rounds::BenchRow;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const ROW: i32 = 17;
const TOP: i32 = 96;
const BOTTOM: i32 = 56;
const NAMES: i32 = 250;
const PANEL: i32 = 430;
const GAP: i32 = 60;

const OURS: RGBColor = RGBColor(42, 111, 187);
const THEIRS: RGBColor = RGBColor(214, 126, 44);
const COPY: RGBColor = RGBColor(130, 130, 130);
const GRID: RGBColor = RGBColor(222, 222, 222);

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

/// Draws the medians as bars and the 95th percentiles as lines beyond them.
pub fn draw(figures: &Figures, file: &Path) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("can't draw {}: {e}", file.display());
    let sizes = unique(figures.rows.iter().map(|row| row.part.size.clone()));
    // What is of one kind stands together, in all formats.
    let kinds = unique(figures.rows.iter().map(|row| row.part.what.to_owned()));
    let mut rows: Vec<_> = figures.rows.iter().collect();
    rows.sort_by_key(|row| kinds.iter().position(|kind| *kind == row.part.what));
    let names = unique(rows.into_iter().map(name));
    let size =
        [NAMES + sizes.len() as i32 * (PANEL + GAP), TOP + ROW * names.len() as i32 + BOTTOM].map(|side| side as u32);
    let mut pixels = vec![0; (size[0] * size[1] * 3) as usize];
    let root = BitMapBackend::with_buffer(&mut pixels, size.into()).into_drawing_area();
    paint(figures, &sizes, &names, &root).map_err(|e| failed(&e))?;
    root.present().map_err(|e| failed(&e))?;
    drop(root);
    image::save_buffer(file, &pixels, size[0], size[1], image::ColorType::Rgb8).map_err(|e| failed(&e))
}

/// In the order in which they first come.
fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut unique = Vec::new();
    for one in all {
        if !unique.contains(&one) {
            unique.push(one);
        }
    }
    unique
}

fn name(row: &BenchRow) -> String {
    format!("{} {}", row.part.what, row.part.format.unwrap_or_default())
}

fn colour(what: &str) -> RGBColor {
    match what {
        "memcpy" => COPY,
        "compositor" | "videobalance" | "lut3d" | "lut3d+maskedmerge" => THEIRS,
        _ => OURS,
    }
}

/// Where milliseconds lie in a panel.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Whole decades around all figures.
    fn new(rows: &[BenchRow]) -> Self {
        let low = rows.iter().map(|row| row.median_ms).fold(f64::INFINITY, f64::min).clamp(1e-4, 1e6);
        let high = rows.iter().map(|row| row.p95_ms.max(row.median_ms)).fold(low, f64::max);
        Self { low: low.log10().floor(), high: high.log10().floor() + 1.0 }
    }

    fn place(&self, ms: f64) -> i32 {
        let share = (ms.max(1e-9).log10() - self.low) / (self.high - self.low);
        (f64::from(PANEL) * share.clamp(0.0, 1.0)) as i32
    }

    /// 1, 2 and 5 of each decade, and whether it is the 1.
    fn ticks(&self) -> impl Iterator<Item = (f64, bool)> {
        let decades = self.low as i32..self.high as i32;
        let within = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|m| (m * 10f64.powi(decade), m == 1.0)));
        within.chain([(10f64.powf(self.high), true)])
    }
}

fn paint(figures: &Figures, sizes: &[String], names: &[String], root: &Area) -> Result<()> {
    let text = |x: i32, y: i32, size: f64, pos: Pos, text: String| {
        Text::new(text, (x, y), ("sans-serif", size).into_font().color(&BLACK).pos(pos))
    };
    let left = Pos::new(HPos::Left, VPos::Center);
    let right = Pos::new(HPos::Right, VPos::Center);
    let centre = Pos::new(HPos::Center, VPos::Center);
    let (axis, bottom) = (Axis::new(&figures.rows), TOP + ROW * names.len() as i32);
    root.fill(&WHITE)?;
    root.draw(&text(16, 24, 20.0, left, format!("harmonize bench, milliseconds a frame: {}", figures.machine)))?;
    let legend = [("the plugin's", OURS), ("others'", THEIRS), ("a copy of the frame", COPY)];
    for (i, (what, colour)) in legend.into_iter().enumerate() {
        let x = 16 + 150 * i as i32;
        root.draw(&Rectangle::new([(x, 44), (x + 12, 56)], colour.filled()))?;
        root.draw(&text(x + 18, 50, 14.0, left, what.into()))?;
    }
    root.draw(&text(470, 50, 14.0, left, "bars: medians; lines: to the 95th percentile; logarithmic".into()))?;
    for (line, name) in names.iter().enumerate() {
        root.draw(&text(NAMES - 10, TOP + ROW * line as i32 + ROW / 2, 13.0, right, name.clone()))?;
    }
    for (panel, size) in sizes.iter().enumerate() {
        let start = NAMES + panel as i32 * (PANEL + GAP);
        root.draw(&text(start + PANEL / 2, TOP - 16, 17.0, centre, size.clone()))?;
        for (ms, is_decade) in axis.ticks() {
            let x = start + axis.place(ms);
            root.draw(&PathElement::new([(x, TOP), (x, bottom)], GRID.stroke_width(1 + u32::from(is_decade))))?;
            if is_decade || axis.high - axis.low <= 3.0 {
                root.draw(&text(x, bottom + 12, 13.0, centre, format!("{ms}")))?;
            }
        }
        root.draw(&text(start + PANEL / 2, bottom + 34, 14.0, centre, "ms a frame".into()))?;
        for row in figures.rows.iter().filter(|row| row.part.size == *size) {
            let Some(line) = names.iter().position(|n| *n == name(row)) else { continue };
            let y = TOP + ROW * line as i32;
            let [end, tail] = [row.median_ms, row.p95_ms].map(|ms| start + axis.place(ms));
            root.draw(&Rectangle::new([(start, y + 3), (end, y + ROW - 3)], colour(row.part.what).filled()))?;
            root.draw(&PathElement::new([(end, y + ROW / 2), (tail.max(end), y + ROW / 2)], BLACK.stroke_width(1)))?;
            let digits = if row.median_ms < 1.0 { 3 } else { 2 };
            root.draw(&text(tail.max(end) + 5, y + ROW / 2, 12.0, left, format!("{:.*}", digits, row.median_ms)))?;
        }
    }
    Ok(())
}
