//! `harmonize eval --video` on small films and folders of frames made on the spot.

use crate::models;
use crate::tools;
use gst::prelude::*;
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const FRAMES: u32 = 8;
const WIDTH: u32 = 128;
const HEIGHT: u32 = 96;

/// Folders of frames and a model: a textured ball that goes to the right over a texture, in a light that flickers; in `composite`
/// the ball is recoloured, in `frozen` all stays as it is.
fn folders() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["composite", "mask", "real", "frozen", "frozen-mask", "black"] {
        let frames = folder.path().join(name);
        std::fs::create_dir(&frames).unwrap();
        for index in 0..FRAMES {
            let file = frames.join(format!("{index:03}.png"));
            let at = if name.starts_with("frozen") { 0 } else { 2 * index };
            match name {
                "mask" | "frozen-mask" => mask(at).save(file).unwrap(),
                "black" => GrayImage::new(WIDTH, HEIGHT).save(file).unwrap(),
                _ => frame(at, name != "real").save(file).unwrap(),
            }
        }
    }
    models::write(&folder.path().join("model"));
    folder
}

fn is_ball(x: u32, y: u32, at: u32) -> bool {
    (x as i32 - 40 - at as i32).pow(2) + (y as i32 - 48).pow(2) < 24 * 24
}

fn mask(at: u32) -> GrayImage {
    GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([if is_ball(x, y, at) { 255 } else { 0 }]))
}

fn frame(at: u32, is_recoloured: bool) -> RgbImage {
    let texture = |x: f32, y: f32| 110.0 + 40.0 * (x / 5.0).sin() * (y / 7.0).cos() + 20.0 * ((x + y) / 9.0).sin();
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let ball = is_ball(x, y, at);
        let v = if ball { texture((x - at) as f32 + 50.0, y as f32) } else { texture(x as f32, y as f32) };
        let tint = if ball && is_recoloured { [1.3, 0.9, 0.6] } else { [0.9, 1.0, 1.1] };
        let light = (at % 4) as f32;
        Rgb(tint.map(|tint: f32| (tint * v + light) as u8))
    })
}

