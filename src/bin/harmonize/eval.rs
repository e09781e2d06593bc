//! `harmonize eval`: how close a model comes to the truth on a data set.

use crate::model::{self, ModelArgs};
use anyhow::{Context, Result};
use clap::ValueEnum;
use gstharmonize::eval::{self, Background, Report, Size, dataset, still};
use std::path::PathBuf;

/// Measure a model on pictures whose truth is known
///
/// DATASET is a folder in iHarmony4's layout (composite_images/ID_LABEL_N.jpg, masks/ID_LABEL.png, real_images/ID.jpg and
/// the list NAME_test.txt), or the parent of several. MSE, PSNR and SSIM are of whole pictures, fMSE, fPSNR and fSSIM of the
/// foreground; each is taken per picture on 8-bit RGB and averaged.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  harmonize eval iHarmony4
  harmonize eval iHarmony4/HCOCO --size native --json hcoco.json
You should see a table with two rows a subset, the untouched composite's and the harmonized picture's. fMSE ratio is the
second's fMSE over the first's: 1 changes nothing, 0 is perfect. The rows 0-5%, 5-15% and 15-100% group all pictures by
their foreground's share. Published tables are at --size 256; whether they paste the real background differs.")]
pub struct Args {
    dataset: PathBuf,

    /// 256: pictures are scaled to 256x256 (bilinear, antialiased; masks nearest), harmonized and measured so.
    /// native: both at the files' own size
    #[arg(long, value_enum, default_value = "256")]
    size: SizeArg,

    /// real: the real background is pasted first, as DiffHarmony does. composite: the composite's, a JPEG's, is measured
    #[arg(long, value_enum, default_value = "real")]
    background: BackgroundArg,

    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Pictures in work at the same time [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum SizeArg {
    #[value(name = "256")]
    Square256,
    Native,
}

#[derive(Clone, Copy, ValueEnum)]
enum BackgroundArg {
    Real,
    Composite,
}

pub fn run(args: &Args) -> Result<()> {
    let size = match args.size {
        SizeArg::Square256 => Size::Square256,
        SizeArg::Native => Size::Native,
    };
    let background = match args.background {
        BackgroundArg::Real => Background::Real,
        BackgroundArg::Composite => Background::Composite,
    };
    let subsets = dataset::subsets(&args.dataset)?;
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let engine = args.model.load(jobs)?;
    let settings = args.model.settings();

    let bar = model::progress(subsets.iter().map(|subset| subset.triples.len() as u64).sum(), "harmonizing");
    let measured = eval::evaluate(
        &subsets,
        size,
        background,
        jobs,
        |composite, mask| still::harmonize(&engine, composite, mask, settings),
        || bar.inc(1),
    );
    bar.finish_and_clear();

    let report = Report::new(&args.model.model, size, background, &subsets, &measured?)?;
    println!("{report}");
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}
