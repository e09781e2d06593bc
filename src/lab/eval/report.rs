//! What an evaluation says: tables, and the figures of every picture.

use super::baselines::Baseline;
use super::dataset::Subset;
use super::groups::by_picture;
use super::metrics::Metrics;
use super::published::PublishedRow;
use super::share::Share;
use super::tables::{Grid, ReportRow, Tables, means};
use super::{Background, Measured, Size};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Serializes to the JSON of `harmonize eval --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `256` or `native`.
    pub size: &'static str,
    /// Whether the real pictures went in, in the composites' place.
    pub fitting: bool,
    #[serde(flatten)]
    pub tables: Tables,
    /// What others have published of these pictures.
    pub published: Vec<PublishedRow>,
    /// Those that were measured, in the order of the data set.
    pub pictures: Vec<Picture>,
    /// Mean time of each method for a picture (of a model: proxy, inference and apply), without reading files and measuring.
    pub seconds_per_image: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Picture {
    pub subset: String,
    /// Of the composite's file, or of the real picture's in its place.
    pub name: String,
    /// The foreground's share of the picture, 0..=1.
    pub foreground: f64,
    /// By background, then by row.
    pub metrics: BTreeMap<&'static str, BTreeMap<String, Metrics>>,
}

impl Report {
    /// `measured` as [`super::evaluate`] returned it for `subsets`, `backgrounds` and the `methods` of these names, all
    /// different. An error where no picture could be measured.
    pub fn new(
        methods: &[String],
        size: Size,
        backgrounds: &[Background],
        subsets: &[Subset],
        measured: &[Vec<Option<Measured>>],
    ) -> Result<Self> {
        let names = [&[Baseline::Untouched.name().to_owned()], methods].concat();
        let tables = Tables::new(&names, backgrounds, subsets, measured)?;
        let of = |measured: &Measured, background: usize| -> BTreeMap<String, Metrics> {
            names.iter().cloned().zip(measured.rows.iter().map(|row| row[background])).collect()
        };
        let picture = |(subset, triple, measured): (&Subset, &super::dataset::Triple, Option<&Measured>)| {
            let measured = measured?;
            let by_background = backgrounds.iter().enumerate().map(|(i, b)| (b.name(), of(measured, i)));
            Some(Picture {
                subset: subset.name.clone(),
                name: triple.composite.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                foreground: measured.foreground,
                metrics: by_background.collect(),
            })
        };
        let all: Vec<&Measured> = measured.iter().flatten().flatten().collect();
        let seconds = |method: usize| all.iter().map(|m| m.took[method].as_secs_f64()).sum::<f64>() / all.len() as f64;
        Ok(Self {
            size: size.name(),
            fitting: false,
            tables,
            published: Vec::new(),
            pictures: by_picture(subsets, measured).filter_map(picture).collect(),
            seconds_per_image: methods.iter().enumerate().map(|(i, name)| (name.clone(), seconds(i))).collect(),
        })
    }

    /// The poster's tables, what is left of fMSE, and all intervals, to paste.
    pub fn markdown(&self) -> String {
        let side = if self.size == Size::Square256.name() { "256x256" } else { "the pictures' own size" };
        let what = if self.fitting { "Foregrounds that fit already, at" } else { "At" };
        let title = |background| match background {
            Background::Real => format!("{what} {side}, the real background pasted"),
            Background::Composite => format!("{what} {side}, with the composite's own background"),
        };
        let mut text = self.tables.markdown(title, &self.published);
        if let Some(note) = self.note() {
            text += &format!("{note}.\n\n");
        }
        text.trim_end().to_owned() + "\n"
    }

    /// What has to be said of a row that isn't a harmonizer.
    fn note(&self) -> Option<String> {
        let best = Baseline::BestAffine.name();
        let is_there = self.seconds_per_image.contains_key(best);
        is_there.then(|| format!("{best} knows the real picture: it is what one affine colour map a picture can reach"))
    }

    /// Every figure of `rows` by group.
    fn grid(&self, rows: &[ReportRow]) -> Grid {
        let heads = ["", "", "MSE", "fMSE", "PSNR", "fPSNR", "SSIM", "fSSIM", "fMSE ratio [95 %]", "median", "worse"];
        let mut grid = Grid::from_heads(&heads);
        let images: Vec<(&str, &usize)> =
            self.tables.images.by_subset().chain(self.tables.images.by_foreground()).collect();
        for (group, (name, images)) in images.into_iter().enumerate() {
            for (index, ReportRow { name: method, groups }) in rows.iter().enumerate() {
                let figures = groups.by_subset().chain(groups.by_foreground()).nth(group);
                let Some(figures) = figures.and_then(|(_, figures)| *figures) else { continue };
                let m = figures.mean;
                let name = if index == 0 { format!("{name} ({images})") } else { String::new() };
                let coarse = [m.mse, m.fmse, m.psnr, m.fpsnr].map(|v| format!("{v:.2}"));
                let fine = [m.ssim, m.fssim].map(|v| format!("{v:.4}"));
                let share = (index > 0).then_some(figures.share);
                grid.push(&name, [method.clone()].into_iter().chain(coarse).chain(fine).chain(last(share)));
            }
            for PublishedRow { name: method, groups } in &self.published {
                let share = groups.by_subset().chain(groups.by_foreground()).nth(group);
                let Some(share) = share.and_then(|(_, share)| *share) else { continue };
                grid.push(
                    "",
                    [method.clone()].into_iter().chain([const { String::new() }; 6]).chain(last(Some(share))),
                );
            }
        }
        grid
    }
}

/// Ratio, median and pictures made worse; nothing can be said of composites without error.
fn last(share: Option<Share>) -> [String; 3] {
    let told = share.and_then(|share| Some([share.left()?, format!("{:.3}", share.median), share.worse.to_string()]));
    told.unwrap_or_default()
}

impl fmt::Display for Report {
    /// For each background a table with a row a method in each group, then the intervals of the means over all pictures.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (background, rows) in self.tables.by_background() {
            let what = if self.fitting { ", foregrounds that fit already" } else { "" };
            writeln!(f, "size {}, background {}{what}", self.size, background.name())?;
            writeln!(f, "{}", self.grid(rows).text(2))?;
            writeln!(f, "means over all pictures [95 %]\n{}", means(rows).text(1))?;
        }
        if let Some(note) = self.note() {
            writeln!(f, "{note}")?;
        }
        let times = self.seconds_per_image.iter().map(|(name, s)| format!("{name} {:.1} ms", 1000.0 * s));
        write!(f, "{} a picture", times.collect::<Vec<_>>().join(", "))?;
        self.tables.write_skipped(f)
    }
}
