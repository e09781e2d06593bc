//! Looks as others read them, and how close they are on photographs and film.

use crate::shared;
use anyhow::Result;
use gstharmonize::engine::{Applied, Engine, Parameters};
use gstharmonize::frame::{
    Colorimetry, Format, Mask, Matrix, Picture, PictureMut, Plane, PlaneMut, Proxy, View, proxy,
};
use gstharmonize::harmonizers::ModelSpec;
use gstharmonize::pictures;
use gstharmonize::transfer::look::Residual;
use gstharmonize::transfer::{ColourMap, Look, Transfer, apply};
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const RGB: Colorimetry = Colorimetry::new(Matrix::Bt709, true);

/// Runs ffmpeg in `folder`; false, said on stderr, where there is none.
fn ffmpeg(folder: &Path, args: &[&str]) -> bool {
    match Command::new("ffmpeg").args(["-v", "error", "-y"]).args(args).current_dir(folder).output() {
        Ok(output) => {
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: needs ffmpeg, which can't be run: {error}");
            false
        }
    }
}

/// Root mean square and maximum of the differences on the pixels that `inside` chooses.
fn difference(a: &RgbImage, b: &RgbImage, inside: impl Fn(usize) -> bool) -> (f64, f64) {
    let chosen = a.iter().zip(b.iter()).enumerate().filter(|(i, _)| inside(i / 3));
    let of_each = chosen.map(|(_, (a, b))| f64::from(a.abs_diff(*b)));
    let (n, squares, maximum) =
        of_each.fold((0.0, 0.0, 0.0f64), |(n, squares, maximum), d| (n + 1.0, squares + d * d, maximum.max(d)));
    (f64::sqrt(squares / n), maximum)
}

/// Proxy pixels are the frame's own here, so the error that is printed is that of the frame.
#[test]
fn ffmpeg_makes_of_the_foreground_what_apply_does_within_the_printed_error() {
    let (width, height) = (96, 64);
    let composite = RgbImage::from_fn(96, 64, |x, y| Rgb([(2 * x + 20) as u8, (3 * y + 15) as u8, (x + y + 40) as u8]));
    let ellipse = |x: i32, y: i32| 4 * (x - 48).pow(2) + 9 * (y - 32).pow(2) < 5600;
    let mask = GrayImage::from_fn(96, 64, |x, y| Luma([if ellipse(x as i32, y as i32) { 255 } else { 0 }]));
    let map = |gain: f32, lift: f32| {
        ColourMap([gain, 0.1, 0.0, lift, 0.0, gain, 0.1, lift / 2.0, 0.1, 0.0, gain, -lift / 3.0])
    };
    let maps = vec![map(0.5, 0.3), map(0.9, 0.1), map(0.6, 0.25), map(0.7, 0.0)];
    let transfer = Transfer { cols: 2, rows: 2, maps, ..Transfer::identity() };

    let foreground = Mask { width, height, data: mask.as_raw().clone() };
    let mut planes = [Plane::default(); 4];
    planes[0] = Plane { data: &composite, stride: 3 * width };
    let picture = Picture { format: Format::RGB, colour: RGB, width, height, interlaced: false, planes };
    let look = Look::new(&proxy(&picture, &foreground, View::whole(width, height)), &transfer, 1.0).unwrap();
    let Residual { rms, maximum, untouched } = look.residual();
    assert!(rms > 1.0 && untouched > 5.0 * rms, "{}", look.residual());

    let mut applied = composite.clone();
    let mut planes: [PlaneMut; 4] = Default::default();
    planes[0] = PlaneMut { data: &mut applied, stride: 3 * width };
    let mut picture = PictureMut { format: Format::RGB, colour: RGB, width, height, interlaced: false, planes };
    apply(&mut picture, &foreground, &transfer, 1.0);

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    composite.save(path("composite.png")).unwrap();
    mask.save(path("mask.png")).unwrap();
    look.save(&path("look.cube")).unwrap();
    // As the help has it; `interp` is the one that the error is of, and ffmpeg's own differs by less than a code.
    for interp in ["interp=trilinear", "interp=tetrahedral"] {
        let graph =
            format!("[0]format=gbrp,split[a][b];[b]lut3d=look.cube:{interp}[c];[1]format=gbrp[m];[a][c][m]maskedmerge");
        if !ffmpeg(folder.path(), &["-i", "composite.png", "-i", "mask.png", "-lavfi", &graph, "graded.png"]) {
            return;
        }
        let graded = image::open(path("graded.png")).unwrap().into_rgb8();
        let (inside, outside) = (|i: usize| mask.as_raw()[i] > 0, |i: usize| mask.as_raw()[i] == 0);
        assert_eq!(difference(&graded, &composite, outside), (0.0, 0.0));
        // ffmpeg rounds down, so it may be a code off and half of one on average; `apply` rounds to the nearest.
        let (error, largest) = difference(&graded, &applied, inside);
        assert!(
            (error - rms).abs() < 0.6 && largest < maximum + 1.6,
            "{interp}: {error}, {largest}: {}",
            look.residual()
        );
        assert!(difference(&composite, &applied, inside).0 > 0.9 * untouched);
    }
}

