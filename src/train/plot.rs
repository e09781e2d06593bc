//! The course of a training as a picture.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

/// One row of the log.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Row {
    pub step: u64,
    /// Mean loss since the row before.
    pub loss: f64,
    /// Foreground error on photographs kept out of training, as a share of the composites' own.
    pub validation: f64,
}

const SIZE: (u32, u32) = (960, 540);

/// Draws loss and validation against steps as a PNG.
pub fn draw(rows: &[Row], file: &Path) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("can't draw {}: {e}", file.display());
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    let root = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let last = rows.last().map_or(1, |r| r.step).max(1);
    let top = rows.iter().map(|r| r.validation.max(r.loss)).fold(0.0, f64::max).clamp(0.1, 1.2) * 1.05;
    let mut chart = ChartBuilder::on(&root)
        .caption("loss, and validation as a share of the composites' fMSE", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0..last, 0.0..top)
        .map_err(|e| failed(&e))?;
    chart.configure_mesh().x_desc("step").draw().map_err(|e| failed(&e))?;
    let mut line = |name: &str, colour: RGBColor, value: &dyn Fn(&Row) -> f64| -> Result<()> {
        let points = rows.iter().map(|r| (r.step, value(r)));
        let series = chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(|e| failed(&e))?;
        series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        Ok(())
    };
    line("loss (RMS)", BLUE, &|r| r.loss)?;
    line("validation (fMSE ratio)", RED, &|r| r.validation)?;
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw().map_err(|e| failed(&e))?;
    root.present().map_err(|e| failed(&e))?;
    drop(chart);
    drop(root);
    image::save_buffer(file, &pixels, SIZE.0, SIZE.1, image::ColorType::Rgb8).map_err(|e| failed(&e))
}
