//! Live or not, the latency that is declared, how long a composite waits, and frames that come too late.

use super::super::ModelState;
use super::super::latency::Latency;
use super::super::settings::AUTOMATIC;
use super::{CAT, Episode, FrameTime, Harmonize, Mode, RunningTime, lock};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::time::Duration;

/// Stands for a frame's duration where the caps name no frame rate.
const FALLBACK_FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

const LATENCY_RETRY: Duration = Duration::from_millis(20);

/// Frames between two looks at how long the work takes.
const MEASURED_EVERY: u64 = 16;

/// The base class's properties of these names, which would have no effect: they are for elements that make a time of their own.
pub(super) fn start_time() -> [glib::ParamSpec; 2] {
    let selection = gst_base::AggregatorStartTimeSelection::First;
    [
        glib::ParamSpecEnum::builder_with_default("start-time-selection", selection)
            .nick("Start Time Selection")
            .blurb("Not to be set: frames leave at the composite's times, so the stream begins with the first of them")
            .read_only()
            .build(),
        glib::ParamSpecUInt64::builder("start-time")
            .nick("Start Time")
            .blurb("Not to be set: frames leave at the composite's times")
            .default_value(AUTOMATIC)
            .read_only()
            .build(),
    ]
}

impl Harmonize {
    /// Takes notice of what the sources say of being live, and declares the latency that follows; true once all have an
    /// answer, which they have not before they are negotiated. They are asked themselves, because where their latencies
    /// contradict each other the base class posts a WARNING for each query of `src`.
    pub(super) fn ask_sources(&self) -> bool {
        let (mut is_live, mut all) = (false, true);
        for pad in self.obj().sink_pads().into_iter().filter(|pad| pad.is_linked()) {
            let mut query = gst::query::Latency::new();
            let answered = pad.peer_query(&mut query);
            all &= answered;
            is_live |= answered && query.result().0;
        }
        let was_live = std::mem::replace(&mut lock(&self.state).is_live, is_live);
        if was_live != is_live {
            gst::debug!(CAT, imp = self, "The pipeline is {}live", if is_live { "" } else { "not " });
        }
        self.declare_latency();
        all
    }

    /// Asks for the latency as soon as every source has an answer: the base class asks once and then waits without a limit
    /// for the next event.
    pub(super) fn settle_latency(&self) {
        self.obj().call_async(|element| {
            let this = element.imp();
            let running = || this.model.state() != ModelState::Unloaded && lock(&this.state).is_started;
            while running() && !this.ask_sources() {
                std::thread::sleep(LATENCY_RETRY);
            }
            if running() {
                element.src_pad().query(&mut gst::query::Latency::new());
            }
        });
    }

    /// Declares what the element adds, as settings, frame rate and measurement have it; a change is posted by the base class.
    pub(super) fn declare_latency(&self) {
        let settings = lock(&self.settings).clone();
        let (mode, has_mask) = (self.mode(), self.mask_pad().is_some());
        let measured = lock(&self.stats).work.percentile(95);
        let (before, latency) = {
            let mut state = lock(&self.state);
            let Some(composite) = &state.composite else { return };
            let frame = composite.frame_duration().unwrap_or(FALLBACK_FRAME);
            let mut latency = Latency::new(&settings, mode, has_mask, frame, measured);
            if mode != Mode::Live && settings.processing_deadline == AUTOMATIC {
                // A frame that took long is followed by others.
                latency.work = latency.work.max(state.slowest);
                state.slowest = latency.work;
            }
            (std::mem::replace(&mut state.latency, latency), latency)
        };
        if before != latency {
            gst::debug!(
                CAT,
                imp = self,
                "A composite may wait {} for its mask, take {} and wait {} for those after it",
                latency.wait,
                latency.work,
                latency.ahead
            );
        }
        self.obj().set_latency(latency.total(), latency.total());
    }

    /// Declares anew from time to time: work may take longer than was thought.
    pub(super) fn measure(&self) {
        if lock(&self.stats).frames_in.is_multiple_of(MEASURED_EVERY) {
            self.declare_latency();
        }
    }

    /// With a composite, the base class waits until its time and the declared latency; the time for the work is taken off, or
    /// every frame whose mask is late would leave too late. At EOS nothing is worth waiting for.
    pub(super) fn next_time(&self) -> Option<gst::ClockTime> {
        let Some(composite) = self.sink.peek_buffer() else {
            return self.sink.is_eos().then_some(gst::ClockTime::ZERO);
        };
        if lock(&self.settings).passthrough {
            return Some(gst::ClockTime::ZERO);
        }
        let start = self.place(&composite).ok()?.span.start;
        let after = lock(&self.state).latency.after();
        Some(gst::ClockTime::from_nseconds(start.max(0) as u64).saturating_sub(after))
    }

    /// Whether the time to wait for a mask left none for the work: it can't be taken off a time before the stream's start.
    pub(super) fn has_no_time_left(&self, place: FrameTime, mode: Mode, timeout: bool) -> bool {
        let state = lock(&self.state);
        timeout && state.is_live && mode != Mode::Live && place.span.start < state.latency.after().nseconds() as i64
    }

    /// Remembers what downstream says of its time.
    pub(super) fn update_qos(&self, qos: &gst::event::Qos) {
        let (_, proportion, diff, timestamp) = qos.get();
        let mut state = lock(&self.state);
        state.proportion = proportion;
        state.earliest = timestamp.map(|t| (t.nseconds() as i64).saturating_add(diff));
    }

    /// Whether downstream can't show the frame in time any more; tells of it if so.
    pub(super) fn is_late(&self, composite: &gst::BufferRef, place: FrameTime) -> bool {
        let (earliest, proportion, is_live) = {
            let state = lock(&self.state);
            (state.earliest, state.proportion, state.is_live)
        };
        let late = earliest.map(|earliest| earliest.saturating_sub(place.span.start)).filter(|&late| late >= 0);
        let Some(late) = late.filter(|_| lock(&self.settings).qos) else {
            self.ends(Episode::Late);
            return false;
        };
        let (processed, dropped) = {
            let mut stats = lock(&self.stats);
            stats.late += 1;
            (stats.frames_out, stats.dropped + 1)
        };
        let time = RunningTime(place.span.start);
        gst::debug!(CAT, imp = self, "The composite at {time} is {late} ns too late");
        if self.begins(Episode::Late) {
            self.warn(&format!(
                "The composite at running time {time} comes too late for downstream: frames are dropped until they come in time"
            ));
        }
        let message = gst::message::Qos::builder(is_live)
            .running_time(u64::try_from(place.span.start).ok().map(gst::ClockTime::from_nseconds))
            .stream_time(place.stream_time)
            .timestamp(composite.pts())
            .duration(composite.duration())
            .values(late, proportion, 1_000_000)
            .stats(gst::format::Buffers::from_u64(processed), gst::format::Buffers::from_u64(dropped))
            .src(&*self.obj())
            .build();
        // Refused only while the element has no bus.
        let _ = self.obj().post_message(message);
        true
    }
}
