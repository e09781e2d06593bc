//! A film's figures over time: a panel a figure, a line a way of harmonizing.

use anyhow::{Result, anyhow};
use gstharmonize::lab::eval::temporal::{Report, VideoMetrics};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

const SIZE: (u32, u32) = (1200, 330);
const TOP: u32 = 64;
const CUT: RGBColor = RGBColor(150, 150, 150);

/// A panel: what it shows to how many digits, and the values of a course with the frame that the first is of.
struct Panel {
    title: &'static str,
    digits: usize,
    first: usize,
    values: fn(&VideoMetrics) -> Vec<Option<f64>>,
}

const PANELS: [Panel; 4] = [
    Panel { title: "fMSE", digits: 0, first: 0, values: |course| course.fmse.clone() },
    Panel {
        title: "change of the colour mapping, codes of 255",
        digits: 1,
        first: 1,
        values: |course| course.mapping.clone(),
    },
    Panel {
        title: "change of the correction, codes of 255",
        digits: 1,
        first: 1,
        values: |course| course.change.clone(),
    },
    Panel {
        title: "foreground's mean L*",
        digits: 0,
        first: 0,
        values: |course| course.colour.iter().map(|colour| colour.map(|[l, ..]| l)).collect(),
    },
];

fn style(name: &str) -> ShapeStyle {
    let (colour, width) = match name {
        "composite" => (RGBColor(120, 120, 120), 2),
        "real" => (RGBColor(20, 20, 20), 2),
        "Reinhard per frame" => (RGBColor(148, 90, 184), 1),
        "noise per frame" => (RGBColor(214, 126, 44), 1),
        // Broad and pale under the thin line of `harmonize`, which often runs along it.
        "frame by frame" => (RGBColor(140, 205, 150), 5),
        _ => (RGBColor(42, 111, 187), 2),
    };
    colour.stroke_width(width)
}

/// Panels that no way has any value for are left out; cuts are upright lines.
pub fn draw(report: &Report, cuts: &[usize], file: &Path) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| anyhow!("can't draw {}: {e}", file.display());
    let has_values =
        |panel: &&Panel| report.rows.iter().any(|row| (panel.values)(&row.series).iter().any(Option::is_some));
    let panels: Vec<&Panel> = PANELS.iter().filter(has_values).collect();
    let size = (SIZE.0, TOP + SIZE.1 * panels.len() as u32);
    let mut pixels = vec![0; (size.0 * size.1 * 3) as usize];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        root.fill(&WHITE).map_err(|e| failed(&e))?;
        let (head, body) = root.split_vertically(TOP);
        legend(report, &head).map_err(|e| failed(&e))?;
        for (panel, area) in panels.iter().zip(body.split_evenly((panels.len().max(1), 1))) {
            paint(report, panel, cuts, &area).map_err(|e| failed(&e))?;
        }
        root.present().map_err(|e| failed(&e))?;
    }
    image::save_buffer(file, &pixels, size.0, size.1, image::ColorType::Rgb8).map_err(|e| failed(&e))
}

fn legend(report: &Report, area: &Area) -> Result<()> {
    let text = |text: String, place: (i32, i32), size: f64| {
        Text::new(text, place, ("sans-serif", size).into_font().color(&BLACK))
    };
    let [width, height] = report.size;
    let title = format!("model {}, {} frames of {width}x{height}", report.model, report.frames);
    area.draw(&text(title, (16, 10), 20.0))?;
    for (index, row) in report.rows.iter().enumerate() {
        let x = 16 + 190 * index as i32;
        area.draw(&PathElement::new([(x, 50), (x + 26, 50)], style(&row.name)))?;
        area.draw(&text(row.name.clone(), (x + 32, 42), 16.0))?;
    }
    Ok(())
}

fn paint(report: &Report, panel: &Panel, cuts: &[usize], area: &Area) -> Result<()> {
    let lines: Vec<_> = report.rows.iter().map(|row| (&row.name, (panel.values)(&row.series))).collect();
    let values = || lines.iter().flat_map(|(_, values)| values.iter().flatten().copied());
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let margin = (0.05 * (high - low)).max(1e-3);
    // Errors and changes begin at nothing; lightness does not.
    let low = if low < 0.5 * high { low.min(0.0) } else { low } - margin;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 18))
        .margin(10)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..report.frames.max(2) as f64 - 1.0, low..high + margin)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.*}", panel.digits))
        .x_desc("frame")
        .light_line_style(WHITE)
        .label_style(("sans-serif", 14))
        .draw()?;
    for &cut in cuts {
        // A hair before the frame, between it and the one before.
        let x = cut as f64 - 0.5;
        chart.draw_series([PathElement::new([(x, low), (x, high + margin)], CUT.stroke_width(1))])?;
    }
    for (name, values) in &lines {
        // A frame without a value breaks the line.
        for run in values.iter().enumerate().collect::<Vec<_>>().split(|(_, value)| value.is_none()) {
            let points = run.iter().filter_map(|(at, value)| value.map(|value| ((at + panel.first) as f64, value)));
            chart.draw_series(LineSeries::new(points, style(name)))?;
        }
    }
    Ok(())
}
