//! `harmonize video` on ranges of a film and in several processes, and `harmonize join`: the frames and times of one process.
//!
//! Films are made on the spot at 30000/1001 frames a second, whose times no container and no clock holds exactly.

use crate::films;
use crate::films::{frames, lines, times};
use crate::models;
use std::path::Path;
use std::process::{Command, Output};

/// At least.
const FRAMES: usize = 25;

/// Films of 160 x 90 made by ffmpeg; `picture.mp4` has sound, which is longer than it.
fn films() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let film = |name: &str, source: &str, rate: &str, length: &str, more: &[&str]| {
        films::write(&folder.path().join(name), &format!("{source}=size=160x90:rate={rate}"), length, more);
    };
    let sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1.2", "-c:a", "aac"];
    let matte = ["-vf", "format=gray,lutyuv=y='if(gt(val,40),255,0)'"];
    let colours = ["-vf", "hue=h='360*t'"];
    film("picture.mp4", "testsrc2", "30000/1001", "0.98", &sound);
    film("matte.mp4", "mandelbrot", "30000/1001", "0.98", &matte);
    film("short-matte.mp4", "mandelbrot", "25", "0.38", &matte);
    film("background.mp4", "rgbtestsrc", "24", "2.49", &colours);
    film("slow-background.mp4", "rgbtestsrc", "5", "0.5", &colours);
    models::write(&folder.path().join("model"));
    folder
}

fn harmonize(folder: &Path, args: &[&str]) -> Output {
    let model: &[&str] = if args.contains(&"--model") { &[] } else { &["--model", "model", "--device", "cpu"] };
    let model = if args[0] == "video" { model } else { &[] };
    // What hangs is to fail.
    let bounded = ["60", env!("CARGO_BIN_EXE_harmonize")];
    Command::new("timeout").args(bounded).args(args).args(model).current_dir(folder).output().unwrap()
}

