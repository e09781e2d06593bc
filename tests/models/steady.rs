//! How steady a real shot comes out, what becomes of a cut, and that films measured without a pipeline are the element's.

use crate::common;
use crate::common::bytes;
use crate::shared;
use gst::prelude::*;
use gstharmonize::diffusion::NoiseMode;
use gstharmonize::engine::{Engine, Entry, Outcome, Parameters, Policy, Request, Stream, Temporal};
use gstharmonize::harmonizers::ModelSpec;
use gstharmonize::lab::eval::baselines::Reinhard;
use gstharmonize::lab::eval::temporal::{Frame, Made, Measuring, VideoMetrics, mean};
use gstharmonize::pictures;
use gstharmonize::transfer::Transfer;
use image::{GrayImage, RgbImage};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const MS: i64 = 1_000_000;
const DEFAULT: Temporal =
    Temporal { interval: 0, smoothing: gstharmonize::elements::harmonize::SMOOTHING, detection: true };

fn clips() -> Option<PathBuf> {
    shared::folder("data/clips")
}

/// The bytes of the buffers that come to the `fakesink` called out, to the end.
fn play(line: &str) -> Vec<Vec<u8>> {
    common::init();
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let out = seen.clone();
    let pad = pipeline.by_name("out").unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        out.lock().unwrap().push(bytes(info.buffer().unwrap()));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{line}: {message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    std::mem::take(&mut *seen.lock().unwrap())
}

/// The first `frames` frames of a film, in the bytes of a format of 960 x 540 without padding.
fn decode(path: &Path, format: &str, frames: usize) -> Vec<Vec<u8>> {
    let mut decoded = play(&format!(
        "filesrc location={} ! decodebin ! videoconvertscale ! video/x-raw,format={format},width=960,height=540 ! \
         identity eos-after={} ! fakesink name=out sync=false",
        path.display(),
        frames + 1
    ));
    decoded.truncate(frames);
    assert_eq!(decoded.len(), frames, "{}", path.display());
    decoded
}

fn decoded(path: &Path, frames: usize) -> Vec<RgbImage> {
    decode(path, "RGB", frames).into_iter().map(|rgb| RgbImage::from_raw(960, 540, rgb).unwrap()).collect()
}

fn masks(path: &Path, frames: usize) -> Vec<GrayImage> {
    let grey = decode(path, "GRAY8,colorimetry=1:0:0:0", frames);
    grey.into_iter().map(|grey| GrayImage::from_raw(960, 540, grey).unwrap()).collect()
}

/// Composites and masks of the shot whose truth is known.
fn paired(clips: &Path, frames: usize) -> Vec<(RgbImage, GrayImage)> {
    let folder = clips.join("paired");
    decoded(&folder.join("composite.mp4"), frames).into_iter().zip(masks(&folder.join("mask.mp4"), frames)).collect()
}

fn engine() -> Engine {
    Engine::load(&ModelSpec { device: "cpu".into(), ..Default::default() }, 2, &|| false).unwrap()
}

/// Of a picture by itself.
fn still() -> Parameters {
    Parameters { strength: 1.0, ..Default::default() }
}

type Out = Vec<(RgbImage, Arc<Transfer>)>;

/// A film of 25 frames a second.
fn film(engine: &Engine, frames: &[(RgbImage, GrayImage)], temporal: Temporal, noise: NoiseMode) -> Out {
    let stream = Stream::default();
    let parameters = Parameters { request: Request { noise, ..Default::default() }, temporal, ..still() };
    let leave = |out: &mut Out, end: bool| {
        while let Some(ready) = stream.next(end, 0, &mut |ended| ended.map(drop)) {
            let Ok(Outcome::Harmonized(applied)) = ready.outcome else { panic!("a frame without a transfer") };
            out.push((pictures::picture(ready.frame).unwrap(), applied.transfer));
        }
    };
    let mut out = Vec::new();
    for (n, (composite, mask)) in frames.iter().enumerate() {
        let frame = pictures::still(composite.clone()).unwrap();
        let (mask, time) = (Arc::new(pictures::foreground(&frame, mask)), 40 * MS * n as i64);
        let entry = Entry { frame, mask, time, running_time: time, begins: false, is_margin: false, parameters };
        let policy = Policy::Exact { shows_first: false };
        stream.push(engine, entry, policy, &mut |ended| ended.map(drop)).unwrap();
        leave(&mut out, false);
    }
    leave(&mut out, true);
    assert_eq!(out.len(), frames.len());
    out
}

#[test]
fn a_real_shot_is_steady_and_no_further_from_the_truth_than_frame_by_frame() {
    let Some(clips) = clips() else { return };
    const FRAMES: usize = 75;
    let frames = paired(&clips, FRAMES);
    let reals = decoded(&clips.join("paired/real.mp4"), FRAMES);
    let engine = engine();
    let steady = film(&engine, &frames, DEFAULT, NoiseMode::Fixed);
    let alone = film(&engine, &frames, Temporal::default(), NoiseMode::Fixed);
    let noisy = |(n, (composite, mask)): (usize, &(RgbImage, GrayImage))| {
        let parameters = Parameters { request: Request { seed: n as u64, ..Default::default() }, ..still() };
        let harmonized = pictures::harmonize(&engine, composite, mask, parameters).unwrap();
        (harmonized.picture, harmonized.applied.unwrap().transfer)
    };
    let noisy: Out = frames.iter().enumerate().map(noisy).collect();
    let mut measuring = Measuring::new(4);
    let mut reinhard = None;
    for (n, ((composite, mask), real)) in frames.iter().zip(reals).enumerate() {
        let made = |way: &Out| {
            let before = n.checked_sub(1).map(|before| &way[before].1);
            let again = before.map(|transfer| pictures::changed(composite, mask, transfer, 1.0).unwrap());
            Made { picture: way[n].0.clone(), again }
        };
        let mapping = Reinhard::of(composite, mask).unwrap();
        let again = reinhard.replace(mapping).map(|before: Reinhard| before.apply(composite, mask));
        let by_reinhard = Made { picture: mapping.apply(composite, mask), again };
        let frame = Frame { composite: composite.clone(), mask: mask.clone(), real: Some(real) };
        measuring.push(frame, vec![made(&steady), made(&alone), made(&noisy), by_reinhard], None).unwrap();
    }
    let courses = measuring.finish();
    let [steady, alone, noisy, reinhard] = [0, 1, 2, 3].map(|way: usize| &courses[way]);
    let fmse = |course: &VideoMetrics| mean(&course.fmse).unwrap();
    assert!(fmse(steady) <= fmse(alone), "fMSE {} against {}", fmse(steady), fmse(alone));
    let mapping = |course: &VideoMetrics| mean(&course.mapping).unwrap();
    let figures = [steady, alone, noisy, reinhard].map(mapping);
    assert!(figures[0] <= 0.15 * figures[2] && figures[0] <= 0.5 * figures[3], "change of the mapping: {figures:?}");
    assert!(figures[1] > 0.5 * figures[2], "or smoothing has nothing to do: {figures:?}");
}

#[test]
fn the_first_frame_after_a_cut_has_all_of_the_new_scene_and_nothing_of_the_old() {
    let Some(clips) = clips() else { return };
    const EACH: usize = 16;
    let first = paired(&clips, EACH);
    let backgrounds = decoded(&clips.join("background.mp4"), EACH);
    let foregrounds =
        decoded(&clips.join("foreground.mp4"), EACH).into_iter().zip(masks(&clips.join("mask.mp4"), EACH));
    let second: Vec<_> = backgrounds
        .into_iter()
        .zip(foregrounds)
        .map(|(mut composite, (foreground, mask))| {
            for ((c, f), m) in composite.pixels_mut().zip(foreground.pixels()).zip(mask.iter()) {
                let share = f32::from(*m) / 255.0;
                c.0 = [0, 1, 2].map(|i| (f32::from(c.0[i]) * (1.0 - share) + f32::from(f.0[i]) * share).round() as u8);
            }
            (composite, mask)
        })
        .collect();
    let engine = engine();
    let both: Vec<_> = first.iter().chain(&second).cloned().collect();
    let cut = film(&engine, &both, DEFAULT, NoiseMode::Fixed);
    for (before, frames) in [(0, &first), (EACH, &second)] {
        let alone = film(&engine, frames, DEFAULT, NoiseMode::Fixed);
        assert!(alone.iter().zip(&cut[before..]).all(|(alone, cut)| alone.0 == cut.0), "the other scene shows");
    }
    let mut measuring = Measuring::new(1);
    for ((composite, mask), (picture, _)) in both.into_iter().zip(cut) {
        measuring.push(Frame { composite, mask, real: None }, vec![picture.into()], None).unwrap();
    }
    let [recovery] = measuring.finish()[0].recoveries(&[EACH])[..] else { panic!("one cut, one recovery") };
    assert!(recovery.recovery.unwrap() >= 0.95, "{recovery:?}");
}

#[test]
fn a_film_without_a_pipeline_is_the_element_s_byte_for_byte() {
    let Some(clips) = clips() else { return };
    const FRAMES: usize = 30;
    let frames = paired(&clips, FRAMES);
    let temporal = Temporal { interval: 120_000_000, ..DEFAULT };
    let ours = film(&engine(), &frames, temporal, NoiseMode::Object);

    let folder = clips.join("paired");
    let theirs = play(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=RGB ! h.sink \
         filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=GRAY8,colorimetry=1:0:0:0 ! h.mask \
         harmonize name=h device=cpu mask-range=full noise=object keyframe-interval=120000000 ! \
         identity eos-after={} ! fakesink name=out sync=false",
        folder.join("composite.mp4").display(),
        folder.join("mask.mp4").display(),
        FRAMES - 16
    ));
    // As far as the film's end shows in none of them.
    assert!(theirs.len() >= FRAMES - 17);
    for (n, (theirs, (ours, _))) in theirs.iter().zip(&ours).enumerate() {
        assert!(theirs == ours.as_raw(), "frame {n}");
    }
}