/// Mean residual of the looks that the default model's transfers make.
fn mean(found: &[(Arc<Proxy>, Arc<Transfer>)]) -> Result<Residual> {
    let mut mean = Residual { rms: 0.0, maximum: 0.0, untouched: 0.0 };
    for (proxy, transfer) in found {
        let of = Look::new(proxy, transfer, 1.0)?.residual();
        mean.rms += of.rms / found.len() as f64;
        mean.maximum += of.maximum / found.len() as f64;
        mean.untouched += of.untouched / found.len() as f64;
    }
    Ok(mean)
}

#[test]
fn looks_of_photographs_and_film_are_close() {
    let Some(data) = shared::folder("data") else { return };
    let engine = Engine::load(&ModelSpec { device: "cpu".into(), ..Default::default() }, 1, &|| false).unwrap();
    let parameters = Parameters { strength: 1.0, ..Default::default() };
    let find = |composite: &Path, mask: &Path| {
        let (composite, mask) = (pictures::open(composite).unwrap().into_rgb8(), pictures::open_mask(mask).unwrap());
        let pictures::Harmonized { picture, applied } =
            pictures::harmonize(&engine, &composite, &mask, parameters).unwrap();
        let Applied { proxy, transfer, .. } = applied.unwrap();
        let look = Look::new(&proxy, &transfer, 1.0).unwrap();
        (composite, mask, picture, look, (proxy, transfer))
    };
    let folder = tempfile::tempdir().unwrap();
    let set = data.join("val/HVal");
    let list = std::fs::read_to_string(set.join("HVal_test.txt")).unwrap();
    let (mut found, mut full, mut away, mut graded) = (Vec::new(), 0.0, 0.0, 0.0);
    for name in list.split_whitespace().step_by(10) {
        let name = name.rsplit('/').next().unwrap().trim_end_matches(".jpg");
        let mask = name.rsplit_once('_').unwrap().0;
        let photo = set.join(format!("composite_images/{name}.jpg"));
        let (composite, mask, harmonized, look, pair) = find(&photo, &set.join(format!("masks/{mask}.png")));
        found.push(pair);
        // At full size, where ffmpeg reads the file.
        composite.save(folder.path().join("composite.png")).unwrap();
        look.save(&folder.path().join("look.cube")).unwrap();
        if ffmpeg(folder.path(), &["-i", "composite.png", "-vf", "format=gbrp,lut3d=look.cube", "graded.png"]) {
            let read = image::open(folder.path().join("graded.png")).unwrap().into_rgb8();
            let inside = |i: usize| mask.as_raw()[i] > 250;
            full += difference(&read, &harmonized, inside).0;
            away += difference(&composite, &harmonized, inside).0;
            graded += 1.0;
        }
    }
    let photos = mean(&found).unwrap();
    let (full, away) = (full / graded, away / graded);
    eprintln!("{} photographs: {photos}; at full size {full:.2} of {away:.2}", found.len());
    assert!(photos.rms < 2.5 && photos.rms < 0.1 * photos.untouched, "{photos}");
    assert!(graded == 0.0 || full < 0.12 * away, "{full} of {away}");

    let mut film = Vec::new();
    for second in ["0", "1", "2"] {
        for clip in ["composite", "mask"] {
            let source = data.join(format!("clips/paired/{clip}.mp4"));
            let frame = format!("{clip}.png");
            if !ffmpeg(folder.path(), &["-ss", second, "-i", source.to_str().unwrap(), "-frames:v", "1", &frame]) {
                return;
            }
        }
        film.push(find(&folder.path().join("composite.png"), &folder.path().join("mask.png")).4);
    }
    let (frames, film) = (film.len(), mean(&film).unwrap());
    eprintln!("{frames} frames of film: {film}");
    assert!(film.rms < 2.5 && film.rms < 0.2 * film.untouched, "{film}");
}
