//! The command line as its users meet it: exit codes, and one sentence for each thing that goes wrong.

use crate::models;
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::path::Path;
use std::process::{Command, Output};

fn harmonize(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harmonize")).args(args).current_dir(folder).output().unwrap()
}

/// The one line on stderr of a command that has to fail.
fn refused(folder: &Path, args: &[&str]) -> String {
    let output = harmonize(folder, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    stderr
}

/// composite.png (64 x 48), mask.png of its size, and small.png, a mask of another.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    RgbImage::from_fn(64, 48, |x, y| Rgb([4 * x as u8, 5 * y as u8, 90])).save(path("composite.png")).unwrap();
    let ellipse = |x: i32, y: i32| (x - 32).pow(2) + 2 * (y - 24).pow(2) < 500;
    GrayImage::from_fn(64, 48, |x, y| Luma([if ellipse(x as i32, y as i32) { 255 } else { 0 }]))
        .save(path("mask.png"))
        .unwrap();
    GrayImage::from_pixel(32, 24, Luma([255])).save(path("small.png")).unwrap();
    std::fs::write(path("text.png"), "not a picture").unwrap();
    folder
}

#[test]
fn help_teaches_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let text = |args: &[&str]| {
        let output = harmonize(folder.path(), args);
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let overview = text(&["--help"]);
    for command in ["image", "video", "eval", "bench", "train", "model"] {
        assert!(overview.contains(&format!("\n  {command} ")), "{overview}");
        let help = text(&[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("harmonize {command} ")), "{help}");
        assert!(help.contains("You should see"), "{help}");
    }
}

#[test]
fn a_picture_that_does_not_fit_is_refused_in_a_sentence() {
    let folder = pictures();
    let image = |args: &[&str]| refused(folder.path(), &[&["image", "-o", "out.png"], args].concat());
    let sentence = image(&["absent.png", "mask.png"]);
    assert!(sentence.contains("absent.png: No such file or directory"), "{sentence}");
    let sentence = image(&["composite.png", "small.png"]);
    assert!(sentence.contains("small.png is 32x24 but composite.png is 64x48"), "{sentence}");
    let sentence = image(&["text.png", "mask.png"]);
    assert!(sentence.contains("text.png: "), "{sentence}");
    let sentence = image(&["composite.png", "mask.png", "--model", "no-such-model"]);
    assert!(sentence.contains("no-such-model"), "{sentence}");
    let sentence = image(&["composite.png", "mask.png", "--device", "abacus"]);
    assert!(sentence.contains("abacus"), "{sentence}");
    assert!(!folder.path().join("out.png").exists());
}

#[test]
fn arguments_out_of_range_are_refused() {
    let folder = pictures();
    for strength in ["1.5", "-0.1", "NaN", "much"] {
        let args = ["image", "composite.png", "mask.png", "-o", "out.png", &format!("--strength={strength}")];
        let output = harmonize(folder.path(), &args);
        assert_eq!(output.status.code(), Some(2), "{strength}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--strength"), "{strength}");
    }
    for option in ["--steps=1001", "--proxy-size=4097", "--sampler=heun", "--precision=f64"] {
        let output = harmonize(folder.path(), &["video", "--composite=a", "--mask=b", "-o", "c.mp4", option]);
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&option[..7]), "{option}");
    }
    let args = ["image", "composite.png", "mask.png", "-o", "out.png", "--device=cpu", "--precision=f16"];
    let sentence = refused(folder.path(), &args);
    assert!(sentence.contains("precision f16") && sentence.contains("compact"), "{sentence}");
}

#[test]
fn a_folder_without_pictures_is_refused_in_a_sentence() {
    let folder = pictures();
    let sentence = refused(folder.path(), &["eval", "absent"]);
    assert!(sentence.contains("absent: no such folder"), "{sentence}");
    let sentence = refused(folder.path(), &["eval", "."]);
    assert!(sentence.contains("composite_images/"), "{sentence}");
}

