//! What a live pipeline's frames are seen to do: how long each is in the element's hands, when it reaches the sink, when it is shown.

use super::rig::Rig;
use super::{lock, process};
use anyhow::{Context, Result};
use gst::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What was seen in the phases of one kind, quiet or busy.
#[derive(Default)]
pub struct Seen {
    /// From the composite taken off its pad to the frame pushed, of every frame.
    pub element: Vec<Duration>,
    /// The part of it in which the thread was ready and had no processor.
    pub waited: Vec<Duration>,
    /// How far a frame was behind its time when it left its source.
    pub behind: Vec<Duration>,
    /// Each frame's running time, and how long after it the frame reached the sink.
    pub arrival: Vec<(gst::ClockTime, Duration)>,
    /// Between frames shown one after the other.
    pub intervals: Vec<Duration>,
    shown: Option<Instant>,
}

/// Seconds since the start of playing.
#[derive(Clone, Copy, Default)]
pub struct Firsts {
    pub frame: Option<f64>,
    pub harmonized: Option<f64>,
}

#[derive(Default)]
pub struct Watch {
    /// What is going on now, an index of `seen`.
    phase: AtomicUsize,
    seen: [Mutex<Seen>; 2],
    firsts: Mutex<Firsts>,
    /// The composite at work: when it was taken, and how long the thread had waited until then.
    taken: Mutex<Option<(Instant, Duration)>>,
    /// Resident memory after 1,000 frames.
    pub resident: Mutex<Option<u64>>,
}

impl Watch {
    pub fn new(rig: &Rig, start: Instant) -> Result<Arc<Self>> {
        let watch = Arc::new(Self::default());
        watch.see_source(rig)?;
        watch.see_element(rig, start)?;
        watch.see_sink(rig)?;
        Ok(watch)
    }

    pub fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
        // What lies between two phases belongs to neither.
        lock(&self.seen[phase]).shown = None;
    }

    pub fn firsts(&self) -> Firsts {
        *lock(&self.firsts)
    }

    pub fn seen(&self, phase: usize) -> std::sync::MutexGuard<'_, Seen> {
        lock(&self.seen[phase])
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Seen> {
        lock(&self.seen[self.phase.load(Ordering::Relaxed)])
    }

    fn see_source(self: &Arc<Self>, rig: &Rig) -> Result<()> {
        let queue = rig.pipeline.by_name("composite").and_then(|queue| queue.static_pad("sink"));
        let (watch, pipeline) = (self.clone(), rig.pipeline.downgrade());
        queue.context("no queue for the composites")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let pts = info.buffer().and_then(|buffer| buffer.pts());
            if let Some((now, pts)) = pipeline.upgrade().and_then(|p| p.current_running_time()).zip(pts) {
                watch.now().behind.push(now.saturating_sub(pts).into());
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    fn see_element(self: &Arc<Self>, rig: &Rig, start: Instant) -> Result<()> {
        let (composites, source) = (rig.pad("sink")?, rig.pad("src")?);
        composites.set_property("emit-signals", true);
        let watch = self.clone();
        composites.connect("buffer-consumed", false, move |_| {
            *lock(&watch.taken) = Some((Instant::now(), process::waited().unwrap_or_default()));
            None
        });
        let (watch, harmonize) = (self.clone(), rig.harmonize.downgrade());
        source.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if let Some((taken, waited)) = lock(&watch.taken).take() {
                let (element, waited) = (taken.elapsed(), process::waited().unwrap_or_default().saturating_sub(waited));
                let mut seen = watch.now();
                seen.element.push(element);
                seen.waited.push(waited);
            }
            let mut firsts = lock(&watch.firsts);
            let since = start.elapsed().as_secs_f64();
            firsts.frame.get_or_insert(since);
            if firsts.harmonized.is_none()
                && let Some(harmonize) = harmonize.upgrade()
                && harmonize.property::<gst::Structure>("stats").get("harmonized").is_ok_and(|n: u64| n > 0)
            {
                firsts.harmonized = Some(since);
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    fn see_sink(self: &Arc<Self>, rig: &Rig) -> Result<()> {
        let pad = rig.sink.static_pad("sink").context("a sink without pad")?;
        let (watch, sink) = (self.clone(), rig.sink.downgrade());
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let segment = pad.sticky_event::<gst::event::Segment>(0).map(|event| event.segment().clone());
            let segment = segment.and_then(|segment| segment.downcast::<gst::ClockTime>().ok());
            let time = segment.zip(info.buffer()).and_then(|(segment, buffer)| segment.to_running_time(buffer.pts()));
            if let Some((now, time)) = sink.upgrade().and_then(|sink| sink.current_running_time()).zip(time) {
                watch.now().arrival.push((time, now.saturating_sub(time).into()));
            }
            gst::PadProbeReturn::Ok
        });
        rig.sink.set_property("signal-handoffs", true);
        let (watch, mut frames) = (self.clone(), 0);
        let shown = Mutex::new(move || {
            let now = Instant::now();
            let mut seen = watch.now();
            if let Some(before) = seen.shown.replace(now) {
                seen.intervals.push(now - before);
            }
            drop(seen);
            frames += 1;
            if frames == 1000 {
                *lock(&watch.resident) = process::resident();
            }
        });
        rig.sink.connect("handoff", false, move |_| {
            (*lock(&shown))();
            None
        });
        Ok(())
    }
}
