//! Mean figures with their intervals, a row each way of harmonizing, a column each group of pictures; laid out as DiffHarmony's
//! poster does, as text and as Markdown.

use super::dataset::Subset;
use super::groups::{Groups, skipped};
use super::intervals::Resamples;
use super::metrics::Metrics;
use super::published::PublishedRow;
use super::share::Share;
use super::{Background, Measured};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tables {
    /// How many pictures are in each group.
    pub images: Groups<usize>,
    /// By background (`real`, `composite`); the first row is the untouched composite.
    #[serde(rename = "tables")]
    pub rows: BTreeMap<&'static str, Vec<ReportRow>>,
    /// Composites whose mask has no foreground at this size: they are in no figure.
    pub skipped: Vec<String>,
}

/// One way of harmonizing, or none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportRow {
    pub name: String,
    /// None where a group is empty.
    #[serde(flatten)]
    pub groups: Groups<Option<Figures>>,
}

/// Of the pictures of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    #[serde(flatten)]
    pub mean: Metrics,
    /// What is left of the untouched composites' fMSE.
    #[serde(flatten)]
    pub share: Share,
    pub intervals: Intervals,
}

/// Where 95 % of the means lie when pictures are drawn anew: lower and upper end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Intervals {
    pub psnr: [f64; 2],
    pub mse: [f64; 2],
    pub fmse: [f64; 2],
}

impl Tables {
    /// `measured` as [`super::evaluate`] returned it for `subsets` and `backgrounds`, `names` those of its rows. An error where
    /// no picture could be measured.
    pub fn new(
        names: &[String],
        backgrounds: &[Background],
        subsets: &[Subset],
        measured: &[Vec<Option<Measured>>],
    ) -> Result<Self> {
        let skipped = skipped(subsets, measured)?;
        let groups = Groups::new(subsets, measured, |group| figures(group, names.len(), backgrounds.len()));
        let row = |background: usize, (row, name): (usize, &String)| ReportRow {
            name: name.clone(),
            groups: groups.map(|figures| figures.as_ref().map(|figures| figures[background][row])),
        };
        let table = |background| names.iter().enumerate().map(|named| row(background, named)).collect();
        Ok(Self {
            images: Groups::new(subsets, measured, |group| group.len()),
            rows: backgrounds.iter().enumerate().map(|(i, background)| (background.name(), table(i))).collect(),
            skipped,
        })
    }

    /// The real background's rows come first.
    pub fn by_background(&self) -> impl Iterator<Item = (Background, &[ReportRow])> {
        let rows = |background: Background| Some((background, &self.rows.get(background.name())?[..]));
        Background::ALL.into_iter().filter_map(rows)
    }

    /// By subset, and by the foreground's share: a cell PSNR/MSE/fMSE.
    pub(super) fn poster(&self, rows: &[ReportRow]) -> [Grid; 2] {
        let cell = |figures: &Option<Figures>| {
            let text = |m: Metrics| format!("{:.2}/{:.2}/{:.2}", m.psnr, m.mse, m.fmse);
            figures.map_or_else(|| "-".to_owned(), |figures| text(figures.mean))
        };
        let mut by_subset = Grid::headed(self.images.by_subset().map(head));
        let mut by_share = Grid::headed(self.images.by_foreground().into_iter().map(head));
        for ReportRow { name, groups } in rows {
            by_subset.push(name, groups.by_subset().map(|(_, figures)| cell(figures)));
            by_share.push(name, groups.by_foreground().into_iter().map(|(_, figures)| cell(figures)));
        }
        [by_subset, by_share]
    }

    /// How much of the untouched composite's fMSE each way leaves, by subset: those of `rows`, then those that are published.
    pub(super) fn left(&self, rows: &[ReportRow], published: &[PublishedRow]) -> Grid {
        let mut grid = Grid::headed(self.images.by_subset().map(head));
        let cell = |share: Option<Share>| share.and_then(|share| share.told()).unwrap_or_else(|| "-".to_owned());
        for ReportRow { name, groups } in rows.iter().skip(1) {
            grid.push(name, groups.by_subset().map(|(_, figures)| cell(figures.map(|figures| figures.share))));
        }
        for PublishedRow { name, groups } in published {
            grid.push(name, groups.by_subset().map(|(_, share)| cell(*share)));
        }
        grid
    }

    /// Tables of each background under what `title` says of it.
    pub(super) fn markdown(&self, title: impl Fn(Background) -> String, published: &[PublishedRow]) -> String {
        let mut text = String::new();
        for (background, rows) in self.by_background() {
            let [by_subset, by_share] = self.poster(rows).map(|grid| grid.markdown());
            text += &format!(
                "{}; a cell is PSNR/MSE/fMSE, means over pictures:\n\n{by_subset}\nBy the foreground's share of the \
                 picture:\n\n{by_share}\nHow much of the untouched composite's fMSE is left, with the 95 % bootstrap \
                 interval; what the median picture keeps; how many pictures are made worse:\n\n{}\nMeans over all pictures, with their intervals:\n\n{}\n",
                title(background),
                self.left(rows, published).markdown(),
                means(rows).markdown()
            );
        }
        if !self.skipped.is_empty() {
            let count = self.skipped.len();
            text += &format!("Not measured, as their masks have no foreground at this size: {count}\n\n");
        }
        text
    }

