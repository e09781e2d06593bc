//! The element `harmonize`, driven by its composites: each one is paired with a mask, harmonized in place and pushed.
//!
//! Everything runs in the source pad's task except property access, state changes, flushes and the loading of the model.
//! `state`, `settings` and `stats` are held for moments only, never while GStreamer or the engine is called.

mod composite;

use self::composite::{Outcome, Stop};
use super::inference::Inference;
use super::loading::{self, Loader};
use super::masks::Masks;
use super::pairing::Span;
use super::settings::Settings;
use super::stats::Stats;
use super::video::{FORMATS, Video};
use super::{CAT, MaskChannel, MaskRange, ModelState, Precision, Sampler};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::AGGREGATOR_FLOW_NEED_DATA as NEED_DATA;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use once_cell::sync::Lazy;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Stands for a frame's duration where the caps name no frame rate.
const FALLBACK_FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

const LATENCY_RETRY: Duration = Duration::from_millis(20);
const FLUSH_RETRY: Duration = Duration::from_millis(1);

#[derive(Default)]
struct State {
    composite: Option<Video>,
    /// Events that are to go ahead of the next output: caps, segment and tags.
    caps: Option<gst::Caps>,
    segment: Option<gst::Event>,
    tags: Vec<gst::Event>,
    last: Option<Span>,
    /// A warning has told that there is nothing to harmonize by.
    warned: bool,
}

impl State {
    fn frame_duration(&self) -> gst::ClockTime {
        self.composite.as_ref().and_then(Video::frame_duration).unwrap_or(FALLBACK_FRAME)
    }
}

/// The last flush of the sink pad and the last flushing seek: each comes as several events of one number.
#[derive(Default)]
struct Flushes {
    sink: Option<gst::Seqnum>,
    seek: Option<gst::Seqnum>,
}

#[derive(glib::Properties)]
#[properties(wrapper_type = super::Harmonize)]
pub struct Harmonize {
    #[property(name = "model", nick = "Model",
        blurb = "A built-in model's name, or the folder of a model (config.json and its safetensors)",
        type = String, get, set, member = model, default = Some("compact"), mutable_ready)]
    #[property(name = "device", nick = "Device",
        blurb = "Where the model runs: auto (CUDA if there is any, else the CPU), cpu, cuda or cuda:N. A device that is not there is an error",
        type = String, get, set, member = device, default = Some("auto"), mutable_ready)]
    #[property(name = "precision", nick = "Precision",
        blurb = "The kind that the model's weights are kept in, and its features computed in where the device is fast at that. One that the model is not known to bear is an error",
        type = Precision, get, set, member = precision, builder(Precision::default()).mutable_ready())]
    #[property(name = "sampler", nick = "Sampler",
        blurb = "How the model gets from noise to a picture; ddim and euler add no noise on the way",
        type = Sampler, get, set, member = sampler, builder(Sampler::default()).mutable_playing())]
    #[property(name = "steps", nick = "Sampler steps",
        blurb = "Steps of the sampler, each one run of the model (0 = the model's own number)",
        type = u32, get, set, member = steps, maximum = 1000, mutable_playing)]
    #[property(name = "proxy-size", nick = "Proxy size",
        blurb = "Long side in pixels of the small picture that the model sees; the cost of inference grows with its square, and the output's size does not depend on it (0 = the model's own size)",
        type = u32, get, set, member = proxy_size, maximum = 4096, mutable_playing)]
    #[property(name = "strength", nick = "Strength",
        blurb = "How far the foreground's colours move: 0 leaves the composite, 1 harmonizes it in full",
        type = f64, get, set, member = strength, minimum = 0.0, maximum = 1.0, default = 1.0, controllable, mutable_playing)]
    #[property(name = "seed", nick = "Seed",
        blurb = "Seed of the model's noise; the same seed, settings and frames give the same bytes",
        type = u64, get, set, member = seed, mutable_playing)]
    #[property(name = "mask-channel", nick = "Mask channel",
        blurb = "Which samples of the mask stream hold the mask",
        type = MaskChannel, get, set, member = mask_channel, builder(MaskChannel::default()).mutable_playing())]
    #[property(name = "mask-range", nick = "Mask range",
        blurb = "Which values of the mask mean background and foreground; caps do not tell for GRAY8",
        type = MaskRange, get, set, member = mask_range, builder(MaskRange::default()).mutable_playing())]
    #[property(name = "mask-invert", nick = "Invert the mask",
        blurb = "Take the mask's dark part for the foreground",
        type = bool, get, set, member = mask_invert, mutable_playing)]
    settings: Mutex<Settings>,
    stats: Mutex<Stats>,
    #[property(name = "model-state", nick = "Model state",
        blurb = "Where the model's loading stands",
        type = ModelState, get = |this: &Self| this.inference.state(), builder(ModelState::default()))]
    inference: Arc<Inference>,
    loader: Mutex<Arc<Loader>>,
    sink: gst_base::AggregatorPad,
    state: Mutex<State>,
    masks: Mutex<Masks>,
    flushes: Mutex<Flushes>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A GAP event, which the base class has made a buffer.
