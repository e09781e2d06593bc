//! A source of numbered composites or masks that does on demand what sources do, at any time and from any thread.

use super::buffers::{Role, Shape, make};
use super::ledger::Ledger;
use super::watch::{lock, note};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoFormat;
use once_cell::sync::{Lazy, OnceCell};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What a source does beside its next buffer, or instead of it.
#[derive(Clone, Copy, Debug)]
pub enum Quirk {
    Caps(Shape),
    /// A segment that starts here in the stream; running time goes on.
    Segment(gst::ClockTime),
    Tags,
    NoPts,
    NoDuration,
    NoTime,
    Empty,
    Short,
    Gap,
    Hole(gst::ClockTime),
    Eos,
}

struct State {
    live: bool,
    playing: bool,
    flushing: bool,
    stalled: bool,
    refuses_seeks: bool,
    pace: Duration,
    shape: Shape,
    quirks: VecDeque<Quirk>,
    /// Events to send ahead of the next buffer.
    stream_start: bool,
    caps: bool,
    new_segment: bool,
    segment: gst::FormattedSegment<gst::ClockTime>,
    /// The next buffer's running time.
    running: gst::ClockTime,
    /// The stream is over until the next flush or start.
    over: bool,
    number: u64,
}

impl State {
    fn idle(&self) -> bool {
        !self.flushing && (self.stalled || self.over || (self.live && !self.playing))
    }

    fn duration(&self) -> gst::ClockTime {
        gst::ClockTime::SECOND / self.shape.rate.max(100) as u64
    }

    /// Begins a segment at `start` of the stream, whose running time goes on from `running`.
    fn begin_segment(&mut self, start: gst::ClockTime) {
        self.segment = gst::FormattedSegment::new();
        self.segment.set_start(start);
        self.segment.set_time(start);
        self.segment.set_base(self.running);
        self.new_segment = true;
    }
}

mod imp {
    use super::*;

    pub struct Source {
        pub(super) pad: gst::Pad,
        pub(super) state: Mutex<State>,
        pub(super) changed: Condvar,
        pub(super) role: OnceCell<(Role, Arc<Ledger>)>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Source {
        const NAME: &'static str = "ChaosSource";
        type Type = super::Source;
        type ParentType = gst::Element;

        fn with_class(klass: &Self::Class) -> Self {
            let template = klass.pad_template("src").unwrap();
            let pad = gst::Pad::builder_from_template(&template)
                .activatemode_function(|_, parent, _, active| {
                    let error = || Err(gst::loggable_error!(gst::CAT_RUST, "panicked"));
                    Self::catch_panic_pad_function(parent, error, |this| this.activate(active))
                })
                .event_function(|pad, parent, event| {
                    Self::catch_panic_pad_function(parent, || false, |this| this.event(pad, event))
                })
                .query_function(|pad, parent, query| {
                    Self::catch_panic_pad_function(parent, || false, |this| this.query(pad, query))
                })
                .build();
            let state = State {
                live: false,
                playing: false,
                flushing: true,
                stalled: false,
                refuses_seeks: false,
                pace: Duration::from_millis(1),
                shape: Shape { format: VideoFormat::Gray8, width: 16, height: 16, rate: 200 },
                quirks: VecDeque::new(),
                stream_start: true,
                caps: true,
                new_segment: true,
                segment: gst::FormattedSegment::new(),
                running: gst::ClockTime::ZERO,
                over: false,
                number: 0,
            };
            Self { pad, state: Mutex::new(state), changed: Condvar::new(), role: OnceCell::new() }
        }
    }

    impl ObjectImpl for Source {
        fn constructed(&self) {
            self.parent_constructed();
            self.obj().add_pad(&self.pad).unwrap();
            self.obj().set_element_flags(gst::ElementFlags::SOURCE);
        }
    }

    impl GstObjectImpl for Source {}

