//! `harmonize video`: films, whole or in parts, through a pipeline around the element of the same name.

pub mod gate;
mod jobs;
mod pipeline;
mod shard;

use crate::clip::Clip;
use crate::film;
use crate::options::{self, ModelArgs, TemporalArgs};
use crate::output::{OutputFile, refuse_overwriting};
use crate::range::{self, Range};
use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gstharmonize::transfer::look::Residual;
use pipeline::Output;
use shard::Shard;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Harmonize a film
///
/// Takes a finished composite and its matte, or a foreground and its matte to be laid over a background. The matte is a
/// film or a picture, white on the foreground; its size and rate may differ. Sound is that of the composite or foreground.
#[derive(clap::Args)]
// A piece of `--jobs` is asked for with this command's own arguments and a few more behind them.
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  harmonize video --composite composite.mp4 --mask matte.mp4 -o harmonized.mp4
  harmonize video --foreground actor.mp4 --mask matte.mp4 --background street.mp4 -o harmonized.mp4
  harmonize video --foreground actor.mp4 --mask matte.mp4 --background street.jpg -o harmonized.mkv --strength 0.7
You should see a bar that counts frames, and then a film with as many frames as the composite or foreground and of its
size, with the foreground in the light and colour of its surroundings. A background fills the frame (cropped, not
stretched). Where a background or matte is shorter than the foreground, its last frame stays.

With a look to take elsewhere, that of the last frame that was harmonized:
  harmonize video --composite composite.mp4 --mask matte.mp4 -o harmonized.mp4 --export-look look.cube
  ffmpeg -i composite.mp4 -i matte.mp4 -lavfi \\
    \"[0]format=gbrp,split[a][b];[b]lut3d=look.cube[c];[1]format=gbrp[m];[a][c][m]maskedmerge,format=yuv420p\" graded.mp4
You should see a line with the look's error on that frame, and graded.mp4 close to harmonized.mp4 for as long as light
and scene are those of its last frame: one look for the whole film, where the harmonized film has one for each frame.

Part of a film, and a film in parts:
  harmonize video --composite composite.mp4 --mask matte.mp4 -o look.mp4 --start 0:01:10 --stop 0:01:12.5
  harmonize video --composite composite.mp4 --mask matte.mp4 -o harmonized.mkv --jobs 8
  harmonize video --composite composite.mp4 --mask matte.mp4 -o a.mkv --lossless --stop 60       # on one machine
  harmonize video --composite composite.mp4 --mask matte.mp4 -o b.mkv --lossless --start 60      # on another
  harmonize join a.mkv b.mkv -o harmonized.mkv --sound composite.mp4
You should see one bar, and films with exactly the frames that start in their range: pieces whose ranges touch share no frame
and lose none. A frame is harmonized to the same bytes in any piece. With --lossless that is what the joined film holds, byte
for byte as if it had been rendered in one piece; H.264 is encoded anew in each piece, so its compressed pictures differ a little
around a join, as they do around a keyframe.")]
pub struct Args {
    /// Film with the foreground already in place
    #[arg(long, value_name = "FILE", required_unless_present = "foreground")]
    composite: Option<PathBuf>,

    /// Film whose matte is laid over --background
    #[arg(long, value_name = "FILE", requires = "background", conflicts_with = "composite")]
    foreground: Option<PathBuf>,

    /// Film or picture behind the foreground
    #[arg(long, value_name = "FILE", requires = "foreground")]
    background: Option<PathBuf>,

    /// The matte: a film or a picture, white on the foreground
    #[arg(long, value_name = "FILE")]
    mask: PathBuf,

    /// Film to write: .mp4, .mov or .mkv, H.264 with AAC sound; with --lossless .mkv
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Also write what happens to the foreground's colours in the last harmonized frame as a 33-point look for grading tools,
    /// and print its error
    #[arg(long, value_name = "FILE.cube", value_parser = options::cube)]
    export_look: Option<PathBuf>,

    #[command(flatten)]
    range: Range,

    /// Render with so many processes on this machine, each a part of the film, and join the parts. Each loads the model: more
    /// than one pays where one leaves processors idle and there is memory for all
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "export_look")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,

    /// Write FFV1, which keeps every bit of the harmonized frames, instead of H.264: for pieces to be joined and for grading,
    /// at ten times the size and more
    #[arg(long)]
    lossless: bool,

    /// Leave the sound out
    #[arg(long)]
    no_sound: bool,

    /// Print the number of frames so far, for the process that joins the pieces
    #[arg(long, hide = true)]
    count: bool,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    temporal: TemporalArgs,
}

/// Constant quality, next to invisible losses.
const H264: &str = "videoconvert ! video/x-raw,format=I420 ! x264enc pass=qual quantizer=17 speed-preset=fast ! \
                    video/x-h264,profile=high ! h264parse";
/// The frames' own format where FFV1 has it; every picture stands for itself.
const FFV1: &str = "videoconvert ! avenc_ffv1 gop-size=1";

