//! `harmonize eval --reference` with a checkpoint in the released layout, against the same figures computed step by step.

use crate::shared;
use gstharmonize::diffusion::{Noise, Philox};
use gstharmonize::harmonizers::diffharmony::{Decoder, DiffHarmony, Parts};
use gstharmonize::harmonizers::{ModelSpec, Precision};
use gstharmonize::lab::eval::diffharmony::Published;
use gstharmonize::lab::eval::reference::Stages;
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tch::{Device, Kind, Tensor};

const SIDE: u32 = 256;

fn real() -> RgbImage {
    RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb([x / 2 + 40, y / 2 + 60, (x + y) / 3 + 30].map(|v| v as u8)))
}

fn inside(x: u32, y: u32) -> bool {
    (70..150).contains(&x) && (40..200).contains(&y)
}

fn composite() -> RgbImage {
    let real = real();
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let add = if inside(x, y) { 25 } else { 2 };
        Rgb(real.get_pixel(x, y).0.map(|v| v + add))
    })
}

/// A data set of two pictures of 256 x 256 that differ in nothing but their names.
fn data_set() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("HOne").join(name);
    for part in ["composite_images", "masks", "real_images"] {
        fs::create_dir_all(path(part)).unwrap();
    }
    for id in ["a", "b"] {
        // PNG under iHarmony4's names: the decoder goes by content.
        let png = image::ImageFormat::Png;
        composite().save_with_format(path(&format!("composite_images/{id}_1_1.jpg")), png).unwrap();
        real().save_with_format(path(&format!("real_images/{id}.jpg")), png).unwrap();
        GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]))
            .save(path(&format!("masks/{id}_1.png")))
            .unwrap();
    }
    fs::write(path("HOne_test.txt"), "a_1_1.jpg\nb_1_1.jpg\n").unwrap();
    folder
}

fn eval(data_set: &Path, model: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harmonize"))
        .args(["eval", ".", "--device", "cpu", "--json", "tables.json", "--model"])
        .arg(model)
        .args(args)
        .current_dir(data_set)
        .output()
        .unwrap()
}

