//! Events and queries: what is kept, what goes on, and which flushes end the work on a frame.

use super::super::video::Video;
use super::{CAT, Harmonize, Mode, NEED_DATA, lock, seek};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;

/// What the far side of `pad` can do within its template and `filter`.
fn peer_caps(pad: &gst_base::AggregatorPad, filter: Option<&gst::CapsRef>) -> gst::Caps {
    let template = pad.pad_template_caps();
    let caps = filter.map_or(template.clone(), |f| f.intersect_with_mode(&template, gst::CapsIntersectMode::First));
    pad.peer_query_caps(Some(&caps)).intersect_with_mode(&caps, gst::CapsIntersectMode::First)
}

/// Throws away what a look into the queue has kept: the base class hands the same buffer out again, whatever flush came in between.
/// While `pad` is flushing nothing follows it.
fn forget_peeked(pad: &gst_base::AggregatorPad) {
    pad.drop_buffer();
}

impl Harmonize {
    /// Ends the mask stream if its pad is linked to nothing, so that nobody waits for it; the stream of another source
    /// starts it again. Beside the calling thread, because sending EOS waits for a buffer on its way into the pad.
    pub(super) fn end_unlinked_mask(&self) {
        self.obj().call_async(|element| {
            let Some(mask) = element.static_pad("mask") else { return };
            // A source that is linked while a buffer is on its way is not to be ended.
            let _stream = mask.stream_lock();
            if !mask.is_linked() {
                gst::debug!(CAT, obj = mask, "Not linked: the stream ends here");
                mask.send_event(gst::event::Eos::new());
            }
        });
    }

    fn set_caps(&self, pad: &gst_base::AggregatorPad, caps: gst::Caps) -> bool {
        let video = match Video::from_caps(&caps) {
            Ok(video) => video,
            Err(error) => {
                gst::element_imp_error!(self, gst::StreamError::Format, ("Pad {}: {error:#}", pad.name()));
                return false;
            }
        };
        gst::debug!(CAT, obj = pad, "{caps}");
        if let Some(plain) = video.through() {
            let packed = video.info.format();
            gst::info!(
                CAT,
                obj = pad,
                "{packed} can't be worked on in place: converted to {plain} and back, sample by sample"
            );
        }
        if *pad != self.sink {
            lock(&self.masks).set_video(video);
            return true;
        }
        let is_new = lock(&self.state).composite.as_ref().is_none_or(|before| before.info != video.info);
        if is_new {
            // A transfer is made for frames of one size.
            self.forget_scene();
        }
        {
            let mut state = lock(&self.state);
            state.caps = Some(caps);
            state.slowest = gst::ClockTime::ZERO;
            state.composite = Some(video);
        }
        // Now, for the mode of the very first frame; and again until all of them can tell.
        self.ask_sources();
        self.settle_latency();
        self.end_unlinked_mask();
        true
    }

    /// Takes up the caps that `pad` has now: with EOS, the base class throws away those on their way through its queue, and
    /// nobody sends them again.
    fn recover_caps(&self, pad: &gst_base::AggregatorPad) {
        let Some(caps) = pad.current_caps() else { return };
        if *pad != self.sink || self.obj().src_pad().current_caps().as_ref() != Some(&caps) {
            self.set_caps(pad, caps);
        }
    }

