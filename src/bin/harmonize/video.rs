//! `harmonize video`: films, through a pipeline around the element of the same name.
//!
//! The pipeline is a launch line of fixed shape; its `uridecodebin`s are linked when their streams turn up, sound goes from
//! the decoder to the muxer beside it.

use crate::clip::Clip;
use crate::options::{self, ModelArgs, TemporalArgs};
use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gstharmonize::transfer::look::Residual;
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Harmonize a film
///
/// Takes a finished composite and its matte, or a foreground and its matte to be laid over a background. The matte is a
/// film or a picture, white on the foreground; its size and rate may differ. Sound is that of the composite or foreground.
#[derive(clap::Args)]
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
and scene are those of its last frame: one look for the whole film, where the harmonized film has one for each frame.")]
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

    /// Film to write: .mp4, .mov or .mkv, H.264 with AAC sound
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Also write what happens to the foreground's colours in the last harmonized frame as a 33-point look for grading tools,
    /// and print its error
    #[arg(long, value_name = "FILE.cube", value_parser = options::cube)]
    export_look: Option<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    temporal: TemporalArgs,
}

/// Grey of the whole range whatever the film's own; the same conversion for the compositor's alpha and for `harmonize`.
const MATTE: &str = "video/x-raw,format=GRAY8,colorimetry=1:0:0:0";
/// `alphacombine` takes only what claims one range: the picture gets this one, and the matte's alpha is made to say so too.
const LABEL: &str = "video/x-raw,colorimetry=bt709";
/// Constant quality, next to invisible losses.
const ENCODER: &str = "videoconvert ! video/x-raw,format=I420 ! x264enc pass=qual quantizer=17 speed-preset=fast ! \
                       video/x-h264,profile=high ! h264parse";
/// Sound that every container here takes as it is.
const AAC: &str = "audio/mpeg,mpegversion=4,framed=true";

