//! A pipeline around the element, and what is done to it.

use super::buffers::{Role, Shape};
use super::common;
use super::ledger::Ledger;
use super::model::{LOAD_PANICKED, Load, Model, NO_MEMORY, ON_FIRE};
use super::ops::{Op, Pads};
use super::source::{Quirk, Source};
use super::watch::{self, lock, note, violated, watched};
use gst::prelude::*;
use gst_video::VideoFormat;
use gstharmonize::elements::harmonize::Harmonize;
use std::collections::BTreeSet;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const SHORT: &str = "can't hold the picture";
const NO_TIME: &str = "has no timestamp";
const NO_MASK: &str = "No mask for the composite";

const COMPOSITE: Shape = Shape { format: VideoFormat::I420, width: 32, height: 18, rate: 200 };
const MASK: Shape = Shape { format: VideoFormat::Gray8, width: 24, height: 16, rate: 200 };

/// Those by which nothing is dropped for long.
const POLICIES: [(&str, &str); 3] = [("on-not-ready", "auto"), ("on-missing-mask", "repeat"), ("on-error", "error")];

pub struct Rig {
    pub(super) live: bool,
    pub(super) pipeline: gst::Pipeline,
    pub(super) element: Harmonize,
    pub(super) composite: Source,
    pub(super) mask: Source,
    model: Arc<Model>,
    pub(super) ledger: Arc<Ledger>,
    /// Parts of the ERROR messages that what was done may lead to.
    expected: Mutex<BTreeSet<&'static str>>,
    /// Flushes, stops and the like since the start: each may take a frame that `stats` has counted as neither out nor dropped.
    interruptions: u64,
    errors: u64,
    /// An inference may be under way that only a flush ends in time.
    pub(super) slow: bool,
    pub(super) ask: Option<Sender<u64>>,
    pub(super) asker: Option<thread::JoinHandle<()>>,
    pub(super) pads: Vec<glib::WeakRef<gst::Pad>>,
}

impl Rig {
    pub fn new(live: bool, with_queue: bool) -> Self {
        common::init();
        let pipeline = gst::Pipeline::new();
        let element = gst::ElementFactory::make("harmonize").name("h").build().unwrap();
        let element = element.downcast::<Harmonize>().unwrap();
        let model = Arc::<Model>::default();
        element.set_loader(model.loader());
        let ledger = Arc::<Ledger>::default();
        ledger.watch(&element.static_pad("src").unwrap());
        ledger.invert(false, || ());
        let composite = Source::new(Role::Composite, &ledger, live, COMPOSITE);
        let mask = Source::new(Role::Mask, &ledger, live, MASK);
        let sink = gst::ElementFactory::make("fakesink").property("sync", live).property("qos", true).build().unwrap();
        pipeline.add_many([element.upcast_ref(), composite.upcast_ref(), mask.upcast_ref(), &sink]).unwrap();
        match with_queue {
            true => {
                let queue = gst::ElementFactory::make("queue").property("max-size-buffers", 3u32).build().unwrap();
                pipeline.add(&queue).unwrap();
                gst::Element::link_many([element.upcast_ref(), &queue, &sink]).unwrap();
            }
            false => element.link(&sink).unwrap(),
        }
        composite.pad().link(&element.static_pad("sink").unwrap()).unwrap();
        let (ask, asked) = channel();
        let src = element.static_pad("src").unwrap();
        let questions = thread::Builder::new().name("asker".into());
        let asker = questions.spawn(move || asked.iter().for_each(|number| query(&src, number))).unwrap();
        let mut rig = Self {
            live,
            pipeline,
            element,
            composite,
            mask,
            model,
            ledger,
            expected: Mutex::default(),
            interruptions: 0,
            errors: 0,
            slow: false,
            ask: Some(ask),
            asker: Some(asker),
            pads: Vec::new(),
        };
        rig.ledger.allow_drops(rig.may_drop());
        rig.request_mask();
        rig.up();
        rig
    }

    fn source(&self, role: Role) -> &Source {
        match role {
            Role::Composite => &self.composite,
            Role::Mask => &self.mask,
        }
    }