    impl ElementImpl for Source {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: Lazy<gst::subclass::ElementMetadata> =
                Lazy::new(|| gst::subclass::ElementMetadata::new("Chaos", "Source", "Feeds the chaos test", "chaos"));
            Some(&*METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: Lazy<[gst::PadTemplate; 1]> = Lazy::new(|| {
                let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Always);
                [gst::PadTemplate::new("src", direction, presence, &gst::Caps::new_any()).unwrap()]
            });
            &*TEMPLATES
        }

        fn change_state(&self, change: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
            let live = lock(&self.state).live;
            match change {
                gst::StateChange::PlayingToPaused => self.set(|state| state.playing = false),
                gst::StateChange::ReadyToPaused => self.set(|state| state.playing = false),
                _ => (),
            }
            let success = self.parent_change_state(change)?;
            match change {
                gst::StateChange::PausedToPlaying => self.set(|state| state.playing = true),
                gst::StateChange::ReadyToPaused | gst::StateChange::PlayingToPaused if live => {
                    return Ok(gst::StateChangeSuccess::NoPreroll);
                }
                _ => (),
            }
            Ok(success)
        }
    }

    impl Source {
        pub(super) fn set<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
            let result = change(&mut lock(&self.state));
            self.changed.notify_all();
            result
        }

        fn activate(&self, active: bool) -> Result<(), gst::LoggableError> {
            if !active {
                self.set(|state| state.flushing = true);
                return Ok(self.pad.stop_task()?);
            }
            self.renew();
            self.start();
            Ok(())
        }

        /// Begins the stream from its start; the task must not run.
        pub(super) fn renew(&self) {
            self.begin_epoch();
            self.set(|state| {
                (state.stream_start, state.caps, state.flushing, state.over) = (true, true, false, false);
                state.quirks.clear();
                state.running = gst::ClockTime::ZERO;
                state.begin_segment(gst::ClockTime::ZERO);
            });
        }

        fn begin_epoch(&self) {
            if let Some((Role::Composite, ledger)) = self.role.get() {
                ledger.begin_epoch();
            }
        }

        pub(super) fn start(&self) {
            let this = self.downgrade();
            let started = self.pad.start_task(move || {
                if let Some(this) = this.upgrade() {
                    this.iterate();
                }
            });
            started.unwrap();
        }

