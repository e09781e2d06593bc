//! A range of the film instead of all of it: the seek to it before anything is written, and the gates that keep it exact.
//!
//! The seek begins a little before the range, because decoders cut the frame that straddles its beginning and stamp what is
//! left with the seek's own start; only what is before the range can be such a frame then.

use super::gate::{Zero, gate};
use crate::film;
use crate::range::{Place, Range};
use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Less than any frame lasts.
const BEFORE: gst::ClockTime = gst::ClockTime::from_useconds(1);

pub struct Shard {
    pub range: Range,
    pub zero: Zero,
}

impl Shard {
    pub fn new(range: Range) -> Self {
        Self { range, zero: Zero::default() }
    }

    /// Keeps sound from `pad` to the range.
    pub fn gate_sound(&self, pad: &gst::Pad) {
        let zero = self.zero.clone();
        gate(pad, self.range, false, move |_| zero.wait());
    }

    /// Brings the pipeline from NULL to where the range's first frame may leave `harmonize`. `rate` is the whole film's.
    pub fn seek(
        &self,
        pipeline: &gst::Pipeline,
        harmonize: &gst::Element,
        rate: gst::Fraction,
        frame: gst::ClockTime,
        warn: impl Fn(String),
    ) -> Result<()> {
        let pad = harmonize.static_pad("src").context("harmonize without src")?;
        let (here, arrived) = channel();
        let block = pad
            .add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, move |_, _| {
                let _ = here.send(());
                gst::PadProbeReturn::Ok
            })
            .context("harmonize's pad can't be blocked")?;
        self.gate_pictures(&pad, &film::child(pipeline, "mux")?, rate)?;
        let bus = pipeline.bus().context("a pipeline without bus")?;
        // When this fails, its ERROR message says why.
        let _ = pipeline.set_state(gst::State::Paused);
        while arrived.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
            while let Some(message) = bus.pop() {
                match message.view() {
                    gst::MessageView::Error(error) => bail!("{}", film::sentence(error.error(), error.debug())),
                    gst::MessageView::Warning(warning) => warn(film::sentence(warning.error(), warning.debug())),
                    _ => (),
                }
            }
        }
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        let start = self.range.begin().saturating_sub(BEFORE);
        // A frame more: that which straddles the end would be cut short.
        let stop = self.range.stop.map(|stop| stop + frame);
        let stop_type = if stop.is_some() { gst::SeekType::Set } else { gst::SeekType::None };
        let sought = pad.send_event(gst::event::Seek::new(1.0, flags, gst::SeekType::Set, start, stop_type, stop));
        pad.remove_probe(block);
        ensure!(sought, "one of the files can't be entered in the middle: convert it to .mp4 or .mkv");
        Ok(())
    }

    fn gate_pictures(&self, pad: &gst::Pad, muxer: &gst::Element, rate: gst::Fraction) -> Result<()> {
        let grain = grain(muxer);
        let (range, told, muxer) = (self.range, self.zero.clone(), muxer.clone());
        gate(pad, range, false, move |first| {
            let zero = match range.start {
                Some(start) if !start.is_zero() => first - first % grain,
                _ => gst::ClockTime::ZERO,
            };
            if let Err(error) = Place::new(range, zero, rate).write(&muxer) {
                gst::element_error!(muxer, gst::StreamError::Mux, ("{error:#}"));
            }
            told.tell(zero);
            Some(zero)
        });
        let told = self.zero.clone();
        // Behind the gate, so that this is the range's end.
        super::pipeline::on_eos(&pad.peer().context("nothing behind harmonize")?, move || told.give_up());
        Ok(())
    }
}

/// Has `muxer` write times so fine that another rounding on top of theirs is that of the whole film. Its pictures each have to
/// stand for themselves: from the first to the last of a group Matroska has room for 32767 steps.
pub fn refine(muxer: &gst::Element) {
    if muxer.has_property("timecodescale") {
        muxer.set_property("timecodescale", 10_000i64);
    }
}

/// Nanoseconds in a step of the times that `muxer` writes, where a shard's zero must not change how they are rounded.
fn grain(muxer: &gst::Element) -> u64 {
    let steps = muxer.has_property("timecodescale").then(|| muxer.property::<i64>("timecodescale"));
    steps.and_then(|steps| u64::try_from(steps).ok()).unwrap_or(1)
}
