//! The tables of a reference evaluation.

use super::dataset::Subset;
use super::tables::Tables;
use super::{Background, Measured, reference};
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
    #[serde(flatten)]
    pub tables: Tables,
    /// Mean time of the model's stages for a picture at each working size, all decoders and refinement in it.
    pub seconds_per_image: BTreeMap<u32, f64>,
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
        let tables = Tables::new(rows, &Background::ALL, subsets, measured)?;
        let all: Vec<&Measured> = measured.iter().flatten().flatten().collect();
        let seconds = |index: usize| all.iter().map(|m| m.took[index].as_secs_f64()).sum::<f64>() / all.len() as f64;
        Ok(Self {
            model: model.to_owned(),
            seed,
            size: reference::SIDE,
            tables,
            seconds_per_image: sizes.iter().enumerate().map(|(i, &size)| (size, seconds(i))).collect(),
        })
    }

    pub fn markdown(&self) -> String {
        let text = self.tables.markdown(|background| self.title(background), &[]);
        text.trim_end().to_owned() + "\n"
    }

    fn title(&self, background: Background) -> String {
        let Self { model, seed, size, .. } = self;
        format!("model {model}, seed {seed}, at {size}x{size}, {} background pasted", background.name())
    }
}

impl fmt::Display for ReferenceReport {
    /// For each background a table by subset and one by the foreground's share, a cell PSNR/MSE/fMSE.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (background, rows) in self.tables.by_background() {
            let [by_subset, by_share] = self.tables.poster(rows).map(|grid| grid.text(1));
            writeln!(f, "{}, PSNR/MSE/fMSE\n{by_subset}\n{by_share}", self.title(background))?;
        }
        let seconds = self.seconds_per_image.iter().map(|(size, s)| format!("{s:.2} s a picture at {size}"));
        write!(f, "{}", seconds.collect::<Vec<_>>().join(", "))?;
        self.tables.write_skipped(f)
    }
}
