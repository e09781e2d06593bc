//! The element `harmonize`, driven by its composites: each one is paired with a mask, harmonized in place and pushed.
//!
//! Everything runs in the source pad's task except property access, state changes, flushes and the loading of the model.
//! `state`, `settings` and `stats` are held for moments only, never while GStreamer or the engine is called.

mod aggregate;
mod composite;
mod drain;
mod end;
mod events;
mod look;
mod mask_timeout;
mod output;
mod seek;
mod state;
mod timing;

use self::composite::{Composite, FrameTime};
use self::state::{Episode, State};
use super::super::formats;
use super::loading;
use super::masks::Masks;
use super::model::Model;
use super::settings::{AUTOMATIC, DEVICE, MODEL, NOISE_PERIOD, SMOOTHING, STRENGTH, Settings, WORKERS};
use super::stats::Stats;
use super::{
    CAT, MaskChannel, MaskRange, Mode, ModelState, Noise, OnError, OnMissingMask, OnNotReady, Precision, Sampler,
};
use crate::engine::{RunningTime, Stream};
use crate::harmonizers::Sampling;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::AGGREGATOR_FLOW_NEED_DATA as NEED_DATA;
use gst_base::subclass::prelude::*;
use once_cell::sync::Lazy;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const FLUSH_RETRY: Duration = Duration::from_millis(1);

