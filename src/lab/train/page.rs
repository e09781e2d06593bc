//! The page of a training: its course as curves, and what the network makes of some composites by now.

use super::log::LogRow;
use crate::harmonizers::training::Stage;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;
use tch::Tensor;

const WIDTH: u32 = 1120;
const CURVES: u32 = 420;
/// Columns of the sheet, and pixels to a side of each.
const COLUMNS: u32 = 8;
const CELL: u32 = 126;
const ROWS: [&str; 4] = ["composite", "mask", "harmonized", "real"];

/// Draws the page as a PNG; `pictures` as [`super::workers::Answer`] has them.
pub fn draw(rows: &[LogRow], stages: &[Stage], pictures: Option<&[Tensor; 4]>, file: &Path) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("can't draw {}: {e}", file.display());
    let height = CURVES + ROWS.len() as u32 * CELL + 8;
    let mut pixels = vec![0; (WIDTH * height * 3) as usize];
    let root = BitMapBackend::with_buffer(&mut pixels, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let (upper, lower) = root.split_vertically(CURVES);
    curves(rows, stages, &upper).map_err(|e| failed(&e))?;
    for (i, name) in ROWS.iter().enumerate() {
        let at = (8, i as i32 * CELL as i32 + CELL as i32 / 2);
        lower.draw(&Text::new(*name, at, ("sans-serif", 14))).map_err(|e| failed(&e))?;
    }
    root.present().map_err(|e| failed(&e))?;
    drop((upper, lower, root));
    if let Some(pictures) = pictures {
        sheet(pictures, &mut pixels)?;
    }
    image::save_buffer(file, &pixels, WIDTH, height, image::ColorType::Rgb8).map_err(|e| failed(&e))
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

fn curves(rows: &[LogRow], stages: &[Stage], area: &Area) -> Result<(), Box<dyn std::error::Error>> {
    let last = rows.last().map_or(1, |r| r.step).max(1);
    let top = rows.iter().map(|r| r.validation.max(r.loss)).fold(0.0, f64::max).clamp(0.1, 1.2) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption("loss, and validation as a share of the composites' fMSE", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0..last, 0.0..top)?;
    chart.configure_mesh().x_desc("step").draw()?;
    for (stage, Stage { name, .. }) in stages.iter().enumerate() {
        let within = || rows.iter().filter(move |r| r.stage == stage);
        let suffix = if stages.len() > 1 { format!(" ({name})") } else { String::new() };
        let mut line = |label: String, colour: RGBColor, value: &dyn Fn(&LogRow) -> f64| {
            let series = LineSeries::new(within().map(|r| (r.step, value(r))), colour.stroke_width(2)).point_size(2);
            let drawn = chart.draw_series(series)?;
            drawn.label(label).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let shade = |RGBColor(r, g, b): RGBColor| {
            let part = (stages.len() - 1 - stage) as f64 / stages.len() as f64;
            let lighten = |v: u8| (f64::from(v) + part * f64::from(255 - v)) as u8;
            RGBColor(lighten(r), lighten(g), lighten(b))
        };
        line(format!("loss{suffix}"), shade(BLUE), &|r| r.loss)?;
        line(format!("validation{suffix}"), shade(RED), &|r| r.validation)?;
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

/// The first pictures side by side, each as large as fits into its cell.
fn sheet(pictures: &[Tensor; 4], page: &mut [u8]) -> Result<()> {
    let left = WIDTH - COLUMNS * CELL;
    for (row, batch) in pictures.iter().enumerate() {
        let (b, _, h, w) = batch.size4()?;
        let scale = (CELL - 4) as f64 / h.max(w) as f64;
        let size = [h, w].map(|n| (n as f64 * scale) as i64);
        let shown = batch.f_narrow(0, 0, b.min(i64::from(COLUMNS)))?.f_upsample_nearest2d(size, None, None)?;
        let bytes = shown.f_clamp(0.0, 1.0)?.f_mul_scalar(255.0)?.f_round()?.f_to_kind(tch::Kind::Uint8)?;
        let bytes = bytes.f_expand([bytes.size()[0], 3, size[0], size[1]], false)?.f_permute([0, 2, 3, 1])?;
        let bytes = Vec::<u8>::try_from(&bytes.f_contiguous()?.f_flatten(0, -1)?.f_to_device(tch::Device::Cpu)?)?;
        let (height, stride) = (size[0] as usize, size[1] as usize * 3);
        for (column, picture) in bytes.chunks_exact(height * stride).enumerate() {
            let x = (left as usize + column * CELL as usize) * 3;
            for (y, line) in picture.chunks_exact(stride).enumerate() {
                let y = CURVES as usize + row * CELL as usize + y;
                page[y * WIDTH as usize * 3 + x..][..stride].copy_from_slice(line);
            }
        }
    }
    Ok(())
}