        fn event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
            let gst::EventView::Seek(seek) = event.view() else {
                return gst::Pad::event_default(pad, Some(&*self.obj()), event);
            };
            if lock(&self.state).refuses_seeks {
                return false;
            }
            let (_, flags, _, start, _, _) = seek.get();
            let gst::GenericFormattedValue::Time(Some(start)) = start else { return false };
            if flags.contains(gst::SeekFlags::FLUSH) {
                self.flush_start(event.seqnum());
                self.flush_stop(event.seqnum(), Some(start));
            } else {
                self.set(|state| state.quirks.push_back(Quirk::Segment(start)));
            }
            true
        }

        fn query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
            let live = lock(&self.state).live;
            match query.view_mut() {
                gst::QueryViewMut::Latency(query) => query.set(live, gst::ClockTime::ZERO, gst::ClockTime::NONE),
                gst::QueryViewMut::Position(query) if query.format() == gst::Format::Time => {
                    query.set(lock(&self.state).running);
                }
                gst::QueryViewMut::Duration(query) if query.format() == gst::Format::Time => {
                    query.set(gst::ClockTime::from_seconds(3600));
                }
                gst::QueryViewMut::Seeking(query) if query.format() == gst::Format::Time => {
                    let seekable = !lock(&self.state).refuses_seeks;
                    query.set(seekable, gst::ClockTime::ZERO, gst::ClockTime::from_seconds(3600));
                }
                _ => return gst::Pad::query_default(pad, Some(&*self.obj()), query),
            }
            true
        }

        pub(super) fn flush_start(&self, number: gst::Seqnum) {
            self.pad.push_event(gst::event::FlushStart::builder().seqnum(number).build());
            self.set(|state| state.flushing = true);
            let _ = self.pad.pause_task();
        }

        /// Goes on at `start`, with running time from 0, or without either as if it had only lost what was on its way.
        pub(super) fn flush_stop(&self, number: gst::Seqnum, start: Option<gst::ClockTime>) {
            let lock = self.pad.stream_lock();
            self.begin_epoch();
            self.pad.push_event(gst::event::FlushStop::builder(start.is_some()).seqnum(number).build());
            self.set(|state| {
                (state.flushing, state.over) = (false, false);
                let at = match start {
                    Some(start) => {
                        state.running = gst::ClockTime::ZERO;
                        start
                    }
                    None => state.segment.start().unwrap_or_default(),
                };
                state.begin_segment(at);
            });
            drop(lock);
            if self.pad.is_active() {
                self.start();
            }
        }

        /// One turn of the task.
        fn iterate(&self) {
            let mut state = lock(&self.state);
            if state.idle() {
                let wait = Duration::from_millis(100);
                drop(self.changed.wait_timeout_while(state, wait, |state| state.idle()));
                return;
            }
            let pace = if state.live { Duration::from_nanos(state.duration().nseconds()) } else { state.pace };
            if !pace.is_zero() {
                let waited = self.changed.wait_timeout_while(state, pace, |state| !state.flushing);
                state = waited.unwrap_or_else(|e| e.into_inner()).0;
            }
            if state.flushing {
                drop(state);
                let _ = self.pad.pause_task();
                return;
            }
            let (role, ledger) = self.role.get().unwrap();
            let mut events = Vec::new();
            let mut quirk = None;
            // One quirk that makes the buffer, after all that are events.
            while let Some(next) = state.quirks.pop_front() {
                match next {
                    Quirk::Caps(shape) => (state.shape, state.caps) = (shape, true),
                    Quirk::Segment(start) => state.begin_segment(start),
                    Quirk::Hole(time) => state.running += time,
                    Quirk::Tags => {
                        let mut tags = gst::TagList::new();
                        tags.get_mut().unwrap().add::<gst::tags::Title>(&"chaos", gst::TagMergeMode::Append);
                        events.push(gst::event::Tag::new(tags));
                    }
                    quirk_of_the_buffer => {
                        quirk = Some(quirk_of_the_buffer);
                        break;
                    }
                }
            }
            let info = state.shape.info();
            let caps = info.to_caps().unwrap();
            let mut ahead = Vec::new();
            if std::mem::take(&mut state.stream_start) {
                ahead.push(gst::event::StreamStart::new(&format!("{role:?}")));
            }
            if std::mem::take(&mut state.caps) {
                ahead.push(gst::event::Caps::new(&caps));
            }
            let duration = state.duration();
            if state.live {
                let now = self.now(&state, duration);
                if now + gst::ClockTime::SECOND < state.running {
                    // The pipeline's time has begun anew.
                    state.running = now;
                    let start = state.segment.start().unwrap_or_default();
                    state.begin_segment(start);
                }
                state.running = state.running.max(now);
            }
            if std::mem::take(&mut state.new_segment) {
                ahead.push(gst::event::Segment::new(&state.segment));
            }
            let running = state.running;
            let pts = state.segment.position_from_running_time(running).unwrap_or(running);
            match quirk {
                Some(Quirk::Gap) => events.push(gst::event::Gap::builder(pts).duration(duration).build()),
                Some(Quirk::Eos) => {
                    state.over = true;
                    events.push(gst::event::Eos::new());
                }
                _ => (),
            }
            state.running += duration;
            let segment = state.segment.clone();
            let number = match role {
                Role::Composite => ledger.number(),
                Role::Mask => {
                    state.number += 1;
                    state.number
                }
            };
            drop(state);
            for event in ahead.into_iter().chain(events) {
                note(&format!("{role:?} in {:?}", event.type_()));
                self.pad.push_event(event);
            }
            if matches!(quirk, Some(Quirk::Gap | Quirk::Eos)) {
                return;
            }
            let buffer = make(*role, &info, number, pts, duration, quirk);
            if *role == Role::Composite {
                ledger.goes_in(&buffer, &info, &caps, &segment);
            }
            note(&format!(
                "{role:?} in {number} running {running} {}",
                quirk.map_or(String::new(), |q| format!("{q:?}"))
            ));
            let flow = self.pad.push(buffer);
            if *role == Role::Composite {
                ledger.went_in(number, flow);
            }
            if let Err(error) = flow {
                note(&format!("{role:?} {number}: {error:?}"));
                match error {
                    // Another pad may be linked soon; a seek that this source took no part in is soon over.
                    gst::FlowError::NotLinked | gst::FlowError::Flushing => {
                        std::thread::sleep(Duration::from_millis(2))
                    }
                    _ => self.set(|state| state.over = true),
                }
            }
        }

        /// The running time by the clock, on a grid of frames.
        fn now(&self, state: &State, duration: gst::ClockTime) -> gst::ClockTime {
            let element = self.obj();
            let Some((clock, base)) = element.clock().zip(element.base_time()) else { return state.running };
            let now = clock.time().saturating_sub(base);
            now - gst::ClockTime::from_nseconds(now.nseconds() % duration.nseconds())
        }
    }
}

