//! How well a harmonizer does on pictures whose truth is known: data sets, metrics, and the report of a run.
//!
//! [`evaluate`] measures whatever methods it is given, all on the same pictures, [`reference`] whatever stages, [`temporal`] films.

pub mod baselines;
pub mod dataset;
pub mod diffharmony;
pub mod grid;
pub mod groups;
pub mod intervals;
mod lab;
pub mod metrics;
pub mod order;
pub mod published;
pub mod reference;
pub mod reference_report;
pub mod report;
mod scale;
pub mod share;
pub mod tables;
pub mod temporal;

use crate::pictures;
use anyhow::{Context, Result, ensure};
use image::{GrayImage, RgbImage};
use std::borrow::Cow;
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

impl Size {
    pub fn name(self) -> &'static str {
        match self {
            Self::Square256 => "256",
            Self::Native => "native",
        }
    }
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

    /// `picture` as it is measured.
    fn under<'a>(self, picture: &'a RgbImage, sample: &EvalSample) -> Cow<'a, RgbImage> {
        match self {
            Self::Real => {
                let mut pasted = picture.clone();
                paste_background(&mut pasted, &sample.real, sample.mask.iter().map(|&m| m != 0));
                Cow::Owned(pasted)
            }
            Self::Composite => Cow::Borrowed(picture),
        }
    }
}

/// The pictures of a triple, of one size.
#[derive(Clone, Debug)]
pub struct EvalSample {
    pub composite: RgbImage,
    /// 255 on the foreground, else 0.
    pub mask: GrayImage,
    pub real: RgbImage,
}

impl EvalSample {
    fn open(triple: &Triple, size: Size) -> Result<Self> {
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
        Ok(Self { composite, mask, real })
    }
}

type Harmonize<'a> = dyn Fn(&EvalSample) -> Result<RgbImage> + Sync + 'a;

/// A way of harmonizing, and the name that its figures go by.
pub struct Method<'a> {
    pub name: String,
    harmonize: Box<Harmonize<'a>>,
}

impl<'a> Method<'a> {
    /// `harmonize` answers with a picture of the composite's size; the real picture is for those that are measured as a limit.
    pub fn new(name: impl Into<String>, harmonize: impl Fn(&EvalSample) -> Result<RgbImage> + Sync + 'a) -> Self {
        Self { name: name.into(), harmonize: Box::new(harmonize) }
    }

    fn run(&self, sample: &EvalSample) -> Result<RgbImage> {
        let harmonized = (self.harmonize)(sample).with_context(|| self.name.clone())?;
        ensure!(
            harmonized.dimensions() == sample.composite.dimensions(),
            "{} returned a picture of another size ({:?})",
            self.name,
            harmonized.dimensions()
        );
        Ok(harmonized)
    }
}

/// What became of one picture.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Foreground pixels over all pixels, 0..=1.
    pub foreground: f64,
    /// One entry for each row of the tables, the untouched composite first, with an entry for each background.
    pub rows: Vec<Vec<Metrics>>,
    /// Time spent harmonizing, for each method (here) or working size ([`reference`]).
    pub took: Vec<Duration>,
}

impl Measured {
    /// What is left of the untouched composite's fMSE in row `row`, with the first background.
    pub fn fmse_ratio(&self, row: usize) -> f64 {
        self.rows[row][0].fmse / self.rows[0][0].fmse
    }
}

/// Measures `methods` on every picture of `subsets`, with each of `backgrounds`, on `jobs` threads; `on_done` is called after
/// each picture. The result does not depend on `jobs`. Ends at the first failure. A picture whose mask has no foreground at this
/// size can't be measured and is `None`.
pub fn evaluate(
    subsets: &[Subset],
    methods: &[Method],
    size: Size,
    backgrounds: &[Background],
    jobs: usize,
    on_done: impl Fn() + Sync,
) -> Result<Vec<Vec<Option<Measured>>>> {
    each(subsets, jobs, |triple| measure(triple, methods, size, backgrounds), on_done)
}

/// The pictures that [`evaluate`] measures of one triple: the untouched composite, then what each of `methods` makes of it.
pub fn pictures(
    triple: &Triple,
    methods: &[Method],
    size: Size,
    background: Background,
) -> Result<(EvalSample, Vec<RgbImage>)> {
    let open = || -> Result<_> {
        let sample = EvalSample::open(triple, size)?;
        let harmonized = methods.iter().map(|method| method.run(&sample)).collect::<Result<Vec<_>>>()?;
        let all = [vec![sample.composite.clone()], harmonized].concat();
        let pasted = all.iter().map(|picture| background.under(picture, &sample).into_owned()).collect();
        Ok((sample, pasted))
    };
    open().with_context(|| triple.composite.display().to_string())
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

fn measure(triple: &Triple, methods: &[Method], size: Size, backgrounds: &[Background]) -> Result<Option<Measured>> {
    let sample = EvalSample::open(triple, size)?;
    let Some((foreground, share)) = foreground(&sample.mask) else { return Ok(None) };
    let figures = |picture: &RgbImage| {
        let measured =
            |background: &Background| metrics::measure(&background.under(picture, &sample), &sample.real, &foreground);
        backgrounds.iter().map(measured).collect()
    };
    let mut rows: Vec<Vec<Metrics>> = vec![figures(&sample.composite)];
    let mut took = Vec::with_capacity(methods.len());
    for method in methods {
        let start = Instant::now();
        let harmonized = method.run(&sample)?;
        took.push(start.elapsed());
        rows.push(figures(&harmonized));
    }
    Ok(Some(Measured { foreground: share, rows, took }))
}

/// Where a binary mask has foreground, and the share of it; `None` where there is none at all.
fn foreground(mask: &GrayImage) -> Option<(Vec<bool>, f64)> {
    let foreground: Vec<bool> = mask.iter().map(|&m| m != 0).collect();
    let count = foreground.iter().filter(|&&m| m).count();
    let share = count as f64 / foreground.len() as f64;
    (count > 0).then_some((foreground, share))
}

fn paste_background(picture: &mut RgbImage, background: &RgbImage, foreground: impl Iterator<Item = bool>) {
    for ((pixel, background), inside) in picture.pixels_mut().zip(background.pixels()).zip(foreground) {
        if !inside {
            *pixel = *background;
        }
    }
}

fn rgb(path: &Path, size: Size) -> Result<RgbImage> {
    let picture = pictures::open(path)?.into_rgb8();
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
    let mut mask = pictures::open(path)?.into_luma8();
    mask.iter_mut().for_each(|m| *m = if *m >= 128 { 255 } else { 0 });
    Ok(mask)
}
