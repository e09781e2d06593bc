//! `harmonize eval`: how close models come to the truth on a data set, or one on a film, and how steady that is.

mod films;
mod frames;
mod plot;
mod sheet;
mod strip;
mod video;
mod video_methods;

use crate::options::{self, ModelsArgs, TemporalArgs};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use gstharmonize::engine::Engine;
use gstharmonize::lab::eval::baselines::Baseline;
use gstharmonize::lab::eval::dataset::{self, Subset};
use gstharmonize::lab::eval::diffharmony;
use gstharmonize::lab::eval::published::Published;
use gstharmonize::lab::eval::{self, Background, Method, ReferenceReport, Report, Size, reference};
use gstharmonize::pictures;
use indicatif::ProgressBar;
use serde::Serialize;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Measure models on pictures whose truth is known, or one on a film
///
/// DATASET is a folder in iHarmony4's layout (composite_images/ID_LABEL_N.jpg, masks/ID_LABEL.png, real_images/ID.jpg and
/// the list NAME_test.txt), or the parent of several; there, a list test.jsonl as DiffHarmony's scripts read it (an object a
/// line, "file_name": "HCOCO/composite_images/c1_1_1.jpg") is taken before the others. MSE, PSNR and SSIM are of whole
/// pictures, fMSE, fPSNR and fSSIM of the foreground; each is taken per picture on 8-bit RGB and averaged. A picture whose
/// mask has no foreground at the size that is measured is in no figure, and named at the end. Where DATASET holds a table
/// published.csv (composite,subset,untouched_fmse,METHOD_fmse,...), what others have published of these pictures stands beside it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[arg(required_unless_present = "video")]
    dataset: Option<PathBuf>,

    /// 256: pictures are scaled to 256x256 (bilinear, antialiased; masks nearest), harmonized and measured so.
    /// native: both at the files' own size
    #[arg(long, value_enum, default_value = "256")]
    size: SizeArg,

    /// real: the real background is pasted first, as DiffHarmony does. composite: the composite's, a JPEG's, is measured.
    /// both: a table for each
    #[arg(long, value_enum, default_value = "real")]
    background: BackgroundArg,

    /// Give the models the real pictures in the composites' place: foregrounds that fit already, so whatever changes is an error
    #[arg(long, conflicts_with_all = ["reference", "sheet"])]
    fitting: bool,

    /// Also measure every baseline: corrections without a model, from the background's statistics, and best-affine
    #[arg(long)]
    baselines: bool,

    /// Also measure this baseline; give it again for another
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',', conflicts_with = "baselines")]
    baseline: Vec<Baseline>,

    /// DiffHarmony's published evaluation at this working size, 512 or 1024 (or another multiple of 64): the square original
    /// pipeline, scaled to 256x256, refined, measured with either background. Give it again for another size
    #[arg(long, value_name = "PIXELS", value_parser = working_size)]
    #[arg(conflicts_with_all = ["size", "background", "sampler", "strength", "proxy_size"])]
    #[arg(conflicts_with_all = ["baselines", "baseline", "sheet"])]
    reference: Vec<u32>,

    /// Also write the figures as JSON, those of every picture among them
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Also write tables to paste, in the layout of DiffHarmony's poster: by subset and by the foreground's share, a cell
    /// PSNR/MSE/fMSE; how much fMSE each method leaves; the means' intervals
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Also draw the pictures that the first model does best, as usual and worst on by their fMSE ratio, three each:
    /// composite, mask, each method's result and the real picture
    #[arg(long, value_name = "FILE.png", value_parser = options::png)]
    sheet: Option<PathBuf>,

    /// Pictures in work at the same time [default: one a core; with --reference 1, for the
    /// memory that each takes]. On a CPU each keeps one core busy
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    #[command(flatten)]
    film: video::FilmArgs,

    #[command(flatten)]
    models: ModelsArgs,

    #[command(flatten)]
    temporal: TemporalArgs,
}

const EXAMPLES: &str = "\
Examples:
  harmonize eval iHarmony4
  harmonize eval iHarmony4/HCOCO --size native --json hcoco.json
You should see a table with two rows a subset, the untouched composite's and the model's. fMSE ratio is the second's fMSE
over the first's: 1 changes nothing, 0 is perfect; median is that of the pictures' own ratios, worse how many pictures are further
off than untouched. The rows 0-5%, 5-15% and 15-100% group all pictures by their foreground's
share. In [] is where 95 % of the means lie when as many pictures are drawn anew from these, 2000 times (bootstrap); a model
and the composite see the same draws. Published tables are at --size 256; whether they paste the real background differs.