pub fn run(args: &Args) -> Result<()> {
    gst::init()?;
    gstharmonize::plugin_register_static()?;
    let muxer = film::muxer(&args.output)?;
    ensure!(!args.lossless || muxer == "matroskamux", "{}: name a --lossless film .mkv", args.output.display());
    args.range.check()?;
    let mask = Clip::open(&args.mask)?;
    let (picture, background) = match (&args.composite, &args.foreground, &args.background) {
        (Some(composite), ..) => (Clip::open(composite)?, None),
        (_, Some(foreground), Some(background)) => (Clip::open(foreground)?, Some(Clip::open(background)?)),
        _ => bail!("give --composite, or --foreground and --background"),
    };
    ensure!(!picture.still, "{} is a picture: use `harmonize image`", picture.path.display());
    ensure!(
        args.range.begin() < picture.duration || args.range.begin().is_zero(),
        "{} is over after {} s: give an earlier --start",
        picture.path.display(),
        range::seconds(picture.duration)
    );
    let clips = [Some(&picture), Some(&mask), background.as_ref()];
    let outputs = [Some(args.output.as_path()), args.export_look.as_deref()];
    refuse_overwriting(outputs.into_iter().flatten(), clips.into_iter().flatten().map(|clip| clip.path.as_path()))?;
    if args.jobs > 1 {
        return jobs::run(args, &picture);
    }

    // A frame's difference is a matter of rounding.
    let ends_early = |clip: &Clip| !clip.still && clip.duration + clip.frame() < picture.duration;
    for clip in [Some(&mask), background.as_ref()].into_iter().flatten() {
        if ends_early(clip) {
            eprintln!(
                "harmonize: {} ends after {:.2} s of {:.2}, its last frame stays",
                clip.path.display(),
                clip.duration.seconds_f64(),
                picture.duration.seconds_f64()
            );
        }
    }
    let shard = (!args.range.is_whole()).then(|| Arc::new(Shard::new(args.range)));
    let encoder = if args.lossless { FFV1 } else { H264 };
    let output = Output { muxer, encoder, sound: !args.no_sound, shard };
    let pipeline = match &background {
        None => pipeline::composited(&picture, &mask, &output)?,
        Some(background) => pipeline::layered(&picture, &mask, background, &output)?,
    };
    if args.lossless && output.shard.is_some() {
        shard::refine(&film::child(&pipeline, "mux")?);
    }
    let harmonize = film::child(&pipeline, "h")?;
    args.model.configure(&harmonize);
    args.temporal.configure(&harmonize);
    harmonize.set_property_from_str("mask-range", "full");
    let part = OutputFile::of(&args.output)?;
    film::child(&pipeline, "file")?.set_property("location", part.location()?);

    // What has been said of the file need not be said of its frames.
    let is_told = |warning: &str| ends_early(&mask) && warning.starts_with("No mask for the composite");
    let (frames, exported) = play(args, &pipeline, &harmonize, &picture, output.shard.as_deref(), is_told)?;
    ensure!(frames > 0, "{}: no frame came out of it{}", picture.path.display(), args.range.told());
    part.keep()?;
    // Without its look the film is whole all the same.
    exported
}

/// Writes the look of the last harmonized frame and prints its error; while the pipeline is up.
fn export_look(harmonize: &gst::Element, bus: &gst::Bus, path: &Path) -> Result<()> {
    let location = path.to_str().context("the look's name is not UTF-8")?;
    let is_written = harmonize.emit_by_name::<bool>("export-look", &[&location]);
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element, gst::MessageType::Warning]) {
        match message.view() {
            gst::MessageView::Warning(warning) if !is_written => {
                bail!("{}", film::sentence(warning.error(), warning.debug()))
            }
            gst::MessageView::Element(element) => {
                let Some(look) = element.structure().filter(|s| s.name() == "application/x-harmonize-look") else {
                    continue;
                };
                let [rms, maximum, untouched] = ["rms", "maximum", "untouched"].map(|name| look.get::<f64>(name));
                println!("{location}: {}", Residual { rms: rms?, maximum: maximum?, untouched: untouched? });
                return Ok(());
            }
            _ => (),
        }
    }
    bail!("{location}: no word of the look came")
}

/// Runs to the end, and returns how many frames came out, and how the look fared where one is asked for.
fn play(
    args: &Args,
    pipeline: &gst::Pipeline,
    harmonize: &gst::Element,
    picture: &Clip,
    shard: Option<&Shard>,
    is_told: impl Fn(&str) -> bool,
) -> Result<(u64, Result<()>)> {
    let source = harmonize.static_pad("src").context("harmonize without src")?;
    let frames = pipeline::count(&source.peer().context("nothing behind harmonize")?);
    let bar = options::progress(args.range.frames_of(picture), "harmonizing");
    let bus = pipeline.bus().context("a pipeline without bus")?;
    let warn = |warning: String| {
        if !is_told(&warning) {
            bar.suspend(|| eprintln!("harmonize: {warning}"));
        }
    };
    let seek = |shard: &Shard| shard.seek(pipeline, harmonize, picture.rate, picture.frame(), warn);
    let mut sought = shard.map_or(Ok(()), seek);
    if sought.is_ok() {
        // When this fails, its ERROR message says why.
        let _ = pipeline.set_state(gst::State::Playing);
        let mut told = 0;
        let tell = || {
            let frames = frames.load(Ordering::SeqCst);
            bar.set_position(frames);
            if args.count && std::mem::replace(&mut told, frames) < frames {
                writeln!(std::io::stdout(), "{frames}").context("nobody waits for this piece any more")?;
            }
            Ok(false)
        };
        sought = film::wait(&bus, tell, warn).map(drop);
    }
    bar.finish_and_clear();
    let look = args.export_look.as_deref().filter(|_| sought.is_ok());
    let exported = look.map_or(Ok(()), |path| export_look(harmonize, &bus, path));
    if let Some(shard) = shard {
        shard.zero.give_up();
    }
    pipeline.set_state(gst::State::Null)?;
    sought?;
    Ok((frames.load(Ordering::SeqCst), exported))
}
