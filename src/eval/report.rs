//! What an evaluation says: mean figures a subset, over all pictures, and by the foreground's share of the picture.

use super::dataset::Subset;
use super::metrics::Metrics;
use super::{Background, Measured, Size};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

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
    pub subsets: BTreeMap<String, Scores>,
    /// Every picture counts once, whatever its subset.
    pub all: Scores,
    pub by_foreground: ByForeground,
    /// Mean time of harmonizing a picture: proxy, inference and apply, without reading files and measuring.
    pub seconds_per_image: f64,
}

/// Buckets of iHarmony4's papers, lower bound included.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByForeground {
    #[serde(rename = "0-5%")]
    pub small: Scores,
    #[serde(rename = "5-15%")]
    pub medium: Scores,
    #[serde(rename = "15-100%")]
    pub large: Scores,
}

impl Report {
    /// `measured` as [`super::evaluate`] returned it for `subsets`.
    pub fn new(
        model: &str,
        size: Size,
        background: Background,
        subsets: &[Subset],
        measured: &[Vec<Measured>],
    ) -> Self {
        let all: Vec<&Measured> = measured.iter().flatten().collect();
        let share = |low: f64, high: f64| scores(all.iter().copied().filter(|m| (low..high).contains(&m.foreground)));
        let seconds: f64 = all.iter().map(|m| m.took.as_secs_f64()).sum();
        Self {
            model: model.to_owned(),
            size: match size {
                Size::Square256 => "256",
                Size::Native => "native",
            },
            background: match background {
                Background::Real => "real",
                Background::Composite => "composite",
            },
            subsets: subsets.iter().zip(measured).map(|(subset, m)| (subset.name.clone(), scores(m.iter()))).collect(),
            all: scores(all.iter().copied()),
            by_foreground: ByForeground {
                small: share(0.0, 0.05),
                medium: share(0.05, 0.15),
                large: share(0.15, f64::INFINITY),
            },
            seconds_per_image: seconds / all.len().max(1) as f64,
        }
    }
}

fn scores<'a>(measured: impl Iterator<Item = &'a Measured>) -> Scores {
    let measured: Vec<&Measured> = measured.collect();
    Scores {
        images: measured.len(),
        composite: Metrics::mean(measured.iter().map(|m| m.composite)),
        harmonized: Metrics::mean(measured.iter().map(|m| m.harmonized)),
    }
}

impl fmt::Display for Report {
    /// A table with two rows a group, composite and harmonized, and the ratio of their fMSE.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let buckets = &self.by_foreground;
        let shares = [("0-5%", &buckets.small), ("5-15%", &buckets.medium), ("15-100%", &buckets.large)];
        let groups = self.subsets.iter().map(|(name, scores)| (name.as_str(), scores));
        let groups = groups.chain([("all", &self.all)]).chain(shares);

        writeln!(f, "model {}, size {}, background {}", self.model, self.size, self.background)?;
        writeln!(
            f,
            "{:<10} {:>6}  {:<10} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6} {:>11}",
            "", "images", "", "MSE", "fMSE", "PSNR", "fPSNR", "SSIM", "fSSIM", "fMSE ratio"
        )?;
        for (name, scores) in groups {
            let (Some(composite), Some(harmonized)) = (scores.composite, scores.harmonized) else { continue };
            write!(f, "{name:<10} {:>6}  {:<10} ", scores.images, "composite")?;
            row(f, &composite)?;
            write!(f, "\n{:<10} {:>6}  {:<10} ", "", "", "harmonized")?;
            row(f, &harmonized)?;
            writeln!(f, " {:>11.3}", harmonized.fmse / composite.fmse)?;
        }
        write!(f, "{:.1} ms a picture", 1000.0 * self.seconds_per_image)
    }
}

fn row(f: &mut fmt::Formatter, m: &Metrics) -> fmt::Result {
    write!(f, "{:>8.2} {:>8.2} {:>6.2} {:>6.2} {:>6.4} {:>6.4}", m.mse, m.fmse, m.psnr, m.fpsnr, m.ssim, m.fssim)
}