fn eval(folder: &Path, args: &[&str]) -> Output {
    let model: &[&str] = if args.contains(&"--model") { &[] } else { &["--model", "model"] };
    Command::new(env!("CARGO_BIN_EXE_harmonize"))
        .args(["eval", "--video", "--device", "cpu"])
        .args(model)
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// What is printed, and the rows of the JSON by name.
fn measured(folder: &Path, args: &[&str]) -> (String, Value, Vec<String>) {
    let output = eval(folder, &[args, &["--json", "out.json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("out.json")).unwrap()).unwrap();
    let names = json["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    (String::from_utf8(output.stdout).unwrap(), json, names)
}

fn row<'a>(json: &'a Value, name: &str) -> &'a Value {
    json["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn folders_of_frames_are_measured_drawn_and_written() {
    let folder = folders();
    let python = tools::python("cv2");
    let mut args = vec!["--composite", "composite", "--mask", "mask", "--real", "real", "--cuts", "4"];
    args.extend(["--plot", "plot.png", "--strip", "strip.png"]);
    match &python {
        Some(python) => args.extend(["--python", python.to_str().unwrap()]),
        None => args.push("--no-flow"),
    }
    let (table, json, names) = measured(folder.path(), &args);
    let expected = ["composite", "real", "Reinhard per frame", "noise per frame", "frame by frame", "harmonize"];
    assert_eq!(names, expected);
    for name in expected {
        assert_eq!(table.lines().filter(|line| line.starts_with(name)).count(), 2, "{name}: {table}");
        assert_eq!(row(&json, name)["series"]["fmse"].as_array().unwrap().len() as u32, FRAMES);
        assert_eq!(row(&json, name)["cuts"][0]["frame"], 4);
    }
    let (composite, real, harmonize) = (row(&json, "composite"), row(&json, "real"), row(&json, "harmonize"));
    assert_eq!((&composite["change"], &composite["flicker_ratio"]), (&0.0.into(), &1.0.into()));
    assert_eq!((&real["fmse"], &real["psnr"]), (&0.0.into(), &100.0.into()));
    assert!(number(&composite["fmse"]) > 100.0 && number(&real["cuts"][0]["recovery"]) > 0.8, "{table}");
    // The model, of noise as it is, does something to the foreground.
    let correction = &harmonize["series"]["correction"][0];
    assert!(number(&correction[0]).abs() + number(&correction[1]).abs() > 1.0, "{table}");
    assert_eq!(composite["e_warp"].is_number(), python.is_some());
    if python.is_some() {
        assert!(json["flow"].as_str().unwrap().starts_with("DIS of OpenCV "), "{table}");
        for figure in ["e_warp", "e_warp_foreground", "tl"] {
            assert!(number(&real[figure]) >= 0.0 && number(&harmonize[figure]) > 0.0, "{table}");
        }
    }
    let plot = image::open(folder.path().join("plot.png")).unwrap();
    let strip = image::open(folder.path().join("strip.png")).unwrap();
    assert!(plot.height() > 3 * 300 && strip.height() > HEIGHT && strip.width() > 4 * 300);
}

#[test]
fn a_strip_shows_the_column_that_is_asked_for() {
    let folder = folders();
    let strip = |column: &str| {
        let args = ["--composite", "composite", "--mask", "mask", "--no-flow", "--strip", "strip.png"];
        measured(folder.path(), &[&args[..], &["--column", column]].concat());
        image::open(folder.path().join("strip.png")).unwrap().into_rgb8()
    };
    // The composite's panel is the first; somewhere in it is the column's pixel at the first frame.
    for column in [5, 60] {
        let (strip, pixels) = (strip(&column.to_string()), frame(0, true));
        let top = strip.height() - HEIGHT - 12;
        for y in 0..HEIGHT {
            assert_eq!(strip.get_pixel(12, top + y), pixels.get_pixel(column, y), "column {column} row {y}");
        }
    }
}

#[test]
fn a_frozen_film_only_moves_with_its_noise() {
    let folder = folders();
    let (table, json, names) =
        measured(folder.path(), &["--composite", "frozen", "--mask", "frozen-mask", "--no-flow"]);
    assert!(!names.contains(&"real".into()) && table.contains("flow: none"), "{table}");
    for name in ["composite", "Reinhard per frame", "frame by frame"] {
        let row = row(&json, name);
        assert_eq!((&row["change"], &row["flicker"]), (&0.0.into(), &0.0.into()), "{name}: {table}");
    }
    assert!(number(&row(&json, "harmonize")["change"]) < 0.01, "{table}");
    let noisy = row(&json, "noise per frame");
    assert!(number(&noisy["change"]) > 0.05 && number(&noisy["flicker"]) > 0.01, "{table}");
    assert_eq!((&noisy["fmse"], &noisy["e_warp"], &noisy["flicker_ratio"]), (&Value::Null, &Value::Null, &Value::Null));
}

#[test]
fn films_are_measured_as_the_element_sees_them() {
    gst::init().unwrap();
    let folder = folders();
    for (name, pattern) in [("composite.mp4", "gradient"), ("mask.mp4", "ball")] {
        let line = format!(
            "videotestsrc pattern={pattern} num-buffers=10 ! video/x-raw,format=I420,framerate=25/1,width=126,height=90 ! \
             x264enc pass=quant quantizer=5 ! h264parse ! mp4mux ! filesink location={}",
            folder.path().join(name).display()
        );
        let pipeline = gst::parse::launch(&line).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(30 * gst::ClockTime::SECOND, &end).expect("no end");
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    }
    let film = ["--composite", "composite.mp4", "--mask", "mask.mp4", "--no-flow"];
    let (table, json, _) = measured(folder.path(), &film);
    assert!(table.starts_with("model model, 10 frames of 126x90"), "{table}");
    assert_eq!(row(&json, "harmonize")["series"]["correction"].as_array().unwrap().len(), 10);
    assert!(number(&row(&json, "harmonize")["series"]["correction"][0][0]).abs() > 0.5, "{table}");

    let (table, json, _) = measured(folder.path(), &[&film[..], &["--strength", "0"]].concat());
    for colour in row(&json, "harmonize")["series"]["correction"].as_array().unwrap() {
        assert_eq!(*colour, Value::from(vec![0.0; 3]), "{table}");
    }
}

#[test]
fn what_does_not_fit_is_refused_in_a_sentence() {
    let folder = folders();
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    std::fs::create_dir(folder.path().join("short")).unwrap();
    for index in 0..FRAMES {
        GrayImage::from_pixel(32, 32, Luma([255])).save(small.join(format!("{index}.png"))).unwrap();
    }
    for index in 0..FRAMES - 3 {
        mask(0).save(folder.path().join(format!("short/{index}.png"))).unwrap();
    }
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let refused = |args: &[&str], words: &[&str]| {
        let output = eval(folder.path(), args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{args:?}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{args:?}: {stderr}");
    };
    let film = ["--composite", "composite", "--mask", "mask", "--no-flow"];
    let with = |more: &[&'static str]| [&film[..], more].concat();
    refused(&with(&["--cuts", "3,8"]), &["no cut at frame 8", "0 to 7"]);
    refused(&with(&["--strip", "s.png", "--column", "128"]), &["--column 128", "128 columns"]);
    refused(&with(&["--real", "short"]), &["short ends after 5 frames"]);
    refused(&with(&["--real", "absent"]), &["absent"]);
    refused(&["--composite", "composite", "--mask", "short", "--no-flow"], &["composite has more than the 5 frames"]);
    refused(&["--composite", "composite", "--mask", "small", "--no-flow"], &["small is 32x32", "composite 128x96"]);
    refused(&["--composite", "composite", "--mask", "black", "--no-flow"], &["black is black everywhere"]);
    refused(&["--composite", "empty", "--mask", "mask", "--no-flow"], &["empty: neither PNG nor JPEG"]);
    refused(&["--composite", "composite/000.png", "--mask", "mask", "--no-flow"], &["000.png is a picture"]);
    refused(&film[..4].iter().chain(&["--python", "false"]).copied().collect::<Vec<_>>(), &["false", "--no-flow"]);
    refused(&with(&["--model", "no-such-model"]), &["no-such-model"]);
}

#[test]
fn options_of_films_and_data_sets_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let usage = |args: &[&str], word: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_harmonize")).arg("eval").args(args).current_dir(&folder).output();
        let (code, stderr) = output.map(|o| (o.status.code(), String::from_utf8(o.stderr).unwrap())).unwrap();
        assert!(code == Some(2) && stderr.contains(word), "{args:?}: {stderr}");
    };
    usage(&[], "<DATASET>");
    usage(&["--video", "--composite", "a"], "--mask");
    usage(&["--video", "--mask", "a"], "--composite");
    usage(&["set", "--video", "--composite", "a", "--mask", "b"], "cannot be used with");
    usage(&["set", "--composite", "a"], "--video");
    usage(&["--video", "--composite", "a", "--mask", "b", "--size", "native"], "cannot be used with");
    usage(&["--video", "--composite", "a", "--mask", "b", "--column", "3"], "--strip");
}
