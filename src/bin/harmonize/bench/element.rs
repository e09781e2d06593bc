//! The whole element in a pipeline, and others' elements and programs on the same frames.
//!
//! Every pipeline reads frames that were just written into recycled buffers, as a decoder's are, and throws its own away.

use super::ffmpeg::Ffmpeg;
use super::rounds::{BenchPart, Entrant};
use super::scene::{Painting, Raw};
use super::{Args, lock};
use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoFormatInfo};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Adds the pipelines of the painting's size; those that can't take a format, or aren't installed, are left out.
pub fn enter<'a>(
    args: &'a Args,
    painting: &Painting,
    ffmpeg: Option<&Rc<Ffmpeg>>,
    entrants: &mut Vec<Entrant<'a>>,
) -> Result<()> {
    for format in args.pipeline_formats() {
        let frame = Rc::new(painting.render(format)?);
        let mask = Rc::new(painting.mask_in(VideoFormat::Gray8)?);
        let upper = Rc::new(upper(painting, format)?);
        let mut enter = |what, turn: Box<dyn FnMut(u32) -> Result<Vec<Duration>> + 'a>| {
            entrants.push(Entrant::pipeline(BenchPart::new(what, painting.size, Some(format)), turn));
        };
        for (what, infers) in [("element", true), ("element, no inference", false)] {
            let (frame, mask) = (frame.clone(), mask.clone());
            enter(what, Box::new(move |count| harmonize(args, [&frame, &mask], infers, count)));
        }
        let composite = frame.clone();
        enter("compositor", Box::new(move |count| compositor(args, [&composite, &upper], count)));
        if can_take("videobalance", format)? {
            let frame = frame.clone();
            enter("videobalance", Box::new(move |count| videobalance(&frame, count)));
        }
        if let Some((ffmpeg, _)) = ffmpeg.zip(Ffmpeg::format(format)) {
            let (program, composite) = (ffmpeg.clone(), frame.clone());
            enter("lut3d", Box::new(move |count| Ok(vec![program.lut3d(&composite, None, args.threads, count)?])));
            let (program, merged) = (ffmpeg.clone(), painting.mask_in(format)?);
            let turn = move |count| Ok(vec![program.lut3d(&frame, Some(&merged), args.threads, count)?]);
            enter("lut3d+maskedmerge", Box::new(turn));
        }
    }
    Ok(())
}

/// The upper layer of two: the frame, with the ellipse as its alpha.
fn upper(painting: &Painting, format: VideoFormat) -> Result<Raw> {
    let info = VideoFormatInfo::from_format(format);
    let with_alpha = match info.depth().iter().max() {
        _ if info.has_alpha() => format,
        Some(9..) => VideoFormat::A42010le,
        _ if info.is_rgb() => VideoFormat::Rgba,
        _ => VideoFormat::A420,
    };
    let mut upper = painting.render(with_alpha)?;
    upper.write(3, &painting.mask);
    Ok(upper)
}

fn can_take(element: &str, format: VideoFormat) -> Result<bool> {
    let factory = gst::ElementFactory::find(element).with_context(|| format!("no element {element}"))?;
    let caps = gst::Caps::builder("video/x-raw").field("format", format.to_str()).build();
    Ok(factory.can_sink_any_caps(&caps))
}

fn harmonize(args: &Args, streams: [&Raw; 2], infers: bool, frames: u32) -> Result<Vec<Duration>> {
    let pipeline =
        launch("appsrc name=a ! queue ! h.sink appsrc name=b ! queue ! h.mask harmonize name=h ! fakesink name=sink")?;
    let harmonize = child(&pipeline, "h")?;
    args.model.configure(&harmonize);
    harmonize.set_property_from_str("mask-range", "full");
    if infers {
        return play(&pipeline, &streams, frames, || true);
    }
    // All of stream time is one cell of its lattice, so the first frame that finds the model ready is the only keyframe.
    harmonize.set_property("keyframe-interval", u64::MAX);
    harmonize.set_property_from_str("mode", "live");
    let count = |name| harmonize.property::<gst::Structure>("stats").get::<u64>(name).unwrap_or_default();
    let times = play(&pipeline, &streams, frames, || count("transfers") > 0)?;
    let [transfers, harmonized] = ["transfers", "harmonized"].map(count);
    ensure!(transfers == 1, "{transfers} transfers were inferred where one was to be");
    ensure!(harmonized >= u64::from(frames), "{harmonized} of {frames} frames were harmonized");
    Ok(times)
}

