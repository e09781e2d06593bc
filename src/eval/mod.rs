//! How well a harmonizer does on pictures whose truth is known: data sets, metrics, and the report of a run.
//!
//! [`evaluate`] measures whatever function it is given, [`reference`] whatever stages, [`temporal`] films.

pub mod baselines;
pub mod dataset;
pub mod diffharmony;
pub mod film;
pub mod grid;
mod lab;
pub mod metrics;
pub mod reference;
pub mod reference_report;
pub mod report;
mod scale;
pub mod still;
pub mod temporal;

use anyhow::{Context, Result, ensure};
use image::{GrayImage, RgbImage};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dataset::{Subset, Triple};
use metrics::Metrics;
pub use reference_report::ReferenceReport;
pub use report::Report;
use scale::{square, square_mask};

/// The size at which pictures are harmonized and measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 256 x 256 whatever the aspect, as every published figure on iHarmony4.
    Square256,
    /// As the file has it.
    Native,
}

/// Which background is measured: composites are JPEGs, so theirs differs from the real one by compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// The real picture's is pasted first, as DiffHarmony does: no error counts outside the foreground.
    Real,
    /// The composite's stays.
    Composite,
}

impl Background {
    pub const ALL: [Self; 2] = [Self::Real, Self::Composite];

    pub fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Composite => "composite",
        }
    }
}

/// What became of one picture.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Foreground pixels over all pixels, 0..=1.
    pub foreground: f64,
    pub composite: Metrics,
    pub harmonized: Metrics,
    /// Time spent in the harmonizing function.
    pub took: Duration,
}

/// Measures `harmonize` (composite and mask of the same size in, picture of that size out) on every picture of `subsets`, on
/// `jobs` threads; `on_done` is called after each picture. The result does not depend on `jobs`. Ends at the first failure.
/// A picture whose mask has no foreground at this size can't be measured and is `None`.
pub fn evaluate(
    subsets: &[Subset],
    size: Size,
    background: Background,
    jobs: usize,
    harmonize: impl Fn(&RgbImage, &GrayImage) -> Result<RgbImage> + Sync,
    on_done: impl Fn() + Sync,
) -> Result<Vec<Vec<Option<Measured>>>> {
    each(subsets, jobs, |triple| measure(triple, size, background, &harmonize), on_done)
}

/// What `work` says of every picture of `subsets`, on `jobs` threads. A failure names its picture.
fn each<T: Clone + Send>(
    subsets: &[Subset],
    jobs: usize,
    work: impl Fn(&Triple) -> Result<T> + Sync,
    on_done: impl Fn() + Sync,
) -> Result<Vec<Vec<T>>> {
    let triples: Vec<&Triple> = subsets.iter().flat_map(|subset| &subset.triples).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new(vec![None; triples.len()]);
    let worker = || -> Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(triple) = triples.get(index) else { break };
            let result = work(triple)
                .with_context(|| triple.composite.display().to_string())
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            if let Ok(mut results) = results.lock() {
                results[index] = Some(result);
            }
            on_done();
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let mut results = results.into_inner().unwrap_or_default().into_iter().flatten();
    Ok(subsets.iter().map(|subset| results.by_ref().take(subset.triples.len()).collect()).collect())
}

fn measure(
    triple: &Triple,
    size: Size,
    background: Background,
    harmonize: impl Fn(&RgbImage, &GrayImage) -> Result<RgbImage>,
) -> Result<Option<Measured>> {
    let composite = rgb(&triple.composite, size)?;
    let real = rgb(&triple.real, size)?;
    let mask = binary_mask(&triple.mask, size)?;
    ensure!(
        composite.dimensions() == real.dimensions() && composite.dimensions() == mask.dimensions(),
        "composite, mask and real picture differ in size ({:?}, {:?}, {:?})",
        composite.dimensions(),
        mask.dimensions(),
        real.dimensions()
    );
    let Some((foreground, share)) = foreground(&mask) else { return Ok(None) };
    let start = Instant::now();
    let mut harmonized = harmonize(&composite, &mask)?;
    let took = start.elapsed();
    ensure!(
        harmonized.dimensions() == composite.dimensions(),
        "the harmonizer returned a picture of another size ({:?})",
        harmonized.dimensions()
    );

    let mut composite = composite;
    if background == Background::Real {
        paste_background(&mut composite, &real, &foreground);
        paste_background(&mut harmonized, &real, &foreground);
    }
    Ok(Some(Measured {
        foreground: share,
        composite: metrics::measure(&composite, &real, &foreground),
        harmonized: metrics::measure(&harmonized, &real, &foreground),
        took,
    }))
}

/// Where a binary mask has foreground, and the share of it; `None` where there is none at all.
fn foreground(mask: &GrayImage) -> Option<(Vec<bool>, f64)> {
    let foreground: Vec<bool> = mask.iter().map(|&m| m != 0).collect();
    let count = foreground.iter().filter(|&&m| m).count();
    let share = count as f64 / foreground.len() as f64;
    (count > 0).then_some((foreground, share))
}

fn paste_background(picture: &mut RgbImage, background: &RgbImage, foreground: &[bool]) {
    for ((pixel, background), &inside) in picture.pixels_mut().zip(background.pixels()).zip(foreground) {
        if !inside {
            *pixel = *background;
        }
    }
}

fn rgb(path: &Path, size: Size) -> Result<RgbImage> {
    let picture = still::open(path)?.into_rgb8();
    Ok(match size {
        Size::Square256 => square(&picture, 256),
        Size::Native => picture,
    })
}

fn binary_mask(path: &Path, size: Size) -> Result<GrayImage> {
    let mask = binary(path)?;
    Ok(match size {
        Size::Square256 => square_mask(&mask, 256),
        Size::Native => mask,
    })
}

/// 255 where the file has 128 or more, else 0.
fn binary(path: &Path) -> Result<GrayImage> {
    let mut mask = still::open(path)?.into_luma8();
    mask.iter_mut().for_each(|m| *m = if *m >= 128 { 255 } else { 0 });
    Ok(mask)
}
