//! The shipped default model on photographs that it never saw: it keeps what its model card promises.

mod shared;

use std::process::Command;

/// Most of the composites' foreground error that may be left, and least gain in PSNR (dB).
const PROMISED: [(&str, f64, f64); 2] = [("HVal", 0.66, 2.2), ("HPeople", 0.58, 2.2)];

#[test]
fn compact_harmonizes_what_it_never_saw() {
    let Some(folder) = shared::folder("data/val") else { return };
    let json = tempfile::NamedTempFile::new().unwrap();
    let mut eval = Command::new(env!("CARGO_BIN_EXE_harmonize"));
    let output = eval.arg("eval").arg(folder).arg("--json").arg(json.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json.path()).unwrap()).unwrap();
    for (subset, most, gain) in PROMISED {
        // The untouched composites and the model.
        let of = |row: usize, metric: &str| report["tables"]["real"][row]["subsets"][subset][metric].as_f64().unwrap();
        let ratio = of(1, "fmse") / of(0, "fmse");
        let decibels = of(1, "psnr") - of(0, "psnr");
        assert!(ratio <= most, "{subset}: {ratio:.3} of the composites' fMSE is left, {most} was promised");
        assert!(decibels >= gain, "{subset}: PSNR gains {decibels:.2} dB, {gain} was promised");
    }
}
