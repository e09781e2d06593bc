//! `harmonize eval --video FOLDER`: every film of a folder, and what is left of each composite's error.

use super::video::{self, FilmArgs};
use crate::options::{ModelArgs, TemporalArgs};
use anyhow::{Context, Result, ensure};
use gstharmonize::lab::eval::temporal::{Report, VideoRow};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// By the films' names.
#[derive(Serialize)]
pub struct Films(BTreeMap<String, Report>);

pub fn run(folder: &Path, args: &FilmArgs, model: &ModelArgs, temporal: &TemporalArgs) -> Result<Films> {
    let films = films(folder)?;
    ensure!(
        !films.is_empty(),
        "{}: no folder in it holds composite, mask and real, each a film or a folder of frames",
        folder.display()
    );
    let measure = |(name, [composite, mask, real]): (String, [PathBuf; 3])| {
        let report = video::run(&args.of([composite, mask, real]), model, temporal).with_context(|| name.clone())?;
        Ok((name, report))
    };
    Ok(Films(films.into_iter().map(measure).collect::<Result<_>>()?))
}

/// Composite, mask and real of each folder that holds all three, by its name.
fn films(folder: &Path) -> Result<Vec<(String, [PathBuf; 3])>> {
    let within = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = folder.read_dir().and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut paths: Vec<PathBuf> = entries.with_context(|| format!("can't read {}", folder.display()))?;
        paths.sort();
        Ok(paths)
    };
    let mut films = Vec::new();
    for film in within(folder)?.into_iter().filter(|path| path.is_dir()) {
        let paths = within(&film)?;
        let find = |stem: &str| paths.iter().find(|path| path.file_stem().is_some_and(|found| found == stem)).cloned();
        if let (Some(composite), Some(mask), Some(real)) = (find("composite"), find("mask"), find("real")) {
            let name = film.file_name().unwrap_or_default().to_string_lossy().into_owned();
            films.push((name, [composite, mask, real]));
        }
    }
    Ok(films)
}

impl fmt::Display for Films {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (name, report) in &self.0 {
            writeln!(f, "{name}: {report}\n")?;
        }
        write!(f, "{:<20} {:>6} {:>10} {:>10} {:>6}", "", "frames", "composite", "harmonize", "left")?;
        for (name, report) in &self.0 {
            let fmse = |way: &str| report.rows.iter().find(|row: &&VideoRow| row.name == way)?.fmse;
            let (Some(untouched), Some(own)) = (fmse("composite"), fmse("harmonize")) else { continue };
            write!(f, "\n{name:<20} {:>6} {untouched:>10.2} {own:>10.2} {:>6.3}", report.frames, own / untouched)?;
        }
        Ok(())
    }
}
