//! The whole element in a pipeline, in turns with GStreamer's `compositor` and ffmpeg's `lut3d` on the same frames.
//!
//! Every pipeline reads frames that were just written into recycled buffers, as a decoder's are, and throws its own away.

use super::scene::{FORMATS, Scene};
use super::{Args, Ratio, Row, SIZES};
use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gstharmonize::frame::Format;
use indicatif::ProgressBar;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub fn measure(args: &Args, bar: &ProgressBar, rows: &mut Vec<Row>, ratios: &mut Vec<Ratio>) -> Result<()> {
    let ffmpeg = Ffmpeg::new()?;
    if ffmpeg.is_none() {
        bar.suspend(|| eprintln!("harmonize: ffmpeg is not installed, so lut3d is left out"));
    }
    for size @ [width, height] in SIZES {
        for (format, name) in FORMATS {
            let scene = Scene::new(format, width, height);
            // One list of each round's frame times a contestant.
            let (mut ours, mut compositor, mut lut3d) = (Vec::new(), Vec::new(), Vec::new());
            for round in 1..=args.rounds {
                bar.set_message(format!("element {width}x{height} {name}, round {round} of {}", args.rounds));
                ours.push(harmonize(args, &scene, name)?);
                compositor.push(layers(args, &scene, name)?);
                if let Some(ffmpeg) = &ffmpeg {
                    lut3d.push(vec![ffmpeg.lut3d(&scene, args.frames)?]);
                }
            }
            rows.push(Row::new("element", size, Some(name), &ours.concat()));
            for (to, theirs) in [("compositor", compositor), ("lut3d", lut3d)] {
                if theirs.is_empty() {
                    continue;
                }
                rows.push(Row::new(to, size, Some(name), &theirs.concat()));
                let mut of_rounds: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| mean(a) / mean(b)).collect();
                of_rounds.sort_by(f64::total_cmp);
                let ratio = of_rounds[of_rounds.len() / 2];
                ratios.push(Ratio { to, size: format!("{width}x{height}"), format: name, ratio });
            }
        }
    }
    Ok(())
}

fn mean(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64
}

fn harmonize(args: &Args, scene: &Scene, format: &str) -> Result<Vec<Duration>> {
    let pipeline =
        launch("appsrc name=a ! queue ! h.sink appsrc name=b ! queue ! h.mask harmonize name=h ! fakesink name=sink")?;
    args.model.configure(&child(&pipeline, "h")?);
    child(&pipeline, "h")?.set_property_from_str("mask-range", "full");
    play(&pipeline, scene, [(format, &scene.data), ("GRAY8", &scene.mask.data)], args.frames)
}

/// Two layers, the upper one's alpha the mask.
fn layers(args: &Args, scene: &Scene, format: &str) -> Result<Vec<Duration>> {
    let pipeline = launch(
        "compositor name=c ! fakesink name=sink appsrc name=a ! queue ! c.sink_0 appsrc name=b ! queue ! c.sink_1",
    )?;
    let mut upper = scene.data.clone();
    let with_alpha = match scene.format {
        Format::I420 => {
            upper.extend(&scene.mask.data);
            "A420"
        }
        _ => {
            upper.chunks_exact_mut(4).zip(&scene.mask.data).for_each(|(pixel, &m)| pixel[3] = m);
            format
        }
    };
    play(&pipeline, scene, [(format, &scene.data), (with_alpha, &upper)], args.frames)
}

fn launch(line: &str) -> Result<gst::Pipeline> {
    let pipeline = gst::parse::launch(line)?;
    pipeline.downcast().map_err(|_| anyhow::anyhow!("not a pipeline"))
}

fn child(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).with_context(|| format!("no element {name} in the pipeline"))
}