/// Two layers.
fn compositor(args: &Args, layers: [&Raw; 2], frames: u32) -> Result<Vec<Duration>> {
    let pipeline = launch(
        "compositor name=c ! fakesink name=sink appsrc name=a ! queue ! c.sink_0 appsrc name=b ! queue ! c.sink_1",
    )?;
    child(&pipeline, "c")?.set_property("max-threads", args.threads);
    play(&pipeline, &layers, frames, || true)
}

fn videobalance(frame: &Raw, frames: u32) -> Result<Vec<Duration>> {
    let line = "appsrc name=a ! queue ! videobalance brightness=0.05 saturation=1.1 ! fakesink name=sink";
    play(&launch(line)?, &[frame], frames, || true)
}

fn launch(line: &str) -> Result<gst::Pipeline> {
    let pipeline = gst::parse::launch(line)?;
    pipeline.downcast().map_err(|_| anyhow::anyhow!("not a pipeline"))
}

fn child(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).with_context(|| format!("no element {name} in the pipeline"))
}

/// Feeds the streams to the sources `a` and `b` and returns the times between frames at the sink. They count once `is_ready`,
/// asked in `a`'s thread, and warmed up.
fn play(
    pipeline: &gst::Pipeline,
    streams: &[&Raw],
    frames: u32,
    is_ready: impl Fn() -> bool + Sync,
) -> Result<Vec<Duration>> {
    let warm = frames / 8 + 2;
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let seen = arrivals.clone();
    let sink = child(pipeline, "sink")?.static_pad("sink").context("a sink without pad")?;
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        lock(&seen).push(Instant::now());
        gst::PadProbeReturn::Ok
    });
    let mut sources = Vec::new();
    for (name, raw) in ["a", "b"].into_iter().zip(streams) {
        let source = child(pipeline, name)?;
        let mut caps = raw.info.to_caps()?;
        caps.make_mut().set("framerate", gst::Fraction::new(60, 1));
        source.set_properties(&[("caps", &caps), ("block", &true), ("max-buffers", &4u64)]);
        source.set_property_from_str("format", "time");
        sources.push((source, &raw.data));
    }
    let bus = pipeline.bus().context("a pipeline without bus")?;
    // How many `a` has pushed when it turned out to be ready; `b` follows, or is ahead where nobody counts its frames.
    let counted = u64::from(warm + frames);
    let readied = Mutex::new(is_ready().then_some(0));
    let goes_on = |is_first: bool, pushed: u64| {
        let mut readied = lock(&readied);
        if is_first && readied.is_none() {
            if is_ready() {
                *readied = Some(pushed);
            } else {
                // No faster than they are wanted: what is not ready lets them pass at once.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        readied.is_none_or(|readied| pushed < readied + counted)
    };
    std::thread::scope(|scope| {
        for (number, (source, data)) in sources.iter().enumerate() {
            let goes_on = &goes_on;
            scope.spawn(move || {
                // Without its frames the pipeline comes to an end, and too few of them arrive.
                let _ = feed(source, data, |pushed| goes_on(number == 0, pushed));
                let _ = source.emit_by_name::<gst::FlowReturn>("end-of-stream", &[]);
            });
        }
        // When this fails, its ERROR message says why.
        let _ = pipeline.set_state(gst::State::Playing);
        let ended = bus.timed_pop_filtered(gst::ClockTime::NONE, &[gst::MessageType::Eos, gst::MessageType::Error]);
        // Before the sources are waited for: it is what lets go of one that can't push.
        pipeline.set_state(gst::State::Null)?;
        match ended.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => bail!("{}", error.error()),
            _ => Ok(()),
        }
    })?;
    let arrivals = std::mem::take(&mut *lock(&arrivals));
    let all = lock(&readied).unwrap_or_default() + counted;
    ensure!(arrivals.len() as u64 == all, "{} of {all} frames came out", arrivals.len());
    Ok(arrivals[arrivals.len() - 1 - frames as usize..].windows(2).map(|pair| pair[1] - pair[0]).collect())
}

/// Pushes frames at 60 a second of stream time while `goes_on` at their number; ends early when the pipeline no longer takes them.
fn feed(source: &gst::Element, data: &[u8], mut goes_on: impl FnMut(u64) -> bool) -> Result<()> {
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    config.set_params(None, data.len() as u32, 8, 0);
    pool.set_config(config)?;
    pool.set_active(true)?;
    for index in (0..).take_while(|&index| goes_on(index)) {
        let mut buffer = pool.acquire_buffer(None)?;
        let frame = buffer.make_mut();
        frame.map_writable()?.copy_from_slice(data);
        frame.set_pts(gst::ClockTime::from_nseconds(index * 1_000_000_000 / 60));
        frame.set_duration(gst::ClockTime::from_nseconds(1_000_000_000 / 60));
        if source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]) != gst::FlowReturn::Ok {
            break;
        }
    }
    Ok(())
}