    fn expect(&self, error: &'static str) {
        lock(&self.expected).insert(error);
    }

    pub(super) fn set_state(&self, state: gst::State) {
        if watched(&format!("the change to {state:?}"), || self.pipeline.set_state(state)).is_err() {
            note(&format!("the change to {state:?} failed"));
        }
    }

    /// Starts the pipeline.
    pub(super) fn up(&mut self) {
        self.ledger.restart();
        (self.interruptions, self.errors) = (0, 0);
        self.set_state(gst::State::Playing);
    }

    /// Stops it, and sees that the element's figures agree with what has been seen of it.
    pub(super) fn down(&mut self, state: gst::State) {
        self.interruptions += 1;
        self.set_state(gst::State::Ready);
        self.take_messages();
        self.check_stats();
        lock(&self.expected).clear();
        self.expect_what_is_set();
        if state != gst::State::Ready {
            self.set_state(state);
        }
        // What the stop itself has posted.
        while self.pipeline.bus().unwrap().pop().is_some() {}
    }

    fn check_stats(&self) {
        let stat = |name| common::stat(&self.element, name);
        let [taken, out, dropped] = ["frames-in", "frames-out", "dropped"].map(stat);
        let [harmonized, passed] = ["harmonized", "passed-through"].map(stat);
        let counts = self.ledger.counts();
        let text = format!(
            "{:?}, seen {counts:?}, {} interruptions, {} errors",
            self.element.property::<gst::Structure>("stats"),
            self.interruptions,
            self.errors
        );
        note(&text);
        // The base class drops what is pushed in the midst of a flush, and says that it went well.
        if counts.out.abs_diff(out) > self.interruptions {
            violated(format!("frames-out is not what left: {text}"));
        }
        if taken != out + dropped {
            violated(format!("frames-in is not frames-out and dropped: {text}"));
        }
        if !(out..=taken).contains(&(harmonized + passed)) {
            violated(format!("harmonized and passed-through are not frames-out: {text}"));
        }
        if counts.changed > harmonized || counts.lost > dropped {
            violated(format!("More has changed than harmonized, or was lost than dropped: {text}"));
        }
    }

