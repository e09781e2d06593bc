//! The tables of a reference evaluation, laid out as DiffHarmony's: a row each way of harmonizing, a column each group of
//! pictures.

use super::dataset::Subset;
use super::metrics::Metrics;
use super::reference::Measured;
use super::report::{Groups, skipped, write_skipped};
use super::{Background, reference};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Serializes to the JSON of `harmonize eval --reference --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReferenceReport {
    pub model: String,
    pub seed: u64,
    /// Side of the squares that were measured.
    pub size: u32,
    /// How many pictures are in each group.
    pub images: Groups<usize>,
    /// By background (`real`, `composite`), then by row.
    pub tables: BTreeMap<&'static str, Vec<Row>>,
    /// Composites whose mask has no foreground at this size: they are in no figure.
    pub skipped: Vec<String>,
    /// Mean time of the model's stages for a picture at each working size, all decoders and refinement in it.
    pub seconds_per_image: BTreeMap<u32, f64>,
}

/// One way of harmonizing, or none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    /// Means over pictures; none where a group is empty.
    #[serde(flatten)]
    pub groups: Groups<Option<Metrics>>,
}

impl ReferenceReport {
    /// `measured` as [`reference::evaluate`] returned it for `subsets` at `sizes`, `rows` as [`reference::rows`] names them.
    /// An error where no picture could be measured.
    pub fn new(
        model: &str,
        seed: u64,
        sizes: &[u32],
        rows: &[String],
        subsets: &[Subset],
        measured: &[Vec<Option<Measured>>],
    ) -> Result<Self> {
        let skipped = skipped(subsets, measured)?;
        let table = |background: usize| {
            let row = |(index, name): (usize, &String)| Row {
                name: name.clone(),
                groups: Groups::new(
                    subsets,
                    measured,
                    |m| m.foreground,
                    |group| Metrics::mean(group.iter().map(|m| m.rows[index][background])),
                ),
            };
            rows.iter().enumerate().map(row).collect()
        };
        let all: Vec<&Measured> = measured.iter().flatten().flatten().collect();
        let seconds = |index: usize| all.iter().map(|m| m.took[index].as_secs_f64()).sum::<f64>() / all.len() as f64;
        Ok(Self {
            model: model.to_owned(),
            seed,
            size: reference::SIDE,
            images: Groups::new(subsets, measured, |m| m.foreground, |group| group.len()),
            tables: Background::ALL.iter().enumerate().map(|(i, b)| (b.name(), table(i))).collect(),
            skipped,
            seconds_per_image: sizes.iter().enumerate().map(|(i, &size)| (size, seconds(i))).collect(),
        })
    }

    /// Names and counts over the columns that `pick` chooses, then every row's figures.
    fn write_columns(
        &self,
        f: &mut fmt::Formatter,
        rows: &[Row],
        pick: impl Fn(&Groups<Option<Metrics>>) -> Vec<Option<Metrics>>,
        heads: Vec<String>,
    ) -> fmt::Result {
        let figures = |m: &Option<Metrics>| {
            m.map_or_else(|| "-".to_owned(), |m| format!("{:.2}/{:.2}/{:.2}", m.psnr, m.mse, m.fmse))
        };
        let mut lines = vec![[vec![String::new()], heads].concat()];
        for row in rows {
            let cells = pick(&row.groups);
            lines.push([row.name.clone()].into_iter().chain(cells.iter().map(figures)).collect());
        }
        let columns = lines[0].len();
        let widths: Vec<usize> =
            (0..columns).map(|i| lines.iter().map(|line| line[i].len()).max().unwrap_or(0)).collect();
        for line in &lines {
            write!(f, "\n{:<width$}", line[0], width = widths[0])?;
            for (cell, &width) in line.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
        }
        writeln!(f)
    }
}

impl fmt::Display for ReferenceReport {
    /// For each background a table by subset and one by the foreground's share, a cell PSNR/MSE/fMSE.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let head = |(name, images): (&str, &usize)| format!("{name} ({images})");
        for background in Background::ALL {
            let Some(rows) = self.tables.get(background.name()) else { continue };
            write!(
                f,
                "model {}, seed {}, at {2}x{2}, {3} background pasted, PSNR/MSE/fMSE",
                self.model,
                self.seed,
                self.size,
                background.name()
            )?;
            let by_subset = |groups: &Groups<Option<Metrics>>| groups.by_subset().map(|(_, m)| *m).collect();
            self.write_columns(f, rows, by_subset, self.images.by_subset().map(head).collect())?;
            let by_share = |groups: &Groups<Option<Metrics>>| groups.by_foreground().map(|(_, m)| *m).into();
            self.write_columns(f, rows, by_share, self.images.by_foreground().map(head).into())?;
            writeln!(f)?;
        }
        let seconds = self.seconds_per_image.iter().map(|(size, s)| format!("{s:.2} s a picture at {size}"));
        write!(f, "{}", seconds.collect::<Vec<_>>().join(", "))?;
        write_skipped(f, &self.skipped)
    }
}
