//! The end of the stream, which comes with the composite's EOS or downstream's: what is queued is thrown away and what still comes
//! is refused with EOS, so that nobody waits at a pad that is full for good. The base class does so by itself before GStreamer
//! 1.24; since then it keeps the pads as they are, for a stream that may follow.

use super::{CAT, FLUSH_RETRY, Harmonize, NEED_DATA, lock};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;

impl Harmonize {
    /// Refuses what comes to `pad` once the stream has ended.
    pub(super) fn refuse_after_end(&self, pad: &gst_base::AggregatorPad) {
        let element = self.obj().downgrade();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
            match element.upgrade() {
                Some(element) if lock(&element.imp().state).is_over => {
                    info.flow_res = Err(gst::FlowError::Eos);
                    gst::PadProbeReturn::Handled
                }
                _ => gst::PadProbeReturn::Ok,
            }
        });
    }

    /// The composite's stream goes on, or another one comes.
    pub(super) fn begin_again(&self) {
        let mut state = lock(&self.state);
        (state.is_over, state.has_ended) = (false, false);
    }

    /// A query on its way into a pad, on the thread that asks. Those that wait for their turn are not to be left in the queue
    /// either.
    pub(super) fn sink_query_pre_queue(&self, pad: &gst_base::AggregatorPad, query: &mut gst::QueryRef) -> bool {
        if !query.is_serialized() {
            return self.parent_sink_query_pre_queue(pad, query);
        }
        {
            let mut state = lock(&self.state);
            if state.is_over {
                return false;
            }
            state.asking += 1;
        }
        let is_answered = self.parent_sink_query_pre_queue(pad, query);
        lock(&self.state).asking -= 1;
        is_answered
    }

    /// What the base class is told once the stream is over: EOS when nothing is queued that anybody waits for. It handles events
    /// and queries between two calls, and comes back at once because no pad is waited for at its EOS. What passed the
    /// probe before all this finds an empty queue, which has room for it.
    pub(super) fn end(&self) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (is_first, is_flushed) = {
            let mut state = lock(&self.state);
            state.has_ended = true;
            (!std::mem::replace(&mut state.is_over, true), state.is_flushed)
        };
        if is_first && is_flushed {
            self.narrow_output();
        }
        let mut is_drained = !is_first;
        for pad in self.obj().sink_pads().into_iter().filter_map(|pad| pad.downcast::<gst_base::AggregatorPad>().ok()) {
            if !pad.is_eos() {
                self.parent_sink_event(&pad, gst::event::Eos::new());
            }
            while pad.drop_buffer() {
                gst::trace!(CAT, obj = pad, "Thrown away: the stream is over");
                is_drained = false;
            }
        }
        if is_drained && lock(&self.state).asking == 0 {
            return Err(gst::FlowError::Eos);
        }
        if !is_first {
            std::thread::sleep(FLUSH_RETRY);
        }
        Err(NEED_DATA)
    }
}