#[derive(glib::Properties)]
#[properties(wrapper_type = super::Harmonize)]
pub struct Harmonize {
    #[property(name = "model", nick = "Model",
        blurb = "A built-in model's name (compact; gift, which has no noise; star, on latents), or the folder of a model (config.json and its safetensors). While playing, another one is loaded beside and taken up between two frames; one that can't be loaded is warned of, and the one before stays",
        type = String, get, set, member = model, default = Some(MODEL), mutable_playing)]
    #[property(name = "device", nick = "Device",
        blurb = "Where the model runs: auto (CUDA if there is any, else the CPU), cpu, cuda or cuda:N. A device that is not there is an error",
        type = String, get, set, member = device, default = Some(DEVICE), mutable_playing)]
    #[property(name = "precision", nick = "Precision",
        blurb = "The kind that the model's weights are kept in, and its features computed in where the device is fast at that. One that the model is not known to bear is an error",
        type = Precision, get, set, member = precision, builder(Precision::default()).mutable_playing())]
    #[property(name = "sampler", nick = "Sampler",
        blurb = "How the model gets from noise to a picture; ddim and euler add no noise on the way, and gift takes none but auto",
        type = Sampler, get, set, member = sampler, builder(Sampler::default()).controllable().mutable_playing())]
    #[property(name = "steps", nick = "Sampler steps",
        blurb = "Steps of the sampler, each one run of the model (0 = the model's own number; gift takes 1 alone). More than the model takes is refused with a warning, or an error where the model is loaded later",
        type = u32, get, set, member = steps, maximum = 1000, controllable, mutable_playing)]
    #[property(name = "proxy-size", nick = "Proxy size",
        blurb = "Long side in pixels of the small picture that the model sees; the cost of inference grows with its square, and the output's size does not depend on it (0 = the model's own size)",
        type = u32, get, set, member = proxy_size, maximum = 4096, controllable, mutable_playing)]
    #[property(name = "strength", nick = "Strength",
        blurb = "How far the foreground's colours move: 0 leaves the composite, 1 harmonizes it in full",
        type = f64, get, set, member = strength, minimum = 0.0, maximum = 1.0, default = STRENGTH, controllable, mutable_playing)]
    #[property(name = "seed", nick = "Seed",
        blurb = "Seed of the model's noise; the same seed, settings and frames give the same bytes",
        type = u64, get, set, member = seed, controllable, mutable_playing)]
    #[property(name = "noise", nick = "Noise",
        blurb = "How the model's noise goes on from frame to frame: a function of seed, stream time and the frame's own mask, the same after a seek",
        type = Noise, get, set, member = noise, builder(Noise::default()).controllable().mutable_playing())]
    #[property(name = "noise-period", nick = "Noise period",
        blurb = "Nanoseconds of stream time in which noise=drift turns into other noise",
        type = u64, get, set, member = noise_period, minimum = 1, default = NOISE_PERIOD, controllable, mutable_playing)]
    #[property(name = "smoothing", nick = "Smoothing",
        blurb = "How much colours are averaged over time, as what a neighbour 40 ms away weighs: 0 takes every frame by itself, 1 all of the window alike. Exact mode averages over 400 ms before and after a frame, so frames wait for those; live mode over what it has found last. Cuts end the window",
        type = f64, get, set, member = smoothing, minimum = 0.0, maximum = 1.0, default = SMOOTHING, controllable, mutable_playing)]
    #[property(name = "scene-detection", nick = "Scene detection",
        blurb = "Begin anew where the background is another than in the frame before",
        type = bool, get, set, member = scene_detection, default = true, controllable, mutable_playing)]
    #[property(name = "scene", nick = "Scene",
        blurb = "Any number of the scene: at each change of it one begins, as at a cut. Upstream's force-key-unit events, which the element scenechange sends, do so too",
        type = u32, get, set, member = scene, controllable, mutable_playing)]
    #[property(name = "workers", nick = "Workers",
        blurb = "Threads that infer, each on a frame of its own: in exact mode, where the source is not live, as many frames are at work at the same time. The result does not depend on it",
        type = u32, get, set, member = workers, minimum = 1, maximum = 64, default = WORKERS)]
    #[property(name = "mask-channel", nick = "Mask channel",
        blurb = "Which samples of the mask stream hold the mask",
        type = MaskChannel, get, set, member = mask_channel, builder(MaskChannel::default()).controllable().mutable_playing())]
    #[property(name = "mask-range", nick = "Mask range",
        blurb = "Which values of the mask mean background and foreground; caps do not tell for GRAY8",
        type = MaskRange, get, set, member = mask_range, builder(MaskRange::default()).controllable().mutable_playing())]
    #[property(name = "mask-invert", nick = "Invert the mask",
        blurb = "Take the mask's dark part for the foreground",
        type = bool, get, set, member = mask_invert, controllable, mutable_playing)]
    #[property(name = "mode", nick = "Mode",
        blurb = "exact: every frame waits for the transfers around it that its own depends on, and the same frames give the same bytes. live: no frame waits; each takes what has been found by now, while the model is at work on the newest frame",
        type = Mode, get, set, member = mode, builder(Mode::default()).mutable_playing())]
    #[property(name = "passthrough", nick = "Pass through",
        blurb = "Frames pass untouched, and wait for neither masks nor the model",
        type = bool, get, set, member = passthrough, controllable, mutable_playing)]
    #[property(name = "processing-deadline", nick = "Processing deadline",
        blurb = "Nanoseconds of latency declared in live pipelines for the work on a frame (-1 = automatic: half a frame in live mode; in exact mode as many frames as the work is measured to take)",
        type = u64, get, set, member = processing_deadline, default = AUTOMATIC, mutable_playing)]
    #[property(name = "mask-timeout", nick = "Mask timeout",
        blurb = "Nanoseconds that a composite waits for its mask before on-missing-mask decides; part of the latency declared in live pipelines (-1 = automatic: half a frame in live mode, a frame in exact mode; without end in pipelines that are not live)",
        type = u64, get, set, member = mask_timeout, default = AUTOMATIC, mutable_playing)]
    #[property(name = "keyframe-interval", nick = "Keyframe interval",
        blurb = "Infer once in each interval of so many nanoseconds of stream time. 0 is every frame in exact mode, in live mode whenever the model is free. Frames between two keyframes are interpolated in exact mode, for which they wait; in live mode they ease over to the newest",
        type = u64, get, set, member = keyframe_interval, controllable, mutable_playing)]
    #[property(name = "qos", nick = "Quality of service",
        blurb = "Drop frames that downstream could not show in time any more, and post a QOS message for each",
        type = bool, get, set, member = qos, default = true, mutable_playing)]
    #[property(name = "on-not-ready", nick = "Where the model is not ready",
        blurb = "What becomes of a frame while the model is loading, or has found no transfer yet",
        type = OnNotReady, get, set, member = on_not_ready, builder(OnNotReady::default()).mutable_playing())]
    #[property(name = "on-missing-mask", nick = "Where a mask is missing",
        blurb = "What becomes of a frame without a mask of its time: in a hole of the mask stream, or after its end. A mask stream of a single frame is a still, which has no end",
        type = OnMissingMask, get, set, member = on_missing_mask, builder(OnMissingMask::default()).mutable_playing())]
    #[property(name = "on-error", nick = "Where inference fails",
        blurb = "What becomes of a frame whose inference fails. A model that can't be loaded at the start is always an error",
        type = OnError, get, set, member = on_error, builder(OnError::default()).mutable_playing())]
    #[property(name = "stats-interval", nick = "Statistics interval",
        blurb = "Nanoseconds between element messages that hold the stats and the running time (0 = none)",
        type = u64, get, set, member = stats_interval, mutable_playing)]
    settings: Mutex<Settings>,
    stats: Mutex<Stats>,
    #[property(name = "model-state", nick = "Model state",
        blurb = "Where the model's loading stands",
        type = ModelState, get = |this: &Self| this.model.state(), builder(ModelState::default()))]
    pub(super) model: Arc<Model>,
    stream: Stream<Composite>,
    sink: gst_base::AggregatorPad,
    state: Mutex<State>,
    masks: Mutex<Masks>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Harmonize {
    fn stats(&self) -> gst::Structure {
        let settings = lock(&self.settings).clone();
        let (mode, loaded) = (self.mode(), self.model.loaded());
        lock(&self.stats).to_structure(&settings, mode, loaded.as_ref())
    }

    /// The mode that frames are worked on in, never `Auto`.
    fn mode(&self) -> Mode {
        let mode = lock(&self.settings).mode;
        match mode {
            Mode::Auto if lock(&self.state).is_live => Mode::Live,
            Mode::Auto => Mode::Exact,
            mode => mode,
        }
    }

    /// How the model is to be run.
    pub(super) fn sampling(&self) -> Sampling {
        lock(&self.settings).sampling()
    }

    /// Whether the model that is loaded takes `value` as the property `name`; a warning says why if not.
    fn takes(&self, name: &str, value: &glib::Value) -> bool {
        let mut settings = lock(&self.settings).clone();
        match name {
            "steps" => settings.steps = value.get().unwrap_or_default(),
            "sampler" => settings.sampler = value.get().unwrap_or_default(),
            _ => return true,
        }
        let Some(loaded) = self.model.loaded() else { return true };
        let checked = loaded.engine.check(settings.sampling());
        if let Err(error) = &checked {
            self.warn(&format!("Can't set {name}: {error:#}"));
        }
        checked.is_ok()
    }

    /// Loads what the properties ask for by now, beside the model in use.
    fn reload(&self) {
        if !lock(&self.state).is_started {
            return;
        }
        let asked = lock(&self.settings).load();
        if let Err(error) = loading::start(&self.obj(), &self.model, asked, true) {
            self.obj().post_error_message(error);
        }
    }

    /// Releases whoever waits for the model or for an inference, now and until `resume`.
    fn release(&self) {
        self.stream.flush();
        self.model.flush();
    }

    /// The stream's is the flag that frames are taken by, so it is the first to go up and the last to come down.
    fn resume(&self) {
        self.model.resume();
        self.stream.resume();
    }

    fn mask_pad(&self) -> Option<gst_base::AggregatorPad> {
        self.obj().static_pad("mask").and_downcast()
    }

    fn fail(&self, error: &anyhow::Error) -> gst::FlowError {
        gst::element_imp_error!(self, gst::StreamError::Failed, ("{error:#}"));
        gst::FlowError::Error
    }

    fn warn(&self, text: &str) {
        gst::element_imp_warning!(self, gst::StreamError::Failed, ("{text}"));
    }

    /// Whether an episode begins now.
    fn begins(&self, episode: Episode) -> bool {
        !std::mem::replace(&mut lock(&self.state).episodes[episode as usize], true)
    }

    /// Whether one has ended now.
    fn ends(&self, episode: Episode) -> bool {
        std::mem::replace(&mut lock(&self.state).episodes[episode as usize], false)
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
            model: Arc::default(),
            stream: Stream::default(),
            sink: gst::PadBuilder::<gst_base::AggregatorPad>::from_template(&template).build(),
            state: Mutex::default(),
            masks: Mutex::default(),
        }
    }
}

