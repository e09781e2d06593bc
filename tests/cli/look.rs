//! `harmonize image|video --export-look`: the file, the line that is printed, and what is refused.

use crate::models;
use gst::prelude::*;
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::path::Path;
use std::process::{Command, Output};

fn harmonize(folder: &Path, args: &[&str]) -> Output {
    let model = ["--model", "model", "--device", "cpu"];
    Command::new(env!("CARGO_BIN_EXE_harmonize")).args(args).args(model).current_dir(folder).output().unwrap()
}

/// The line on stdout of a command that goes well.
fn printed(folder: &Path, args: &[&str]) -> String {
    let output = harmonize(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    stdout.trim_end().into()
}

/// composite.png and mask.png (64 x 48), black.png, and a model.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    RgbImage::from_fn(64, 48, |x, y| Rgb([3 * x as u8 + 30, 4 * y as u8 + 20, 90]))
        .save(path("composite.png"))
        .unwrap();
    let ellipse = |x: i32, y: i32| (x - 32).pow(2) + 2 * (y - 24).pow(2) < 500;
    GrayImage::from_fn(64, 48, |x, y| Luma([if ellipse(x as i32, y as i32) { 255 } else { 0 }]))
        .save(path("mask.png"))
        .unwrap();
    GrayImage::new(64, 48).save(path("black.png")).unwrap();
    models::write(&path("model"));
    folder
}

/// film.mp4, ten frames of 160 x 90.
fn film(folder: &Path) {
    gst::init().unwrap();
    let line = format!(
        "videotestsrc pattern=gradient num-buffers=10 ! video/x-raw,format=I420,framerate=25/1,width=160,height=90 ! \
         x264enc pass=quant quantizer=5 ! h264parse ! mp4mux ! filesink location={}",
        folder.join("film.mp4").display()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(30 * gst::ClockTime::SECOND, &end).expect("no end");
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
}

/// The table of a .cube, and the error that its comment tells, which the printed line has to tell as well.
fn read(path: &Path, printed: &str) -> Vec<[f64; 3]> {
    let text = std::fs::read_to_string(path).unwrap();
    let comment = text.lines().find(|line| line.contains("RMS")).unwrap().trim_start_matches("# ");
    assert_eq!(printed, format!("{}: {comment}", path.file_name().unwrap().display()));
    let table = text.lines().skip_while(|line| !line.starts_with("DOMAIN_MAX")).skip(1);
    table.map(|line| line.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap()).collect()
}

fn identity(i: usize) -> [f64; 3] {
    [i % 33, i / 33 % 33, i / 1089].map(|c| c as f64 / 32.0)
}

/// The largest change that a look makes.
fn change(table: &[[f64; 3]]) -> f64 {
    assert_eq!(table.len(), 33 * 33 * 33);
    let changes = table.iter().enumerate().flat_map(|(i, entry)| [0, 1, 2].map(|c| (entry[c] - identity(i)[c]).abs()));
    changes.fold(0.0, f64::max)
}

#[test]
fn a_picture_s_look_goes_with_its_strength() {
    let folder = pictures();
    let look = |strength: &str| {
        let picture = ["image", "composite.png", "mask.png", "-o", "out.png", "--export-look", "look.cube"];
        let line = printed(folder.path(), &[&picture[..], &["--strength", strength]].concat());
        read(&folder.path().join("look.cube"), &line)
    };
    let (half, whole) = (look("0.5"), look("1"));
    assert!(change(&look("0")) < 1e-5 && change(&whole) > 0.05);
    let mut compared = 0;
    for (i, (half, whole)) in half.iter().zip(&whole).enumerate() {
        // Colours that are held in 0..1 have no half.
        for c in (0..3).filter(|&c| whole[c] > 0.0 && whole[c] < 1.0) {
            assert!((half[c] - (identity(i)[c] + whole[c]) / 2.0).abs() < 1e-4, "{i}: {half:?} of {whole:?}");
            compared += 1;
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn a_film_s_look_is_that_of_its_last_harmonized_frame() {
    let folder = pictures();
    film(folder.path());
    let path = |name: &str| folder.path().join(name);
    let args = ["video", "--composite", "film.mp4", "-o", "out.mp4", "--export-look", "look.cube", "--mask"];
    let line = printed(folder.path(), &[&args[..], &["mask.png"]].concat());
    assert!(change(&read(&path("look.cube"), &line)) > 0.05 && path("out.mp4").exists());

    // No frame of it is harmonized: the film is there all the same.
    for name in ["out.mp4", "look.cube"] {
        std::fs::remove_file(path(name)).unwrap();
    }
    let output = harmonize(folder.path(), &[&args[..], &["black.png"]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("look") && stderr.contains("no frame has been harmonized"), "{stderr}");
    assert!(path("out.mp4").exists() && !path("out.mp4.part").exists() && !path("look.cube").exists());
}

#[test]
fn what_can_be_no_look_is_refused() {
    let folder = pictures();
    let image = |mask: &str, look: &str| {
        let output =
            harmonize(folder.path(), &["image", "composite.png", mask, "-o", "out.png", "--export-look", look]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = image("black.png", "look.cube");
    assert!(code == Some(1) && text.contains("black.png is black everywhere") && text.lines().count() == 1, "{text}");
    let (code, text) = image("mask.png", "look.lut");
    assert!(code == Some(2) && text.contains("look.lut") && text.contains("name it .cube"), "{text}");
    let (code, text) = image("mask.png", "nowhere/look.cube");
    assert!(code == Some(2) && text.contains("no such folder"), "{text}");
    assert!(!folder.path().join("out.png").exists());

    std::fs::create_dir(folder.path().join("taken.cube")).unwrap();
    let (code, text) = image("mask.png", "taken.cube");
    assert!(code == Some(1) && text.contains("taken.cube is no file: name another"), "{text}");
    assert!(!folder.path().join("out.png").exists(), "known before anything is done");
}

#[test]
fn help_tells_what_to_do_with_it() {
    for command in ["image", "video"] {
        let output = harmonize(Path::new("."), &[command, "--help"]);
        let help = String::from_utf8(output.stdout).unwrap();
        for word in ["--export-look look.cube", "lut3d=look.cube", "maskedmerge", "the look's error"] {
            assert!(help.contains(word), "{word}: {help}");
        }
    }
}
