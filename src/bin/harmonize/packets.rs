//! The encoded pictures of a film as they lie in the file, read without decoding.

use crate::film;
use anyhow::{Context, Result};
use gst::prelude::*;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// An encoded picture, and the pad whose caps, segment and tags are valid for it.
pub struct Packet<'a> {
    pub pad: &'a gst::Pad,
    pub buffer: gst::Buffer,
}

impl Packet<'_> {
    pub fn segment(&self) -> Option<gst::FormattedSegment<gst::ClockTime>> {
        self.pad.sticky_event::<gst::event::Segment>(0)?.segment().downcast_ref().cloned()
    }
}

/// Calls `take` with each one of `path`, in the order of the file, until the end or an error; now and then it asks whether to
/// `go_on`.
pub fn each(
    path: &Path,
    take: impl FnMut(Packet) -> Result<()> + Send + 'static,
    mut go_on: impl FnMut() -> Result<()>,
) -> Result<()> {
    let name = || path.display().to_string();
    let pipeline = film::launch("filesrc name=file ! parsebin name=parse")?;
    let location = path.to_str().with_context(|| format!("{}: its name is not UTF-8", path.display()))?;
    film::child(&pipeline, "file")?.set_property("location", location);
    let (take, failure) = (Arc::new(Mutex::new(take)), Arc::new(Mutex::new(None)));
    let (weak, failed) = (pipeline.downgrade(), failure.clone());
    film::child(&pipeline, "parse")?.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let is_video = pad.query_caps(None).structure(0).is_some_and(|s| s.name().starts_with("video/"));
        if is_video && pipeline.by_name("pictures").is_none() {
            let (take, failure) = (take.clone(), failed.clone());
            let linked = link(&pipeline, pad, move |packet| {
                let Ok(mut take) = take.lock() else { return false };
                let taken = take(packet);
                let is_taken = taken.is_ok();
                if let (Err(error), Ok(mut failure)) = (taken, failure.lock()) {
                    *failure = Some(error);
                }
                is_taken
            });
            if let Err(error) = linked {
                gst::element_error!(pipeline, gst::StreamError::Format, ("{error:#}"));
            }
        }
    });
    let bus = pipeline.bus().context("a pipeline without bus")?;
    let _ = pipeline.set_state(gst::State::Playing);
    let ended =
        film::wait(&bus, || go_on().map(|()| false), |warning| eprintln!("harmonize: {}: {warning}", path.display()));
    pipeline.set_state(gst::State::Null)?;
    if let Some(failure) = failure.lock().ok().and_then(|mut failure| failure.take()) {
        return Err(failure).with_context(name);
    }
    ended.with_context(name).map(drop)
}

/// `take` is false where it wants no more.
fn link(pipeline: &gst::Pipeline, pad: &gst::Pad, take: impl Fn(Packet) -> bool + Send + Sync + 'static) -> Result<()> {
    let sink = gst::ElementFactory::make("fakesink").name("pictures").property("async", false).build()?;
    pipeline.add(&sink)?;
    sink.sync_state_with_parent()?;
    let target = sink.static_pad("sink").context("a sink without pad")?;
    target.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
        let packet = Packet { pad, buffer: buffer.to_owned() };
        if take(packet) {
            return gst::PadProbeReturn::Ok;
        }
        info.flow_res = Err(gst::FlowError::Eos);
        gst::PadProbeReturn::Handled
    });
    pad.link(&target)?;
    Ok(())
}

/// Stream times of all pictures, in the order in which they are shown.
pub fn times(path: &Path) -> Result<Vec<gst::ClockTime>> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = times.clone();
    let take = move |packet: Packet| {
        let time = packet.segment().zip(packet.buffer.pts()).and_then(|(segment, pts)| segment.to_stream_time(pts));
        if let (Some(time), Ok(mut seen)) = (time, seen.lock()) {
            seen.push(time);
        }
        Ok(())
    };
    each(path, take, || Ok(()))?;
    let mut times = times.lock().map(|mut times| std::mem::take(&mut *times)).unwrap_or_default();
    times.sort_unstable();
    Ok(times)
}
