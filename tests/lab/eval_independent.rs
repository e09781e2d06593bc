//! The figures of `eval`, picture by picture, against those that a Python program of its own computes from the definitions.

use crate::shared;
use crate::tools;
use gstharmonize::lab::eval::baselines::Baseline;
use gstharmonize::lab::eval::dataset::{self, Subset};
use gstharmonize::lab::eval::{self, Background, Report, Size};
use gstharmonize::pictures;
use image::ImageFormat;
use image::imageops::FilterType;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const PICTURES: usize = 20;

/// The first pictures of each validation set, decoded once, as decoders of JPEG differ by a code value here and there; and small,
/// as SSIM takes long in a test.
fn decoded(root: &Path, folder: &Path) -> Vec<Subset> {
    for part in ["composite_images", "masks", "real_images"] {
        fs::create_dir(folder.join(part)).unwrap();
    }
    let mut list = String::new();
    for subset in dataset::subsets(root).unwrap() {
        for triple in &subset.triples[..PICTURES / 2] {
            for (path, part, filter) in [
                (&triple.composite, "composite_images", FilterType::Triangle),
                (&triple.mask, "masks", FilterType::Nearest),
                (&triple.real, "real_images", FilterType::Triangle),
            ] {
                let to = folder.join(part).join(path.file_name().unwrap());
                let small = pictures::open(path).unwrap().resize(240, 240, filter);
                small.save_with_format(to, ImageFormat::Png).unwrap();
            }
            list += &format!("{}\n", triple.composite.file_name().unwrap().to_str().unwrap());
        }
    }
    fs::write(folder.join("HBoth_test.txt"), list).unwrap();
    dataset::subsets(folder).unwrap()
}

#[test]
fn figures_are_those_of_another_program() {
    let Some(root) = shared::folder("data/val") else { return };
    let Some(python) = tools::python("cv2") else { return };
    let folder = tempfile::tempdir().unwrap();
    let subsets = decoded(&root, folder.path());
    let (size, backgrounds) = (Size::Native, [Background::Real]);
    let measured = eval::evaluate(&subsets, &[Baseline::BestAffine.into()], size, &backgrounds, 2, || ()).unwrap();
    let names = [Baseline::BestAffine.name().to_owned()];
    let report = serde_json::to_value(Report::new(&names, size, &backgrounds, &subsets, &measured).unwrap()).unwrap();
    let pictures = report["pictures"].as_array().unwrap();
    assert_eq!(pictures.len(), PICTURES);

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/metrics.py");
    let names = pictures.iter().map(|picture| picture["name"].as_str().unwrap());
    let output = Command::new(python).arg(script).arg(folder.path()).args(names).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let python: Value = serde_json::from_slice(&output.stdout).unwrap();
    for picture in pictures {
        let name = picture["name"].as_str().unwrap();
        let close = |found: &Value, expected: &Value, tolerance: f64, what: &str| {
            let [found, expected] = [found, expected].map(|value| value.as_f64().unwrap());
            let is_close = (found - expected).abs() <= tolerance * expected.abs();
            assert!(is_close, "{name} {what}: {found}, and {expected} by Python");
        };
        close(&picture["foreground"], &python[name]["foreground"], 1e-12, "foreground");
        // A fitted value halfway between two codes may be rounded up here and down there.
        for (row, tolerance) in [("untouched", 1e-9), ("best-affine", 1e-5)] {
            for metric in ["mse", "fmse", "psnr", "fpsnr", "ssim", "fssim"] {
                let found = &picture["metrics"]["real"][row][metric];
                close(found, &python[name][row][metric], tolerance, &format!("{row} {metric}"));
            }
        }
    }
}
