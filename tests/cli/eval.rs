//! `harmonize eval` with several methods: what it writes, and what it refuses.

use crate::models;
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SIDE: u32 = 256;

fn real(shift: u32) -> RgbImage {
    RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb([x / 2 + 40, y / 2 + 60, (x + y) / 3 + shift].map(|v| v as u8)))
}

fn inside(x: u32, y: u32) -> bool {
    (70..150).contains(&x) && (40..200).contains(&y)
}

fn composite(shift: u32) -> RgbImage {
    let mut composite = real(shift);
    for (x, y, pixel) in composite.enumerate_pixels_mut() {
        let add = if inside(x, y) { 10 + shift as u8 } else { 2 };
        pixel.0 = pixel.0.map(|v| v + add);
    }
    composite
}

/// Three pictures of 256 x 256, and the model `model`.
fn data_set() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("HOne").join(name);
    for part in ["composite_images", "masks", "real_images"] {
        fs::create_dir_all(path(part)).unwrap();
    }
    for (shift, id) in ["a", "b", "c"].into_iter().enumerate() {
        // PNG under iHarmony4's names: the decoder goes by content.
        let save = |picture: RgbImage, to: &str| picture.save_with_format(path(to), image::ImageFormat::Png).unwrap();
        save(composite(10 * shift as u32), &format!("composite_images/{id}_1_1.jpg"));
        save(real(10 * shift as u32), &format!("real_images/{id}.jpg"));
        let mask = GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([if inside(x, y) { 255 } else { 0 }]));
        mask.save(path(&format!("masks/{id}_1.png"))).unwrap();
    }
    fs::write(path("HOne_test.txt"), "a_1_1.jpg\nb_1_1.jpg\nc_1_1.jpg\n").unwrap();
    models::write(&folder.path().join("model"));
    folder
}

