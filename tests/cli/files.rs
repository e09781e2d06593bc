//! A user's files are safe: nothing that was there is harmed before something whole takes its place, and nothing half done is left.
//! And a mask is what is transparent, wherever its file says so.

use crate::films;
use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn harmonize(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harmonize")).args(args).current_dir(folder).output().unwrap()
}

fn is_inside(x: u32, y: u32) -> bool {
    (20..44).contains(&x) && (12..36).contains(&y)
}

/// composite.png (64 x 48), mask.png, and cut.png, white everywhere with the mask for its alpha.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    let colour = |x, y| if is_inside(x, y) { Rgb([30, 60, 220]) } else { Rgb([4 * x as u8, 5 * y as u8, 90]) };
    RgbImage::from_fn(64, 48, colour).save(path("composite.png")).unwrap();
    let mask = |x, y| if is_inside(x, y) { 255 } else { 0 };
    GrayImage::from_fn(64, 48, |x, y| Luma([mask(x, y)])).save(path("mask.png")).unwrap();
    RgbaImage::from_fn(64, 48, |x, y| Rgba([255, 255, 255, mask(x, y)])).save(path("cut.png")).unwrap();
    folder
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_picture_is_not_written_over_what_it_is_made_of_nor_twice_to_one_file() {
    let folder = pictures();
    let folder = folder.path();
    fs::write(folder.join("keep.webp"), "precious").unwrap();
    std::os::unix::fs::symlink("mask.png", folder.join("link.png")).unwrap();
    let before: Vec<_> = names(folder).into_iter().map(|name| fs::read(folder.join(name)).unwrap()).collect();
    for (outputs, why) in [
        (&["-o", "mask.png"][..], "mask.png would be overwritten"),
        (&["-o", "./composite.png"], "composite.png would be overwritten"),
        (&["-o", "link.png"], "mask.png would be overwritten"),
        (&["-o", "out.png", "--sheet", "composite.png"], "composite.png would be overwritten"),
        (&["-o", "out.png", "--sheet", "out.png"], "out.png would be written twice"),
        (&["-o", "keep.webp"], "keep.webp: can't write this kind of file, name it .png or .jpg"),
        (&["-o", "out.png", "--sheet", "sheet.tiff"], "sheet.tiff: can't write this kind of file"),
        (&["-o", "no-folder/out.png"], "no-folder/out.png"),
        (&["-o", "."], "."),
    ] {
        let output = harmonize(folder, &[&["image", "composite.png", "mask.png"], outputs].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(why), "{outputs:?}: {stderr}");
    }
    let after: Vec<_> = names(folder).into_iter().map(|name| fs::read(folder.join(name)).unwrap()).collect();
    assert!(before == after, "{:?}", names(folder));
}

#[test]
fn a_write_that_fails_half_way_leaves_what_was_there() {
    let folder = pictures();
    let folder = folder.path();
    let noise = RgbImage::from_fn(256, 256, |x, y| Rgb([(x * y % 251) as u8, (x * 7 + y * 13) as u8, (x ^ y) as u8]));
    noise.save(folder.join("large.png")).unwrap();
    GrayImage::from_pixel(256, 256, Luma([255])).save(folder.join("large-mask.png")).unwrap();
    fs::write(folder.join("out.png"), "before").unwrap();
    let before = names(folder);
    // A file may have 4 KiB, as on a full disk.
    let line =
        format!("ulimit -f 4; exec {} image large.png large-mask.png -o out.png", env!("CARGO_BIN_EXE_harmonize"));
    let output =
        Command::new("sh").args(["-c", &format!("trap '' XFSZ; {line}")]).current_dir(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(folder.join("out.png")).unwrap(), "before");
    assert_eq!(names(folder), before);
}

#[test]
fn two_runs_with_one_output_don_t_disturb_each_other() {
    let folder = pictures();
    let folder = folder.path();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harmonize"));
        command.args(["image", "composite.png", "mask.png", "-o", "out.png"]).current_dir(folder).spawn().unwrap()
    };
    let alone = harmonize(folder, &["image", "composite.png", "mask.png", "-o", "alone.png"]);
    assert!(alone.status.success());
    let runs = [run(), run(), run()];
    assert!(runs.into_iter().all(|mut run| run.wait().unwrap().success()));
    assert_eq!(fs::read(folder.join("out.png")).unwrap(), fs::read(folder.join("alone.png")).unwrap());
    assert_eq!(names(folder), ["alone.png", "composite.png", "cut.png", "mask.png", "out.png"]);
}

