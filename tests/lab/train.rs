//! Short trainings on made-up photographs: each class learns, repeats bit for bit and resumes without a seam, and its model
//! loads.

use clap::Parser;
use gstharmonize::harmonizers::Precision;
use gstharmonize::lab::train::{Args, run};
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Held by each test that trains: first weights come from torch's one generator.
static TORCH: Mutex<()> = Mutex::new(());

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// Photographs of a disc on a gradient, each in colours of its own, with the disc as their only region.
fn photographs(photos: &Path, count: u32) {
    fs::create_dir_all(photos).unwrap();
    for i in 0..count {
        let inside = |x: u32, y: u32| (x as i32 - 48).pow(2) + (y as i32 - 32).pow(2) < 400;
        let picture = RgbImage::from_fn(96, 64, |x, y| {
            let shade = |c: u32| (40 + (i * 37 * (c + 1)) % 120 + if inside(x, y) { y } else { x } / 2) as u8;
            Rgb([shade(0), shade(1), shade(2)])
        });
        picture.save(photos.join(format!("{i:03}.jpg"))).unwrap();
        let labels = GrayImage::from_fn(96, 64, |x, y| Luma([u8::from(inside(x, y))]));
        labels.save(photos.join(format!("{i:03}.png"))).unwrap();
    }
}

const COMMON: &str = "--batch 4 --learning-rate 2e-3 --decay 0 --unchanged 0.05 --seed 1 --device cpu --workers 2 --every 6 \
                      --validation 32";

/// Of options given twice the last.
fn words_once(words: &str) -> Vec<&str> {
    let mut given: Vec<&str> = Vec::new();
    for word in words.split_whitespace() {
        if let Some(place) = given.iter().position(|other| word.starts_with("--") && *other == word) {
            given.drain(place..place + 2);
        }
        given.push(word);
    }
    given
}

fn args(photos: &Path, out: &Path, more: &str) -> Args {
    let words = format!("{COMMON} {more}");
    let places = ["train", "--photos", photos.to_str().unwrap(), "--out", out.to_str().unwrap()];
    Cli::parse_from(places.into_iter().chain(words_once(&words))).args
}

fn log(out: &Path) -> Vec<Value> {
    serde_json::from_slice(&fs::read(out.join("log.json")).unwrap()).unwrap()
}

/// Runs the command line on the same arguments and kills it once it has said `line`.
fn killed_at(line: &str, photos: &Path, out: &Path, more: &str) {
    let words = format!("{COMMON} {more}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_harmonize"))
        .arg("train")
        .args([Path::new("--photos"), photos, Path::new("--out"), out])
        .args(words_once(&words))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|said| said.unwrap().starts_with(line)), "the training never said {line:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Trains `class` straight, and killed and taken up again: same model; returns the validations of the straight run.
fn learn(class: &str, more: &str) -> Vec<f64> {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(&folder.path().join("photos"), 24);
    let out = |name: &str| folder.path().join(name);
    let model = |name: &str| fs::read(out(name).join("model.safetensors")).unwrap();
    let more = format!("--class {class} {more}");
    run(&args(folder.path(), &out("straight"), &more)).unwrap();
    killed_at("step 6:", folder.path(), &out("resumed"), &more);
    let halfway = model("resumed");
    run(&args(folder.path(), &out("resumed"), &more)).unwrap();
    assert!(halfway != model("resumed"));
    assert!(model("straight") == model("resumed"), "a resumed training ends elsewhere");
    assert!(image::open(out("straight").join("page.png")).unwrap().width() > 100);

    let straight = out("straight");
    let spec = straight.to_str().unwrap();
    gstharmonize::harmonizers::load(spec, tch::Device::Cpu, Precision::Auto, &|| false).unwrap();
    log(&straight).iter().map(|row| row["validation"].as_f64().unwrap()).collect()
}

// A network that changes nothing leaves exactly 1.

#[test]
fn compact_learns_repeats_and_resumes() {
    let validation = learn("compact", "--steps 24");
    assert!(validation.last().unwrap() < &0.9, "24 steps left {validation:?} of the composites' error");
}