Models beside each other and beside what needs none, as tables to paste and as a sheet to look at:
  harmonize eval iHarmony4 --model compact --model out/train --baselines --markdown tables.md --sheet sheet.png
You should see, in tables.md, two tables like DiffHarmony's poster, a row a method, then one of what is left of the composites'
fMSE and one of the means' intervals. Baselines: reinhard, mkl and histogram give the foreground the background's statistics,
and most often do worse than untouched; best-affine knows the real picture, and is what one colour map a picture can reach.
In sheet.png, the model's three best, median and worst pictures from top to bottom, fMSE under each picture.

How far a model changes foregrounds that fit already:
  harmonize eval iHarmony4 --fitting
You should see the untouched pictures without error and the model's fMSE: lower is better, 0 leaves all as it is.

A film, or frames in folders, beside what is simpler, and beside the truth where it is known:
  harmonize eval --video --composite composite.mp4 --mask mask.mp4 --real real.mp4 --plot plot.png --strip strip.png
  harmonize eval --video --composite frames/ --mask masks/ --cuts 48,120 --no-flow
  harmonize eval --video films/ --no-flow
You should see a row for each way of harmonizing: the element's is `harmonize`, in `frame by frame` and `noise per frame` the
model sees each frame alone, with the same noise and with new noise. Lower is steadier:
  E_warp      what is left between two frames when motion is undone (Lai et al. 2018), frame and foreground (fg); samples 0..1
  TL          the same of the foreground at 256x256, as HYouTube and CO2Net measure it, but with this flow and not FlowNet2's
  mapping     how much the colours that the same foreground is given change from frame to frame, mean, in codes of 255
  change      of the correction (out - in) at a place from frame to frame in the foreground, mean, in codes of 255
  FI          flicker index: RMS over time of the second difference of the foreground's mean L*a*b*; ratio to the composite's
A moving film has E_warp, TL and FI of its own: compare with the rows composite and real. fMSE and PSNR are at the film's own
size, its background as it is. At --cuts, recovery 1 says that the first frame has all of the new scene's steady correction, an
old scene's part of 0 that nothing of the old one is left. In strip.png time runs to the right, and flicker shows as
upright stripes in `noise per frame` that `harmonize` should not have. Of a folder of films, the last table says what is left of
each composite's fMSE.

The tables of DiffHarmony's poster, from its checkpoint and iHarmony4:
  harmonize eval iHarmony4 --model checkpoints --reference 512 --reference 1024 --json tables.json
You should see, for the real and for the composite's background, a table by subset and one by the foreground's share, a cell
PSNR/MSE/fMSE. The poster pastes the real one and has for all 7404 pictures (by share: 1024 + refinement):
  DiffHarmony-512                 37.65/26.14/290.66     0-5%    43.28/4.46/173.10
  DiffHarmony-512 + refinement    39.47/19.59/205.07     5-15%   39.55/11.90/126.69
  DiffHarmony-1024                40.12/15.56/166.19     15-100% 34.80/40.47/128.45
  DiffHarmony-1024 + refinement   40.44/14.29/151.42
  by subset                       HCOCO 41.25/9.22/153.60, HAdobe5k 40.29/17.78/107.04, HFlickr 36.99/29.68/199.59,
                                  Hday2night 38.35/24.94/502.40
