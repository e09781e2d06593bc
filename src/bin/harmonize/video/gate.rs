//! Lets through what of a stream lies in a range of the film, at times that begin with the range's own first frame.
//!
//! A gate opens with the flush of the seek to its range; what came before never gets past it, nor does the flush, so that
//! encoder and muxer know of nothing but the range.

use crate::range::Range;
use gst::prelude::*;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Segment = gst::FormattedSegment<gst::ClockTime>;

/// Where in the film a range's own time is zero: its picture tells it with the first frame, its sound waits for that.
#[derive(Clone, Default)]
pub struct Zero(Arc<(Mutex<Told>, Condvar)>);

#[derive(Clone, Copy, Default)]
enum Told {
    #[default]
    NotYet,
    At(gst::ClockTime),
    Never,
}

impl Zero {
    pub fn tell(&self, time: gst::ClockTime) {
        self.set(Told::At(time));
    }

    /// There will be no first frame: nobody waits for it any more. What was told before stays.
    pub fn give_up(&self) {
        if matches!(*lock(&self.0.0), Told::NotYet) {
            self.set(Told::Never);
        }
    }

    fn set(&self, told: Told) {
        *lock(&self.0.0) = told;
        self.0.1.notify_all();
    }

    pub fn wait(&self) -> Option<gst::ClockTime> {
        let mut told = lock(&self.0.0);
        loop {
            match *told {
                Told::NotYet => told = self.0.1.wait(told).unwrap_or_else(PoisonError::into_inner),
                Told::At(time) => return Some(time),
                Told::Never => return None,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Stream {
    is_sought: bool,
    /// The segment of what comes in; what goes out has one of its own.
    segment: Option<Segment>,
    is_open: bool,
}

/// Puts a gate for `range` at `pad`, which opens at once where it `is_sought` already. With the first buffer that may pass,
/// `zero` is asked where the range's time begins.
pub fn gate(
    pad: &gst::Pad,
    range: Range,
    is_sought: bool,
    zero: impl Fn(gst::ClockTime) -> Option<gst::ClockTime> + Send + Sync + 'static,
) {
    // Not `Drop`: what the binding makes of that has GStreamer before 1.24.8 complain of every buffer.
    use gst::PadProbeReturn::{Handled, Ok as Pass};
    use gst::PadProbeType as On;
    let stream = Mutex::new(Stream { is_sought, ..Stream::default() });
    pad.add_probe(On::BUFFER | On::EVENT_DOWNSTREAM | On::EVENT_FLUSH, move |pad, info| {
        let buffer = match &info.data {
            Some(gst::PadProbeData::Event(event)) => return if lock(&stream).passes(event) { Pass } else { Handled },
            Some(gst::PadProbeData::Buffer(buffer)) => buffer,
            _ => return Pass,
        };
        let Some((segment, pts)) = lock(&stream).segment().zip(buffer.pts()) else { return Handled };
        let Some(time) = segment.to_stream_time(pts).filter(|time| *time >= range.begin()) else { return Handled };
        if range.is_over(time) {
            pad.push_event(gst::event::Eos::new());
            info.flow_res = Err(gst::FlowError::Eos);
            return Handled;
        }
        if !lock(&stream).is_open {
            let Some(zero) = zero(time) else { return Handled };
            lock(&stream).is_open = true;
            pad.push_event(gst::event::Segment::new(&begin(zero, time, pts)));
        }
        Pass
    });
}

impl Stream {
    fn segment(&self) -> Option<Segment> {
        self.segment.clone().filter(|_| self.is_sought)
    }

    fn passes(&mut self, event: &gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => false,
            gst::EventView::FlushStop(_) => {
                (self.is_sought, self.segment) = (true, None);
                false
            }
            // The gate's own comes when it is open.
            gst::EventView::Segment(segment) if !self.is_open => {
                self.segment = segment.segment().downcast_ref().cloned();
                false
            }
            gst::EventView::Eos(_) => self.is_sought,
            gst::EventView::Gap(_) => self.is_open,
            _ => true,
        }
    }
}

/// The segment in which what plays in the film at `time`, with the timestamp `pts`, plays at `time - zero`.
fn begin(zero: gst::ClockTime, time: gst::ClockTime, pts: gst::ClockTime) -> Segment {
    let mut segment = Segment::new();
    segment.set_start(pts.saturating_sub(time.saturating_sub(zero)));
    segment.set_position(segment.start());
    segment.set_time(zero);
    segment
}
