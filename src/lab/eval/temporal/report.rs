//! What measuring a film says: a row for each way of harmonizing it.

use super::cut::Recovery;
use super::metrics::{VideoMetrics, mean};
use serde::Serialize;
use std::fmt;

/// Serializes to the JSON of `harmonize eval --video --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub model: String,
    pub frames: usize,
    /// Width and height.
    pub size: [u32; 2],
    /// Where motion comes from; none where it was left out.
    pub flow: Option<String>,
    pub rows: Vec<VideoRow>,
}

/// Means over the film, as [`VideoMetrics`] defines the figures; none where there is nothing to take them of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VideoRow {
    pub name: String,
    pub fmse: Option<f64>,
    pub psnr: Option<f64>,
    pub e_warp: Option<f64>,
    pub e_warp_foreground: Option<f64>,
    pub tl: Option<f64>,
    pub change: Option<f64>,
    pub mapping: Option<f64>,
    pub flicker: Option<f64>,
    /// The flicker index over the composite's; none where that is still.
    pub flicker_ratio: Option<f64>,
    pub cuts: Vec<Recovery>,
    pub series: VideoMetrics,
}

impl VideoRow {
    /// Of named courses, the untouched composite's first.
    pub fn all<'a>(courses: impl Iterator<Item = (&'a str, VideoMetrics)>, cuts: &[usize]) -> Vec<Self> {
        let courses: Vec<_> = courses.collect();
        let Some((_, composite)) = courses.first().cloned() else { return Vec::new() };
        courses.into_iter().map(|(name, course)| Self::new(name.to_owned(), course, &composite, cuts)).collect()
    }

    /// `composite` is the course of the untouched composite, `cuts` the first frame of each scene but the first.
    fn new(name: String, course: VideoMetrics, composite: &VideoMetrics, cuts: &[usize]) -> Self {
        let flicker = course.flicker();
        Self {
            name,
            fmse: mean(&course.fmse),
            psnr: mean(&course.psnr),
            e_warp: mean(&course.e_warp),
            e_warp_foreground: mean(&course.e_warp_foreground),
            tl: mean(&course.tl),
            change: mean(&course.change),
            mapping: mean(&course.mapping),
            flicker,
            flicker_ratio: flicker
                .zip(composite.flicker())
                .filter(|(_, still)| *still > 0.0)
                .map(|(flicker, composite)| flicker / composite),
            cuts: course.recoveries(cuts),
            series: course,
        }
    }
}

impl fmt::Display for Report {
    /// A table with a row each way, and one for each cut.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [width, height] = self.size;
        let flow = self.flow.as_deref().unwrap_or("none");
        writeln!(f, "model {}, {} frames of {width}x{height}, flow: {flow}", self.model, self.frames)?;
        write!(
            f,
            "{:<20} {:>8} {:>6} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>8}",
            "", "fMSE", "PSNR", "E_warp", "E_warp fg", "TL", "mapping", "change", "FI", "FI ratio"
        )?;
        for row in &self.rows {
            write!(f, "\n{:<20}", row.name)?;
            cell(f, row.fmse, 8, 2)?;
            cell(f, row.psnr, 6, 2)?;
            cell(f, row.e_warp, 9, 6)?;
            cell(f, row.e_warp_foreground, 9, 6)?;
            cell(f, row.tl, 7, 2)?;
            cell(f, row.mapping, 7, 3)?;
            cell(f, row.change, 7, 3)?;
            cell(f, row.flicker, 7, 4)?;
            cell(f, row.flicker_ratio, 8, 2)?;
        }
        let cuts = self.rows.first().map_or(0, |row| row.cuts.len());
        for cut in 0..cuts {
            let frame = self.rows.first().map_or(0, |row| row.cuts[cut].frame);
            write!(f, "\n\n{:<20} {:>8} {:>16}", format!("cut at frame {frame}"), "recovery", "old scene's part")?;
            for row in &self.rows {
                write!(f, "\n{:<20}", row.name)?;
                cell(f, row.cuts[cut].recovery, 8, 3)?;
                cell(f, row.cuts[cut].old_part, 16, 3)?;
            }
        }
        Ok(())
    }
}

fn cell(f: &mut fmt::Formatter, figure: Option<f64>, width: usize, digits: usize) -> fmt::Result {
    match figure {
        Some(figure) => write!(f, " {figure:>width$.digits$}"),
        None => write!(f, " {:>width$}", "-"),
    }
}
