//! The element `harmonizebin`:
//!
//! ```text
//! foreground ─ queue ─ (videoconvert ─ alpha) ─ compositor ─ masking ─ queue ─ harmonize ─ videoconvert ─ capsfilter ─ src
//! background ─ queue ─────────────────────────────┘
//! ```
//!
//! What `compositor` draws and what `masking` makes the mask of is one `Selection`, taken in `compositor`'s own thread
//! between its choice of frames and its drawing them. So properties never reach `compositor` at any other time. The mask
//! is the composite's alpha from there to `harmonize`, and the last `videoconvert` takes it off.

use super::CAT;
use super::Key;
use super::formats::{composite_caps, opaque_caps, without_alpha};
use super::mask::{Chosen, Selection};
use super::masking::{self, Masking};
use super::settings::Settings;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_video::VideoInfo;
use gst_video::prelude::*;
use once_cell::sync::{Lazy, OnceCell};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Frames that a queue holds. Inputs: `compositor` works a frame behind and waits for the later of its inputs, and what a
/// live source sends meanwhile has to go somewhere. Before `harmonize`: one at work, one waiting.
const QUEUED_IN: u32 = 5;
const QUEUED_BETWEEN: u32 = 2;

#[derive(Debug)]
struct Children {
    compositor: gst_base::Aggregator,
    foreground: gst_video::VideoAggregatorPad,
    background: gst_video::VideoAggregatorPad,
    masking: Masking,
    /// The last two elements.
    convert: gst::Element,
    filter: gst::Element,
    /// Where what comes from the `foreground` pad goes in.
    foreground_queue: gst::Element,
}

#[derive(glib::Properties)]
#[properties(wrapper_type = super::HarmonizeBin)]
pub struct HarmonizeBin {
    #[property(name = "key", nick = "Key",
        blurb = "The backing that the foreground is cut from; none takes the foreground's own alpha",
        type = Key, get, set = Self::set_key, member = key, builder(Key::default()).mutable_ready())]
    #[property(name = "key-color", nick = "Key colour",
        blurb = "The backing's colour for key=custom, as 0xRRGGBB: where it is lit least. What is stronger in this colour goes, what is weaker stays in part",
        type = u32, get, set = |this: &Self, color| this.set_keying(|settings| settings.key_color = color),
        member = key_color, maximum = 0xffffff, default = 0x00ff00, mutable_playing)]
    #[property(name = "key-angle", nick = "Key angle",
        blurb = "How far around the backing's hue its colour is taken out of the foreground, in degrees: less spares more hues, and leaves more of a coloured edge",
        type = f32, get, set = |this: &Self, angle| this.set_keying(|settings| settings.key_angle = angle),
        member = key_angle, minimum = 0.0, maximum = 90.0, default = Settings::default().key_angle, mutable_playing)]
    #[property(name = "key-noise-level", nick = "Key noise level",
        blurb = "Radius in chroma around the backing's colour that is all backing: more cleans a noisy backing and hardens edges",
        type = f32, get, set = |this: &Self, level| this.set_keying(|settings| settings.key_noise_level = level),
        member = key_noise_level, minimum = 0.0, maximum = 64.0, default = Settings::default().key_noise_level, mutable_playing)]
    #[property(name = "xpos", nick = "X position",
        blurb = "The foreground's left edge, in pixels of the background",
        type = i32, get = |this: &Self| this.lock().placement.xpos,
        set = |this: &Self, x| this.lock().placement.xpos = x,
        minimum = i32::MIN, maximum = i32::MAX, controllable, mutable_playing)]
    #[property(name = "ypos", nick = "Y position",
        blurb = "The foreground's top edge, in pixels of the background",
        type = i32, get = |this: &Self| this.lock().placement.ypos,
        set = |this: &Self, y| this.lock().placement.ypos = y,
        minimum = i32::MIN, maximum = i32::MAX, controllable, mutable_playing)]
    #[property(name = "width", nick = "Width",
        blurb = "The foreground's width in pixels of the background (0 = as it comes, or as its height and shape have it)",
        type = i32, get = |this: &Self| this.lock().placement.width,
        set = |this: &Self, width| this.lock().placement.width = width,
        minimum = 0, maximum = i32::MAX, controllable, mutable_playing)]
    #[property(name = "height", nick = "Height",
        blurb = "The foreground's height in pixels of the background (0 = as it comes, or as its width and shape have it)",
        type = i32, get = |this: &Self| this.lock().placement.height,
        set = |this: &Self, height| this.lock().placement.height = height,
        minimum = 0, maximum = i32::MAX, controllable, mutable_playing)]
    #[property(name = "alpha", nick = "Alpha",
        blurb = "The foreground's opacity: 0 hides it, 1 shows it as it comes",
        type = f64, get = |this: &Self| this.lock().placement.alpha,
        set = |this: &Self, alpha| this.lock().placement.alpha = alpha,
        minimum = 0.0, maximum = 1.0, default = 1.0, controllable, mutable_playing)]
    #[property(name = "zorder", nick = "Z order",
        blurb = "1: the foreground is before the background. 0: behind it, seen where a background with alpha lets it through",
        type = u32, get = |this: &Self| this.lock().placement.zorder,
        set = |this: &Self, zorder| this.lock().placement.zorder = zorder,
        minimum = 0, maximum = 1, default = 1, controllable, mutable_playing)]
    #[property(name = "repeat-after-eos", nick = "Repeat after EOS",
        blurb = "Whether the foreground's last frame stays after its EOS, so that a still lasts as long as the background",
        type = bool, get, set, member = repeat_after_eos, mutable_playing)]
    settings: Mutex<Settings>,
    foreground: gst::GhostPad,
    background: gst::GhostPad,
    src: gst::GhostPad,
    children: OnceCell<Children>,
    /// The element whose lack keeps the bin from working.
    missing: Mutex<Option<&'static str>>,
    keyer: Mutex<Option<gst::Element>>,
}

