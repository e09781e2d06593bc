//! `harmonize video` on small films made on the spot.

use crate::models;
use gst::prelude::*;
use gst_video::prelude::*;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const WIDTH: usize = 160;
const HEIGHT: usize = 90;
const FRAMES: usize = 20;

/// Films of 160 x 90 at 25 frames a second (a matte has a white ball that moves), a still and a model.
fn films() -> tempfile::TempDir {
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Of `frames` at 25 a second, five times as fast as videotestsrc moves its ball; then scaled and brought to `rate`.
    let film = |name: &str, pattern: &str, frames: usize, rate: usize, size: &str| {
        run(&format!(
            "videotestsrc pattern={pattern} num-buffers={} ! video/x-raw,format=I420,framerate=125/1,width=160,height=90 ! \
             videorate ! video/x-raw,framerate=25/1 ! videorate ! videoscale ! video/x-raw,framerate={rate}/1,{size} ! \
             x264enc pass=quant quantizer=5 ! h264parse ! mp4mux ! filesink location={}",
            5 * frames,
            folder.path().join(name).display()
        ));
    };
    let small = "width=160,height=90";
    film("matte.mp4", "ball", FRAMES, 25, small);
    film("short-matte.mp4", "ball", FRAMES / 2, 25, small);
    film("long-matte.mp4", "ball", 2 * FRAMES, 25, small);
    film("large-matte.mp4", "ball", FRAMES, 50, "width=320,height=180");
    film("short.mp4", "smpte", FRAMES / 2, 25, "width=80,height=90");
    film("long.mp4", "smpte", 2 * FRAMES, 30, "width=320,height=90");
    run(&format!(
        "videotestsrc pattern=gradient num-buffers={FRAMES} ! video/x-raw,format=I420,framerate=25/1,{small} ! \
         x264enc pass=quant quantizer=5 ! h264parse ! mp4mux name=m ! filesink location={} \
         audiotestsrc num-buffers=35 ! audio/x-raw,rate=44100,channels=2 ! avenc_aac ! aacparse ! m.",
        folder.path().join("picture.mp4").display()
    ));
    image::RgbImage::from_pixel(64, 64, image::Rgb([200, 40, 40])).save(folder.path().join("still.png")).unwrap();
    std::fs::write(folder.path().join("text.mp4"), "not a film").unwrap();
    models::write(&folder.path().join("model"));
    folder
}

fn run(line: &str) {
    let pipeline = gst::parse::launch(line).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(30 * gst::ClockTime::SECOND, &end).expect("no end");
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{line}: {message:?}");
}

/// Running time in milliseconds and luma of each frame.
fn decode(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let line = format!("filesrc location={} ! qtdemux ! avdec_h264 ! fakesink name=sink", path.display());
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let frames = Arc::new(Mutex::new(Vec::new()));
    let seen = frames.clone();
    let sink = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
    sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        let info = gst_video::VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
        assert_eq!((info.width(), info.height()), (WIDTH as u32, HEIGHT as u32));
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
        let rows = frame.plane_data(0).unwrap().chunks(frame.info().stride()[0] as usize).take(HEIGHT);
        let luma = rows.flat_map(|row| row[..WIDTH].to_vec()).collect();
        let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
        let time = segment.segment().downcast_ref::<gst::ClockTime>().unwrap().to_running_time(buffer.pts()).unwrap();
        seen.lock().unwrap().push((time.mseconds(), luma));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(30 * gst::ClockTime::SECOND, &end).expect("no end");
    assert_eq!(message.type_(), gst::MessageType::Eos, "{}: {message:?}", path.display());
    pipeline.set_state(gst::State::Null).unwrap();
    std::mem::take(&mut *frames.lock().unwrap())
}

