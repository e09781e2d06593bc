//! Films made by ffmpeg, and what it decodes of them.

use std::path::Path;
use std::process::Command;

/// Writes the first `length` seconds of ffmpeg's `source` as H.264, with what `more` options make of it.
pub fn write(film: &Path, source: &str, length: &str, more: &[&str]) {
    let input = ["-v", "error", "-f", "lavfi", "-t", length, "-i", source];
    let encoder = ["-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p"];
    let made = Command::new("ffmpeg").args(input).args(more).args(encoder).arg(film).output().unwrap();
    assert!(made.status.success(), "{}: {}", film.display(), String::from_utf8_lossy(&made.stderr));
}

/// What `program` prints, without comments.
pub fn lines(folder: &Path, program: &str, args: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.trim_end_matches(','));
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Times of the frames as the container counts them, in the order in which they are shown.
pub fn times(folder: &Path, film: &str) -> Vec<String> {
    lines(
        folder,
        "ffprobe",
        &["-v", "error", "-select_streams", "v", "-show_entries", "frame=pts", "-of", "csv=p=0", film],
    )
}

/// Times of the decoded frames and their checksums.
pub fn frames(folder: &Path, film: &str) -> Vec<(String, String)> {
    let args = ["-v", "error", "-i", film, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"];
    let sums = lines(folder, "ffmpeg", &args);
    let sums = sums.iter().map(|line| line.rsplit(' ').next().unwrap().to_owned());
    let times = times(folder, film);
    assert_eq!(times.len(), sums.len(), "{film}");
    times.into_iter().zip(sums).collect()
}
