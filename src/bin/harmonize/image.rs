//! `harmonize image`: one photograph.

use crate::canvas;
use crate::options::{self, ModelArgs};
use crate::output::{OutputFile, refuse_overwriting};
use ::image::codecs::jpeg::JpegEncoder;
use ::image::{GrayImage, ImageFormat, RgbImage, imageops};
use anyhow::{Context, Result, bail, ensure};
use gstharmonize::pictures::{self, Harmonized};
use gstharmonize::transfer::Look;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Harmonize one picture
///
/// COMPOSITE is a JPEG or PNG with the foreground already in place, MASK a picture of the same size that is white on
/// the foreground, black on the background and grey on soft edges (if it has transparency, its alpha counts instead).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  harmonize image composite.jpg mask.png -o harmonized.png
  harmonize image composite.jpg mask.png -o half.png --strength 0.5 --sheet sheet.png
You should see, in harmonized.png, the foreground in the light and colour of its surroundings, as sharp as before;
all pixels whose mask is black are exactly those of the composite. (Write a PNG to keep them so: a JPEG is lossy.)

With a look to take elsewhere:
  harmonize image composite.jpg mask.png -o harmonized.png --export-look look.cube
  ffmpeg -i composite.jpg -i mask.png -lavfi \\
    \"[0]format=gbrp,split[a][b];[b]lut3d=look.cube[c];[1]format=gbrp[m];[a][c][m]maskedmerge\" graded.png
You should see a line with the look's error, and graded.png close to harmonized.png, by about that error. The look is
made for the foreground and this light: without the mask it would change the background too. In DaVinci Resolve put it
on a node that has the mask as its key; in OBS on the foreground's source, as the filter Apply LUT.")]
pub struct Args {
    composite: PathBuf,
    mask: PathBuf,

    /// Picture to write, .png or .jpg
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Quality of what is written as JPEG: 95 is hard to tell from the whole, 75 about half as large
    #[arg(long, value_name = "1..100", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,

    /// Also write composite, mask and result side by side
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,

    /// Also write what happens to the foreground's colours as a 33-point look for grading tools, and print its error
    #[arg(long, value_name = "FILE.cube", value_parser = options::cube)]
    export_look: Option<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let outputs = [Some(&args.output), args.sheet.as_ref(), args.export_look.as_ref()];
    let inputs = [&args.composite, &args.mask];
    refuse_overwriting(outputs.into_iter().flatten().map(PathBuf::as_path), inputs.map(PathBuf::as_path))?;
    let output = Picture::of(&args.output, args.quality)?;
    let sheet_output = args.sheet.as_ref().map(|path| Picture::of(path, args.quality)).transpose()?;
    let look_output = args.export_look.as_ref().map(|path| OutputFile::of(path)).transpose()?;
    let composite = pictures::open(&args.composite)?.into_rgb8();
    let mask = pictures::open_mask(&args.mask)?;
    ensure!(
        composite.dimensions() == mask.dimensions(),
        "{} is {}x{} but {} is {}x{}: give a mask of the composite's size",
        args.mask.display(),
        mask.width(),
        mask.height(),
        args.composite.display(),
        composite.width(),
        composite.height()
    );
    if mask.iter().all(|&m| m == 0) {
        ensure!(
            args.export_look.is_none(),
            "{} is black everywhere: there is no foreground to take a look from",
            args.mask.display()
        );
        eprintln!("harmonize: {} is black everywhere, so the picture stays as it is", args.mask.display());
    }
    let engine = args.model.load(1)?;
    let parameters = args.model.parameters();
    let Harmonized { picture: harmonized, applied } = pictures::harmonize(&engine, &composite, &mask, parameters)?;
    output.write(&harmonized)?;
    if let Some(output) = sheet_output {
        output.write(&sheet(&composite, &mask, &harmonized))?;
    }
    if let (Some(output), Some(path), Some(applied)) = (look_output, &args.export_look, applied) {
        let look = Look::new(&applied.proxy, &applied.transfer, parameters.strength)?;
        look.save(output.part())?;
        output.keep()?;
        println!("{}: {}", path.display(), look.residual());
    }
    Ok(())
}

/// A picture file to write, of a kind that can be.
struct Picture<'a> {
    path: &'a Path,
    output: OutputFile,
    format: ImageFormat,
    quality: u8,
}

impl<'a> Picture<'a> {
    fn of(path: &'a Path, quality: u8) -> Result<Self> {
        let format = match ImageFormat::from_path(path) {
            Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
            _ => bail!("{}: can't write this kind of file, name it .png or .jpg", path.display()),
        };
        Ok(Self { path, output: OutputFile::of(path)?, format, quality })
    }

    fn write(self, picture: &RgbImage) -> Result<()> {
        let Self { path, output, format, quality } = self;
        let write = || {
            let mut file = BufWriter::new(File::create(output.part())?);
            match format {
                ImageFormat::Jpeg => picture.write_with_encoder(JpegEncoder::new_with_quality(&mut file, quality))?,
                format => picture.write_to(&mut file, format)?,
            }
            Ok::<_, anyhow::Error>(file.flush()?)
        };
        write().with_context(|| path.display().to_string())?;
        output.keep()
    }
}

/// Composite, mask and result, left to right.
fn sheet(composite: &RgbImage, mask: &GrayImage, harmonized: &RgbImage) -> RgbImage {
    let (width, height) = composite.dimensions();
    let mut sheet = RgbImage::new(3 * width, height);
    for (column, picture) in [composite, &canvas::grey(mask), harmonized].into_iter().enumerate() {
        imageops::replace(&mut sheet, picture, i64::from(width) * column as i64, 0);
    }
    sheet
}
