//! The benchmarks, on few and small frames: what they measure and count, and that it agrees. No times here.

use crate::models;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output};

fn run(folder: &Path, configure: impl FnOnce(&mut Command) -> &mut Command) -> Output {
    let model = folder.join("model");
    if !model.exists() {
        models::write(&model);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_harmonize"));
    let command = configure(command.arg("bench").current_dir(folder));
    command.args(["--json", "out.json", "--model", "model", "--device", "cpu"]).output().unwrap()
}

fn json(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("out.json")).unwrap()).unwrap()
}

/// A benchmark's JSON, and what it printed.
fn bench(args: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), |command| command.args(args));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (json(folder.path()), String::from_utf8(output.stdout).unwrap())
}

/// `what size format` of something measured.
fn part(of: &Value) -> String {
    let format = of["format"].as_str().unwrap_or_default();
    format!("{} {} {format}", of["what"].as_str().unwrap(), of["size"].as_str().unwrap())
}

fn numbers(of: &Value) -> Vec<f64> {
    of.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn every_part_is_measured_by_format_and_size_in_each_round() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), |command| {
        let args = "--busy --size 98x66,64x48 --frames 2 --rounds 3 --plot out.png";
        // No ffmpeg here
        command.args(args.split(' ')).env("PATH", folder.path())
    });
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("ffmpeg is not installed"), "{stderr}");
    let json = json(folder.path());

    let mut expected = Vec::new();
    for size in ["98x66", "64x48"] {
        for format in ["I420", "NV12", "P010_10LE", "AYUV", "RGBA", "RGBA64_LE", "GRAY8"] {
            expected.extend(["memcpy", "proxy", "apply", "apply full"].map(|what| format!("{what} {size} {format}")));
        }
        expected.extend(["fit", "model + fit"].map(|what| format!("{what} {size} ")));
        for format in ["I420", "RGBA"] {
            let pipelines = ["element", "element, no inference", "compositor", "videobalance"];
            expected.extend(pipelines.map(|what| format!("{what} {size} {format}")));
        }
    }
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(part).collect::<Vec<_>>(), expected);
    for row in rows {
        let mut rounds = numbers(&row["rounds_ms"]);
        assert!(rounds.len() == 3 && rounds.iter().all(|ms| *ms > 0.0), "{row}");
        rounds.sort_by(f64::total_cmp);
        assert_eq!(row["median_ms"].as_f64(), Some(rounds[1]), "{row}");
        assert!(stdout.contains(&format!(" {:.3} ", rounds[1])), "{row}\n{stdout}");
    }

    // A ratio is the median of what the rounds' figures, one over the other, come to.
    let rounds = |of: &Value| numbers(&rows.iter().find(|row| part(row) == part(of)).unwrap()["rounds_ms"]);
    let ratios = json["ratios"].as_array().unwrap();
    for ratio in ratios {
        let quotients: Vec<f64> = rounds(&ratio["of"]).iter().zip(rounds(&ratio["to"])).map(|(a, b)| a / b).collect();
        assert!(numbers(&ratio["rounds"]).iter().zip(&quotients).all(|(a, b)| (a / b - 1.0).abs() < 1e-9), "{ratio}");
        let mut of_rounds = numbers(&ratio["rounds"]);
        of_rounds.sort_by(f64::total_cmp);
        assert_eq!(ratio["ratio"].as_f64(), Some(of_rounds[1]), "{ratio}");
    }
    let names: Vec<_> = ratios.iter().map(|ratio| format!("{} / {}", part(&ratio["of"]), part(&ratio["to"]))).collect();
    for wanted in [
        "apply full 98x66 AYUV / memcpy 98x66 AYUV",
        "proxy 64x48 GRAY8 / memcpy 64x48 GRAY8",
        "apply 98x66 P010_10LE / apply 98x66 NV12",
        "apply 64x48 RGBA64_LE / apply 64x48 RGBA",
        "element, no inference 98x66 I420 / compositor 98x66 I420",
        "element, no inference 98x66 RGBA / videobalance 98x66 RGBA",
    ] {
        assert!(names.iter().any(|name| name == wanted), "no {wanted} among {names:#?}");
    }

    assert_eq!(json["rounds"].as_array().unwrap().len(), 3);
    assert_eq!((&json["busy"], &json["foreground_percent"]), (&true.into(), &30.0.into()));
    assert!(stdout.contains("measured all the same"), "{stdout}");
    assert!(json["cores"].as_u64().unwrap() > 0 && !json["simd"].as_str().unwrap().is_empty(), "{json}");

    // A panel for each size, a line for each part of one.
    let plot = image::open(folder.path().join("out.png")).unwrap().to_rgb8();
    assert_eq!(plot.dimensions(), (250 + 2 * 490, 96 + 17 * 38 + 56));
    for colour in [[42, 111, 187], [214, 126, 44], [130, 130, 130]] {
        // More than the legend and the bars' first pixels.
        assert!(plot.pixels().filter(|pixel| pixel.0 == colour).count() > 600, "no bars of colour {colour:?}");
    }
}