    /// Says which pictures are missing from the figures above; nothing where none are.
    pub(super) fn write_skipped(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if !self.skipped.is_empty() {
            write!(f, "\nnot measured, as their masks have no foreground at this size: {}", self.skipped.len())?;
            self.skipped.iter().try_for_each(|picture| write!(f, "\n  {picture}"))?;
        }
        Ok(())
    }
}

fn head((name, images): (&str, &usize)) -> String {
    format!("{name} ({images})")
}

/// All pictures' figures with their intervals.
pub(super) fn means(rows: &[ReportRow]) -> Grid {
    let mut grid = Grid::headed(["PSNR", "MSE", "fMSE"].map(str::to_owned));
    for ReportRow { name, groups } in rows {
        let Some(Figures { mean, intervals, .. }) = groups.all else { continue };
        let cell = |mean: f64, [low, high]: [f64; 2]| format!("{mean:.2} [{low:.2}, {high:.2}]");
        let Intervals { psnr, mse, fmse, .. } = intervals;
        grid.push(name, [cell(mean.psnr, psnr), cell(mean.mse, mse), cell(mean.fmse, fmse)]);
    }
    grid
}

/// The figures of a group, `[background][row]`; `None` where it is empty.
fn figures(group: &[&Measured], rows: usize, backgrounds: usize) -> Option<Vec<Vec<Figures>>> {
    if group.is_empty() {
        return None;
    }
    // PSNR, MSE and fMSE of each row and background.
    let columns = |measured: &&Measured| -> Vec<f64> {
        measured.rows.iter().flat_map(|row| &row[..backgrounds]).flat_map(|m| [m.psnr, m.mse, m.fmse]).collect()
    };
    let resamples = Resamples::of(&group.iter().map(columns).collect::<Vec<_>>());
    let of = |background: usize, row: usize| {
        let mean = |row: usize| Metrics::mean(group.iter().map(|m| m.rows[row][background]));
        let first = |row: usize| 3 * (row * backgrounds + background);
        let own = first(row);
        let intervals = Intervals {
            psnr: resamples.interval(|means| means[own]),
            mse: resamples.interval(|means| means[own + 1]),
            fmse: resamples.interval(|means| means[own + 2]),
        };
        let share = Share::of(group.iter().map(|m| [m.rows[row][background].fmse, m.rows[0][background].fmse]))?;
        Some(Figures { mean: mean(row)?, share, intervals })
    };
    (0..backgrounds).map(|background| (0..rows).map(|row| of(background, row)).collect()).collect()
}

/// Lines of as many cells each, the first of them heads.
pub(super) struct Grid(Vec<Vec<String>>);

impl Grid {
    /// `heads` stand over the figures; over the names there is nothing.
    fn headed(heads: impl IntoIterator<Item = String>) -> Self {
        Self(vec![[String::new()].into_iter().chain(heads).collect()])
    }

    pub(super) fn from_heads(heads: &[&str]) -> Self {
        Self(vec![heads.iter().map(|&head| head.to_owned()).collect()])
    }

    pub(super) fn push(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        self.0.push([name.to_owned()].into_iter().chain(cells).collect());
    }

    /// Columns, the first `left` of them with their left ends under each other, the others with their right.
    pub(super) fn text(&self, left: usize) -> String {
        let width = |i: usize| self.0.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.0[0].len()).map(width).collect();
        let cell = |(i, cell): (usize, &String)| {
            let width = widths[i];
            if i < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        };
        let line = |line: &Vec<String>| line.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        self.0.iter().map(|cells| line(cells).trim_end().to_owned() + "\n").collect()
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells = cells.iter().map(|cell| format!(" {}", cell.replace('|', "\\|")).trim_end().to_owned() + " |");
            format!("|{}\n", cells.collect::<String>())
        };
        let mut lines: Vec<String> = self.0.iter().map(|cells| line(cells)).collect();
        lines.insert(1, "|".to_owned() + &"---|".repeat(self.0[0].len()) + "\n");
        lines.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_as_text_and_as_markdown() {
        let mut grid = Grid::headed(["HVal (2)".to_owned(), "all".to_owned()]);
        grid.push("a|b", ["1/2".to_owned(), "-".to_owned()]);
        assert_eq!(grid.text(1), "     HVal (2)  all\na|b       1/2    -\n");
        assert_eq!(grid.markdown(), "| | HVal (2) | all |\n|---|---|---|\n| a\\|b | 1/2 | - |\n");
    }
}