fn eval(folder: &Path, args: &[&str]) -> Output {
    let mut eval = Command::new(env!("CARGO_BIN_EXE_harmonize"));
    eval.args(["eval", "HOne", "--device", "cpu"]).args(args).current_dir(folder).output().unwrap()
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let output = eval(folder, &[&["--json", "out.json"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&fs::read(folder.join("out.json")).unwrap()).unwrap()
}

fn names(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn several_models_have_the_figures_that_each_has_alone() {
    let folder = data_set();
    let alone = |model: &str| json(folder.path(), &["--model", model, "--seed", "3"])["tables"]["real"].clone();
    // `model` is the test's own, `compact` the built-in one.
    let (model, compact) = (alone("model"), alone("compact"));
    assert_eq!((names(&model), names(&compact)), (vec!["untouched", "model"], vec!["untouched", "compact"]));
    assert_ne!(model[1]["all"], compact[1]["all"]);
    for args in [&["--model", "model", "--model", "compact"][..], &["--model", "model,compact"]] {
        let both = json(folder.path(), &[args, &["--seed", "3", "--jobs", "2"]].concat());
        let rows = both["tables"]["real"].as_array().unwrap();
        assert_eq!(rows[..], [model[0].clone(), model[1].clone(), compact[1].clone()]);
    }
}

#[test]
fn baselines_are_those_asked_for() {
    let folder = data_set();
    let rows = |args: &[&str]| {
        let json = json(folder.path(), &[&["--model", "model"], args].concat());
        names(&json["tables"]["real"]).join(" ")
    };
    assert_eq!(rows(&["--baselines"]), "untouched reinhard mkl histogram best-affine model");
    assert_eq!(rows(&["--baseline", "best-affine", "--baseline", "reinhard"]), "untouched reinhard best-affine model");
    assert_eq!(rows(&["--baseline", "untouched,mkl"]), "untouched mkl model");
    let both = json(folder.path(), &["--model", "model", "--background", "both"]);
    let mse = |background: &str| both["tables"][background][0]["all"]["mse"].as_f64().unwrap();
    assert!(mse("composite") > mse("real") + 1.0, "{both}");
}

#[test]
fn foregrounds_that_fit_have_no_error_but_what_is_changed() {
    let folder = data_set();
    let changed = json(folder.path(), &["--model", "model", "--fitting", "--markdown", "tables.md"]);
    let row = |row: usize| &changed["tables"]["real"][row]["all"];
    assert_eq!(row(0)["fmse"], 0.0);
    assert!(row(1)["fmse"].as_f64().unwrap() > 0.0 && row(1)["fmse_ratio"].is_null(), "{changed}");
    let markdown = fs::read_to_string(folder.path().join("tables.md")).unwrap();
    assert!(
        markdown.starts_with("Foregrounds that fit already, at 256x256, the real background pasted;"),
        "{markdown}"
    );
    assert!(markdown.contains("| model | - | - |") && changed["fitting"] == true, "{markdown}");
}

#[test]
fn what_others_have_published_stands_beside_it() {
    let folder = data_set();
    let file = folder.path().join("HOne/published.csv");
    let heads = "composite,subset,untouched_fmse,one_fmse,two_fmse\n";
    fs::write(&file, format!("{heads}a_1_1,HOne,100,10,0\nb_1_1,HOne,100,20,90\nc_1_1,HOne,200,210,30\n")).unwrap();
    let report = json(folder.path(), &["--model", "model", "--markdown", "tables.md"]);
    assert_eq!(names(&report["published"]), ["one (published)", "two (published)"]);
    let one = &report["published"][0]["all"];
    assert_eq!((&one["fmse_ratio"], &one["fmse_ratio_median"], &one["worse"]), (&0.6.into(), &0.2.into(), &1.into()));
    let markdown = fs::read_to_string(folder.path().join("tables.md")).unwrap();
    assert!(markdown.contains("| two (published) | 0.300 ["), "{markdown}");

    // Of two pictures in three there is no figure of the three.
    fs::write(&file, format!("{heads}a_1_1,HOne,100,10,0\nb_1_1,HOne,100,20,90\n")).unwrap();
    assert!(json(folder.path(), &["--model", "model"])["published"][0]["all"].is_null());
    fs::write(&file, "a,b\n").unwrap();
    let output = eval(folder.path(), &["--model", "model"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("published.csv"), "{error}");
}

#[test]
fn a_sheet_shows_every_stage_of_a_picture() {
    let folder = data_set();
    let args = ["--model", "model", "--baseline", "best-affine", "--sheet", "sheet.png", "--markdown", "tables.md"];
    let json = json(folder.path(), &args);
    let markdown = fs::read_to_string(folder.path().join("tables.md")).unwrap();
    assert!(markdown.contains("| | HOne (3) | all (3) |") && markdown.contains("\n| best-affine | "), "{markdown}");

    // Of three pictures one is the best, one the median and one the worst.
    let ratio = |picture: &Value| {
        let fmse = |row: &str| picture["metrics"]["real"][row]["fmse"].as_f64().unwrap();
        fmse("model") / fmse("untouched")
    };
    let mut pictures: Vec<(f64, usize)> =
        json["pictures"].as_array().unwrap().iter().map(ratio).enumerate().map(|(i, ratio)| (ratio, i)).collect();
    pictures.sort_by(|a, b| a.0.total_cmp(&b.0));
    let sheet = image::open(folder.path().join("sheet.png")).unwrap().into_rgb8();
    // Columns composite, mask, best-affine, model and real beside the names; rows under the heads.
    let (cell, column, row, left, top) = (SIDE, SIDE + 8, SIDE + 30, 190, 30);
    assert_eq!(sheet.dimensions(), (left + 5 * column, top + 3 * row));
    for (place, (_, picture)) in pictures.into_iter().enumerate() {
        let shift = 10 * picture as u32;
        let at =
            |index: u32, x: u32, y: u32| sheet.get_pixel(left + index * column + x, top + place as u32 * row + y).0;
        let (composite, real) = (composite(shift), real(shift));
        let mut moved = 0;
        for (x, y) in (0..cell).flat_map(|y| (0..cell).map(move |x| (x, y))) {
            let truth = real.get_pixel(x, y).0;
            let foreground = inside(x, y);
            assert_eq!(
                at(0, x, y),
                if foreground { composite.get_pixel(x, y).0 } else { truth },
                "row {place} {x},{y}"
            );
            assert_eq!(at(1, x, y), [if foreground { 255 } else { 0 }; 3]);
            assert_eq!(at(4, x, y), truth);
            // The change was one of all colours alike, which an affine map undoes.
            assert!(at(2, x, y).iter().zip(truth).all(|(a, b)| a.abs_diff(b) <= 1));
            moved += u32::from(at(3, x, y) != at(0, x, y));
        }
        assert!(moved > 1000, "the model's own picture is the composite");
    }
}

#[test]
fn what_can_not_be_measured_together_is_refused() {
    let folder = data_set();
    let refused = |args: &[&str], code: i32, words: &str| {
        let output = eval(folder.path(), args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && stderr.contains(words), "{args:?}: {stderr}");
    };
    refused(&["--model", "model,model"], 1, "two rows would be called model");
    refused(&["--model", "mkl", "--baselines"], 1, "two rows would be called mkl");
    refused(&["--model", "model,absent"], 1, "absent");
    refused(
        &["--model", "model,compact", "--reference", "256"],
        1,
        "--reference measures one model, but 2 were asked for",
    );
    refused(&["--baseline", "magic"], 2, "best-affine");
    refused(&["--baseline", "mkl", "--baselines"], 2, "cannot be used with");
    refused(&["--reference", "256", "--baselines"], 2, "cannot be used with");
    refused(&["--reference", "256", "--sheet", "s.png"], 2, "cannot be used with");
    refused(&["--sheet", "sheet.jpg"], 2, "name it .png");
    refused(&["--sheet", "absent/sheet.png"], 2, "no such folder");
    let film = ["eval", "--video", "--composite", "a", "--mask", "b", "--model", "model,compact"];
    let output = Command::new(env!("CARGO_BIN_EXE_harmonize")).args(film).current_dir(&folder).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--video measures one model, but 2 were asked for: give --model once"), "{stderr}");
}