fn make(factory: &'static str, name: &str) -> Result<gst::Element, &'static str> {
    gst::ElementFactory::make(factory).name(name).build().map_err(|_| factory)
}

fn queue(name: &str, frames: u32) -> Result<gst::Element, &'static str> {
    let queue = make("queue", name)?;
    queue.set_property("max-size-buffers", frames);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    Ok(queue)
}

impl HarmonizeBin {
    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_keying(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock());
        self.update_keyer();
    }

    fn set_key(&self, key: Key) {
        self.lock().key = key;
        self.update_keyer();
        if self.obj().current_state() <= gst::State::Ready {
            self.link_foreground();
        }
    }

    fn keyer(&self) -> Option<gst::Element> {
        self.keyer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update_keyer(&self) {
        let Some(keyer) = self.keyer() else { return };
        let settings = self.lock().clone();
        let [_, r, g, b] = settings.backing().to_be_bytes();
        for (name, value) in [("target-r", r), ("target-g", g), ("target-b", b)] {
            keyer.set_property(name, u32::from(value));
        }
        keyer.set_property("angle", settings.key_angle);
        keyer.set_property("noise-level", settings.key_noise_level);
    }

    /// Creates what is always there, linked.
    fn build(&self) -> Result<Children, &'static str> {
        let bin = self.obj();
        let compositor = make("compositor", "compositor")?;
        compositor.set_property("emit-signals", true);
        compositor.set_property_from_str("background", "black");
        compositor.set_property_from_str("start-time-selection", "first");
        let harmonize = make("harmonize", "harmonize")?;
        let masking = make(masking::FACTORY, "masking")?.downcast::<Masking>().map_err(|_| masking::FACTORY)?;
        let foreground_queue = queue("foreground-queue", QUEUED_IN)?;
        let background_queue = queue("background-queue", QUEUED_IN)?;
        let composite_queue = queue("composite-queue", QUEUED_BETWEEN)?;
        let convert = make("videoconvert", "convert-harmonized")?;
        let filter = make("capsfilter", "filter-harmonized")?;
        let unlinked = |_| "compositor";
        let children: [&gst::Element; 8] = [
            &compositor,
            &harmonize,
            masking.upcast_ref(),
            &foreground_queue,
            &background_queue,
            &composite_queue,
            &convert,
            &filter,
        ];
        bin.add_many(children).map_err(unlinked)?;
        let request = |name| {
            let pad = compositor.request_pad_simple(name)?;
            pad.downcast::<gst_video::VideoAggregatorPad>().ok()
        };
        let (Some(background), Some(foreground)) = (request("sink_0"), request("sink_1")) else {
            return Err("compositor");
        };
        background.set_property("zorder", 1u32);
        foreground.set_property("zorder", 2u32);
        let link = |a: &gst::Element, src: &str, b: &gst::Element, sink: &str| {
            a.link_pads(Some(src), b, Some(sink)).map_err(|_| "compositor")
        };
        link(&background_queue, "src", &compositor, "sink_0")?;
        link(&compositor, "src", masking.upcast_ref(), "sink")?;
        link(masking.upcast_ref(), "src", &composite_queue, "sink")?;
        link(&composite_queue, "src", &harmonize, "sink")?;
        link(&harmonize, "src", &convert, "sink")?;
        link(&convert, "src", &filter, "sink")?;
        let target = |ghost: &gst::GhostPad, element: &gst::Element, pad: &str| {
            ghost.set_target(element.static_pad(pad).as_ref()).map_err(unlinked)
        };
        target(&self.foreground, &foreground_queue, "sink")?;
        target(&self.background, &background_queue, "sink")?;
        target(&self.src, &filter, "src")?;
        let compositor = compositor.downcast::<gst_base::Aggregator>().map_err(|_| "compositor")?;
        Ok(Children { compositor, foreground, background, masking, convert, filter, foreground_queue })
    }

    fn connect(&self, children: &Children) {
        let bin = self.obj().downgrade();
        children.compositor.connect_samples_selected(move |_, segment, pts, _, _, _| {
            if let Some(bin) = bin.upgrade() {
                bin.imp().select(segment, pts);
            }
        });
        let masking = children.masking.downgrade();
        children.background.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let (Some(gst::EventView::Caps(caps)), Some(masking)) =
                (info.event().map(|e| e.view()), masking.upgrade())
                && let Some(wanted) = composite_caps(caps.caps())
            {
                gst::debug!(CAT, obj = masking, "Composites are to be {wanted}");
                masking.want(wanted);
            }
            gst::PadProbeReturn::Ok
        });
        // In step with the composites, and again when downstream changes its mind.
        let probes = [
            (children.convert.static_pad("sink"), gst::PadProbeType::EVENT_DOWNSTREAM, gst::EventType::Caps),
            (children.filter.static_pad("src"), gst::PadProbeType::EVENT_UPSTREAM, gst::EventType::Reconfigure),
        ];
        for (pad, direction, kind) in probes {
            let (Some(pad), bin) = (pad, self.obj().downgrade()) else { continue };
            pad.add_probe(direction, move |_, info| {
                if let (Some(event), Some(bin)) = (info.event().filter(|event| event.type_() == kind), bin.upgrade()) {
                    bin.imp().choose_format(event);
                }
                gst::PadProbeReturn::Ok
            });
        }
        let bin = self.obj().downgrade();
        self.foreground.connect_unlinked(move |_, _| {
            // Beside the calling thread, which may be one that streams.
            if let Some(bin) = bin.upgrade() {
                bin.call_async(|bin| bin.imp().end_unlinked_foreground());
            }
        });
    }

    /// Links the foreground's queue with `compositor`, by way of the keyer if there is a key.
    fn link_foreground(&self) {
        let Some(Children { compositor, foreground, foreground_queue, .. }) = self.children.get() else { return };
        let bin = self.obj();
        if let Some(peer) = foreground.peer() {
            let _ = peer.unlink(foreground);
        }
        let mut old = vec![];
        old.extend(self.keyer.lock().unwrap_or_else(PoisonError::into_inner).take());
        old.extend(bin.by_name("convert-foreground"));
        for element in old {
            let _ = element.set_state(gst::State::Null);
            let _ = bin.remove(&element);
        }
        let link = || {
            if self.lock().key == Key::None {
                foreground_queue.link_pads(Some("src"), compositor, Some("sink_1")).map_err(|_| "compositor")?;
                return Ok(());
            }
            let (convert, keyer) = (make("videoconvert", "convert-foreground")?, make("alpha", "alpha")?);
            bin.add_many([&convert, &keyer]).map_err(|_| "alpha")?;
            gst::Element::link_many([foreground_queue, &convert, &keyer]).map_err(|_| "alpha")?;
            keyer.link_pads(Some("src"), compositor, Some("sink_1")).map_err(|_| "alpha")?;
            keep_colorimetry(&keyer);
            let _ = convert.sync_state_with_parent();
            let _ = keyer.sync_state_with_parent();
            // Not its green or blue, which are pure: a real backing is half as strong, and would stay half opaque.
            keyer.set_property_from_str("method", "custom");
            // Colour alone tells backing from foreground, however dark or bright.
            keyer.set_property("black-sensitivity", 128u32);
            keyer.set_property("white-sensitivity", 128u32);
            *self.keyer.lock().unwrap_or_else(PoisonError::into_inner) = Some(keyer);
            self.update_keyer();
            Ok(())
        };
        let missing = link().err();
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
    }

    /// In `compositor`'s thread, with its frames chosen and not drawn yet.
    fn select(&self, segment: &gst::Segment, pts: Option<gst::ClockTime>) {
        let Some(Children { compositor, foreground: pad, background, masking, .. }) = self.children.get() else {
            return;
        };
        let time = segment.downcast_ref::<gst::ClockTime>().and_then(|segment| segment.to_stream_time(pts));
        if let Some(time) = time {
            let _ = self.obj().sync_values(time);
        }
        let Settings { placement, repeat_after_eos, .. } = self.lock().clone();
        // Not the sample's caps, which are missing after a flush.
        let chosen = |pad: &gst_video::VideoAggregatorPad| {
            let buffer = compositor.peek_next_sample(pad)?.buffer_owned()?;
            Some(Chosen { buffer, info: pad.video_info()? })
        };
        let foreground = chosen(pad);
        if let Some(Chosen { info, .. }) = &foreground {
            let (width, height) = placement.size(info);
            set(pad, "xpos", placement.xpos);
            set(pad, "ypos", placement.ypos);
            set(pad, "width", width);
            set(pad, "height", height);
        }
        // The background's is 1.
        set(pad, "zorder", 2 * placement.zorder);
        set(pad, "alpha", placement.alpha);
        set(pad, "repeat-after-eos", repeat_after_eos);
        let over = background.is_eos();
        masking.select(Selection { pts, foreground, background: chosen(background), over, placement });
    }

    /// Gives frames in the background's format, chroma where it is, unless downstream can't take that.
    fn choose_format(&self, event: &gst::Event) {
        let Some(Children { background, filter, masking, .. }) = self.children.get() else { return };
        let composite = match event.view() {
            gst::EventView::Caps(caps) => Some(caps.caps_owned()),
            _ => masking.static_pad("src").and_then(|pad| pad.current_caps()),
        };
        let format = background.current_caps().and_then(|caps| Some(VideoInfo::from_caps(&caps).ok()?.format()));
        let (Some(composite), Some(format), Some(src)) = (composite, format, filter.static_pad("src")) else { return };
        let mut caps = gst_video::VideoCapsBuilder::new().format(without_alpha(format)).build();
        if let Some(site) = composite.structure(0).and_then(|structure| structure.value("chroma-site").ok()) {
            caps.make_mut().set_value("chroma-site", site.clone());
        }
        if src.peer_query_caps(Some(&caps)).is_empty() {
            caps = opaque_caps();
        }
        if filter.property::<gst::Caps>("caps") != caps {
            gst::debug!(CAT, imp = self, "Frames are to be {caps}");
            filter.set_property("caps", caps);
        }
    }

    /// Ends the foreground's stream if its pad is linked to nothing, so that nobody waits for it; the stream of another
    /// source starts it again.
    fn end_unlinked_foreground(&self) {
        if !self.foreground.is_linked() && self.foreground.is_active() {
            gst::debug!(CAT, obj = self.foreground, "Not linked: the stream ends here");
            self.foreground.send_event(gst::event::StreamStart::new("none"));
            self.foreground.send_event(gst::event::Eos::new());
        }
    }
}