#[test]
fn a_signal_leaves_nothing_half_done_and_ends_the_process_as_it_would() {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().unwrap();
    films::write(&folder.path().join("film.mp4"), "testsrc2=s=320x180:r=25", "20", &[]);
    films::write(&folder.path().join("mask.mp4"), "color=white:s=320x180:r=25", "20", &[]);
    fs::write(folder.path().join("out.mp4"), "before").unwrap();
    let before = names(folder.path());
    for (signal, jobs) in [(libc::SIGINT, "1"), (libc::SIGTERM, "1"), (libc::SIGTERM, "2")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harmonize"));
        command.args(["video", "--composite", "film.mp4", "--mask", "mask.mp4", "-o", "out.mp4", "--jobs", jobs]);
        let mut run = command.current_dir(folder.path()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while names(folder.path()) == before {
            assert!(start.elapsed() < Duration::from_secs(30) && run.try_wait().unwrap().is_none(), "it doesn't begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: the process is this test's own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(run.id() as i32, signal) }, 0);
        let status = run.wait().unwrap();
        assert_eq!(status.signal(), Some(signal), "{status:?}");
        // Other processes of `--jobs` learn of it when they tell how far they are.
        let start = Instant::now();
        while names(folder.path()) != before {
            assert!(start.elapsed() < Duration::from_secs(20), "left behind: {:?}", names(folder.path()));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(fs::read_to_string(folder.path().join("out.mp4")).unwrap(), "before");
}

/// Mean difference of two films' frames outside of the foreground, in codes.
fn background_difference(folder: &Path, a: &str, b: &str) -> f64 {
    let line = "[0]format=gray[a];[1]format=gray[b];[a][b]blend=difference,drawbox=20:12:24:24:black:fill";
    let raw = Command::new("ffmpeg")
        .args(["-v", "error", "-i", a, "-i", b, "-lavfi", line, "-f", "rawvideo", "-"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(raw.status.success(), "{}", String::from_utf8_lossy(&raw.stderr));
    raw.stdout.iter().map(|&d| f64::from(d)).sum::<f64>() / raw.stdout.len() as f64
}

#[test]
fn a_mask_that_is_cut_out_counts_by_its_alpha_and_an_opaque_one_by_its_luma() {
    let folder = pictures();
    let folder = folder.path();
    let ffmpeg = |args: &[&str]| {
        let output =
            Command::new("ffmpeg").args(["-v", "error", "-y"]).args(args).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let still = |from: &str, to: &str, more: &[&str]| {
        ffmpeg(&[&["-loop", "1", "-r", "25", "-i", from, "-t", "0.4"], more, &[to]].concat());
    };
    still("composite.png", "composite.mkv", &["-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p"]);
    still("cut.png", "cut.mov", &["-c:v", "qtrle"]);
    still("cut.png", "cut.mkv", &["-c:v", "ffv1", "-pix_fmt", "bgra"]);
    still("mask.png", "opaque.mov", &["-c:v", "qtrle", "-pix_fmt", "argb"]);
    for (mask, output) in [
        ("mask.png", "luma.mp4"),
        ("cut.png", "still.mp4"),
        ("cut.mov", "film.mp4"),
        ("cut.mkv", "ffv1.mp4"),
        ("opaque.mov", "opaque.mp4"),
    ] {
        let made = harmonize(folder, &["video", "--composite", "composite.mkv", "--mask", mask, "-o", output]);
        assert!(made.status.success(), "{mask}: {}", String::from_utf8_lossy(&made.stderr));
        let difference = background_difference(folder, "luma.mp4", output);
        assert!(difference < 0.5, "{mask}: the background is {difference} codes off");
    }
    // With white for its mask the whole would move: that is seen.
    GrayImage::from_pixel(64, 48, Luma([255])).save(folder.join("white.png")).unwrap();
    let made = harmonize(folder, &["video", "--composite", "composite.mkv", "--mask", "white.png", "-o", "all.mp4"]);
    assert!(made.status.success() && background_difference(folder, "luma.mp4", "all.mp4") > 0.5);
}
