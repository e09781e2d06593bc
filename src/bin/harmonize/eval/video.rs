//! `harmonize eval --video`: how steady a film comes out, and how close to the truth where that is known.

use super::frames::Frames;
use super::plot;
use super::strip::Strip;
use super::video_methods::{Alone, Steady, VideoMethod};
use crate::options::{self, ModelArgs, TemporalArgs};
use anyhow::{Context, Result, ensure};
use clap::error::ErrorKind;
use gstharmonize::lab::eval::temporal::opencv::Dis;
use gstharmonize::lab::eval::temporal::{Frame, Made, Measuring, Motion, Report, VideoMetrics, VideoRow, warp};
use image::imageops::{self, FilterType};
use image::{GrayImage, RgbImage};
use std::path::{Path, PathBuf};

#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Films")]
pub struct FilmArgs {
    /// Measure a film instead of a data set, or every film of the folder DATASET: each a folder that holds composite, mask and real
    #[arg(long)]
    #[arg(conflicts_with_all = ["size", "background", "baselines", "baseline", "reference", "fitting", "jobs"])]
    #[arg(conflicts_with_all = ["markdown", "sheet"])]
    pub video: bool,

    /// The composite: a film, or a folder of PNG or JPEG frames in the order of their names
    #[arg(long, value_name = "CLIP|FOLDER", requires = "video")]
    composite: Option<PathBuf>,

    /// Its mask frame by frame, white on the foreground, of the composite's size
    #[arg(long, value_name = "CLIP|FOLDER", requires = "video")]
    mask: Option<PathBuf>,

    /// What it should look like, frame by frame. Without it there are no fMSE, PSNR and TL
    #[arg(long, value_name = "CLIP|FOLDER", requires = "video")]
    real: Option<PathBuf>,

    /// First frames of new scenes, counted from 0: how much of the new scene's correction is there at once
    #[arg(long, value_name = "N,...", value_delimiter = ',', requires = "video")]
    cuts: Vec<usize>,

    /// Leave out E_warp and TL, for which motion has to be measured
    #[arg(long, requires = "video")]
    no_flow: bool,

    /// Python with OpenCV, which measures motion [default: HARMONIZE_PYTHON, else .venv-tools beside the checkout, as `make
    /// tools` makes it, else python3]
    #[arg(long, value_name = "FILE", requires = "video")]
    python: Option<PathBuf>,

    /// Also draw the figures over time as PNG
    #[arg(long, value_name = "FILE", requires = "video")]
    plot: Option<PathBuf>,

    /// Also draw one column of pixels over time as PNG, as each way leaves it
    #[arg(long, value_name = "FILE", requires = "video")]
    strip: Option<PathBuf>,

    /// The strip's column [default: through the middle of the masks]
    #[arg(long, value_name = "X", requires = "strip")]
    column: Option<u32>,
}

impl FilmArgs {
    /// Ends the process with a word about usage where the options don't say what to measure: one film, or those of `folder`.
    pub fn check_usage(&self, folder: Option<&Path>) {
        let of_one = [&self.composite, &self.mask, &self.real, &self.plot, &self.strip];
        let (kind, what) = match folder {
            Some(_) if of_one.iter().any(|option| option.is_some()) => (
                ErrorKind::ArgumentConflict,
                "the folder of films DATASET cannot be used with --composite, --mask, --real, --plot and --strip",
            ),
            None if self.composite.is_none() || self.mask.is_none() => (
                ErrorKind::MissingRequiredArgument,
                "--video needs --composite and --mask, or a folder of films as DATASET",
            ),
            _ => return,
        };
        clap::Error::raw(kind, format!("{what}\n")).exit()
    }

    /// The same for the film of these.
    pub fn of(&self, [composite, mask, real]: [PathBuf; 3]) -> Self {
        Self { composite: Some(composite), mask: Some(mask), real: Some(real), ..self.clone() }
    }
}