/// Feeds the frames (format and bytes) for `a` and `b` and returns the times between frames at the sink, warmed up.
fn play(pipeline: &gst::Pipeline, scene: &Scene, streams: [(&str, &Vec<u8>); 2], frames: u32) -> Result<Vec<Duration>> {
    let warm = frames / 8 + 1;
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let seen = arrivals.clone();
    let sink = child(pipeline, "sink")?.static_pad("sink").context("a sink without pad")?;
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        if let Ok(mut arrivals) = seen.lock() {
            arrivals.push(Instant::now());
        }
        gst::PadProbeReturn::Ok
    });
    let sources = [child(pipeline, "a")?, child(pipeline, "b")?];
    for (source, (format, _)) in sources.iter().zip(streams) {
        let caps = format!("video/x-raw,format={format},width={},height={},framerate=60/1", scene.width, scene.height);
        source.set_properties(&[("caps", &caps.parse::<gst::Caps>()?), ("block", &true), ("max-buffers", &4u64)]);
        source.set_property_from_str("format", "time");
    }
    let bus = pipeline.bus().context("a pipeline without bus")?;
    std::thread::scope(|scope| {
        for (source, (_, data)) in sources.iter().zip(streams) {
            scope.spawn(move || {
                // Without its frames the pipeline comes to an end, and too few of them arrive.
                let _ = feed(source, data, warm + frames);
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
    let arrivals = std::mem::take(&mut *arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    ensure!(arrivals.len() == (warm + frames) as usize, "{} of {} frames came out", arrivals.len(), warm + frames);
    Ok(arrivals[warm as usize - 1..].windows(2).map(|pair| pair[1] - pair[0]).collect())
}

/// Pushes `count` frames at 60 a second of stream time; ends early when the pipeline no longer takes them.
fn feed(source: &gst::Element, data: &[u8], count: u32) -> Result<()> {
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    config.set_params(None, data.len() as u32, 8, 0);
    pool.set_config(config)?;
    pool.set_active(true)?;
    for index in 0..u64::from(count) {
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

/// ffmpeg with a folder for its frame and its look.
struct Ffmpeg {
    folder: PathBuf,
}

impl Ffmpeg {
    /// `None` where it isn't installed.
    fn new() -> Result<Option<Self>> {
        let version = Command::new("ffmpeg").arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let folder = std::env::temp_dir().join(format!("harmonize-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let ffmpeg = Self { folder };
        write_look(&ffmpeg.folder.join("look.cube")).context("writing a look")?;
        Ok(Some(ffmpeg))
    }

    /// Mean time of a frame, the program's start left out.
    fn lut3d(&self, scene: &Scene, frames: u32) -> Result<Duration> {
        std::fs::write(self.folder.join("frame.raw"), &scene.data)?;
        let few = frames / 8 + 1;
        let start = self.run(scene, few)?;
        let all = self.run(scene, few + frames)?;
        Ok(all.saturating_sub(start) / frames)
    }

    fn run(&self, scene: &Scene, frames: u32) -> Result<Duration> {
        let format = if scene.format == Format::I420 { "yuv420p" } else { "rgba" };
        let line = format!(
            "-v error -nostdin -stream_loop -1 -f rawvideo -pix_fmt {format} -video_size {}x{} -framerate 60 -i frame.raw \
             -filter_threads 2 -threads 2 -vf lut3d=look.cube:interp=tetrahedral,format={format} -frames:v {frames} -f null -",
            scene.width, scene.height
        );
        let start = Instant::now();
        let output = Command::new("ffmpeg").args(line.split(' ')).current_dir(&self.folder).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ffmpeg: {}", stderr.lines().last().unwrap_or_default());
        Ok(start.elapsed())
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A look of 33 x 33 x 33 entries that brightens.
fn write_look(path: &Path) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "LUT_3D_SIZE 33")?;
    for i in 0..33u32.pow(3) {
        let [r, g, b] = [i % 33, i / 33 % 33, i / (33 * 33)].map(|v| (f64::from(v) / 32.0).powf(0.9));
        writeln!(file, "{r:.6} {g:.6} {b:.6}")?;
    }
    Ok(file.flush()?)
}