    /// True if there was an error.
    fn take_messages(&mut self) -> bool {
        let (mut failed, mut latency) = (false, false);
        let bus = self.pipeline.bus().unwrap();
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Error(error) => {
                    let text = format!("{} {:?}", error.error(), error.debug());
                    note(&format!("ERROR {text}"));
                    if !lock(&self.expected).iter().any(|part| text.contains(part)) {
                        violated(format!("An unexpected ERROR: {text}"));
                    }
                    self.errors += 1;
                    failed = true;
                }
                gst::MessageView::Warning(warning) => note(&format!("WARNING {}", warning.error())),
                gst::MessageView::Latency(_) => latency = true,
                _ => (),
            }
        }
        if latency {
            watched("LATENCY", || self.pipeline.recalculate_latency().is_ok());
        }
        failed
    }

    /// What an application does between its own doings.
    pub fn tend(&mut self) -> bool {
        let failed = self.take_messages();
        if failed {
            self.heal();
            self.down(gst::State::Ready);
            self.up();
        }
        watch::check();
        failed
    }

    pub fn perform(&mut self, op: &Op) {
        match op {
            // Its steps are watched one by one.
            Op::Settle { with_mask, drain } => self.settle(*with_mask, *drain),
            _ => watched(&format!("{op:?}"), || self.act(op)),
        }
        self.tend();
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Seek { flush, start, pipeline, refused_by } => {
                self.interruptions += 1;
                if let Some(role) = refused_by {
                    self.source(*role).refuse_seeks(true);
                }
                if *flush && *refused_by == Some(Role::Composite) {
                    self.ledger.allow_drops(true);
                    self.ledger.allow_drops(self.may_drop());
                }
                let flags = if *flush { gst::SeekFlags::FLUSH } else { gst::SeekFlags::empty() };
                if *flush {
                    self.ledger.seek(*start);
                }
                let is_sought = match pipeline {
                    true => self.pipeline.seek_simple(flags, *start).is_ok(),
                    false => {
                        let (set, none) = (gst::SeekType::Set, gst::SeekType::None);
                        let seek = gst::event::Seek::new(1.0, flags, set, *start, none, gst::ClockTime::NONE);
                        self.element.static_pad("src").unwrap().send_event(seek)
                    }
                };
                if *flush && !is_sought {
                    self.ledger.seek_was_refused();
                }
                if let Some(role) = refused_by {
                    self.source(*role).refuse_seeks(false);
                }
            }
            Op::Flush { pads, time_from_0, within } => self.flush(*pads, *time_from_0, *within),
            Op::Quirks(role, quirks) => {
                for &quirk in quirks {
                    match quirk {
                        Quirk::Short => self.expect(SHORT),
                        Quirk::NoPts | Quirk::NoDuration | Quirk::NoTime => self.expect(NO_TIME),
                        _ => (),
                    }
                    self.source(*role).quirk(quirk);
                }
            }
            Op::Eos { first, both } => {
                self.source(*first).quirk(Quirk::Eos);
                if *both {
                    thread::sleep(Duration::from_millis(3));
                    self.composite.quirk(Quirk::Eos);
                    self.mask.quirk(Quirk::Eos);
                }
            }
            Op::Stall(role, stalled) => self.source(*role).stall(*stalled),
            Op::Pace(role, pace) => self.source(*role).pace(*pace),
            Op::State(state) => self.set_state(*state),
            Op::Restart { down, load, takes } => {
                self.model.set_load(*load, *takes);
                self.down(*down);
                self.expect_load(*load);
                self.up();
            }
            Op::Abandon => {
                self.interruptions += 1;
                let number = gst::Seqnum::next();
                for source in [&self.composite, &self.mask] {
                    source.halt_by_flush(number);
                }
                self.down(gst::State::Ready);
                self.up();
            }
            Op::Load { load, takes } => {
                self.model.set_load(*load, *takes);
                self.expect_load(*load);
            }
            Op::Bounce => self.bounce(),
            Op::Unlink(role) => {
                self.interruptions += 1;
                let pad = self.source(*role).pad();
                if let Some(peer) = pad.peer() {
                    pad.unlink(&peer).unwrap();
                }
            }
            Op::Link(role) => self.link(*role),
            Op::ReleaseMask => {
                if let Some(pad) = self.element.static_pad("mask") {
                    self.element.release_request_pad(&pad);
                }
            }
            Op::RequestMask => self.request_mask(),
            Op::Model { takes, fails } => {
                self.slow |= self.model.is_slow();
                self.model.set(*takes, *fails);
                if *fails {
                    self.expect(NO_MEMORY);
                }
            }
            Op::Property(name, value) => {
                if *value == "error" {
                    self.expect(NO_MASK);
                }
                self.set(name, value);
            }
            Op::Invert(invert) => self.ledger.invert(*invert, || self.element.set_property("mask-invert", *invert)),
            Op::Ask(number) => drop(self.ask.as_ref().unwrap().send(*number)),
            Op::Latency => drop(self.pipeline.recalculate_latency()),
            Op::Settle { .. } => (),
        }
    }

    pub(super) fn flush(&mut self, pads: Pads, time_from_0: bool, within: Duration) {
        self.interruptions += 1;
        let mut sources = match pads {
            Pads::Both => vec![&self.composite, &self.mask],
            Pads::Composite => vec![&self.composite],
            Pads::Mask => vec![&self.mask],
        };
        // A flush does not get through to an element that a source in the midst of a push has been unlinked from.
        sources.retain(|source| source.pad().is_linked());
        let number = gst::Seqnum::next();
        let start = (time_from_0 && pads == Pads::Both).then_some(gst::ClockTime::SECOND);
        for source in &sources {
            source.flush_start(number);
        }
        thread::sleep(within);
        for source in &sources {
            source.flush_stop(number, start);
        }
    }

    fn set(&self, name: &str, value: &str) {
        if value == "drop" || (name, value) == ("qos", "true") {
            self.ledger.allow_drops(true);
        }
        self.element.set_property_from_str(name, value);
        self.ledger.allow_drops(self.may_drop());
    }

    /// Whether a policy is set that drops composites.
    fn may_drop(&self) -> bool {
        let drops = |name: &&str| self.element.property_value(name).serialize().is_ok_and(|value| value == "drop");
        self.live && self.element.property("qos") || POLICIES.iter().any(|(name, _)| drops(name))
    }

    /// What goes wrong now goes wrong after a restart too.
    fn expect_what_is_set(&self) {
        self.expect_load(self.model.load());
        if self.model.fails() {
            self.expect(NO_MEMORY);
        }
        if self.element.property_value("on-missing-mask").serialize().is_ok_and(|value| value == "error") {
            self.expect(NO_MASK);
        }
    }

    fn expect_load(&self, load: Load) {
        match load {
            Load::Works => (),
            Load::Fails => self.expect(ON_FIRE),
            Load::Panics => self.expect(LOAD_PANICKED),
        }
    }

    /// Nothing fails, drops or takes its time any more.
    pub(super) fn heal(&mut self) {
        self.slow |= self.model.is_slow();
        self.model.set(Duration::ZERO, false);
        self.model.set_load(Load::Works, Duration::ZERO);
        for (name, value) in POLICIES {
            self.set(name, value);
        }
        for (name, value) in [
            ("qos", "false"),
            ("passthrough", "false"),
            ("strength", "1"),
            // No frame waits for those after it.
            ("smoothing", "0"),
            ("keyframe-interval", "0"),
        ] {
            self.set(name, value);
        }
    }

    fn bounce(&mut self) {
        // A sink that prerolls would hold the element's task.
        self.set_state(gst::State::Playing);
        let sources = [&self.composite, &self.mask];
        for source in sources {
            source.stall(true);
        }
        // Nor is the pipeline to start it again, in a state change that goes on beside this.
        let _ = self.pipeline.state(gst::ClockTime::from_mseconds(300));
        self.element.set_locked_state(true);
        let _ = self.element.set_state(gst::State::Ready);
        sources.iter().for_each(|source| source.halt());
        self.element.set_locked_state(false);
        self.take_messages();
        if self.ledger.is_eos() {
            // Downstream takes nothing after EOS until it has been stopped too.
            self.down(gst::State::Ready);
            self.up();
        } else {
            self.interruptions += 1;
            self.check_stats();
            self.ledger.restart();
            (self.interruptions, self.errors) = (1, 0);
            let _ = self.element.sync_state_with_parent();
            for source in [&self.composite, &self.mask] {
                source.renew();
            }
        }
        for source in [&self.composite, &self.mask] {
            source.stall(false);
        }
    }

    pub(super) fn link(&self, role: Role) {
        let pad = self.source(role).pad();
        let name = if role == Role::Mask { "mask" } else { "sink" };
        if let Some(sink) = self.element.static_pad(name).filter(|sink| !sink.is_linked() && !pad.is_linked()) {
            pad.link(&sink).unwrap();
        }
    }

    pub(super) fn request_mask(&mut self) {
        if self.element.static_pad("mask").is_none() {
            let pad = self.element.request_pad_simple("mask").unwrap();
            self.pads.push(pad.downgrade());
        }
        self.link(Role::Mask);
    }
}

/// Asks `src` something, as applications do from threads of their own.
fn query(src: &gst::Pad, number: u64) {
    watched(&format!("query {}", number % 7), || match number % 7 {
        0 => drop(src.query(&mut gst::query::Latency::new())),
        1 => drop(src.query_position::<gst::ClockTime>()),
        2 => drop(src.query_duration::<gst::ClockTime>()),
        3 => drop(src.query_caps(None)),
        4 => drop(src.query(&mut gst::query::Seeking::new(gst::Format::Time))),
        5 => drop(src.query(&mut gst::query::Segment::new(gst::Format::Time))),
        _ => {
            let element = src.parent_element().unwrap();
            let stats = element.property::<gst::Structure>("stats");
            if stats.get::<u64>("frames-out").unwrap() > stats.get::<u64>("frames-in").unwrap() {
                violated(format!("More frames out than in: {stats:?}"));
            }
            for pad in element.sink_pads() {
                pad.query_caps(None);
                pad.peer_query_caps(None);
            }
        }
    });
}