pub fn run(args: &FilmArgs, model: &ModelArgs, temporal: &TemporalArgs) -> Result<Report> {
    gst::init()?;
    gstharmonize::plugin_register_static()?;
    let composite = args.composite.as_deref().context("give --composite")?;
    let mask = args.mask.as_deref().context("give --mask")?;
    let matte = Matte::survey(mask)?;
    let cuts = cuts(args, matte.frames)?;
    let column = args.column.unwrap_or(matte.centre);
    ensure!(column < matte.size[0], "--column {column} is outside the {} columns of {}", matte.size[0], mask.display());

    let mut motion = if args.no_flow { None } else { Some(Estimator::start(args, matte.size)?) };
    let engine = model.load(temporal.workers())?;
    let alone = |new_noise| VideoMethod::Alone(Alone::new(&engine, model, new_noise));
    let mut methods = vec![VideoMethod::Composite];
    methods.extend(args.real.is_some().then_some(VideoMethod::Real));
    methods.extend([VideoMethod::Reinhard(None), alone(true), alone(false)]);
    methods.push(VideoMethod::Harmonize(Box::new(Steady::open(composite, mask, &engine, model, temporal)?)));
    let mut strip = Strip::new(column, methods.iter().map(VideoMethod::name));

    let reader = Reader::open(composite, mask, args.real.as_deref())?;
    let courses = measure(reader, matte.frames, &mut methods, motion.as_mut(), |made| {
        strip.push(made.iter().map(|made| &made.picture))
    })?;
    let report = Report {
        model: model.model.clone(),
        frames: matte.frames,
        size: matte.size,
        flow: motion.map(|motion| format!("DIS of OpenCV {}", motion.frames.version())),
        rows: VideoRow::all(methods.iter().map(VideoMethod::name).zip(courses), &cuts),
    };
    if let Some(path) = &args.strip {
        strip.save(path)?;
    }
    if let Some(path) = &args.plot {
        plot::draw(&report, &cuts, path)?;
    }
    Ok(report)
}

/// Each way's course, with `seen` looking at every frame's pictures.
fn measure(
    mut reader: Reader,
    frames: usize,
    methods: &mut [VideoMethod],
    mut motion: Option<&mut Estimator>,
    mut seen: impl FnMut(&[Made]),
) -> Result<Vec<VideoMetrics>> {
    let mut measuring = Measuring::new(methods.len());
    let bar = options::progress(frames as u64, "harmonizing");
    for index in 0..frames {
        let frame = reader.frame(index)?;
        let moved = motion.as_mut().map(|motion| motion.next(&frame)).transpose()?.flatten();
        let made: Vec<Made> = methods.iter_mut().map(|method| method.make(index, &frame)).collect::<Result<_>>()?;
        seen(&made);
        measuring.push(frame, made, moved.as_ref())?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    reader.end(frames)?;
    Ok(measuring.finish())
}

/// In rising order, each with a frame before it.
fn cuts(args: &FilmArgs, frames: usize) -> Result<Vec<usize>> {
    let mut cuts = args.cuts.clone();
    cuts.sort_unstable();
    cuts.dedup();
    for &cut in &cuts {
        ensure!((1..frames).contains(&cut), "there is no cut at frame {cut}: frames go from 0 to {}", frames - 1);
    }
    Ok(cuts)
}

/// What a look through all masks says.
struct Matte {
    frames: usize,
    size: [u32; 2],
    /// The column of the foreground's centre, mean over the frames.
    centre: u32,
}

impl Matte {
    fn survey(mask: &Path) -> Result<Self> {
        let mut masks = Frames::<GrayImage>::open(mask)?;
        let (mut frames, mut size) = (0, [0, 0]);
        let (mut sum, mut total) = (0.0, 0.0);
        while let Some(matte) = masks.next()? {
            size = matte.picture.dimensions().into();
            frames += 1;
            let (mut columns, mut weight) = (0.0, 0.0);
            for (x, _, pixel) in matte.picture.enumerate_pixels() {
                columns += f64::from(x) * f64::from(pixel.0[0]);
                weight += f64::from(pixel.0[0]);
            }
            if weight > 0.0 {
                sum += columns / weight;
                total += 1.0;
            }
        }
        ensure!(total > 0.0, "{} is black everywhere: there is no foreground to measure", mask.display());
        Ok(Self { frames, size, centre: (sum / total) as u32 })
    }
}

/// Composite, mask and real frames side by side: they pair by number.
struct Reader {
    composites: Stream<RgbImage>,
    masks: Stream<GrayImage>,
    reals: Option<Stream<RgbImage>>,
}

/// Frames, and what they are called in messages.
struct Stream<P>(Frames<P>, PathBuf);

impl<P: super::frames::Pixels> Stream<P> {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self(Frames::open(path)?, path.to_owned()))
    }

    fn picture(&mut self, index: usize) -> Result<P> {
        let timed = self.0.next()?;
        let ends = || format!("{} ends after {index} frames, before the others do", self.1.display());
        Ok(timed.with_context(ends)?.picture)
    }

    fn end(&mut self, frames: usize) -> Result<()> {
        ensure!(self.0.next()?.is_none(), "{} has more than the {frames} frames of the mask", self.1.display());
        Ok(())
    }
}