pub fn run(args: &Args) -> Result<()> {
    gst::init()?;
    gstharmonize::plugin_register_static()?;
    let muxer = muxer(&args.output)?;
    let mask = Clip::open(&args.mask)?;
    let (picture, background) = match (&args.composite, &args.foreground, &args.background) {
        (Some(composite), ..) => (Clip::open(composite)?, None),
        (_, Some(foreground), Some(background)) => (Clip::open(foreground)?, Some(Clip::open(background)?)),
        _ => bail!("give --composite, or --foreground and --background"),
    };
    ensure!(!picture.still, "{} is a picture: use `harmonize image`", picture.path.display());
    let clips = [Some(&picture), Some(&mask), background.as_ref()];
    for clip in clips.into_iter().flatten() {
        let same =
            args.output.canonicalize().is_ok_and(|output| clip.path.canonicalize().is_ok_and(|path| path == output));
        ensure!(!same, "{} would be overwritten while it is read: write to another file", clip.path.display());
    }

    for clip in [Some(&mask), background.as_ref()].into_iter().flatten() {
        // A frame's difference is a matter of rounding.
        if !clip.still && clip.duration + clip.frame() < picture.duration {
            eprintln!(
                "harmonize: {} ends after {:.2} s of {:.2}, its last frame stays",
                clip.path.display(),
                clip.duration.seconds_f64(),
                picture.duration.seconds_f64()
            );
        }
    }
    let pipeline = match &background {
        None => composited(&picture, &mask, muxer)?,
        Some(background) => layered(&picture, &mask, background, muxer)?,
    };
    let harmonize = child(&pipeline, "h")?;
    args.model.configure(&harmonize);
    args.temporal.configure(&harmonize);
    harmonize.set_property_from_str("mask-range", "full");
    // Under another name until it is whole: without its index half a film can't be opened.
    let mut part = args.output.clone().into_os_string();
    part.push(".part");
    child(&pipeline, "file")?.set_property("location", part.to_str().context("the output's name is not UTF-8")?);

    let look = args.export_look.as_deref();
    let written = play(&pipeline, &harmonize, picture.frames(), look).and_then(|(frames, exported)| {
        ensure!(frames > 0, "{}: no frame came out of it", picture.path.display());
        std::fs::rename(&part, &args.output).with_context(|| args.output.display().to_string())?;
        Ok(exported)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    // Without its look the film is whole all the same.
    written?
}

/// Writes the look of the last harmonized frame and prints its error; while the pipeline is up.
fn export_look(harmonize: &gst::Element, bus: &gst::Bus, path: &Path) -> Result<()> {
    let location = path.to_str().context("the look's name is not UTF-8")?;
    let is_written = harmonize.emit_by_name::<bool>("export-look", &[&location]);
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element, gst::MessageType::Warning]) {
        match message.view() {
            gst::MessageView::Warning(warning) if !is_written => {
                bail!("{}", sentence(warning.error(), warning.debug()))
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

/// Counts the buffers that pass `pad`.
fn count(pad: &gst::Pad) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    count
}

fn muxer(output: &Path) -> Result<&'static str> {
    Ok(match output.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => "mp4mux",
        "mov" => "qtmux",
        "mkv" => "matroskamux",
        _ => bail!("{}: can't write this kind of file, name it .mp4, .mov or .mkv", output.display()),
    })
}

/// composite and mask -> harmonize
fn composited(composite: &Clip, mask: &Clip, muxer: &str) -> Result<gst::Pipeline> {
    let pipeline = launch(&format!(
        "videoconvert name=composite ! queue ! h.sink \
         videoconvert name=mask {freeze} ! {MATTE} ! queue ! h.mask \
         harmonize name=h ! queue ! {ENCODER} ! {muxer} name=mux ! filesink name=file",
        freeze = if mask.still { "! imagefreeze" } else { "" },
    ))?;
    read(&pipeline, composite, "composite", true)?;
    read(&pipeline, mask, "mask", false)?;
    Ok(pipeline)
}

/// (foreground + matte) over background, and the matte -> harmonize. Everything runs on the foreground's frame rate, on which
/// `compositor` stamps its frames, so that composite and matte of a frame carry the same time.
fn layered(foreground: &Clip, mask: &Clip, background: &Clip, muxer: &str) -> Result<gst::Pipeline> {
    let (width, height, rate) = (foreground.width, foreground.height, foreground.rate);
    ensure!(rate.numer() > 0, "{}: its frame rate is not known", foreground.path.display());
    let [x, y, w, h] = cover(background.aspect, foreground);
    let rate = format!("video/x-raw,framerate={}/{}", rate.numer(), rate.denom());
    let pipeline = launch(&format!(
        "videoconvert name=foreground ! {LABEL},format=I420 ! videorate ! {rate} ! queue ! combine.sink \
         videoconvertscale name=mask {freeze} ! {MATTE},width={width},height={height} ! videorate ! {rate} ! tee name=matte \
         matte. ! queue ! capssetter caps={LABEL} ! combine.alpha \
         matte. ! queue max-size-buffers=8 max-size-bytes=0 max-size-time=0 ! h.mask \
         alphacombine name=combine ! queue ! layers.sink_1 \
         videoconvert name=background {freeze_background} ! queue ! layers.sink_0 \
         compositor name=layers background=black sink_0::repeat-after-eos=true sink_0::xpos={x} sink_0::ypos={y} \
           sink_0::width={w} sink_0::height={h} sink_0::zorder=0 sink_1::zorder=1 ! \
         {rate},width={width},height={height} ! videoconvert ! {LABEL},format=I420 ! queue ! h.sink \
         harmonize name=h ! queue ! {ENCODER} ! {muxer} name=mux ! filesink name=file",
        freeze = if mask.still { "! imagefreeze" } else { "" },
        freeze_background = if background.still { "! imagefreeze" } else { "" },
    ))?;
    read(&pipeline, foreground, "foreground", true)?;
    read(&pipeline, mask, "mask", false)?;
    read(&pipeline, background, "background", false)?;
    hold_matte(&child(&pipeline, "matte")?, mask)?;
    end_with_foreground(&child(&pipeline, "layers")?)?;
    Ok(pipeline)
}

/// Where a picture of `aspect` lies so that it fills the frame, centred: x, y, width, height.
fn cover(aspect: f64, frame: &Clip) -> [i32; 4] {
    let (width, height) = (f64::from(frame.width), f64::from(frame.height));
    let (w, h) = if aspect > frame.aspect {
        (width * aspect / frame.aspect, height)
    } else {
        (width, height * frame.aspect / aspect)
    };
    [(width - w) / 2.0, (height - h) / 2.0, w, h].map(|v| v.round() as i32)
}

/// Holds the last matte for as long as there are frames: `alphacombine` would wait for the next one for ever. `matte` is the
/// tee that takes them in.
fn hold_matte(matte: &gst::Element, mask: &Clip) -> Result<()> {
    let sink = matte.static_pad("sink").context("tee without sink")?;
    let source = sink.peer().context("nothing feeds the matte")?;
    let last = Arc::new(Mutex::new(None));
    let held = last.clone();
    source.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let (Ok(mut last), Some(buffer)) = (last.lock(), info.buffer()) {
            *last = Some(buffer.copy());
        }
        gst::PadProbeReturn::Ok
    });
    let frame = mask.frame();
    on_eos(&source, move || {
        let Some(mut buffer) = held.lock().ok().and_then(|mut held| held.take()) else { return };
        // Ends when the pipeline is taken down, which is what refuses the buffer.
        loop {
            let time = buffer.pts().map(|time| time + buffer.duration().unwrap_or(frame));
            buffer.make_mut().set_pts(time);
            if sink.chain(buffer.clone()).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// True from the moment EOS reaches `pad`, when `then` is called.
fn on_eos(pad: &gst::Pad, then: impl Fn() + Send + Sync + 'static) -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let ends = ended.clone();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if matches!(&info.data, Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Eos) {
            ends.store(true, Ordering::SeqCst);
            then();
        }
        gst::PadProbeReturn::Ok
    });
    ended
}

