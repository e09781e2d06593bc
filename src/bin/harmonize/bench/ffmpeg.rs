//! ffmpeg's `lut3d`, alone and with `maskedmerge`, on the same frames: a program of its own, with a folder for what it reads.

use super::scene::Raw;
use anyhow::{Context, Result, ensure};
use gst_video::VideoFormat;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The program starts now faster, now slower; frames take longer than that or are more.
const START: Duration = Duration::from_millis(50);
const MAX_FRAMES: u32 = 1 << 16;

pub struct Ffmpeg {
    folder: PathBuf,
}

impl Ffmpeg {
    /// `None` where it isn't installed.
    pub fn new() -> Result<Option<Self>> {
        let version = Command::new("ffmpeg").arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let folder = std::env::temp_dir().join(format!("harmonize-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let ffmpeg = Self { folder };
        write_look(&ffmpeg.folder.join("look.cube")).context("writing a look")?;
        Ok(Some(ffmpeg))
    }

    /// What it calls the format; `None` where it has none of this layout.
    pub fn format(format: VideoFormat) -> Option<&'static str> {
        Some(match format {
            VideoFormat::I420 => "yuv420p",
            VideoFormat::Nv12 => "nv12",
            VideoFormat::Y42b => "yuv422p",
            VideoFormat::Y444 => "yuv444p",
            VideoFormat::I42010le => "yuv420p10le",
            VideoFormat::I42210le => "yuv422p10le",
            VideoFormat::P01010le => "p010le",
            VideoFormat::Rgb => "rgb24",
            VideoFormat::Bgr => "bgr24",
            VideoFormat::Rgba => "rgba",
            VideoFormat::Bgra => "bgra",
            VideoFormat::Argb => "argb",
            VideoFormat::Abgr => "abgr",
            VideoFormat::Rgba64Le => "rgba64le",
            VideoFormat::Bgra64Le => "bgra64le",
            VideoFormat::Gray8 => "gray",
            _ => return None,
        })
    }

    /// Mean time of `frames` frames or more, the program's start left out. With `mask`, a frame of the same format, the look is
    /// merged by it.
    pub fn lut3d(&self, frame: &Raw, mask: Option<&Raw>, threads: u32, mut frames: u32) -> Result<Duration> {
        std::fs::write(self.folder.join("frame.raw"), &frame.data)?;
        if let Some(mask) = mask {
            std::fs::write(self.folder.join("mask.raw"), &mask.data)?;
        }
        loop {
            let few = frames / 8 + 1;
            let start = self.run(frame, mask.is_some(), threads, few)?;
            let counted = self.run(frame, mask.is_some(), threads, few + frames)?.saturating_sub(start);
            if counted >= START || frames >= MAX_FRAMES {
                return Ok(counted / frames);
            }
            frames *= 4;
        }
    }

    fn run(&self, frame: &Raw, masked: bool, threads: u32, frames: u32) -> Result<Duration> {
        let format = Self::format(frame.info.format()).context("ffmpeg has no such format")?;
        let (width, height) = (frame.info.width(), frame.info.height());
        let input = |file: &str| {
            format!(
                "-stream_loop -1 -f rawvideo -pix_fmt {format} -video_size {width}x{height} -framerate 60 -i {file}.raw "
            )
        };
        let look = "lut3d=look.cube:interp=tetrahedral";
        let line = if masked {
            format!(
                "{}{}-filter_complex_threads {threads} -filter_complex \
                 [0]split[plain][b];[b]{look},format={format}[graded];[plain][graded][1]maskedmerge,format={format}",
                input("frame"),
                input("mask")
            )
        } else {
            format!("{}-filter_threads {threads} -vf {look},format={format}", input("frame"))
        };
        let line = format!("-v error -nostdin {line} -threads {threads} -frames:v {frames} -f null -");
        let start = Instant::now();
        let output = Command::new("ffmpeg").args(line.split(' ')).current_dir(&self.folder).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ffmpeg: {}", stderr.lines().last().unwrap_or_default());
        Ok(start.elapsed())
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A look of 33 x 33 x 33 entries that brightens.
fn write_look(path: &Path) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "LUT_3D_SIZE 33")?;
    for i in 0..33u32.pow(3) {
        let [r, g, b] = [i % 33, i / 33 % 33, i / (33 * 33)].map(|v| (f64::from(v) / 32.0).powf(0.9));
        writeln!(file, "{r:.6} {g:.6} {b:.6}")?;
    }
    Ok(file.flush()?)
}
