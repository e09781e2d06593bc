//! The benchmarks that run a pipeline for minutes, for seconds: what they count, and that the counts agree. No times here.

mod models;

use serde_json::Value;
use std::process::Command;

/// A benchmark's JSON, and what it printed.
fn bench(args: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    models::write(&folder.path().join("model"));
    let output = Command::new(env!("CARGO_BIN_EXE_harmonize"))
        .arg("bench")
        .args(args)
        .args(["--json", "out.json", "--model", "model", "--device", "cpu"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = serde_json::from_slice(&std::fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    (json, String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_live_show_is_watched_frame_by_frame() {
    let (json, printed) = bench(&[
        "live",
        "--minutes",
        "0.05",
        "--size",
        "96x64",
        "--rate",
        "30000/1001",
        "--format",
        "NV12",
        "--beside",
        "1",
        "--set",
        "qos=false",
    ]);
    let columns = json["columns"].as_array().unwrap();
    assert_eq!([&columns[0]["name"], &columns[1]["name"]], ["quiet", "busy"]);
    let count = |name: &str| columns.iter().map(|c| c["counters"][name].as_u64().unwrap()).sum::<u64>();
    assert!(count("frames-in") > 30 && count("harmonized") > 0 && count("transfers") > 0, "{json}");
    // Each turn begins and ends in the midst of some frame's work, which is counted as it goes.
    assert!(count("frames-out").abs_diff(count("harmonized") + count("passed-through")) <= 2, "{json}");
    assert!(count("frames-in").abs_diff(count("frames-out")) <= 2, "{json}");
    for column in columns {
        assert!(column["element_ms"]["median"].as_f64().unwrap() > 0.0, "{json}");
        assert!(column["interval_ms"]["max"].as_f64().unwrap() > 30.0, "{json}");
    }
    assert!((json["frame_ms"].as_f64().unwrap() - 33.366).abs() < 0.001, "{json}");
    let latency = json["latency_ms"][0].as_f64().unwrap();
    assert!((latency - 33.366).abs() < 0.01, "live mode declares a frame, not {latency} ms");
    assert!(json["first_frame_s"].as_f64().unwrap() <= json["first_harmonized_s"].as_f64().unwrap(), "{json}");
    for target in json["targets"].as_array().unwrap() {
        let verdict = if target["met"].as_bool().unwrap() { "met   " } else { "MISSED" };
        assert!(printed.contains(&format!("{verdict} {}: ", target["what"].as_str().unwrap())), "{printed}");
    }
}

#[test]
fn memory_is_read_on_the_way() {
    let (json, printed) = bench(&["memory", "--frames", "2000", "--size", "64x48", "--format", "RGBA"]);
    let marks: Vec<_> = json["marks"].as_array().unwrap().iter().map(|mark| mark["frames"].as_u64().unwrap()).collect();
    assert_eq!(marks, [1000, 1200, 1400, 1600, 1800, 2000]);
    let resident = |mark: usize| json["marks"][mark]["resident_kib"].as_f64().unwrap();
    let growth = 100.0 * (resident(5) / resident(0) - 1.0);
    assert!((json["growth_percent"].as_f64().unwrap() - growth).abs() < 1e-6, "{json}");
    assert!(printed.contains(" memory: "), "{printed}");
}

#[test]
fn what_can_not_be_played_is_refused() {
    for (args, cause) in [
        (["live", "--size", "1920"], "it reads 1920x1080"),
        (["live", "--format", "I42O"], "no raw format of this name"),
        (["live", "--rate", "0"], "it reads 60 or 30000/1001"),
        (["live", "--foreground", "90"], "it goes from 1 to 70"),
        (["live", "--set", "colour=blue"], "harmonize has no property colour"),
        (["live", "--set", "strength=much"], "strength=much"),
        (["memory", "--frames", "10"], "2000"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_harmonize")).arg("bench").args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains(cause), "{args:?}: {stderr}");
    }
}