impl ObjectImpl for Harmonize {
    fn signals() -> &'static [glib::subclass::Signal] {
        look::signals()
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            // The derive knows no boxed structures.
            let stats = glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb(
                    "application/x-harmonize-stats: frames-in, frames-out, harmonized, passed-through, dropped, and of \
                     these stale-masks, missing-masks, not-ready and late count frames since the start, transfers and \
                     errors inferences; last-ms, mean-ms, p95-ms and p99-ms are what the last 256 harmonized frames \
                     took of the streaming thread, inference-last-ms, -mean-ms and -p95-ms what the last 256 inferences \
                     took; transfer-age-ms is how old the transfer of the last frame was; mode, keyframe-interval, \
                     device, precision and model name what they ran with",
                )
                .read_only()
                .build();
            let [selection, start_time] = timing::start_time();
            Harmonize::derived_properties().iter().cloned().chain([stats, selection, start_time]).collect()
        });
        PROPERTIES.as_ref()
    }

    fn set_property(&self, id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if !self.takes(pspec.name(), value) {
            return;
        }
        self.derived_set_property(id, value, pspec);
        match pspec.name() {
            "model" | "device" | "precision" => self.reload(),
            "mode" | "processing-deadline" | "smoothing" | "keyframe-interval" => self.declare_latency(),
            "mask-timeout" | "passthrough" => {
                self.declare_latency();
                self.look_after_next();
            }
            _ => (),
        }
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.stats().to_value(),
            "start-time-selection" => gst_base::AggregatorStartTimeSelection::First.to_value(),
            "start-time" => AUTOMATIC.to_value(),
            _ => self.derived_property(id, pspec),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.refuse_after_end(&self.sink);
        let element = self.obj().downgrade();
        self.sink.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if let Some(element) = element.upgrade() {
                element.imp().arrived();
            }
            gst::PadProbeReturn::Ok
        });
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
            let formats = || gst_video::VideoCapsBuilder::new().format_list(formats::all());
            let mut caps = formats().build();
            // A field a buffer.
            caps.merge(formats().features(["format:Interlaced"]).field("interlace-mode", "alternate").build());
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

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let changed = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToNull {
            self.model.unload();
            self.obj().notify_model_state();
        }
        Ok(changed)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        self.parent_release_pad(pad);
        *lock(&self.masks) = Masks::default();
    }
}