/// Lets `keyer` say of which colorimetry its samples are: `alpha` leaves that out, and what is guessed instead goes by size.
fn keep_colorimetry(keyer: &gst::Element) {
    let (Some(sink), Some(src)) = (keyer.static_pad("sink"), keyer.static_pad("src")) else { return };
    src.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            // The keyer's own pad has them no sooner than this is over.
            && let Some(known) = sink.peer().and_then(|peer| peer.current_caps())
            && let Some(colorimetry) = known.structure(0).and_then(|known| known.value("colorimetry").ok())
        {
            let mut caps = caps.caps_owned();
            caps.make_mut().set_value("colorimetry", colorimetry.clone());
            info.data = Some(gst::PadProbeData::Event(gst::event::Caps::new(&caps)));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Only what is new: a size that is set, even to what it is, makes `compositor` set up its scaler anew.
fn set<T>(pad: &gst_video::VideoAggregatorPad, name: &str, value: T)
where
    T: PartialEq + Into<glib::Value> + for<'a> glib::value::FromValue<'a> + 'static,
{
    if pad.property::<T>(name) != value {
        pad.set_property(name, value);
    }
}

#[glib::object_subclass]
impl ObjectSubclass for HarmonizeBin {
    const NAME: &'static str = "GstHarmonizeBin";
    type Type = super::HarmonizeBin;
    type ParentType = gst::Bin;

    fn with_class(klass: &Self::Class) -> Self {
        let ghost = |name| {
            let template = klass.pad_template(name).expect("the class has this template");
            gst::GhostPad::builder_from_template(&template).name(name).build()
        };
        Self {
            settings: Mutex::default(),
            foreground: ghost("foreground"),
            background: ghost("background"),
            src: ghost("src"),
            children: OnceCell::new(),
            missing: Mutex::default(),
            keyer: Mutex::default(),
        }
    }
}

#[glib::derived_properties]
impl ObjectImpl for HarmonizeBin {
    fn constructed(&self) {
        self.parent_constructed();
        let bin = self.obj();
        for pad in [&self.foreground, &self.background, &self.src] {
            bin.add_pad(pad).expect("a new element has no pad of this name");
        }
        match self.build() {
            Ok(children) => {
                self.connect(&children);
                let _ = self.children.set(children);
                self.link_foreground();
            }
            Err(missing) => *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = Some(missing),
        }
    }
}

impl GstObjectImpl for HarmonizeBin {}

impl ElementImpl for HarmonizeBin {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "Harmonize bin",
                "Filter/Editor/Video/Compositor",
                "Lays a foreground with alpha, or keyed, over a background, lit and coloured like it by a diffusion model",
                "gst-harmonize",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            use gst::PadDirection::*;
            let any = gst_video::VideoCapsBuilder::new().build();
            let out = opaque_caps();
            [("foreground", Sink, &any), ("background", Sink, &any), ("src", Src, &out)]
                .into_iter()
                .map(|(name, direction, caps)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).expect("a template is valid")
                })
                .collect()
        });
        TEMPLATES.as_ref()
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let missing = *self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if let (gst::StateChange::NullToReady, Some(name)) = (transition, missing) {
            let bin = self.obj();
            let _ = bin.post_message(gst_pbutils::MissingPluginMessage::builder_for_element(name).src(&*bin).build());
            gst::element_imp_error!(
                self,
                gst::CoreError::MissingPlugin,
                ("Missing element '{name}' - check your GStreamer installation.")
            );
            return Err(gst::StateChangeError);
        }
        let done = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToPaused {
            self.end_unlinked_foreground();
        }
        Ok(done)
    }
}

impl BinImpl for HarmonizeBin {}