/// What comes of `args`, which say nothing.
fn made(folder: &Path, args: &[&str]) {
    let output = harmonize(folder, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let is_quiet = stderr.lines().all(|line| line.ends_with("its last frame stays"));
    assert!(output.status.success() && is_quiet, "{args:?}: {stderr}");
}

fn sound(folder: &Path, film: &str) -> Vec<String> {
    lines(folder, "ffmpeg", &["-v", "error", "-i", film, "-map", "0:a", "-c", "copy", "-f", "framemd5", "-"])
}

/// Renders `args` losslessly from each of `cuts` to the next into pieces of the names that it returns.
fn pieces(folder: &Path, args: &[&str], cuts: &[&str]) -> Vec<String> {
    let render = |i: usize| {
        let piece = format!("piece-{i}.mkv");
        let start = i.checked_sub(1).map(|i| ["--start", cuts[i]]);
        let stop = cuts.get(i).map(|cut| ["--stop", cut]);
        let range: Vec<&str> = start.into_iter().chain(stop).flatten().collect();
        made(folder, &[&["video"], args, &["--lossless", "-o", &piece], &range].concat());
        piece
    };
    (0..=cuts.len()).map(render).collect()
}

fn join(folder: &Path, pieces: &[String], more: &[&str]) {
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    made(folder, &[&["join"], &pieces[..], &["-o", "joined.mkv"], more].concat());
}

/// Frames start at 0, 33.4, 66.7, 100.1 ms and so on: cuts between them and on one.
const CUTS: [&[&str]; 2] = [&["0.45"], &["0.1001", "0:00:00.6"]];

/// Any shards of the film that `args` make have the frames and times of one process.
fn assert_exact(folder: &Path, args: &[&str]) {
    made(folder, &[&["video"], args, &["--lossless", "-o", "whole.mkv"]].concat());
    let whole = frames(folder, "whole.mkv");
    assert!(whole.len() >= FRAMES);
    let changes = whole.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
    assert!(changes > FRAMES / 2, "frames that can't be told apart prove nothing");
    for cuts in CUTS {
        let pieces = pieces(folder, args, cuts);
        join(folder, &pieces, &[]);
        assert_eq!(frames(folder, "joined.mkv"), whole, "{cuts:?}");
    }
}

#[test]
fn shards_of_a_composite_are_those_of_the_whole_film() {
    let folder = films();
    for mask in ["matte.mp4", "short-matte.mp4"] {
        assert_exact(folder.path(), &["--composite", "picture.mp4", "--mask", mask]);
    }
}

#[test]
fn shards_of_a_foreground_over_a_background_are_those_of_the_whole_film() {
    let folder = films();
    for (mask, background) in [("matte.mp4", "background.mp4"), ("short-matte.mp4", "slow-background.mp4")] {
        let layers = ["--foreground", "picture.mp4", "--mask", mask, "--background", background];
        assert_exact(folder.path(), &layers);
    }
}

#[test]
fn a_frame_belongs_to_the_range_that_holds_its_start() {
    let folder = films();
    let folder = folder.path();
    let film = ["--composite", "picture.mp4", "--mask", "matte.mp4"];
    made(folder, &[&["video"], &film[..], &["--lossless", "-o", "whole.mkv"]].concat());
    let whole = frames(folder, "whole.mkv");
    // 0.1001 is the fourth frame's start, 0.5005 the sixteenth's.
    for (start, stop, expected) in
        [("0.1001", "0.5005", 3..15), ("0.100099", "0.500501", 3..16), ("0.1002", "0.2", 4..6)]
    {
        let range = ["--lossless", "-o", "part.mkv", "--start", start, "--stop", stop];
        made(folder, &[&["video"], &film[..], &range].concat());
        let part = frames(folder, "part.mkv");
        let sums = |frames: &[(String, String)]| frames.iter().map(|(_, sum)| sum.clone()).collect::<Vec<_>>();
        assert_eq!(sums(&part), sums(&whole[expected]), "{start} to {stop}");
        // In steps of 10 us, of which the first frame's own fraction may be one.
        assert!(["0", "1"].contains(&part[0].0.as_str()), "a range begins at {}", part[0].0);
    }
}

#[test]
fn several_processes_make_the_film_of_one() {
    let folder = films();
    let folder = folder.path();
    let film = ["video", "--composite", "picture.mp4", "--mask", "matte.mp4"];
    for (kind, lossless) in [("mkv", &["--lossless"][..]), ("mp4", &[])] {
        let [one, three] = ["one", "three"].map(|name| format!("{name}.{kind}"));
        made(folder, &[&film[..], lossless, &["-o", &one]].concat());
        made(folder, &[&film[..], lossless, &["-o", &three, "--jobs", "3"]].concat());
        if lossless.is_empty() {
            assert_eq!(times(folder, &three), times(folder, &one), "{kind}");
        } else {
            assert_eq!(frames(folder, &three), frames(folder, &one), "{kind}");
        }
        assert_eq!(sound(folder, &three), sound(folder, &one), "{kind}");
    }
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".part")), "{left:?}");
}

#[test]
fn a_range_has_the_sound_of_its_time() {
    let folder = films();
    let folder = folder.path();
    let film = ["video", "--composite", "picture.mp4", "--mask", "matte.mp4"];
    made(folder, &[&film[..], &["-o", "whole.mkv"]].concat());
    made(folder, &[&film[..], &["-o", "part.mkv", "--start", "0.3", "--stop", "0.6"]].concat());
    let checksum = |packet: &String| packet.rsplit(' ').next().unwrap().to_owned();
    let whole: Vec<String> = sound(folder, "whole.mkv").iter().map(checksum).collect();
    let part: Vec<String> = sound(folder, "part.mkv").iter().map(checksum).collect();
    // A packet is 1024 samples of 44100 a second; the range's first frame starts at 0.3003 s, its end is 0.6 s.
    assert_eq!(part, whole[13..26]);

    made(folder, &[&film[..], &["-o", "silent.mkv", "--start", "0.3", "--no-sound"]].concat());
    let streams = lines(
        folder,
        "ffprobe",
        &["-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0", "silent.mkv"],
    );
    assert_eq!(streams, ["video"]);
}