/// Ends the composite with its foreground (`sink_1`), however long the background is.
fn end_with_foreground(compositor: &gst::Element) -> Result<()> {
    let foreground = compositor.static_pad("sink_1").context("compositor without sink_1")?;
    let (frames, ended) = (count(&foreground), on_eos(&foreground, || ()));
    let out = AtomicU64::new(0);
    compositor.static_pad("src").context("compositor without src")?.add_probe(
        gst::PadProbeType::BUFFER,
        move |_, info| {
            // Frames go out on the foreground's own grid, one for each of its frames.
            if ended.load(Ordering::SeqCst) && out.load(Ordering::SeqCst) >= frames.load(Ordering::SeqCst) {
                info.flow_res = Err(gst::FlowError::Eos);
                return gst::PadProbeReturn::Handled;
            }
            out.fetch_add(1, Ordering::SeqCst);
            gst::PadProbeReturn::Ok
        },
    );
    Ok(())
}

pub fn launch(line: &str) -> Result<gst::Pipeline> {
    let pipeline = gst::parse::launch(line)
        .context("GStreamer lacks an element (on Debian: apt install gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav)")?;
    pipeline.downcast().map_err(|_| anyhow::anyhow!("not a pipeline"))
}

pub fn child(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).with_context(|| format!("no element {name} in the pipeline"))
}