fn video(folder: &Path, args: &[&str]) -> Output {
    let model: &[&str] = if args.contains(&"--model") { &[] } else { &["--model", "model", "--device", "cpu"] };
    Command::new(env!("CARGO_BIN_EXE_harmonize"))
        .arg("video")
        .args(model)
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn made(folder: &Path, args: &[&str]) -> Vec<(u64, Vec<u8>)> {
    let output = video(folder, &[args, &["-o", "out.mp4"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    decode(&folder.join("out.mp4"))
}

fn times(frames: &[(u64, Vec<u8>)]) -> Vec<u64> {
    frames.iter().map(|(time, _)| *time).collect()
}

/// Mean distance of two films' luma where the matte is white, and where it is black.
fn distances(a: &[(u64, Vec<u8>)], b: &[(u64, Vec<u8>)], matte: &[(u64, Vec<u8>)]) -> [f64; 2] {
    [|m: u8| m > 200, |m: u8| m < 20].map(|wanted| {
        let (mut sum, mut count) = (0.0, 0);
        for (((_, a), (_, b)), (_, m)) in a.iter().zip(b).zip(matte) {
            for ((a, b), _) in a.iter().zip(b).zip(m).filter(|(_, m)| wanted(**m)) {
                sum += f64::from(a.abs_diff(*b));
                count += 1;
            }
        }
        sum / f64::from(count)
    })
}

#[test]
fn a_composite_keeps_its_frames_its_background_and_its_sound() {
    let folder = films();
    let folder = folder.path();
    let matte = decode(&folder.join("matte.mp4"));
    let composite = decode(&folder.join("picture.mp4"));
    let expected: Vec<u64> = (0..FRAMES as u64).map(|i| 40 * i).collect();
    assert_eq!(times(&composite), expected);

    for mask in ["matte.mp4", "large-matte.mp4"] {
        let out = made(folder, &["--composite", "picture.mp4", "--mask", mask]);
        assert_eq!(times(&out), expected, "{mask}");
        let [inside, outside] = distances(&composite, &out, &matte);
        assert!(inside > 10.0 && outside < 1.0, "{mask}: {inside} inside, {outside} outside");
    }
    let info = gst_pbutils::Discoverer::new(gst::ClockTime::from_seconds(5))
        .and_then(|d| d.discover_uri(&format!("file://{}", folder.join("out.mp4").display())))
        .unwrap();
    let sound = info.audio_streams();
    assert_eq!((sound.len(), sound[0].sample_rate(), sound[0].channels()), (1, 44100, 2));

    let untouched = made(folder, &["--composite", "picture.mp4", "--mask", "matte.mp4", "--strength", "0"]);
    let [inside, outside] = distances(&composite, &untouched, &matte);
    assert!(inside < 1.5 && outside < 1.0, "{inside} inside, {outside} outside");
}

#[test]
fn a_foreground_over_backgrounds_of_other_sizes_lengths_and_rates() {
    let folder = films();
    let folder = folder.path();
    let matte = decode(&folder.join("matte.mp4"));
    let foreground = decode(&folder.join("picture.mp4"));
    for (background, mask) in [("long.mp4", "matte.mp4"), ("short.mp4", "matte.mp4"), ("still.png", "long-matte.mp4")] {
        let layered = |strength: &str| {
            let picture = ["--foreground", "picture.mp4", "--background", background, "--mask", mask];
            made(folder, &[&picture[..], &["--strength", strength]].concat())
        };
        let (plain, harmonized) = (layered("0"), layered("1"));
        assert_eq!((times(&plain), times(&harmonized)), (times(&foreground), times(&foreground)), "{background}");
        // The background is there to the end, even where it is shorter.
        let brightness = |at: usize| {
            let outside = plain[at].1.iter().zip(&matte[at].1).filter(|(_, m)| **m < 20).map(|(y, _)| f64::from(*y));
            outside.clone().sum::<f64>() / outside.count() as f64
        };
        assert!((brightness(0) - brightness(FRAMES - 1)).abs() < 10.0, "{background}");
        // Each frame shows the foreground of its own time through its own matte, and only there does harmonizing change it.
        // 1.8 on GStreamer 1.22 and 2.3 on 1.26, whose `compositor` rounds in another way where the matte is grey.
        let [inside, outside] = distances(&foreground, &plain, &matte);
        assert!(inside < 3.0 && outside > 10.0, "{background}: {inside} inside, {outside} outside");
        let [inside, outside] = distances(&plain, &harmonized, &matte);
        assert!(inside > 5.0 && outside < 0.6, "{background}: {inside} inside, {outside} outside");
    }
}

#[test]
fn what_does_not_fit_is_refused_in_a_sentence() {
    let folder = films();
    let folder = folder.path();
    let refused = |args: &[&str]| {
        let output = video(folder, args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{args:?}: {stderr}");
        assert!(
            !folder.join("out.mp4").exists() && !folder.join("out.mp4.part").exists(),
            "{args:?} left a film behind"
        );
        stderr
    };
    let composite =
        |composite: &str, mask: &str, output: &str| refused(&["--composite", composite, "--mask", mask, "-o", output]);
    let sentence = composite("absent.mp4", "matte.mp4", "out.mp4");
    assert!(sentence.contains("absent.mp4: No such file"), "{sentence}");
    let sentence = composite("picture.mp4", "text.mp4", "out.mp4");
    assert!(sentence.contains("text.mp4: "), "{sentence}");
    let sentence = composite("still.png", "matte.mp4", "out.mp4");
    assert!(sentence.contains("still.png is a picture"), "{sentence}");
    let sentence = composite("picture.mp4", "matte.mp4", "out.gif");
    assert!(sentence.contains("out.gif") && sentence.contains(".mp4"), "{sentence}");
    let sentence = composite("picture.mp4", "matte.mp4", "./matte.mp4");
    assert!(sentence.contains("matte.mp4 would be overwritten"), "{sentence}");
    let sentence = composite("picture.mp4", "matte.mp4", "nowhere/out.mp4");
    assert!(sentence.contains("nowhere/out.mp4"), "{sentence}");
    let sentence = refused(&[
        "--composite",
        "picture.mp4",
        "--mask",
        "matte.mp4",
        "-o",
        "out.mp4",
        "--seed",
        "1",
        "--model",
        "none",
    ]);
    assert!(sentence.contains("none"), "{sentence}");

    let missing = video(folder, &["--mask", "matte.mp4", "-o", "out.mp4"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(folder.join("matte.mp4").metadata().unwrap().len() > 1000, "an input was overwritten");
}

#[test]
fn the_last_matte_stays() {
    let folder = films();
    let folder = folder.path();
    let mut matte = decode(&folder.join("short-matte.mp4"));
    let shown = matte.len();
    assert!(shown < FRAMES);
    matte.resize(FRAMES, matte[shown - 1].clone());
    let plain = |args: &[&str], strength| {
        made(folder, &[args, &["--mask", "short-matte.mp4", "--strength", strength]].concat())
    };
    for args in [&["--composite", "picture.mp4"][..], &["--foreground", "picture.mp4", "--background", "long.mp4"]] {
        let (plain, harmonized) = (plain(args, "0"), plain(args, "1"));
        assert_eq!((plain.len(), harmonized.len()), (FRAMES, FRAMES), "{args:?}");
        let [inside, outside] = distances(&plain[shown..], &harmonized[shown..], &matte[shown..]);
        assert!(inside > 5.0 && outside < 0.6, "{args:?}: {inside} inside, {outside} outside");
    }
}

/// With strength 0 nobody waits for the model: the process ends while it is warmed up.
#[test]
fn a_film_that_is_done_before_the_model_is_warm_ends_well() {
    let folder = films();
    for attempt in 0..8 {
        let out = format!("out-{attempt}.mp4");
        let args =
            ["--composite", "picture.mp4", "--mask", "matte.mp4", "-o", &out, "--strength", "0", "--model", "compact"];
        let output = video(folder.path(), &[&args[..], &["--stop", "2"]].concat());
        assert!(output.status.success(), "attempt {attempt}: {:?}", output);
    }
}
