//! Decoded frames out of a pipeline.

use crate::film::{child, sentence};
use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;

/// A pipeline that plays into an `appsink` called `sink`, as fast as its samples are taken.
pub struct Playing {
    pub pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    bus: gst::Bus,
}

impl Playing {
    pub fn start(pipeline: gst::Pipeline) -> Result<Self> {
        let sink = child(&pipeline, "sink")?.downcast().map_err(|_| anyhow!("sink is no appsink"))?;
        let bus = pipeline.bus().context("a pipeline without bus")?;
        // When this fails, its ERROR message says why.
        let _ = pipeline.set_state(gst::State::Playing);
        Ok(Self { pipeline, sink, bus })
    }

    /// The next sample, `None` at the end.
    pub fn pull(&self) -> Result<Option<gst::Sample>> {
        loop {
            let sample = self.sink.try_pull_sample(100 * gst::ClockTime::MSECOND);
            let wanted = [gst::MessageType::Error, gst::MessageType::Warning];
            while let Some(message) = self.bus.pop_filtered(&wanted) {
                match message.view() {
                    gst::MessageView::Error(error) => bail!("{}", sentence(error.error(), error.debug())),
                    gst::MessageView::Warning(warning) => {
                        eprintln!("harmonize: {}", sentence(warning.error(), warning.debug()));
                    }
                    _ => (),
                }
            }
            if sample.is_some() || self.sink.is_eos() {
                return Ok(sample);
            }
        }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // Nothing is left to be told of a pipeline that would not stop.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