    /// An event on its way into a pad's queue, on the thread that sends it.
    pub(super) fn sink_event_pre_queue(
        &self,
        pad: &gst_base::AggregatorPad,
        event: gst::Event,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        match event.view() {
            gst::EventView::Segment(segment) if segment.segment().format() != gst::Format::Time => {
                // GStreamer before 1.28 aborts on these.
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    ("Pad {} needs a segment in time, this one is in {:?}", pad.name(), segment.segment().format())
                );
                return Err(gst::FlowError::Error);
            }
            gst::EventView::Segment(_) => {
                return self.parent_sink_event_pre_queue(pad, self.sought(*pad == self.sink, event));
            }
            gst::EventView::StreamStart(start) if lock(&self.state).has_ended => {
                if *pad != self.sink {
                    // Since GStreamer 1.24 the base class would begin a stream downstream too, which is over at once.
                    lock(&self.masks).begin_stream(start.stream_id());
                    return Ok(gst::FlowSuccess::Ok);
                }
                self.begin_again();
            }
            gst::EventView::FlushStart(_) => {
                match *pad == self.sink {
                    true => self.begin_again(),
                    // A source of masks may be sought before that of the composites: its masks wait.
                    false => lock(&self.state).is_over = false,
                }
                self.is_flushed_for(*pad == self.sink, event.seqnum());
                let number = Some(event.seqnum());
                let is_of_composite = {
                    let flushes = &mut lock(&self.state).flushes;
                    *if *pad == self.sink { &mut flushes.sink } else { &mut flushes.mask_source } = number;
                    flushes.sink == number
                };
                // A flush of the mask alone leaves the composite at work alone.
                if is_of_composite {
                    self.release();
                }
                if *pad == self.sink {
                    let (number, started) = (event.seqnum(), self.parent_sink_event_pre_queue(pad, event));
                    // Now, so that the base class's task has come to its end before any pad is given its FLUSH_STOP: with EOS
                    // or an error, it would close the pads once more.
                    if let Some(mask) = self.mask_pad().filter(|mask| !mask.is_linked()) {
                        lock(&self.state).flushes.mask = Some(number);
                        self.start_flush(&mask, number);
                    }
                    return started;
                }
            }
            _ => (),
        }
        self.parent_sink_event_pre_queue(pad, event)
    }

    /// An event that has come to its turn in a pad's queue.
    pub(super) fn sink_event(&self, pad: &gst_base::AggregatorPad, event: gst::Event) -> bool {
        use gst::EventView::*;
        let is_composite = *pad == self.sink;
        if is_composite && matches!(event.view(), Caps(_) | Segment(_) | SegmentDone(_)) {
            // What waits comes before that.
            if let Err(flow) = self.drain(true) {
                lock(&self.state).flow = Some(flow).filter(|flow| *flow != NEED_DATA);
            }
        }
        match event.view() {
            Caps(caps) if !self.set_caps(pad, caps.caps_owned()) => return false,
            Segment(segment) if is_composite => {
                if let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>() {
                    self.obj().update_segment(segment);
                    let first = if segment.rate() < 0.0 { segment.stop() } else { segment.start() };
                    let mut state = lock(&self.state);
                    state.position = state.position.or_else(|| segment.to_stream_time(first));
                    (state.segment, state.is_flushed) = (Some(event.clone()), false);
                }
            }
            Segment(_) => lock(&self.masks).is_flushed = false,
            StreamStart(start) if !is_composite => lock(&self.masks).begin_stream(start.stream_id()),
            // As the element `scenechange` sends it.
            CustomDownstream(_) if is_composite && gst_video::DownstreamForceKeyUnitEvent::parse(&event).is_ok() => {
                lock(&self.state).scene_begins = true;
            }
            Tag(_) if is_composite => lock(&self.state).tags.push(event.clone()),
            FlushStop(_) if is_composite => {
                {
                    let mut state = lock(&self.state);
                    (state.is_flushed, state.leaves_discont) = (true, false);
                    state.shows_first = state.sought_roughly == Some(event.seqnum());
                    state.sought = state.sought.filter(|(number, _)| *number == event.seqnum());
                }
                forget_peeked(pad);
                // The base class does not call `flush` for every flush of one pad alone.
                self.forget_scene();
                self.resume();
                let (number, flushed) = (event.seqnum(), self.parent_sink_event(pad, event));
                self.recover_caps(pad);
                let begun = lock(&self.state).flushes.mask == Some(number);
                if let Some(mask) = self.mask_pad().filter(|mask| begun || !mask.is_linked()) {
                    self.flush_mask(&mask, number);
                }
                return flushed;
            }
            FlushStop(_) => {
                lock(&self.masks).forget();
                forget_peeked(pad);
                self.recover_caps(pad);
                // A seek that the composite's source took no part in is over with this.
                let number = Some(event.seqnum());
                let is_alone = {
                    let flushes = &lock(&self.state).flushes;
                    flushes.seek == number && flushes.sink != number
                };
                if is_alone {
                    self.forget_scene();
                    self.resume();
                }
            }
            Caps(_) | StreamStart(_) | FlushStart(_) | Eos(_) | Gap(_) => (),
            // What else comes with the mask is of no concern to those who get the composite.
            _ if !is_composite => return true,
            _ => (),
        }
        self.parent_sink_event(pad, event)
    }

    /// An event from downstream.
    pub(super) fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Seek(seek) if seek.get().1.contains(gst::SeekFlags::FLUSH) => self.seek(event),
            gst::EventView::Qos(qos) => {
                self.update_qos(qos);
                // A mask stream that drops frames of its own choice would leave composites without a mask.
                self.sink.push_event(event)
            }
            gst::EventView::Navigation(_) | gst::EventView::Reconfigure(_) => self.sink.push_event(event),
            _ => self.parent_src_event(event),
        }
    }

    /// A flushing seek moves the composite's source or nothing, and with it the mask's source. A mask whose source takes no part,
    /// because it can't seek, gets the composite's flush.
    fn seek(&self, event: gst::Event) -> bool {
        let number = event.seqnum();
        if !self.sink.is_linked() {
            return false;
        }
        if lock(&self.state).flushes.seek.replace(number) == Some(number) {
            // The base class drops a seek that it has seen already, and no flush follows that.
            return self.parent_src_event(event);
        }
        let denies = |pad: &gst_base::AggregatorPad| {
            let mut query = gst::query::Seeking::new(gst::Format::Time);
            pad.peer_query(&mut query) && !query.result().0
        };
        let margin = lock(&self.state).margin;
        let is_rough = self.is_rough(&event);
        {
            let mut state = lock(&self.state);
            state.sought_roughly = is_rough.then_some(number);
            state.sought = seek::begins_at(&event).map(|place| (number, place));
        }
        let event = self.widened(event);
        let unseekable = self.mask_pad().filter(|mask| mask.is_linked() && denies(mask));
        let is_denied = denies(&self.sink);
        let sought = if is_denied {
            self.seek_where_denied(event)
        } else {
            // The base class stops its task at once, so the frame at work has to go.
            self.release();
            self.parent_src_event(event)
        };
        let took_part = lock(&self.state).flushes.mask_source == Some(number);
        if let Some(mask) = unseekable.filter(|_| !took_part && (sought || !is_denied)) {
            self.flush_mask(&mask, number);
        }
        lock(&self.state).is_seeking = false;
        if !sought {
            lock(&self.state).margin = margin;
            if !is_denied {
                // What waited has lost its inferences.
                self.forget_scene();
                self.resume();
            }
        }
        sought
    }

    /// Mixers deny that they can seek, and can; others deny it rightly. The base class stops its task for both, and it stays so
    /// where no flush follows: so the composite's source is tried first, whose flush is then one from upstream.
    fn seek_where_denied(&self, event: gst::Event) -> bool {
        // What comes after the composite's flush is for when the mask has had it as well.
        lock(&self.state).is_seeking = true;
        let sought = self.sink.push_event(event.clone());
        if let Some(mask) = self.mask_pad().filter(|mask| sought && mask.is_linked()) {
            mask.push_event(event);
        }
        sought
    }

    fn start_flush(&self, mask: &gst_base::AggregatorPad, number: gst::Seqnum) {
        lock(&self.masks).hold_last(mask);
        self.parent_sink_event(mask, gst::event::FlushStart::builder().seqnum(number).build());
    }

    /// Gives the mask pad a flush of the composite in which no source of masks takes part: the base class passes a flush on,
    /// and works again after it, only when every pad has had it. The last mask stays, because a still that is over serves any
    /// part of the composite.
    fn flush_mask(&self, mask: &gst_base::AggregatorPad, number: gst::Seqnum) {
        self.start_flush(mask, number);
        // No mask comes in between.
        let _stream = mask.stream_lock();
        self.recover_caps(mask);
        let segment = mask.sticky_event::<gst::event::Segment>(0).map(gst::Event::from);
        let eos = mask.sticky_event::<gst::event::Eos>(0).map(gst::Event::from);
        let eos = eos.or_else(|| (!mask.is_linked()).then(gst::event::Eos::new));
        self.parent_sink_event(mask, gst::event::FlushStop::builder(true).seqnum(number).build());
        for event in [segment, eos].into_iter().flatten() {
            if self.parent_sink_event_pre_queue(mask, event).is_err() {
                gst::debug!(CAT, obj = mask, "Flushed again");
            }
        }
    }

    /// Ends a flush that a stop has cut short: the base class would drop every frame until it ends, and call that a success.
    pub(super) fn end_flush(&self) {
        let number = gst::Seqnum::next();
        for pad in self.obj().sink_pads().into_iter().filter_map(|pad| pad.downcast().ok()) {
            self.parent_sink_event(&pad, gst::event::FlushStop::builder(true).seqnum(number).build());
        }
    }

    /// A query that comes to a sink pad.
    pub(super) fn sink_query(&self, pad: &gst_base::AggregatorPad, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut::*;
        let is_composite = *pad == self.sink;
        match query.view_mut() {
            Caps(query) if is_composite => {
                let source = self.obj().src_pad().clone();
                query.set_result(&peer_caps(&source, query.filter()));
                true
            }
            // Buffers leave as they came, so downstream's wishes are ours.
            Allocation(_) if is_composite => {
                let is_answered = self.obj().src_pad().peer_query(query);
                self.keep_no_pool(query);
                is_answered
            }
            _ => self.parent_sink_query(pad, query),
        }
    }

    /// Takes downstream's pools out of its answer where frames wait for others: it may have none to spare.
    fn keep_no_pool(&self, query: &mut gst::QueryRef) {
        if self.mode() == Mode::Live || lock(&self.settings).temporal().ahead() == 0 {
            return;
        }
        if let gst::QueryViewMut::Allocation(allocation) = query.view_mut() {
            while allocation.allocation_pools().len() > 0 {
                allocation.remove_nth_allocation_pool(0);
            }
        }
    }

    /// A query from downstream.
    pub(super) fn src_query(&self, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut::*;
        match query.view_mut() {
            Caps(query) => {
                query.set_result(&peer_caps(&self.sink, query.filter()));
                true
            }
            Position(query) if query.format() == gst::Format::Time => {
                let place = lock(&self.state).place();
                if place.is_some() {
                    query.set(place);
                }
                // What the source has come to is no frame that has left, but who just begins knows no better.
                place.is_some() || self.sink.peer_query(query.query_mut())
            }
            Position(_) | Duration(_) | Seeking(_) | Uri(_) => self.sink.peer_query(query),
            _ => self.parent_src_query(query),
        }
    }
}