#[test]
fn ffmpeg_takes_its_turns() {
    let args = "element --busy --size 320x180 --format NV12 --frames 64 --rounds 1";
    let (json, _) = bench(&args.split(' ').collect::<Vec<_>>());
    let rows = json["rows"].as_array().unwrap();
    for what in ["lut3d", "lut3d+maskedmerge"] {
        let row = rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("no {what} in {json}"));
        assert!(row["median_ms"].as_f64().unwrap() > 1e-3, "{row}");
    }
}

#[test]
fn a_target_is_met_or_missed_by_what_was_measured() {
    let args = "apply --busy --size 1920x1080 --format I420,P010_10LE --frames 2 --rounds 1";
    let (json, printed) = bench(&args.split(' ').collect::<Vec<_>>());
    let find =
        |list: &str, is: &dyn Fn(&Value) -> bool| json[list].as_array().unwrap().iter().find(|one| is(one)).cloned();
    let row = find("rows", &|row| part(row) == "apply 1920x1080 I420").unwrap();
    let target = find("targets", &|target| target["what"] == "apply 1920x1080 I420").unwrap();
    assert_eq!(target["met"].as_bool().unwrap(), row["median_ms"].as_f64().unwrap() <= 0.8, "{json}");
    let depth = "apply 1920x1080 P010_10LE over apply 1920x1080 I420";
    assert!(find("targets", &|target| target["what"] == depth).is_some(), "{json}");
    for target in json["targets"].as_array().unwrap() {
        let verdict = if target["met"].as_bool().unwrap() { "met   " } else { "MISSED" };
        assert!(printed.contains(&format!("{verdict} {}: ", target["what"].as_str().unwrap())), "{printed}");
    }
}

struct Spinning(Child);

impl Drop for Spinning {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_busy_machine_is_refused() {
    let _spinning = Spinning(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let args = ["fit", "--size", "64x48", "--frames", "2", "--rounds", "1", "--check"];
    let refused = run(folder.path(), |command| command.args(args));
    let measured = run(folder.path(), |command| command.args(args).arg("--busy"));
    let [refused, measured] =
        [refused, measured].map(|output| (output.status.success(), String::from_utf8(output.stderr).unwrap()));
    let share = refused.1.split_once("other work uses ").and_then(|(_, rest)| rest.split_once(" % of a processor ("));
    assert!(share.is_some_and(|(share, _)| share.parse::<u32>().unwrap() > 10), "{refused:?}");
    assert!(!refused.0 && refused.1.contains(", process ") && refused.1.contains("with --busy"), "{refused:?}");
    // It has measured, and nothing at this size has a target.
    assert!(!measured.0 && measured.1.contains("nothing was measured that has a target"), "{measured:?}");
    assert!(json(folder.path())["other_cores"].as_f64().unwrap() > 0.1);
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
        (["fit", "--size", "1920"], "it reads 1920x1080"),
        (["fit", "--format", "NV12_64Z32"], "only through a conversion"),
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