fn is_gap(buffer: &gst::BufferRef) -> bool {
    buffer.size() == 0 && buffer.flags().contains(gst::BufferFlags::GAP | gst::BufferFlags::DROPPABLE)
}

/// What the far side of `pad` can do within its template and `filter`.
fn peer_caps(pad: &gst_base::AggregatorPad, filter: Option<&gst::CapsRef>) -> gst::Caps {
    let template = pad.pad_template_caps();
    let caps = filter.map_or(template.clone(), |f| f.intersect_with_mode(&template, gst::CapsIntersectMode::First));
    pad.peer_query_caps(Some(&caps)).intersect_with_mode(&caps, gst::CapsIntersectMode::First)
}

impl Harmonize {
    pub(super) fn set_loader(&self, loader: Arc<Loader>) {
        *lock(&self.loader) = loader;
    }

    fn stats(&self) -> gst::Structure {
        let settings = lock(&self.settings).clone();
        let spec = settings.spec();
        let (device, precision) = self.inference.device().unwrap_or((spec.device, spec.precision));
        lock(&self.stats).to_structure(&device, precision.name(), &spec.model)
    }

    fn mask_pad(&self) -> Option<gst_base::AggregatorPad> {
        self.obj().static_pad("mask").and_downcast()
    }

    fn fail(&self, error: &anyhow::Error) -> gst::FlowError {
        gst::element_imp_error!(self, gst::StreamError::Failed, ("{error:#}"));
        gst::FlowError::Error
    }

    /// Sends caps and tags ahead of the next output, and hands out the segment, which the base class sends with a buffer.
    fn announce(&self) -> Option<gst::Event> {
        let (caps, segment, tags) = {
            let mut state = lock(&self.state);
            (state.caps.take(), state.segment.take(), std::mem::take(&mut state.tags))
        };
        if let Some(caps) = caps {
            self.obj().set_src_caps(&caps);
        }
        for event in tags {
            self.obj().src_pad().push_event(event);
        }
        segment
    }

    fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.announce();
        self.obj().selected_samples(buffer.pts(), buffer.dts(), buffer.duration(), None);
        let flow = self.obj().finish_buffer(buffer);
        lock(&self.stats).frames_out += u64::from(flow.is_ok());
        flow
    }

    fn push_gap(&self, gap: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let segment = self.announce();
        let src = self.obj().src_pad().clone();
        if let (Some(pts), true) = (gap.pts(), src.has_current_caps()) {
            segment.map(|segment| src.push_event(segment));
            src.push_event(gst::event::Gap::builder(pts).duration(gap.duration()).build());
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Ends the mask stream if its pad is linked to nothing, so that nobody waits for it; the stream of another source
    /// starts it again. Beside the calling thread, because sending EOS waits for a buffer on its way into the pad.
    fn end_unlinked_mask(&self) {
        self.obj().call_async(|element| {
            if let Some(mask) = element.static_pad("mask").filter(|mask| !mask.is_linked()) {
                gst::debug!(CAT, obj = mask, "Not linked: the stream ends here");
                mask.send_event(gst::event::Eos::new());
            }
        });
    }

    /// Asks for the latency as soon as every source has an answer: the base class asks once and then waits without a limit
    /// for the next event. Sources have none before they are negotiated. They are asked themselves, because where their
    /// latencies contradict each other the base class posts a WARNING for each query of `src`.
    fn settle_latency(&self) {
        self.obj().call_async(|element| {
            let running = || element.imp().inference.state() != ModelState::Unloaded;
            let answers = |pad: gst::Pad| !pad.is_linked() || pad.peer_query(&mut gst::query::Latency::new());
            while running() && !element.sink_pads().into_iter().all(answers) {
                std::thread::sleep(LATENCY_RETRY);
            }
            if running() {
                element.src_pad().query(&mut gst::query::Latency::new());
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
        if *pad != self.sink {
            lock(&self.masks).set_video(video);
            return true;
        }
        let frame = {
            let mut state = lock(&self.state);
            state.composite = Some(video);
            state.caps = Some(caps);
            state.frame_duration()
        };
        // One frame to wait for the mask, one to work in.
        self.obj().set_latency(2 * frame, 2 * frame);
        self.settle_latency();
        self.end_unlinked_mask();
        true
    }
}

#[glib::object_subclass]
impl ObjectSubclass for Harmonize {
    const NAME: &'static str = "GstHarmonize";
    type Type = super::Harmonize;
    type ParentType = gst_base::Aggregator;

    fn with_class(klass: &Self::Class) -> Self {
        let template = klass.pad_template("sink").expect("the class has a sink template");
        Self {
            settings: Mutex::default(),
            stats: Mutex::default(),
            inference: Arc::default(),
            loader: Mutex::new(Arc::new(loading::load_engine)),
            sink: gst::PadBuilder::<gst_base::AggregatorPad>::from_template(&template).build(),
            state: Mutex::default(),
            masks: Mutex::default(),
            flushes: Mutex::default(),
        }
    }
}

impl ObjectImpl for Harmonize {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            // The derive knows no boxed structures.
            let stats = glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb(
                    "application/x-harmonize-stats: frames-in, frames-out, harmonized, passed-through, dropped and \
                     stale-masks count frames since the start; last-ms, mean-ms and p95-ms are the times of the last \
                     256 harmonized ones; device and model name what they ran on",
                )
                .read_only()
                .build();
            Harmonize::derived_properties().iter().cloned().chain([stats]).collect()
        });
        PROPERTIES.as_ref()
    }

    fn set_property(&self, id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.derived_set_property(id, value, pspec);
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.stats().to_value(),
            _ => self.derived_property(id, pspec),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().add_pad(&self.sink).expect("a new element has no pad of this name");
    }
}

impl GstObjectImpl for Harmonize {}

impl ElementImpl for Harmonize {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "Harmonize",
                "Filter/Effect/Video",
                "Lights and colours the foreground of a composite like the scene behind it, by a diffusion model",
                "gst-harmonize",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            use gst::{PadDirection::*, PadPresence::*};
            let caps = gst_video::VideoCapsBuilder::new().format_list(FORMATS.map(|(format, _)| format)).build();
            [("sink", Sink, Always), ("mask", Sink, Request), ("src", Src, Always)]
                .into_iter()
                .map(|(name, direction, presence)| {
                    let pad = gst_base::AggregatorPad::static_type();
                    gst::PadTemplate::with_gtype(name, direction, presence, &caps, pad).expect("a template is valid")
                })
                .collect()
        });
        TEMPLATES.as_ref()
    }

    fn release_pad(&self, pad: &gst::Pad) {
        self.parent_release_pad(pad);
        *lock(&self.masks) = Masks::default();
    }
}

