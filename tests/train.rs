//! A short training on made-up photographs: it learns, repeats bit for bit, resumes without a seam, and its model loads.

use gstharmonize::harmonizers::Precision;
use gstharmonize::train::{Args, run};
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Held by each test that trains: first weights come from torch's one generator.
static TORCH: Mutex<()> = Mutex::new(());

/// Photographs of a disc on a gradient, each in colours of its own, with the disc as their only region.
fn photographs(folder: &Path, count: u32) {
    let photos = folder.join("photos");
    fs::create_dir_all(&photos).unwrap();
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

fn args(data: &Path, out: &Path, steps: u64) -> Args {
    Args {
        data: data.into(),
        out: out.into(),
        steps,
        batch: 4,
        learning_rate: 6e-3,
        decay: 0.0,
        seed: 1,
        device: "cpu".into(),
        workers: 2,
        bf16: false,
        every: 6,
        validation: 32,
    }
}

#[test]
fn training_learns_repeats_and_resumes() {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path(), 24);
    let out = |name: &str| folder.path().join(name);
    let model = |name: &str| fs::read(out(name).join("model.safetensors")).unwrap();

    run(&args(folder.path(), &out("straight"), 12)).unwrap();
    run(&args(folder.path(), &out("resumed"), 6)).unwrap();
    let halfway = model("resumed");
    run(&args(folder.path(), &out("resumed"), 12)).unwrap();
    assert!(halfway != model("resumed"));
    assert!(model("straight") == model("resumed"), "a resumed training ends elsewhere");

    let log: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(out("straight").join("log.json")).unwrap()).unwrap();
    let validation: Vec<f64> = log.iter().map(|row| row["validation"].as_f64().unwrap()).collect();
    assert_eq!(validation.len(), 2);
    // A network that changes nothing has exactly 1.
    assert!(validation[1] < 0.98, "12 steps left {validation:?} of the composites' error");
    assert!(image::open(out("straight").join("loss.png")).unwrap().width() > 100);

    gstharmonize::harmonizers::load(out("straight").to_str().unwrap(), tch::Device::Cpu, Precision::Auto, &|| false)
        .unwrap();
}

#[test]
fn more_workers_than_composites_in_a_step_spoil_nothing() {
    let _alone = TORCH.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path(), 24);
    let out = folder.path().join("out");
    run(&Args { batch: 2, workers: 5, validation: 2, ..args(folder.path(), &out, 1) }).unwrap();
    gstharmonize::harmonizers::load(out.to_str().unwrap(), tch::Device::Cpu, Precision::Auto, &|| false).unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |count: u32| {
        photographs(folder.path(), count);
        format!("{:#}", run(&args(folder.path(), &folder.path().join("out"), 1)).unwrap_err())
    };
    assert!(error(0).contains("no photographs (*.jpg)"));
    assert!(error(3).contains("at least 21 photographs"));
}