#[test]
fn lite0_learns_repeats_and_resumes() {
    let validation = learn("lite0", "--steps 18 --threads 2");
    assert!(validation.last().unwrap() < &0.95, "18 steps left {validation:?} of the composites' error");
}

#[test]
fn what_is_drawn_ahead_is_what_would_be_drawn() {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(&folder.path().join("photos"), 24);
    let losses = |name: &str, more: &str| {
        let out = folder.path().join(name);
        run(&args(folder.path(), &out, &format!("--steps 5 --every 1 --validation 2 {more}"))).unwrap();
        log(&out).iter().map(|row| row["loss"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(losses("asked", ""), losses("ahead", "--threads 3"));
}

#[test]
fn a_training_of_so_many_seconds_ends_with_its_model() {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(&folder.path().join("photos"), 24);
    let out = folder.path().join("out");
    // As many steps would take hours.
    run(&args(folder.path(), &out, "--steps 1000000 --every 1000000 --validation 2 --seconds 2 --decay 0.5")).unwrap();
    assert_eq!(log(&out).len(), 1);
    assert!(out.join("model.safetensors").is_file());
}

#[test]
fn gift_learns_repeats_and_resumes() {
    let validation = learn("gift", "--steps 24");
    assert!(validation.last().unwrap() < &0.9, "24 steps left {validation:?} of the composites' error");
}

#[test]
fn star_learns_stage_by_stage_repeats_and_resumes() {
    let validation = learn("star", "--steps 60");
    assert!(validation.last().unwrap() < &0.9, "60 steps left {validation:?} of the composites' error");
}

#[test]
fn more_workers_than_composites_in_a_step_spoil_nothing() {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(&folder.path().join("photos"), 24);
    let out = folder.path().join("out");
    run(&args(folder.path(), &out, "--steps 1 --batch 2 --workers 5 --validation 2")).unwrap();
    gstharmonize::harmonizers::load(out.to_str().unwrap(), tch::Device::Cpu, Precision::Auto, &|| false).unwrap();
}

/// A folder that holds nothing but photographs, some of them with a mask of another name.
#[test]
fn plain_photographs_and_masks_are_enough() {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path(), 24);
    for i in 0..24 {
        let mask = folder.path().join(format!("{i:03}.png"));
        match i % 2 {
            0 => fs::remove_file(mask).unwrap(),
            _ => fs::rename(mask, folder.path().join(format!("{i:03}-mask.png"))).unwrap(),
        }
    }
    let out = folder.path().join("out");
    run(&args(folder.path(), &out, "--steps 2 --precision bf16")).unwrap();
    assert!(log(&out)[0]["loss"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_training_begins_with_another_s_weights() {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path(), 24);
    let begin = |name: &str, more: &str| {
        let out = folder.path().join(name);
        run(&args(folder.path(), &out, &format!("--steps 1 --learning-rate 1e-9 {more}"))).unwrap();
        log(&out)[0]["validation"].as_f64().unwrap()
    };
    assert!((begin("new", "") - 1.0).abs() < 1e-3);
    // Its photographs are nothing like these.
    assert!((begin("from", "--from compact") - 1.0).abs() > 1e-2);
    let error = run(&args(folder.path(), &folder.path().join("other"), "--steps 1 --from /no/such/model")).unwrap_err();
    assert!(format!("{error:#}").contains("/no/such/model"), "{error:#}");
}

#[test]
fn a_training_that_gets_no_better_is_stopped() {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path(), 24);
    let out = folder.path().join("out");
    // Nothing is learned, so that no validation is better than the first.
    let more = "--steps 40 --every 1 --batch 1 --workers 1 --validation 2 --learning-rate 0 --patience 3";
    run(&args(folder.path(), &out, more)).unwrap();
    assert_eq!(log(&out).len(), 4);
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    let error = |count: u32| {
        photographs(&photos, count);
        format!("{:#}", run(&args(folder.path(), &folder.path().join("out"), "")).unwrap_err())
    };
    assert!(error(0).contains("no photographs (*.jpg, *.png)"));
    assert!(error(3).contains("at least 21 photographs"));
}
