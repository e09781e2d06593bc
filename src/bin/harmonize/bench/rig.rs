//! The pipeline that live work is measured in: composite and mask from a film, `harmonize`, an encoder if wanted, a sink that
//! shows each frame at its time.

use super::film::{FilmSrc, Reel};
use crate::options::ModelArgs;
use anyhow::{Context, Result, bail};
use gst::prelude::*;
use std::time::Duration;

/// What is played, and how.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Film")]
pub struct FilmArgs {
    /// Size of composite and mask
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1920x1080", value_parser = size)]
    pub size: [u32; 2],

    /// The composite's format, by GStreamer's name; the mask is GRAY8
    #[arg(long, value_name = "FORMAT", default_value = "I420", value_parser = format)]
    pub format: gst_video::VideoFormat,

    /// Share of the picture that is foreground
    #[arg(long, value_name = "PERCENT", default_value_t = 30.0, value_parser = percent)]
    pub foreground: f64,
}

pub fn size(text: &str) -> Result<[u32; 2]> {
    let side = |text: &str| text.parse().ok().filter(|side| (16..=16384).contains(side));
    let sides = text.split_once('x').and_then(|(width, height)| Some([side(width)?, side(height)?]));
    sides.context("it reads 1920x1080, each side from 16 to 16384")
}

pub fn format(text: &str) -> Result<gst_video::VideoFormat> {
    // It is GStreamer that knows them.
    gst::init()?;
    text.parse().ok().context("GStreamer has no raw format of this name")
}

pub fn percent(text: &str) -> Result<f64> {
    text.parse().ok().filter(|share| (1.0..=70.0).contains(share)).context("it goes from 1 to 70")
}

pub struct Rig {
    pub pipeline: gst::Pipeline,
    pub harmonize: gst::Element,
    pub sink: gst_base::BaseSink,
}

/// How frames come and go.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each at its time on the clock.
    Live { encode: bool },
    /// So many, as fast as they are taken.
    Fast { frames: i32 },
}

impl Rig {
    /// A pipeline in NULL.
    pub fn new(film: &FilmArgs, rate: gst::Fraction, pace: Pace, model: &ModelArgs) -> Result<Self> {
        let live = matches!(pace, Pace::Live { .. });
        let encoder = match pace {
            Pace::Live { encode: true } => "x264enc speed-preset=ultrafast tune=zerolatency ! queue !",
            _ => "",
        };
        // Where memory is read, no more than a few frames are to wait: how many do is a matter of the machine's other work.
        let length = if live { "" } else { "max-size-buffers=3" };
        let line = format!(
            "queue name=composite {length} ! h.sink queue name=mask {length} ! h.mask \
             harmonize name=h mode=live mask-range=full ! queue {length} ! {encoder} \
             fakesink name=sink sync={live} qos={live} processing-deadline=0 enable-last-sample=false"
        );
        let pipeline = gst::parse::launch(&line)?.downcast::<gst::Pipeline>();
        let pipeline = pipeline.map_err(|_| anyhow::anyhow!("not a pipeline"))?;
        let reels = Reel::pair(film.format, film.size, rate, film.foreground / 100.0)?;
        for (reel, queue) in reels.into_iter().zip(["composite", "mask"]) {
            let source = FilmSrc::new(reel, live)?;
            if let Pace::Fast { frames } = pace {
                source.set_property("num-buffers", frames);
            }
            pipeline.add(&source)?;
            source.link(&child(&pipeline, queue)?)?;
        }
        let harmonize = child(&pipeline, "h")?;
        model.configure(&harmonize);
        let sink = child(&pipeline, "sink")?.downcast();
        Ok(Self { sink: sink.map_err(|_| anyhow::anyhow!("not a sink"))?, harmonize, pipeline })
    }

    pub fn play(&self) -> Result<()> {
        // When this fails, its ERROR message says why.
        match self.pipeline.set_state(gst::State::Playing) {
            Err(_) => self.listen(Duration::ZERO, |_| ()).and(Err(anyhow::anyhow!("the pipeline can't play"))),
            Ok(_) => Ok(()),
        }
    }

    /// Handles messages for so long; `Ok(true)` at the end of the stream, an ERROR message is an error.
    pub fn listen(&self, time: Duration, mut heard: impl FnMut(&gst::Message)) -> Result<bool> {
        let bus = self.pipeline.bus().context("a pipeline without bus")?;
        let until = std::time::Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let Some(message) = bus.timed_pop(gst::ClockTime::try_from(left)?) else { return Ok(false) };
            match message.view() {
                gst::MessageView::Error(error) => bail!("{}", error.error()),
                gst::MessageView::Latency(_) => self.pipeline.recalculate_latency()?,
                gst::MessageView::Eos(_) => return Ok(true),
                _ => heard(&message),
            }
        }
    }

    pub fn pad(&self, name: &str) -> Result<gst::Pad> {
        self.harmonize.static_pad(name).with_context(|| format!("harmonize has no pad {name}"))
    }

    /// Numbers out of the element's `stats`, all of one instant.
    pub fn counts<const N: usize>(&self, fields: [&str; N]) -> [u64; N] {
        let stats = self.harmonize.property::<gst::Structure>("stats");
        fields.map(|field| stats.get(field).unwrap_or_default())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Going to NULL fails only where there is nothing left to stop.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn child(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).with_context(|| format!("no element {name} in the pipeline"))
}