#[test]
fn joined_pieces_take_the_sound_of_the_film() {
    let folder = films();
    let folder = folder.path();
    let film = ["--composite", "picture.mp4", "--mask", "matte.mp4"];
    made(folder, &[&["video"], &film[..], &["-o", "whole.mkv"]].concat());
    let pieces = pieces(folder, &film, CUTS[0]);
    join(folder, &pieces, &[]);
    assert!(
        !lines(
            folder,
            "ffprobe",
            &["-v", "error", "-show_entries", "stream=codec_type", "-of", "csv=p=0", "joined.mkv"]
        )
        .contains(&"audio".to_owned())
    );
    join(folder, &pieces, &["--sound", "picture.mp4"]);
    assert_eq!(sound(folder, "joined.mkv"), sound(folder, "whole.mkv"));
}

#[test]
fn what_can_not_be_rendered_or_joined_is_refused_in_a_sentence() {
    let folder = films();
    let folder = folder.path();
    let refused = |args: &[&str]| {
        let before = std::fs::read_dir(folder).unwrap().count();
        let output = harmonize(folder, args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let said = |line: &&str| !line.ends_with("its last frame stays");
        let stderr = stderr.lines().filter(said).collect::<Vec<_>>().join("\n");
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{args:?}: {stderr}");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), before, "{args:?} left something behind");
        stderr
    };
    let video =
        |more: &[&str]| refused(&[&["video", "--composite", "picture.mp4", "--mask", "matte.mp4"], more].concat());
    let sentence = video(&["-o", "out.mp4", "--start", "0.5", "--stop", "0.5"]);
    assert!(sentence.contains("--start 0.5 leaves nothing before --stop 0.5"), "{sentence}");
    let sentence = video(&["-o", "out.mp4", "--start", "7"]);
    assert!(sentence.contains("picture.mp4 is over after"), "{sentence}");
    let sentence = video(&["-o", "out.mp4", "--start", "0.0334", "--stop", "0.0667"]);
    assert!(sentence.contains("picture.mp4: no frame came out of it from 0.0334 s to 0.0667 s"), "{sentence}");
    let sentence = video(&["-o", "out.mp4", "--lossless"]);
    assert!(sentence.contains("out.mp4") && sentence.contains(".mkv"), "{sentence}");
    let sentence = video(&["-o", "out.mp4", "--jobs", "2", "--model", "none"]);
    assert!(sentence.contains("there is no model none"), "{sentence}");
    let sentence = video(&["-o", "nowhere/out.mp4", "--jobs", "2"]);
    assert!(sentence.contains("nowhere/out.mp4: "), "{sentence}");

    pieces(folder, &["--composite", "picture.mp4", "--mask", "matte.mp4"], CUTS[1]);
    let sentence = refused(&["join", "piece-0.mkv", "piece-2.mkv", "-o", "out.mkv"]);
    assert!(sentence.contains("piece-0.mkv ends at 0.1001 s and piece-2.mkv begins at 0.6 s"), "{sentence}");
    let sentence = refused(&["join", "piece-2.mkv", "piece-1.mkv", "-o", "out.mkv"]);
    assert!(sentence.contains("piece-2.mkv ends at the film's end"), "{sentence}");
    let sentence = refused(&["join", "picture.mp4", "-o", "out.mp4"]);
    assert!(sentence.contains("picture.mp4: not a piece"), "{sentence}");
    let sentence = refused(&["join", "piece-0.mkv", "piece-1.mkv", "-o", "out.mp4"]);
    assert!(sentence.contains("different kinds of file"), "{sentence}");
    let sentence = refused(&["join", "piece-0.mkv", "piece-1.mkv", "-o", "./piece-1.mkv"]);
    assert!(sentence.contains("piece-1.mkv would be overwritten"), "{sentence}");
    let sentence = refused(&["join", "piece-0.mkv", "-o", "out.mkv", "--sound", "matte.mp4"]);
    assert!(sentence.contains("matte.mp4: no sound"), "{sentence}");
    let other = ["--composite", "picture.mp4", "--mask", "matte.mp4", "--start", "0.1001", "-o", "h264.mkv"];
    made(folder, &[&["video"], &other[..]].concat());
    let sentence = refused(&["join", "piece-0.mkv", "h264.mkv", "-o", "out.mkv"]);
    assert!(sentence.contains("h264.mkv: its pictures are encoded otherwise"), "{sentence}");
}
