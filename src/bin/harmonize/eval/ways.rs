//! The ways of harmonizing that a film is measured with, each giving one picture for each frame.

use super::frames::{Frames, Pixels, Playing, from_sample, to_buffer};
use crate::options::{ModelArgs, TemporalArgs};
use crate::video::{child, launch};
use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use gstharmonize::engine::Engine;
use gstharmonize::eval::temporal::Frame;
use gstharmonize::eval::{baselines, still};
use image::{GrayImage, RgbImage};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

pub enum Way {
    /// The composite, untouched.
    Composite,
    /// The truth itself.
    Real,
    Reinhard,
    /// The model on each frame by itself, with new noise for each.
    NoisePerFrame,
    /// The model on each frame by itself, all with the same noise.
    FrameByFrame,
    /// The element in a pipeline.
    Harmonize(Element),
}

impl Way {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Composite => "composite",
            Self::Real => "real",
            Self::Reinhard => "Reinhard per frame",
            Self::NoisePerFrame => "noise per frame",
            Self::FrameByFrame => "frame by frame",
            Self::Harmonize(_) => "harmonize",
        }
    }

    /// What it makes of frame `index`; frames come in order.
    pub fn picture(&mut self, index: usize, frame: &Frame, engine: &Engine, model: &ModelArgs) -> Result<RgbImage> {
        let still = |seed: u64| {
            let mut settings = model.settings();
            settings.request.seed = seed;
            Ok(still::harmonize(engine, &frame.composite, &frame.mask, settings)?.picture)
        };
        match self {
            Self::Composite => Ok(frame.composite.clone()),
            Self::Real => frame.real.clone().context("there is no real picture"),
            Self::Reinhard => Ok(baselines::reinhard(&frame.composite, &frame.mask)),
            Self::NoisePerFrame => still(model.seed.wrapping_add(index as u64)),
            Self::FrameByFrame => still(model.seed),
            Self::Harmonize(element) => element.next(),
        }
    }
}

/// `harmonize` in exact mode between sources that a thread of its own reads and feeds, so that it may look as far ahead as it
/// likes.
pub struct Element {
    /// Dropped first, which is what ends a feeder that waits.
    playing: Option<Playing>,
    feeder: Option<JoinHandle<Result<()>>>,
}

impl Element {
    pub fn start(composite: &Path, mask: &Path, model: &ModelArgs, temporal: &TemporalArgs) -> Result<Self> {
        let source = "is-live=false format=time block=true max-buffers=4 max-bytes=0 max-time=0";
        let pipeline = launch(&format!(
            "appsrc name=composite {source} ! h.sink appsrc name=mask {source} ! h.mask \
             harmonize name=h ! appsink name=sink sync=false max-buffers=4"
        ))?;
        let harmonize = child(&pipeline, "h")?;
        model.configure(&harmonize);
        temporal.configure(&harmonize);
        harmonize.set_property_from_str("mode", "exact");
        harmonize.set_property_from_str("mask-range", "full");
        let [composites, masks] = ["composite", "mask"].map(|name| source_named(&pipeline, name));
        let (composites, masks) = (composites?, masks?);
        let [composite, mask]: [PathBuf; 2] = [composite.into(), mask.into()];
        let feeder = std::thread::spawn(move || {
            let fed = feed(&composite, &mask, &composites, &masks);
            // Nothing more comes; where the pipeline is down already there is nobody to tell.
            let _ = (composites.end_of_stream(), masks.end_of_stream());
            fed
        });
        Ok(Self { playing: Some(Playing::start(pipeline)?), feeder: Some(feeder) })
    }

    fn next(&mut self) -> Result<RgbImage> {
        let playing = self.playing.as_ref().context("the pipeline has ended")?;
        match playing.pull()? {
            Some(sample) => Ok(from_sample::<RgbImage>(&sample)?.picture),
            None => {
                self.join()?;
                Err(anyhow!("harmonize gave fewer frames than it was given"))
            }
        }
    }

    /// Ends the pipeline, and with it the feeder; what failed there.
    fn join(&mut self) -> Result<()> {
        drop(self.playing.take());
        match self.feeder.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            Some(Ok(fed)) => fed,
            None => Ok(()),
        }
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        drop(self.playing.take());
        // That it was stopped halfway is no news.
        let _ = self.feeder.take().map(JoinHandle::join);
    }
}

fn source_named(pipeline: &gst::Pipeline, name: &str) -> Result<gst_app::AppSrc> {
    child(pipeline, name)?.downcast().map_err(|_| anyhow!("{name} is no appsrc"))
}

/// Frames of both, by number: the mask's get the composite's times.
fn feed(composite: &Path, mask: &Path, composites: &gst_app::AppSrc, masks: &gst_app::AppSrc) -> Result<()> {
    let (mut frames, mut mattes) = (Frames::<RgbImage>::open(composite)?, Frames::<GrayImage>::open(mask)?);
    while let (Some(frame), Some(matte)) = (frames.next()?, mattes.next()?) {
        let (width, height) = frame.picture.dimensions();
        let info = |format| VideoInfo::builder(format, width, height).fps(frames.rate).build();
        push(masks, &matte.picture, &info(VideoFormat::Gray8)?, frame.time)?;
        push(composites, &frame.picture, &info(VideoFormat::Rgb)?, frame.time)?;
    }
    Ok(())
}

fn push<P: Pixels>(source: &gst_app::AppSrc, picture: &P, info: &VideoInfo, time: gst::ClockTime) -> Result<()> {
    let caps = info.to_caps()?;
    if source.caps().is_none_or(|set| set != caps) {
        source.set_caps(Some(&caps));
    }
    let buffer = to_buffer(picture, info.width() as usize * P::CHANNELS, info, time)?;
    source.push_buffer(buffer).map(drop).map_err(|flow| anyhow!("harmonize took no more frames: {flow}"))
}