#[test]
fn image_changes_the_foreground_alone() {
    let folder = pictures();
    let path = |name: &str| folder.path().join(name);
    models::write(&path("model"));
    let run = |output: &str, more: &[&str]| {
        let args = ["image", "composite.png", "mask.png", "-o", output, "--model", "model", "--device", "cpu"];
        let output = harmonize(folder.path(), &[&args, more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run("whole.png", &["--sheet", "sheet.png"]);
    run("again.png", &[]);
    run("half.png", &["--strength", "0.5"]);
    run("none.png", &["--strength", "0"]);
    run("seed.png", &["--seed", "7"]);
    run("f32.png", &["--precision", "f32", "--sampler", "ddim", "--steps", "1"]);
    run("ddim.png", &["--steps", "3"]);
    run("euler.png", &["--steps", "3", "--sampler", "euler"]);
    let open = |name: &str| image::open(path(name)).unwrap().into_rgb8();
    let (composite, whole) = (open("composite.png"), open("whole.png"));
    let mask = image::open(path("mask.png")).unwrap().into_luma8();
    for ((before, after), mask) in composite.pixels().zip(whole.pixels()).zip(mask.pixels()) {
        assert!(mask.0[0] != 0 || before == after, "a background pixel went from {before:?} to {after:?}");
    }
    let distance =
        |other: &RgbImage| composite.iter().zip(other.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
    let (half, all) = (distance(&open("half.png")), distance(&whole));
    assert!(all > 1000 && half > all / 3 && half < all * 2 / 3, "half {half} of {all}");
    assert_eq!(open("none.png"), composite);
    assert_eq!(open("again.png"), whole);
    assert_eq!(open("f32.png"), whole, "the model's own choices");
    assert_ne!(open("euler.png"), open("ddim.png"));
    assert_ne!(open("seed.png"), whole);

    let sheet = open("sheet.png");
    assert_eq!(sheet.dimensions(), (3 * 64, 48));
    for (x, y, pixel) in sheet.enumerate_pixels() {
        let expected = match x / 64 {
            0 => *composite.get_pixel(x, y),
            1 => Rgb([mask.get_pixel(x - 64, y).0[0]; 3]),
            _ => *whole.get_pixel(x - 128, y),
        };
        assert_eq!(*pixel, expected, "{x},{y}");
    }
}

#[test]
fn eval_prints_a_table_and_writes_json() {
    let folder = pictures();
    let path = |name: &str| folder.path().join(name);
    models::write(&path("model"));
    for part in ["composite_images", "masks", "real_images"] {
        std::fs::create_dir_all(path("HOne").join(part)).unwrap();
    }
    std::fs::copy(path("composite.png"), path("HOne/composite_images/a_1_1.jpg")).unwrap();
    std::fs::copy(path("mask.png"), path("HOne/masks/a_1.png")).unwrap();
    std::fs::copy(path("composite.png"), path("HOne/real_images/a.jpg")).unwrap();
    std::fs::write(path("HOne/HOne_test.txt"), "a_1_1.jpg\n").unwrap();

    let args = [
        "eval", "HOne", "--size", "native", "--json", "out.json", "--model", "model", "--device", "cpu", "--jobs", "2",
    ];
    let output = harmonize(folder.path(), &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("fMSE ratio") && table.lines().any(|line| line.starts_with("HOne ")), "{table}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path("out.json")).unwrap()).unwrap();
    let rows = &json["tables"]["real"];
    assert_eq!((&rows[1]["name"], &json["size"]), (&"model".into(), &"native".into()));
    // The truth is the composite, which the model changed on the foreground.
    assert_eq!((&json["images"]["subsets"]["HOne"], &rows[0]["subsets"]["HOne"]["mse"]), (&1.into(), &0.0.into()));
    assert!(rows[1]["subsets"]["HOne"]["fmse"].as_f64().unwrap() > 1.0, "{json}");
}