/// What a run wrote as JSON, without its times.
fn json(data_set: &Path, model: &Path, args: &[&str]) -> Value {
    let output = eval(data_set, model, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut json: Value = serde_json::from_slice(&fs::read(data_set.join("tables.json")).unwrap()).unwrap();
    assert!(json.as_object_mut().unwrap().remove("seconds_per_image").is_some());
    json
}

/// PSNR, MSE and fMSE of the picture (1 x 3 x h x w in 0..1), the real or the composite's background pasted.
fn figures(picture: &Tensor, background: &RgbImage) -> [f64; 3] {
    let codes = Vec::<f32>::try_from((picture * 255.0).floor().permute([0, 2, 3, 1]).contiguous().view(-1)).unwrap();
    let (mut all, mut foreground, mut count) = (0.0, 0.0, 0.0);
    for (i, (x, y, real)) in real().enumerate_pixels().enumerate() {
        for c in 0..3 {
            let pasted = if inside(x, y) { codes[3 * i + c].into() } else { f64::from(background.get_pixel(x, y)[c]) };
            let error = (pasted - f64::from(real[c])).powi(2);
            all += error;
            if inside(x, y) {
                foreground += error;
                count += 1.0;
            }
        }
    }
    let mse = all / f64::from(3 * SIDE * SIDE);
    [10.0 * (255.0 * 255.0 / mse).log10(), mse, foreground / count]
}

/// What one picture becomes by each decoder, without and with refinement, in the order of the table's rows.
fn pictures(model: &Path, seed: u64, name: &str) -> Vec<Tensor> {
    let _no_grad = tch::no_grad_guard();
    tch::set_num_threads(1);
    let model = DiffHarmony::load(model, Device::Cpu, Precision::F32, Parts::All, &|| false).unwrap();
    let unit =
        Tensor::from_slice(&composite()).view([1, 256, 256, 3]).permute([0, 3, 1, 2]).to_kind(Kind::Float) / 255.0;
    let mask: Vec<f32> = (0..SIDE * SIDE).map(|i| inside(i % SIDE, i / SIDE) as u8 as f32).collect();
    let mask = Tensor::from_slice(&mask).view([1, 1, 256, 256]);

    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let words = Philox::new(seed).words([hash as u32, (hash >> 32) as u32, 0, 0]);
    let noise = Noise::fixed(u64::from(words[0]) | u64::from(words[1]) << 32);
    let mut pictures = Vec::new();
    for decoder in [Decoder::Vae, Decoder::ConditionVae] {
        let mut index = 0;
        let mut draws = |shape: &[i64]| {
            let field = noise.draw(index).field(shape[1] as usize, shape[2] as usize, shape[3] as usize);
            index += 1;
            Ok(Tensor::from_slice(&field).view(shape))
        };
        let picture = model.original(&(&unit * 2.0 - 1.0), &mask, 5, decoder, &mut draws).unwrap();
        let refined = model.refine(&picture, &mask, &unit).unwrap();
        pictures.extend([picture, refined]);
    }
    pictures
}

#[test]
fn tables_are_those_of_the_published_pipeline() {
    let Some(model) = shared::folder("golden/diffharmony-tiny") else { return };
    let data_set = data_set();
    let found = json(data_set.path(), &model, &["--reference", "256", "--seed", "3"]);
    let expected = ["a_1_1.jpg", "b_1_1.jpg"].map(|name| pictures(&model, 3, name));
    let names =
        ["DiffHarmony-256", "DiffHarmony-256 + refinement", "DiffHarmony++-256", "DiffHarmony++-256 + refinement"];
    for (paste, background) in [("real", real()), ("composite", composite())] {
        let rows = found["tables"][paste].as_array().unwrap();
        assert_eq!(rows.len(), 5);
        for (row, (index, name)) in rows[1..].iter().zip(names.into_iter().enumerate()) {
            assert_eq!(row["name"], name);
            let [a, b] = [0, 1].map(|picture| figures(&expected[picture][index], &background));
            for (key, (a, b)) in ["psnr", "mse", "fmse"].into_iter().zip(a.into_iter().zip(b)) {
                let found = row["all"][key].as_f64().unwrap();
                assert!((found / ((a + b) / 2.0) - 1.0).abs() < 1e-5, "{paste} {name} {key}: {found}, not {a} and {b}");
                assert_ne!(a, b, "{name}: both pictures saw the same noise");
            }
        }
    }
}

/// Two of them decode the same latents, which are sampled once.
#[test]
fn every_decoder_has_the_picture_that_the_original_pipeline_gives_it() {
    let Some(golden) = shared::folder("golden/diffharmony-tiny") else { return };
    let Some(taesd) = shared::folder("golden/taesd-tiny") else { return };
    let _no_grad = tch::no_grad_guard();
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let golden = ["base", "condition_vae"].map(|part| (part, golden.join(part)));
    for (part, target) in golden.into_iter().chain([("taesd", taesd)]) {
        std::os::unix::fs::symlink(target, folder.path().join(part)).unwrap();
    }
    let model = folder.path().to_str().unwrap().to_owned();
    let spec = ModelSpec { model, device: "cpu".into(), precision: Precision::F32 };
    let published = Published::load(&spec, 2).unwrap();
    assert_eq!(published.decoders(), ["DiffHarmony", "DiffHarmony++", "DiffHarmony/TAESD"]);
    let composite = Tensor::arange(3 * 64 * 64, (Kind::Float, Device::Cpu)).view([1, 3, 64, 64]) / (3.0 * 64.0 * 64.0);
    let mask = composite.narrow(1, 0, 1).gt(0.1).to_kind(Kind::Float);
    let found = published.harmonize(&composite, &mask, 9).unwrap();
    let model = DiffHarmony::load(folder.path(), Device::Cpu, Precision::F32, Parts::All, &|| false).unwrap();
    assert_eq!(found.len(), 3);
    for (found, decoder) in found.iter().zip([Decoder::Vae, Decoder::ConditionVae, Decoder::Taesd]) {
        let mut index = 0;
        let mut draws = |shape: &[i64]| {
            let field = Noise::fixed(9).draw(index).field(shape[1] as usize, shape[2] as usize, shape[3] as usize);
            index += 1;
            Ok(Tensor::from_slice(&field).view(shape))
        };
        let expected = model.original(&(&composite * 2.0 - 1.0), &mask, 2, decoder, &mut draws).unwrap();
        assert_eq!(found, &expected, "{decoder}");
    }
}

#[test]
fn figures_depend_on_seed_and_steps_and_not_on_jobs() {
    let Some(model) = shared::folder("golden/diffharmony-tiny") else { return };
    let data_set = data_set();
    let run = |args: &[&str]| json(data_set.path(), &model, &[&["--reference", "64"], args].concat());
    let rows = |json: &Value| -> Vec<(String, f64)> {
        let row = |row: &Value| (row["name"].as_str().unwrap().to_owned(), row["all"]["fmse"].as_f64().unwrap());
        json["tables"]["real"].as_array().unwrap().iter().map(row).collect()
    };
    let once = rows(&run(&[]));
    assert_eq!(once, rows(&run(&["--jobs", "2", "--steps", "5", "--reference", "64"])));
    let both = rows(&run(&["--reference", "128"]));
    assert_eq!((&once[..], once[1].0.as_str()), (&both[..5], "DiffHarmony-64"));
    assert_eq!((both.len(), both[8].0.as_str()), (9, "DiffHarmony++-128 + refinement"));
    for other in [rows(&run(&["--seed", "1"])), rows(&run(&["--steps", "2"]))] {
        assert_eq!(once[0], other[0], "the untouched composite");
        assert!(once[1..].iter().zip(&other[1..]).all(|(a, b)| a.0 == b.0 && a.1 != b.1), "{once:?} {other:?}");
    }
}

#[test]
fn what_does_not_go_with_reference_is_refused() {
    let data_set = data_set();
    let refused = |model: &str, args: &[&str]| {
        let output = eval(data_set.path(), Path::new(model), args);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, sentence) = refused("compact", &["--reference", "512"]);
    assert_eq!((code, sentence.lines().count()), (Some(1), 1), "{sentence}");
    assert!(sentence.contains("model compact has no reference mode"), "{sentence}");
    let (_, sentence) = refused("HOne", &["--reference", "512"]);
    assert!(sentence.contains("model HOne has no reference mode"), "{sentence}");
    let (_, sentence) = refused("nowhere", &["--reference", "512"]);
    assert!(sentence.contains("there is no model nowhere"), "{sentence}");
    for size in ["500", "0", "8192", "half"] {
        let (code, sentence) = refused("compact", &["--reference", size]);
        assert!(code == Some(2) && sentence.contains("--reference"), "{size}: {sentence}");
    }
    for other in ["--size=256", "--background=real", "--sampler=ddim", "--strength=0.5", "--proxy-size=64"] {
        let (code, sentence) = refused("compact", &["--reference", "512", other]);
        assert!(code == Some(2) && sentence.contains("cannot be used with"), "{other}: {sentence}");
    }
}
