//! What an evaluation says: mean figures a subset, over all pictures, and by the foreground's share of the picture.

use super::dataset::Subset;
use super::metrics::Metrics;
use super::{Background, Measured, Size};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Something of each group of pictures that papers report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Groups<T> {
    pub subsets: BTreeMap<String, T>,
    /// Every picture counts once, whatever its subset.
    pub all: T,
    pub by_foreground: ByForeground<T>,
}

/// Buckets of iHarmony4's papers, lower bound included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByForeground<T> {
    #[serde(rename = "0-5%")]
    pub small: T,
    #[serde(rename = "5-15%")]
    pub medium: T,
    #[serde(rename = "15-100%")]
    pub large: T,
}

impl<T> Groups<T> {
    /// `summary` of each group of what was `measured` of the pictures of `subsets`; `foreground` is a picture's share of it,
    /// 0..=1.
    pub fn new<M>(
        subsets: &[Subset],
        measured: &[Vec<Option<M>>],
        foreground: impl Fn(&M) -> f64,
        summary: impl Fn(&[&M]) -> T,
    ) -> Self {
        let all: Vec<&M> = measured.iter().flatten().flatten().collect();
        let share = |low: f64, high: f64| {
            let within: Vec<&M> = all.iter().copied().filter(|m| (low..high).contains(&foreground(m))).collect();
            summary(&within)
        };
        let subset = |(subset, measured): (&Subset, &Vec<Option<M>>)| {
            (subset.name.clone(), summary(&measured.iter().flatten().collect::<Vec<_>>()))
        };
        Self {
            subsets: subsets.iter().zip(measured).map(subset).collect(),
            by_foreground: ByForeground {
                small: share(0.0, 0.05),
                medium: share(0.05, 0.15),
                large: share(0.15, f64::INFINITY),
            },
            all: summary(&all),
        }
    }

    /// The subsets by name, then all pictures.
    pub fn by_subset(&self) -> impl Iterator<Item = (&str, &T)> {
        self.subsets.iter().map(|(name, of)| (name.as_str(), of)).chain([("all", &self.all)])
    }

    pub fn by_foreground(&self) -> [(&str, &T); 3] {
        let ByForeground { small, medium, large } = &self.by_foreground;
        [("0-5%", small), ("5-15%", medium), ("15-100%", large)]
    }
}

/// The composites that were not measured, their masks having no foreground; an error where that is all of them.
pub fn skipped<M>(subsets: &[Subset], measured: &[Vec<Option<M>>]) -> Result<Vec<String>> {
    let triples = subsets.iter().flat_map(|subset| &subset.triples).zip(measured.iter().flatten());
    let skipped: Vec<String> =
        triples.filter(|(_, m)| m.is_none()).map(|(triple, _)| triple.composite.display().to_string()).collect();
    ensure!(
        skipped.len() < measured.iter().map(Vec::len).sum::<usize>(),
        "no mask has any foreground at this size, so there is nothing to measure"
    );
    Ok(skipped)
}

/// Says which pictures are missing from the figures above; nothing where none are.
pub(super) fn write_skipped(f: &mut fmt::Formatter, skipped: &[String]) -> fmt::Result {
    if !skipped.is_empty() {
        write!(f, "\nnot measured, as their masks have no foreground at this size: {}", skipped.len())?;
        skipped.iter().try_for_each(|picture| write!(f, "\n  {picture}"))?;
    }
    Ok(())
}

/// Means over `images` pictures; no figures where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    pub images: usize,
    pub composite: Option<Metrics>,
    pub harmonized: Option<Metrics>,
}

/// Serializes to the JSON of `harmonize eval --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub model: String,
    /// `256` or `native`.
    pub size: &'static str,
    /// `real` or `composite`.
    pub background: &'static str,
    #[serde(flatten)]
    pub groups: Groups<Scores>,
    /// Composites whose mask has no foreground at this size: they are in no figure.
    pub skipped: Vec<String>,
    /// Mean time of harmonizing a picture: proxy, inference and apply, without reading files and measuring.
    pub seconds_per_image: f64,
}

impl Report {
    /// `measured` as [`super::evaluate`] returned it for `subsets`. An error where no picture could be measured.
    pub fn new(
        model: &str,
        size: Size,
        background: Background,
        subsets: &[Subset],
        measured: &[Vec<Option<Measured>>],
    ) -> Result<Self> {
        let took: Vec<f64> = measured.iter().flatten().flatten().map(|m| m.took.as_secs_f64()).collect();
        Ok(Self {
            model: model.to_owned(),
            size: match size {
                Size::Square256 => "256",
                Size::Native => "native",
            },
            background: background.name(),
            groups: Groups::new(subsets, measured, |m| m.foreground, scores),
            skipped: skipped(subsets, measured)?,
            seconds_per_image: took.iter().sum::<f64>() / took.len() as f64,
        })
    }
}

fn scores(measured: &[&Measured]) -> Scores {
    Scores {
        images: measured.len(),
        composite: Metrics::mean(measured.iter().map(|m| m.composite)),
        harmonized: Metrics::mean(measured.iter().map(|m| m.harmonized)),
    }
}

impl fmt::Display for Report {
    /// A table with two rows a group, composite and harmonized, and the ratio of their fMSE.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "model {}, size {}, background {}", self.model, self.size, self.background)?;
        writeln!(
            f,
            "{:<10} {:>6}  {:<10} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6} {:>11}",
            "", "images", "", "MSE", "fMSE", "PSNR", "fPSNR", "SSIM", "fSSIM", "fMSE ratio"
        )?;
        for (name, scores) in self.groups.by_subset().chain(self.groups.by_foreground()) {
            let (Some(composite), Some(harmonized)) = (scores.composite, scores.harmonized) else { continue };
            write!(f, "{name:<10} {:>6}  {:<10} ", scores.images, "composite")?;
            row(f, &composite)?;
            write!(f, "\n{:<10} {:>6}  {:<10} ", "", "", "harmonized")?;
            row(f, &harmonized)?;
            writeln!(f, " {:>11.3}", harmonized.fmse / composite.fmse)?;
        }
        write!(f, "{:.1} ms a picture", 1000.0 * self.seconds_per_image)?;
        write_skipped(f, &self.skipped)
    }
}

fn row(f: &mut fmt::Formatter, m: &Metrics) -> fmt::Result {
    write!(f, "{:>8.2} {:>8.2} {:>6.2} {:>6.2} {:>6.4} {:>6.4}", m.mse, m.fmse, m.psnr, m.fpsnr, m.ssim, m.fssim)
}