/// Decodes `clip` into the element called `name`, and with `sound` its sound into the muxer.
fn read(pipeline: &gst::Pipeline, clip: &Clip, name: &str, sound: bool) -> Result<()> {
    let decoder =
        gst::ElementFactory::make("uridecodebin").name(format!("{name}-file")).property("uri", &clip.uri).build()?;
    if sound {
        let mut caps = decoder.property::<gst::Caps>("caps");
        caps.merge(AAC.parse::<gst::Caps>()?);
        decoder.set_property("caps", caps);
    }
    let video = child(pipeline, name)?.static_pad("sink").context("a converter without sink")?;
    let weak = pipeline.downgrade();
    let path = clip.path.clone();
    // All streams turn up before the first frame passes, so the muxer knows of the sound in time.
    decoder.connect_pad_added(move |decoder, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let linked = match caps.structure(0).map(|s| s.name().as_str()) {
            Some("video/x-raw") if !video.is_linked() => pad.link(&video).map(drop).context("its video doesn't fit"),
            Some(kind) if sound && kind.starts_with("audio/") => {
                link_sound(&pipeline, pad, kind == "audio/x-raw").context("its sound doesn't fit")
            }
            // Subtitles, a second picture, a matte's sound
            _ => Ok(()),
        };
        if let Err(err) = linked {
            gst::element_error!(decoder, gst::StreamError::Format, ("{}: {err:#}", path.display()));
        }
    });
    pipeline.add(&decoder)?;
    Ok(())
}

fn link_sound(pipeline: &gst::Pipeline, pad: &gst::Pad, encode: bool) -> Result<()> {
    // The encoder behind `harmonize` holds back seconds of frames, so the sound must be free to wait as long.
    let queue = "queue max-size-buffers=0 max-size-bytes=0 max-size-time=0";
    let encoder = if encode { "! audioconvert ! audioresample ! avenc_aac bitrate=192000" } else { "" };
    let branch = gst::parse::bin_from_description(&format!("{queue} {encoder} ! aacparse"), true)?;
    pipeline.add(&branch)?;
    branch.link_pads(Some("src"), &child(pipeline, "mux")?, Some("audio_%u"))?;
    branch.sync_state_with_parent()?;
    pad.link(&branch.static_pad("sink").context("no sink")?)?;
    Ok(())
}

/// Runs to the end, and returns how many frames came out of `harmonize`, and how the look fared where one is asked for. The
/// bar counts to `expected`.
fn play(
    pipeline: &gst::Pipeline,
    harmonize: &gst::Element,
    expected: u64,
    look: Option<&Path>,
) -> Result<(u64, Result<()>)> {
    let frames = count(&harmonize.static_pad("src").context("harmonize without src")?);
    let bar = options::progress(expected, "harmonizing");
    let bus = pipeline.bus().context("a pipeline without bus")?;
    // When this fails, its ERROR message says why.
    let _ = pipeline.set_state(gst::State::Playing);
    let ended = until_eos(&bus, &bar, &frames);
    bar.finish_and_clear();
    let exported = look.filter(|_| ended.is_ok()).map_or(Ok(()), |path| export_look(harmonize, &bus, path));
    pipeline.set_state(gst::State::Null)?;
    ended?;
    Ok((frames.load(Ordering::SeqCst), exported))
}

fn until_eos(bus: &gst::Bus, bar: &ProgressBar, frames: &AtomicU64) -> Result<()> {
    loop {
        let message = bus.timed_pop(100 * gst::ClockTime::MSECOND);
        bar.set_position(frames.load(Ordering::SeqCst));
        let Some(message) = message else { continue };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Error(error) => bail!("{}", sentence(error.error(), error.debug())),
            gst::MessageView::Warning(warning) => {
                bar.suspend(|| eprintln!("harmonize: {}", sentence(warning.error(), warning.debug())));
            }
            _ => (),
        }
    }
}

/// The message, and where GStreamer hides the cause in the debug text, its last line.
pub fn sentence(error: glib::Error, debug: Option<glib::GString>) -> String {
    let message = error.message().trim_end_matches('.').to_owned();
    match debug.as_deref().and_then(|debug| debug.lines().nth(1)) {
        Some(cause) if !message.contains(cause) => format!("{message}: {}", cause.trim_end_matches([':', '.'])),
        _ => message,
    }
}