impl AggregatorImpl for Harmonize {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        {
            let mut state = lock(&self.state);
            let (arrived, asking) = (state.arrived, state.asking);
            *state = State { is_started: true, arrived, taken: arrived, asking, ..State::default() };
        }
        *lock(&self.masks) = Masks::default();
        self.forget_scene();
        *lock(&self.stats) = Stats::default();
        self.end_flush();
        let asked = lock(&self.settings).load();
        if self.model.loaded().is_some_and(|loaded| (&loaded.spec, loaded.workers) == (&asked.0, asked.1)) {
            gst::debug!(CAT, imp = self, "Model {} has stayed loaded", asked.0.model);
            return Ok(());
        }
        loading::start(&self.obj(), &self.model, asked, false)
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        if self.model.give_up_load() {
            loading::post_progress(&self.obj(), gst::ProgressType::Canceled, "Stopped before the model was loaded");
        }
        self.obj().notify_model_state();
        lock(&self.state).is_started = false;
        *lock(&self.masks) = Masks::default();
        self.forget_scene();
        Ok(())
    }

    fn src_activate(&self, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
        if active {
            self.resume();
        } else {
            self.release();
        }
        self.parent_src_activate(mode, active)
    }

    fn flush(&self) -> Result<gst::FlowSuccess, gst::FlowError> {
        gst::debug!(CAT, imp = self, "Flushed");
        lock(&self.state).forget();
        self.forget_scene();
        self.resume();
        Ok(gst::FlowSuccess::Ok)
    }

    fn aggregate(&self, timeout: bool) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.aggregate(timeout)
    }

    fn next_time(&self) -> Option<gst::ClockTime> {
        self.next_time()
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
        self.refuse_after_end(&pad);
        let element = self.obj().downgrade();
        pad.connect_unlinked(move |_, _| {
            if let Some(element) = element.upgrade() {
                element.imp().end_unlinked_mask();
            }
        });
        // The binding gives the base class a reference of its own, which that takes for the floating one that adding the pad
        // sinks; as it is, no pad would ever be freed.
        // SAFETY: `pad` is a valid object, and its only reference is the one that is returned and sunk.
        unsafe { glib::gobject_ffi::g_object_force_floating(pad.as_ptr().cast()) };
        Some(pad)
    }

    fn sink_query(&self, pad: &gst_base::AggregatorPad, query: &mut gst::QueryRef) -> bool {
        self.sink_query(pad, query)
    }

    fn sink_query_pre_queue(&self, pad: &gst_base::AggregatorPad, query: &mut gst::QueryRef) -> bool {
        self.sink_query_pre_queue(pad, query)
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
        self.src_query(query)
    }

    fn sink_event_pre_queue(
        &self,
        pad: &gst_base::AggregatorPad,
        event: gst::Event,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.sink_event_pre_queue(pad, event)
    }

    fn sink_event(&self, pad: &gst_base::AggregatorPad, event: gst::Event) -> bool {
        self.sink_event(pad, event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        self.src_event(event)
    }
}
