//! What a film or picture holds, asked before a pipeline is built around it.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A file with at least one video stream.
#[derive(Clone, Debug)]
pub struct Clip {
    pub path: PathBuf,
    pub uri: String,
    pub width: u32,
    pub height: u32,
    /// Width over height as displayed.
    pub aspect: f64,
    /// Frames a second; 0/1 where the file doesn't say.
    pub rate: gst::Fraction,
    /// Of the longest stream, which may be the sound.
    pub duration: gst::ClockTime,
    pub has_sound: bool,
    /// A photograph: one frame, no duration.
    pub still: bool,
}

/// The URI of a media file, and what GStreamer finds in it.
pub fn discover(path: &Path) -> Result<(String, gst_pbutils::DiscovererInfo)> {
    let name = || path.display().to_string();
    // GStreamer would say so too, in many words.
    std::fs::File::open(path).with_context(name)?;
    let uri = glib::filename_to_uri(std::path::absolute(path).with_context(name)?, None).with_context(name)?;
    let info = gst_pbutils::Discoverer::new(gst::ClockTime::from_seconds(20))
        .and_then(|discoverer| discoverer.discover_uri(&uri))
        .with_context(name)?;
    Ok((uri.into(), info))
}

impl Clip {
    pub fn open(path: &Path) -> Result<Self> {
        let (uri, info) = discover(path)?;
        let streams = info.video_streams();
        let video = streams.first().with_context(|| format!("{}: no video in it", path.display()))?;
        let (par, rate) = (video.par(), video.framerate());
        let par = if par.numer() > 0 { f64::from(par.numer()) / f64::from(par.denom()) } else { 1.0 };
        ensure!(video.width() > 0 && video.height() > 0, "{}: its video has no size", path.display());
        Ok(Self {
            path: path.to_owned(),
            uri,
            width: video.width(),
            height: video.height(),
            aspect: par * f64::from(video.width()) / f64::from(video.height()),
            rate,
            duration: info.duration().unwrap_or_default(),
            has_sound: !info.audio_streams().is_empty(),
            still: video.is_image(),
        })
    }

    /// Duration of one frame; 1/25 s where the file doesn't say.
    pub fn frame(&self) -> gst::ClockTime {
        let (frames, seconds) = (self.rate.numer() as u64, self.rate.denom() as u64);
        gst::ClockTime::from_nseconds((1_000_000_000 * seconds).checked_div(frames).unwrap_or(40_000_000))
    }
}
