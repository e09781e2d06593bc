//! The frames of a film or of a folder, one by one at their own size, as pixels in memory.
//!
//! A film is decoded by a pipeline that ends when this is dropped; a folder's frames are its PNG and JPEG files in the order of
//! their names, 25 a second.

use crate::clip::Clip;
use crate::film::{child, launch};
use crate::playing::Playing;
use anyhow::{Context, Result, ensure};
use gst::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use gstharmonize::pictures;
use image::{GrayImage, RgbImage};
use std::path::{Path, PathBuf};

/// Pixels that frames are read as.
pub trait Pixels: Sized + std::ops::Deref<Target = [u8]> {
    /// Of the frames as a film decodes them.
    const CAPS: &str;
    const CHANNELS: usize;

    fn open(path: &Path) -> Result<Self>;
    fn from_bytes(width: u32, height: u32, bytes: Vec<u8>) -> Option<Self>;
}

impl Pixels for RgbImage {
    const CAPS: &str = "video/x-raw,format=RGB";
    const CHANNELS: usize = 3;

    fn open(path: &Path) -> Result<Self> {
        Ok(pictures::open(path)?.into_rgb8())
    }

    fn from_bytes(width: u32, height: u32, bytes: Vec<u8>) -> Option<Self> {
        Self::from_raw(width, height, bytes)
    }
}

/// A mask: of the whole range whatever the film's own.
impl Pixels for GrayImage {
    const CAPS: &str = "video/x-raw,format=GRAY8,colorimetry=1:0:0:0";
    const CHANNELS: usize = 1;

    fn open(path: &Path) -> Result<Self> {
        pictures::open_mask(path)
    }

    fn from_bytes(width: u32, height: u32, bytes: Vec<u8>) -> Option<Self> {
        Self::from_raw(width, height, bytes)
    }
}

/// A frame, and when it is shown.
pub struct Timed<P> {
    pub picture: P,
    pub time: gst::ClockTime,
}

pub struct Frames<P> {
    path: PathBuf,
    source: Source,
    pixels: std::marker::PhantomData<P>,
}

enum Source {
    Folder(std::iter::Enumerate<std::vec::IntoIter<PathBuf>>),
    Film(Playing),
}

const FOLDER_RATE: u64 = 25;

impl<P: Pixels> Frames<P> {
    pub fn open(path: &Path) -> Result<Self> {
        let source = if path.is_dir() {
            Source::Folder(pictures(path)?.into_iter().enumerate())
        } else {
            let clip = Clip::open(path)?;
            ensure!(!clip.still, "{} is a picture: give a film, or a folder of frames", path.display());
            Source::Film(decode(&clip, P::CAPS)?)
        };
        Ok(Self { path: path.to_owned(), source, pixels: std::marker::PhantomData })
    }

    /// The next frame, `None` after the last.
    pub fn next(&mut self) -> Result<Option<Timed<P>>> {
        let timed = match &mut self.source {
            Source::Folder(files) => files.next().map(|(index, file)| {
                let time = gst::ClockTime::SECOND * index as u64 / FOLDER_RATE;
                Ok(Timed { picture: P::open(&file)?, time })
            }),
            Source::Film(film) => film.pull()?.map(|sample| from_sample(&sample)),
        };
        timed.transpose().with_context(|| self.path.display().to_string())
    }
}

/// The PNG and JPEG files in `folder` by name.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = || folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut files = entries().with_context(|| folder.display().to_string())?;
    let is_picture = |file: &PathBuf| {
        let kind = file.extension().and_then(|kind| kind.to_str()).unwrap_or_default().to_ascii_lowercase();
        ["png", "jpg", "jpeg"].contains(&kind.as_str())
    };
    files.retain(is_picture);
    files.sort();
    ensure!(!files.is_empty(), "{}: neither PNG nor JPEG files in this folder", folder.display());
    Ok(files)
}

fn decode(clip: &Clip, caps: &str) -> Result<Playing> {
    let pipeline = launch(&format!(
        "uridecodebin name=file ! videoconvert ! {caps} ! appsink name=sink sync=false max-buffers=4"
    ))?;
    child(&pipeline, "file")?.set_property("uri", &clip.uri);
    Playing::start(pipeline)
}

/// The pixels of a sample without its rows' padding.
pub fn from_sample<P: Pixels>(sample: &gst::Sample) -> Result<Timed<P>> {
    let info = VideoInfo::from_caps(sample.caps().context("a sample without caps")?)?;
    let buffer = sample.buffer().context("a sample without buffer")?;
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
    let (row, stride) = (info.width() as usize * P::CHANNELS, info.stride()[0] as usize);
    let rows = frame.plane_data(0)?.chunks(stride).take(info.height() as usize);
    let bytes = rows.flat_map(|padded| padded.iter().take(row).copied()).collect();
    let picture = P::from_bytes(info.width(), info.height(), bytes).context("a frame shorter than its size")?;
    Ok(Timed { picture, time: buffer.pts().context("a frame without a time")? })
}