glib::wrapper! {
    pub struct Source(ObjectSubclass<imp::Source>) @extends gst::Element, gst::Object;
}

impl Source {
    pub fn new(role: Role, ledger: &Arc<Ledger>, live: bool, shape: Shape) -> Self {
        let name = format!("{role:?}").to_lowercase();
        let source: Self = glib::Object::builder().property("name", &name).build();
        assert!(source.imp().role.set((role, ledger.clone())).is_ok());
        source.imp().set(|state| (state.live, state.shape) = (live, shape));
        source
    }

    pub fn pad(&self) -> &gst::Pad {
        &self.imp().pad
    }

    pub fn quirk(&self, quirk: Quirk) {
        self.imp().set(|state| state.quirks.push_back(quirk));
    }

    pub fn stall(&self, stalled: bool) {
        self.imp().set(|state| state.stalled = stalled);
    }

    pub fn pace(&self, pace: Duration) {
        self.imp().set(|state| state.pace = pace);
    }

    pub fn refuse_seeks(&self, refuses: bool) {
        self.imp().set(|state| state.refuses_seeks = refuses);
    }

    /// Whether the stream has come to an end, by EOS or by what the element answered.
    pub fn is_over(&self) -> bool {
        lock(&self.imp().state).over
    }

    pub fn running(&self) -> gst::ClockTime {
        lock(&self.imp().state).running
    }

    pub fn flush_start(&self, number: gst::Seqnum) {
        self.imp().flush_start(number);
    }

    pub fn flush_stop(&self, number: gst::Seqnum, start: Option<gst::ClockTime>) {
        self.imp().flush_stop(number, start);
    }

    /// Begins a flush that is never to end.
    pub fn halt_by_flush(&self, number: gst::Seqnum) {
        if self.pad().is_linked() {
            self.flush_start(number);
        }
    }

    /// Ends the stream without a word; `renew` begins it again.
    pub fn halt(&self) {
        self.imp().set(|state| state.flushing = true);
        let _ = self.pad().pause_task();
    }

    pub fn renew(&self) {
        self.imp().renew();
        if self.pad().is_active() {
            self.imp().start();
        }
    }

    pub fn describe(&self) -> String {
        let state = lock(&self.imp().state);
        format!(
            "{}: running {}, playing {}, stalled {}, flushing {}, over {}, {:?}",
            self.name(),
            state.running,
            state.playing,
            state.stalled,
            state.flushing,
            state.over,
            state.shape
        )
    }
}