impl Reader {
    fn open(composite: &Path, mask: &Path, real: Option<&Path>) -> Result<Self> {
        let reals = real.map(Stream::open).transpose()?;
        Ok(Self { composites: Stream::open(composite)?, masks: Stream::open(mask)?, reals })
    }

    fn frame(&mut self, index: usize) -> Result<Frame> {
        let frame = Frame {
            composite: self.composites.picture(index)?,
            mask: self.masks.picture(index)?,
            real: self.reals.as_mut().map(|reals| reals.picture(index)).transpose()?,
        };
        let size = frame.composite.dimensions();
        let same = |other: (u32, u32), path: &Path| -> Result<()> {
            let composite = self.composites.1.display();
            ensure!(
                other == size,
                "frame {index} of {} is {}x{} and of {composite} {}x{}: they must have one size",
                path.display(),
                other.0,
                other.1,
                size.0,
                size.1
            );
            Ok(())
        };
        same(frame.mask.dimensions(), &self.masks.1)?;
        if let (Some(real), Some(stream)) = (&frame.real, &self.reals) {
            same(real.dimensions(), &stream.1)?;
        }
        Ok(frame)
    }

    /// An error where one goes on after `frames`.
    fn end(&mut self, frames: usize) -> Result<()> {
        self.composites.end(frames)?;
        self.reals.as_mut().map_or(Ok(()), |reals| reals.end(frames))
    }
}

/// Motion of the composites, and of the real frames scaled for TL.
struct Estimator {
    frames: Dis,
    squares: Option<Dis>,
}

impl Estimator {
    fn start(args: &FilmArgs, [width, height]: [u32; 2]) -> Result<Self> {
        let python = python(args);
        let squares = args.real.is_some().then(|| Dis::start(&python, warp::TL_SIDE, warp::TL_SIDE));
        Ok(Self { frames: Dis::start(&python, width, height)?, squares: squares.transpose()? })
    }

    fn next(&mut self, frame: &Frame) -> Result<Option<Motion>> {
        let moved = self.frames.next(&frame.composite)?;
        let square_back = match (&mut self.squares, &frame.real) {
            (Some(squares), Some(real)) => {
                let small = imageops::resize(real, warp::TL_SIDE, warp::TL_SIDE, FilterType::Triangle);
                squares.next(&small)?.map(|[_, back]| back)
            }
            _ => None,
        };
        Ok(moved.map(|[forward, backward]| Motion { forward, backward, square_back }))
    }
}

/// The one asked for, else the one in .venv-tools of the checkout that this program was built in, else the system's.
fn python(args: &FilmArgs) -> PathBuf {
    let named = args.python.clone().or_else(|| std::env::var_os("HARMONIZE_PYTHON").map(PathBuf::from));
    let tools = || {
        let program = std::env::current_exe().ok()?;
        program.ancestors().map(|folder| folder.join(".venv-tools/bin/python")).find(|python| python.exists())
    };
    named.or_else(tools).unwrap_or_else(|| "python3".into())
}