The row of untouched composites tells whether it is the same data set: papers have 31.63/172.47/1376.42 for it.
Rows DiffHarmony++ are there with the folder condition_vae, refined ones with refinement. What differs is the noise, which
is not torch's (they seed theirs anew for each batch), and masks that aren't black and white alone: they go by PIL's
convert(\"1\"), which dithers grey, and here 128 and more is foreground. The authors' own runs with other seeds have PSNR
37.66 +- 0.02, MSE 25.44 +- 0.31, fMSE 291.03 +- 2.08 at 512. On CUDA --precision auto is their f16, on a CPU f32. The whole
is hours on a GPU and weeks on a CPU: a short test.jsonl measures a part, and with --jobs 2 or more pictures are read and
measured while the GPU works.";

/// A side that the network's halvings divide.
fn working_size(text: &str) -> Result<u32> {
    let side = text.parse()?;
    ensure!((64..=4096).contains(&side) && side % 64 == 0, "it is a multiple of 64 from 64 to 4096");
    Ok(side)
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
    Both,
}

impl BackgroundArg {
    fn backgrounds(self) -> &'static [Background] {
        match self {
            Self::Real => &[Background::Real],
            Self::Composite => &[Background::Composite],
            Self::Both => &Background::ALL,
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    if args.film.video {
        args.film.check_usage(args.dataset.as_deref());
        let model = args.models.one("--video")?;
        return match &args.dataset {
            Some(folder) => print(&films::run(folder, &args.film, &model, &args.temporal)?, args),
            None => print(&video::run(&args.film, &model, &args.temporal)?, args),
        };
    }
    let mut subsets = dataset::subsets(args.dataset.as_deref().context("give a DATASET, or --video")?)?;
    if args.fitting {
        subsets = subsets.into_iter().map(Subset::of_real).collect();
    }
    if args.reference.is_empty() { data_set(args, &subsets) } else { reference(args, &subsets) }
}

fn data_set(args: &Args, subsets: &[Subset]) -> Result<()> {
    let size = match args.size {
        SizeArg::Square256 => Size::Square256,
        SizeArg::Native => Size::Native,
    };
    let backgrounds = args.background.backgrounds();
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let models = args.models.each();
    let baselines = baselines(args);
    let names: Vec<String> = baselines
        .iter()
        .map(|baseline| baseline.name().to_owned())
        .chain(models.iter().map(|model| model.model.clone()))
        .collect();
    let untouched = Baseline::Untouched.name();
    for (index, name) in names.iter().enumerate() {
        let is_twice = name == untouched || names[..index].contains(name);
        ensure!(!is_twice, "two rows would be called {name}: give each model once, and no folder a baseline's name");
    }
    let parameters = models[0].parameters();
    let engines: Vec<Engine> = models.iter().map(|model| model.load(jobs)).collect::<Result<_>>()?;
    let by_model = models.iter().zip(&engines).map(|(model, engine)| {
        Method::new(&model.model, move |sample: &eval::EvalSample| {
            Ok(pictures::harmonize(engine, &sample.composite, &sample.mask, parameters)?.picture)
        })
    });
    let methods: Vec<Method> = baselines.iter().map(|&baseline| baseline.into()).chain(by_model).collect();

    let bar = progress(subsets);
    let measured = eval::evaluate(subsets, &methods, size, backgrounds, jobs, || bar.inc(1));
    bar.finish_and_clear();
    let measured = measured?;

    // What is published is of composites.
    let root = args.dataset.as_deref().filter(|_| !args.fitting);
    let published = root.map(Published::of).transpose()?.flatten();
    let published = published.map(|published| published.rows(subsets, &measured)).unwrap_or_default();
    let report =
        Report { fitting: args.fitting, published, ..Report::new(&names, size, backgrounds, subsets, &measured)? };
    print(&report, args)?;
    write(args.markdown.as_deref(), &report.markdown())?;
    if let Some(file) = &args.sheet {
        let background = backgrounds[0];
        let measurement = sheet::Measurement { subsets, methods: &methods, size, background, measured: &measured };
        sheet::draw(&measurement, baselines.len(), file)?;
    }
    Ok(())
}

/// Those asked for, in their own order. The untouched composite is measured anyway.
fn baselines(args: &Args) -> Vec<Baseline> {
    let is_asked = |baseline: &Baseline| args.baselines || args.baseline.contains(baseline);
    Baseline::ALL.into_iter().filter(|baseline| is_asked(baseline) && *baseline != Baseline::Untouched).collect()
}

fn reference(args: &Args, subsets: &[Subset]) -> Result<()> {
    let mut sizes = args.reference.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let model = args.models.one("--reference")?;
    let stages = model.loading(|spec| diffharmony::Published::load(spec, model.options.steps))?;
    let (seed, jobs) = (model.options.seed, args.jobs.map_or(1, usize::from));

    let bar = progress(subsets);
    let measured = reference::evaluate(subsets, &stages, &sizes, seed, jobs, || bar.inc(1));
    bar.finish_and_clear();

    let rows = reference::rows(&stages, &sizes);
    let report = ReferenceReport::new(&model.model, seed, &sizes, &rows, subsets, &measured?)?;
    print(&report, args)?;
    write(args.markdown.as_deref(), &report.markdown())
}

fn progress(subsets: &[Subset]) -> ProgressBar {
    options::progress(subsets.iter().map(|subset| subset.triples.len() as u64).sum(), "harmonizing")
}

fn print(report: &(impl Display + Serialize), args: &Args) -> Result<()> {
    println!("{report}");
    write(args.json.as_deref(), &(serde_json::to_string_pretty(report)? + "\n"))
}

/// Nothing where no file was asked for.
fn write(file: Option<&Path>, text: &str) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text).with_context(|| file.display().to_string())
}
