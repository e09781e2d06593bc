//! The built-in models on photographs that none of them ever saw: they keep what their model cards promise.

mod shared;

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Model, subset, most of the composites' foreground error that may be left, and least gain in PSNR (dB).
const PROMISED: [(&str, &str, f64, f64); 6] = [
    ("compact", "HVal", 0.60, 2.8),
    ("compact", "HPeople", 0.46, 3.0),
    ("gift", "HVal", 0.70, 2.0),
    ("gift", "HPeople", 0.70, 2.0),
    ("star", "HVal", 0.70, 2.0),
    ("star", "HPeople", 0.70, 2.0),
];
/// Most foreground error that the default model may bring into pictures that fit already.
const PROMISED_FITTING: f64 = 250.0;

/// The rows of `harmonize eval folder args`, the untouched composites' first.
fn rows(folder: &Path, args: &[&str]) -> Value {
    let json = tempfile::NamedTempFile::new().unwrap();
    let mut eval = Command::new(env!("CARGO_BIN_EXE_harmonize"));
    let output = eval.arg("eval").arg(folder).args(args).arg("--json").arg(json.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(json.path()).unwrap()).unwrap();
    report["tables"]["real"].clone()
}

#[test]
fn every_built_in_model_harmonizes_what_it_never_saw() {
    let Some(folder) = shared::folder("data/val") else { return };
    let rows = rows(&folder, &["--model", "compact,gift,star"]);
    let rows = rows.as_array().unwrap();
    for (model, subset, most, gain) in PROMISED {
        let of = |row: &Value, metric: &str| row["subsets"][subset][metric].as_f64().unwrap();
        let own = rows.iter().find(|row| row["name"] == model).unwrap();
        let ratio = of(own, "fmse") / of(&rows[0], "fmse");
        let decibels = of(own, "psnr") - of(&rows[0], "psnr");
        assert!(ratio <= most, "{model}, {subset}: {ratio:.3} of the composites' fMSE is left, {most} was promised");
        assert!(decibels >= gain, "{model}, {subset}: PSNR gains {decibels:.2} dB, {gain} was promised");
    }
}

#[test]
fn the_default_model_leaves_foregrounds_that_fit_nearly_as_they_are() {
    let Some(folder) = shared::folder("data/val") else { return };
    let fmse = rows(&folder, &["--fitting"])[1]["all"]["fmse"].as_f64().unwrap();
    assert!(fmse <= PROMISED_FITTING, "fMSE {fmse:.0} is brought in, {PROMISED_FITTING} was promised");
}