impl AggregatorImpl for Harmonize {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.state) = State::default();
        *lock(&self.masks) = Masks::default();
        *lock(&self.stats) = Stats::default();
        *lock(&self.flushes) = Flushes::default();
        let spec = lock(&self.settings).spec();
        let loader = lock(&self.loader).clone();
        loading::start(&self.obj(), &self.inference, loader, spec)
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        if self.inference.unload() {
            loading::post_progress(&self.obj(), gst::ProgressType::Canceled, "Stopped before the model was loaded");
        }
        self.obj().notify_model_state();
        *lock(&self.state) = State::default();
        *lock(&self.masks) = Masks::default();
        Ok(())
    }

    fn src_activate(&self, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
        if active {
            self.inference.resume();
        } else {
            self.inference.flush();
        }
        self.parent_src_activate(mode, active)
    }

    fn flush(&self) -> Result<gst::FlowSuccess, gst::FlowError> {
        gst::debug!(CAT, imp = self, "Flushed");
        lock(&self.masks).forget();
        lock(&self.state).last = None;
        self.inference.resume();
        Ok(gst::FlowSuccess::Ok)
    }

    /// The base class comes here until every pad with data has been served; one call pushes one composite.
    fn aggregate(&self, timeout: bool) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.inference.is_flushing() {
            // What is queued belongs to the flush that is about to reach the pads.
            std::thread::sleep(FLUSH_RETRY);
            return Err(NEED_DATA);
        }
        let Some(composite) = self.sink.peek_buffer() else {
            return Err(if self.sink.is_eos() { gst::FlowError::Eos } else { NEED_DATA });
        };
        let (segment, span) = self.place(&composite).map_err(|error| self.fail(&error))?;
        let mask = self.mask_pad().map(|pad| self.find_mask(&pad, span.start, timeout)).transpose()?;
        drop(composite);
        let Some(mut composite) = self.sink.pop_buffer() else { return Err(NEED_DATA) };
        lock(&self.state).last = Some(span);
        if is_gap(&composite) {
            return self.push_gap(&composite);
        }
        lock(&self.stats).frames_in += 1;
        if let Some(time) = composite.pts().and_then(|pts| segment.to_stream_time(pts)) {
            let _ = self.obj().sync_values(time);
        }
        match self.harmonize(&mut composite, span.start, mask) {
            Ok(Outcome::Harmonized) => gst::trace!(CAT, imp = self, "Harmonized {composite:?}"),
            Ok(Outcome::Untouched(why)) => {
                gst::debug!(CAT, imp = self, "{composite:?} passes untouched: {why}");
                lock(&self.stats).passed_through += 1;
            }
            Err(Stop::Flushed) => {
                gst::debug!(CAT, imp = self, "Flushed while at work on {composite:?}");
                lock(&self.stats).dropped += 1;
                return Err(NEED_DATA);
            }
            Err(Stop::Reported) => return Err(gst::FlowError::Error),
            Err(Stop::Failed(error)) => return Err(self.fail(&error)),
        }
        self.push(composite)
    }

    /// With a composite, the base class waits until its time and the declared latency; the frame that the work takes is
    /// taken off, or every frame whose mask is late would leave too late. At EOS nothing is worth waiting for.
    fn next_time(&self) -> Option<gst::ClockTime> {
        let Some(composite) = self.sink.peek_buffer() else {
            return self.sink.is_eos().then_some(gst::ClockTime::ZERO);
        };
        let (_, span) = self.place(&composite).ok()?;
        let work = lock(&self.state).frame_duration();
        Some(gst::ClockTime::from_nseconds(span.start.max(0) as u64).saturating_sub(work))
    }

    /// The source's caps are the composite's; there is nothing to negotiate.
    fn negotiate(&self) -> bool {
        true
    }

    fn create_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst_base::AggregatorPad> {
        if template.name_template() != "mask" || self.mask_pad().is_some() {
            gst::error!(CAT, imp = self, "There is one pad to request, mask, and it exists already");
            return None;
        }
        // Not by the parent: GStreamer before 1.24 gives every request pad the name sink_N.
        let pad = gst::PadBuilder::<gst_base::AggregatorPad>::from_template(template).build();
        let element = self.obj().downgrade();
        pad.connect_unlinked(move |_, _| {
            if let Some(element) = element.upgrade() {
                element.imp().end_unlinked_mask();
            }
        });
        Some(pad)
    }

    fn sink_event_pre_queue(
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
            gst::EventView::FlushStart(_) => {
                let number = Some(event.seqnum());
                let mut flushes = lock(&self.flushes);
                if *pad == self.sink {
                    flushes.sink = number;
                }
                // A flush of the mask alone leaves the composite at work alone.
                let composite = flushes.sink == number;
                drop(flushes);
                if composite {
                    self.inference.flush();
                }
            }
            _ => (),
        }
        self.parent_sink_event_pre_queue(pad, event)
    }

    fn sink_event(&self, pad: &gst_base::AggregatorPad, event: gst::Event) -> bool {
        use gst::EventView::*;
        let is_composite = *pad == self.sink;
        match event.view() {
            Caps(caps) if !self.set_caps(pad, caps.caps_owned()) => return false,
            Segment(segment) if is_composite => {
                if let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>() {
                    self.obj().update_segment(segment);
                    lock(&self.state).segment = Some(event.clone());
                }
            }
            Tag(_) if is_composite => lock(&self.state).tags.push(event.clone()),
            FlushStop(_) if is_composite => self.inference.resume(),
            FlushStop(_) => {
                lock(&self.masks).forget();
                // A seek that the composite's source took no part in is over with this.
                let number = Some(event.seqnum());
                let flushes = lock(&self.flushes);
                let alone = flushes.seek == number && flushes.sink != number;
                drop(flushes);
                if alone {
                    self.inference.resume();
                }
            }
            Caps(_) | Segment(_) | StreamStart(_) | FlushStart(_) | Eos(_) | Gap(_) => (),
            // What else comes with the mask is of no concern to those who get the composite.
            _ if !is_composite => return true,
            _ => (),
        }
        self.parent_sink_event(pad, event)
    }

    fn sink_query(&self, pad: &gst_base::AggregatorPad, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut::*;
        let is_composite = *pad == self.sink;
        match query.view_mut() {
            Caps(query) if is_composite => {
                let source = self.obj().src_pad().clone();
                query.set_result(&peer_caps(&source, query.filter()));
                true
            }
            // Buffers leave as they came, so downstream's wishes are ours.
            Allocation(_) if is_composite => self.obj().src_pad().peer_query(query),
            _ => self.parent_sink_query(pad, query),
        }
    }

    fn propose_allocation(
        &self,
        _pad: &gst_base::AggregatorPad,
        _decide: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        query.add_allocation_meta::<gst_video::VideoMeta>(None);
        Ok(())
    }

    fn src_query(&self, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut::*;
        match query.view_mut() {
            Caps(query) => {
                query.set_result(&peer_caps(&self.sink, query.filter()));
                true
            }
            Position(_) | Duration(_) | Seeking(_) | Uri(_) => self.sink.peer_query(query),
            _ => self.parent_src_query(query),
        }
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Seek(seek) if seek.get().1.contains(gst::SeekFlags::FLUSH) => {
                // The base class stops its task at once, so the frame at work has to go; it drops a seek that it has seen
                // already, and no flush follows that.
                if lock(&self.flushes).seek.replace(event.seqnum()) != Some(event.seqnum()) {
                    self.inference.flush();
                }
                let sought = self.parent_src_event(event);
                if !sought {
                    self.inference.resume();
                }
                sought
            }
            gst::EventView::Navigation(_) | gst::EventView::Reconfigure(_) => self.sink.push_event(event),
            _ => self.parent_src_event(event),
        }
    }
}
