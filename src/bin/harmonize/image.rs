//! `harmonize image`: one photograph.

use crate::canvas;
use crate::options::{self, ModelArgs};
use ::image::{GrayImage, RgbImage, imageops};
use anyhow::{Context, Result, ensure};
use gstharmonize::pictures::{self, Harmonized};
use gstharmonize::transfer::Look;
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
    save(&harmonized, &args.output)?;
    if let Some(path) = &args.sheet {
        save(&sheet(&composite, &mask, &harmonized), path)?;
    }
    if let (Some(path), Some(applied)) = (&args.export_look, applied) {
        let look = Look::new(&applied.proxy, &applied.transfer, parameters.strength)?;
        look.save(path)?;
        println!("{}: {}", path.display(), look.residual());
    }
    Ok(())
}

fn save(picture: &RgbImage, path: &Path) -> Result<()> {
    picture.save(path).with_context(|| path.display().to_string())
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
