//! The groups of pictures that papers report: subsets, all, and buckets of the foreground's share of the picture.

use super::Measured;
use super::dataset::{Subset, Triple};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;

/// Something of each group.
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
    /// `summary` of each group of what was `measured` of the pictures of `subsets`.
    pub fn new(subsets: &[Subset], measured: &[Vec<Option<Measured>>], summary: impl Fn(&[&Measured]) -> T) -> Self {
        let all: Vec<&Measured> = measured.iter().flatten().flatten().collect();
        let share = |low: f64, high: f64| {
            let within: Vec<&Measured> = all.iter().copied().filter(|m| (low..high).contains(&m.foreground)).collect();
            summary(&within)
        };
        let subset = |(subset, measured): (&Subset, &Vec<Option<Measured>>)| {
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

    /// What `f` makes of each group's.
    pub fn map<U>(&self, f: impl Fn(&T) -> U) -> Groups<U> {
        let ByForeground { small, medium, large } = &self.by_foreground;
        Groups {
            subsets: self.subsets.iter().map(|(name, of)| (name.clone(), f(of))).collect(),
            all: f(&self.all),
            by_foreground: ByForeground { small: f(small), medium: f(medium), large: f(large) },
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

/// Every picture with its subset and triple, and what was `measured` of it.
pub fn by_picture<'a>(
    subsets: &'a [Subset],
    measured: &'a [Vec<Option<Measured>>],
) -> impl Iterator<Item = (&'a Subset, &'a Triple, Option<&'a Measured>)> {
    let triples = subsets.iter().flat_map(|subset| subset.triples.iter().map(move |triple| (subset, triple)));
    triples.zip(measured.iter().flatten()).map(|((subset, triple), measured)| (subset, triple, measured.as_ref()))
}

/// The composites that were not measured, their masks having no foreground; an error where that is all of them.
pub fn skipped(subsets: &[Subset], measured: &[Vec<Option<Measured>>]) -> Result<Vec<String>> {
    let missing = by_picture(subsets, measured).filter(|(_, _, measured)| measured.is_none());
    let skipped: Vec<String> = missing.map(|(_, triple, _)| triple.composite.display().to_string()).collect();
    ensure!(
        skipped.len() < measured.iter().map(Vec::len).sum::<usize>(),
        "no mask has any foreground at this size, so there is nothing to measure"
    );
    Ok(skipped)
}
