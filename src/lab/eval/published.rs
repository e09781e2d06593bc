//! Figures that others have published of the same pictures: `published.csv` beside a data set's subsets, a line a composite.
//!
//! Its columns are `composite` (the file's name without its ending), `subset`, `untouched_fmse` and, for each method, `METHOD_fmse`.
//! They are at those methods' own size, whatever is measured here: a share of the untouched composite's error can be compared.

use super::Measured;
use super::dataset::Subset;
use super::groups::{Groups, by_picture};
use super::share::Share;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

pub const FILE: &str = "published.csv";

/// fMSE by composite, the untouched one's first, then those of `methods`.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    methods: Vec<String>,
    fmse: BTreeMap<String, Vec<f64>>,
}

/// What one method leaves of the untouched composites' fMSE.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PublishedRow {
    pub name: String,
    /// None where a group has a picture that nothing is published of.
    #[serde(flatten)]
    pub groups: Groups<Option<Share>>,
}

impl Published {
    /// Those of the data set in `root`; `None` where it has no such file.
    pub fn of(root: &Path) -> Result<Option<Self>> {
        let file = root.join(FILE);
        if !file.is_file() {
            return Ok(None);
        }
        let read = || Self::parse(&std::fs::read_to_string(&file)?);
        read().map(Some).with_context(|| file.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let heads: Vec<&str> = lines.next().context("it is empty")?.split(',').map(str::trim).collect();
        ensure!(
            heads.get(..3) == Some(&["composite", "subset", "untouched_fmse"]),
            "its first columns are not composite, subset, untouched_fmse"
        );
        let mut fmse = BTreeMap::new();
        for (number, line) in lines.enumerate() {
            let place = || format!("line {}", number + 2);
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            ensure!(cells.len() == heads.len(), "{}: {} columns, not {}", place(), cells.len(), heads.len());
            let values: Result<Vec<f64>, _> = cells[2..].iter().map(|cell| cell.parse()).collect();
            fmse.insert(cells[0].to_owned(), values.with_context(place)?);
        }
        let name = |head: &&str| head.strip_suffix("_fmse").unwrap_or(head).to_owned();
        Ok(Self { methods: heads[3..].iter().map(name).collect(), fmse })
    }

    /// A row a method, its figures being of the same pictures as those `measured`.
    pub fn rows(&self, subsets: &[Subset], measured: &[Vec<Option<Measured>>]) -> Vec<PublishedRow> {
        let pictures: BTreeMap<*const Measured, &Vec<f64>> = by_picture(subsets, measured)
            .filter_map(|(_, triple, measured)| {
                let name = triple.composite.file_stem()?.to_string_lossy();
                Some((std::ptr::from_ref(measured?), self.fmse.get(name.as_ref())?))
            })
            .collect();
        let row = |(method, name): (usize, &String)| {
            let share = |group: &[&Measured]| {
                let of = |measured: &&Measured| pictures.get(&std::ptr::from_ref(*measured)).copied();
                let all: Vec<_> = group.iter().map(of).collect::<Option<_>>()?;
                Share::of(all.into_iter().map(|fmse| [fmse[method + 1], fmse[0]]))
            };
            PublishedRow { name: format!("{name} (published)"), groups: Groups::new(subsets, measured, share) }
        };
        self.methods.iter().enumerate().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_methods() {
        let text = "composite,subset,untouched_fmse,a_fmse,b_fmse\nx_1_1,S,100.0,50,25.5\n\ny_1_1,S,200.0,20,10\n";
        let published = Published::parse(text).unwrap();
        assert_eq!(published.methods, ["a", "b"]);
        assert_eq!(published.fmse["x_1_1"], [100.0, 50.0, 25.5]);
        let error = |text: &str| format!("{:#}", Published::parse(text).unwrap_err());
        assert!(error("").contains("empty"));
        assert!(error("picture,fmse\n").contains("first columns"));
        assert!(error("composite,subset,untouched_fmse\na,S,1\nb,S\n").contains("line 3: 2 columns, not 3"));
        assert!(error("composite,subset,untouched_fmse\na,S,x\n").contains("line 2"));
    }
}
