//! The built-in models on photographs that none of them ever saw: they keep what their model cards promise.

use crate::shared;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Model, subset, most of the composites' foreground error that may be left, and least gain in PSNR (dB).
const PROMISED: [(&str, &str, f64, f64); 6] = [
    ("compact", "HVal", 0.55, 3.0),
    ("compact", "HPeople", 0.45, 3.5),
    ("gift", "HVal", 0.65, 2.7),
    ("gift", "HPeople", 0.50, 2.9),
    ("star", "HVal", 0.63, 2.3),
    ("star", "HPeople", 0.45, 3.1),
];
/// Model, and most foreground error, as fMSE, that it may bring into pictures that fit already.
const PROMISED_FITTING: [(&str, f64); 3] = [("compact", 225.0), ("gift", 235.0), ("star", 205.0)];

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
fn foregrounds_that_fit_are_changed_by_no_more_than_the_cards_say() {
    let Some(folder) = shared::folder("data/val") else { return };
    let rows = rows(&folder, &["--fitting", "--model", "compact,gift,star"]);
    for (model, most) in PROMISED_FITTING {
        let own = rows.as_array().unwrap().iter().find(|row| row["name"] == model).unwrap();
        let fmse = own["all"]["fmse"].as_f64().unwrap();
        assert!(fmse <= most, "{model}: fMSE {fmse:.0} is brought in, {most} was promised");
    }
}
