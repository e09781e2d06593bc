//! The element `alphamerge`: the thread of the `sink` pad waits for the mask of its frame, merges and pushes; that of the `mask`
//! pad waits until its mask is taken.
//!
//! Two masks are held: `current`, which may serve several frames, and `next`. All is in `State`, whose lock is never held while
//! GStreamer is called that could call back, and every change of it wakes both threads.

use super::CAT;
use super::merge::{FORMAT_PAIRS, Source, merge, merged};
use crate::elements::harmonize::pairing::Span;
use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoFormat, VideoInfo, VideoMeta};
use once_cell::sync::Lazy;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Clocks that count in frames, 90 kHz ticks or milliseconds disagree by less than this about the same instant.
const EPSILON: i64 = 1_000_000;

#[derive(Clone)]
struct Mask {
    buffer: gst::Buffer,
    info: VideoInfo,
    span: Span,
}

/// What is known of a pad's stream.
#[derive(Default)]
struct Input {
    segment: gst::FormattedSegment<gst::ClockTime>,
    info: Option<VideoInfo>,
    /// That of the buffer before.
    span: Option<Span>,
    is_flushing: bool,
    is_over: bool,
}

impl Input {
    fn span(&mut self, buffer: &gst::BufferRef) -> Option<Span> {
        let fps = self.info.as_ref().map(|info| info.fps()).filter(|fps| fps.numer() > 0);
        let frame = fps.and_then(|fps| {
            gst::ClockTime::SECOND.mul_div_round(u64::try_from(fps.denom()).ok()?, u64::try_from(fps.numer()).ok()?)
        });
        let span = Span::new(&self.segment, buffer, frame, self.span);
        self.span = span;
        span
    }

    /// A new stream, or the same after a flush.
    fn begin(&mut self) {
        *self = Self { info: self.info.take(), ..Self::default() };
    }
}

#[derive(Default)]
struct State {
    is_playing: bool,
    picture: Input,
    out: Option<VideoInfo>,
    mask: Input,
    current: Option<Mask>,
    next: Option<Mask>,
    /// Masks that came since the stream began: one is a still.
    masks: u64,
    has_warned: bool,
    /// A seek has got to one input and not to the other yet.
    is_seeking: bool,
}

impl State {
    fn forget_masks(&mut self) {
        self.mask.begin();
        (self.current, self.next, self.masks, self.has_warned) = (None, None, 0, false);
    }
}

/// The mask of a frame.
enum MaskOfFrame {
    Mask(Mask),
    /// It ended before the frame.
    Late(Mask),
    Wait,
    /// Its stream has ended without one.
    None,
}

pub struct AlphaMerge {
    sink: gst::Pad,
    mask: gst::Pad,
    src: gst::Pad,
    state: Mutex<State>,
    changed: Condvar,
}

impl AlphaMerge {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: &anyhow::Error) -> gst::FlowError {
        gst::element_imp_error!(
            self,
            gst::StreamError::Failed,
            ("Can't make a mask the alpha of a picture: {error:#}")
        );
        gst::FlowError::Error
    }

    fn mask_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.lock();
        loop {
            if !state.is_playing || state.mask.is_flushing {
                return Err(gst::FlowError::Flushing);
            }
            // A seek that is on its way starts the video anew.
            if state.picture.is_over && !state.is_seeking {
                return Err(gst::FlowError::Eos);
            }
            // Each is held until it is due, so that at most two are.
            if state.next.is_none() && !state.picture.is_over {
                break;
            }
            state = self.wait(state);
        }
        let Some(info) = state.mask.info.clone() else { return Err(gst::FlowError::NotNegotiated) };
        let Some(span) = state.mask.span(&buffer) else {
            drop(state);
            return Err(self.fail(&anyhow!("nothing tells the time of a mask")));
        };
        state.next = Some(Mask { buffer, info, span });
        state.masks += 1;
        drop(state);
        self.changed.notify_all();
        Ok(gst::FlowSuccess::Ok)
    }

    fn sink_chain(&self, picture: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (mask, info, out) = {
            let mut state = self.lock();
            let (Some(info), Some(out)) = (state.picture.info.clone(), state.out.clone()) else {
                return Err(gst::FlowError::NotNegotiated);
            };
            let Some(span) = state.picture.span(&picture) else {
                drop(state);
                return Err(self.fail(&anyhow!("nothing tells the time of a frame")));
            };
            loop {
                if !state.is_playing || state.picture.is_flushing {
                    return Err(gst::FlowError::Flushing);
                }
                if state.is_seeking {
                    state = self.wait(state);
                    continue;
                }
                let found = self.find(&mut state, span);
                match found {
                    MaskOfFrame::Mask(mask) => break (mask, info, out),
                    MaskOfFrame::Late(mask) => {
                        let is_news = !std::mem::replace(&mut state.has_warned, true);
                        drop(state);
                        if is_news {
                            let text = "The mask has ended before the video: its last frame stays";
                            gst::element_imp_warning!(self, gst::StreamError::Failed, ("{text}"));
                        }
                        break (mask, info, out);
                    }
                    MaskOfFrame::None => {
                        drop(state);
                        return Err(self.fail(&anyhow!("the mask has ended without a frame")));
                    }
                    MaskOfFrame::Wait if !self.mask.is_linked() => {
                        drop(state);
                        return Err(self.fail(&anyhow!("the pad `mask` isn't linked")));
                    }
                    MaskOfFrame::Wait => state = self.wait(state),
                }
            }
        };
        gst::log!(CAT, imp = self, "{picture:?} gets the mask {:?}", mask.buffer);
        let source = |buffer, info| Source { buffer, info };
        let merged = merge(source(&picture, &info), source(&mask.buffer, &mask.info), &out);
        self.src.push(merged.map_err(|error| self.fail(&error))?)
    }

    /// The mask for a frame of `span` among those that are here; lets go of one that is over. The first one is also for the
    /// frames before it. What it finds doesn't depend on how far the mask's thread has come.
    fn find(&self, state: &mut State, span: Span) -> MaskOfFrame {
        let time = span.start;
        let lasts = |mask: &Mask| mask.span.end.is_some_and(|end| time < end - EPSILON);
        if !state.current.as_ref().is_some_and(lasts) {
            let is_first = state.current.is_none();
            let is_due = |next: &mut Mask| is_first || next.span.start - EPSILON <= time;
            if let Some(next) = state.next.take_if(is_due) {
                state.current = Some(next);
                self.changed.notify_all();
            }
        }
        match &state.current {
            Some(current) if lasts(current) || state.next.is_some() => MaskOfFrame::Mask(current.clone()),
            Some(current) if state.mask.is_over => {
                // One that came alone is a still.
                let is_late = state.masks > 1 && current.span.end.is_some_and(|end| time >= end);
                if is_late { MaskOfFrame::Late(current.clone()) } else { MaskOfFrame::Mask(current.clone()) }
            }
            None if state.mask.is_over => MaskOfFrame::None,
            _ => MaskOfFrame::Wait,
        }
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        use gst::EventView::*;
        match event.view() {
            Caps(caps) => return self.set_caps(caps.caps()).map_err(|error| self.fail(&error)).is_ok(),
            Segment(segment) => {
                let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>().cloned() else {
                    let _ = self.fail(&anyhow!("the video's segment isn't in time"));
                    return false;
                };
                self.lock().picture.segment = segment;
            }
            StreamStart(_) => self.change(|state| state.picture.is_over = false),
            FlushStart(_) => self.change(|state| state.picture.is_flushing = true),
            FlushStop(_) => self.change(|state| state.picture.begin()),
            Eos(_) => self.change(|state| state.picture.is_over = true),
            _ => (),
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    /// The output's events are all the picture's.
    fn mask_event(&self, event: gst::Event) -> bool {
        use gst::EventView::*;
        match event.view() {
            Caps(caps) => match VideoInfo::from_caps(caps.caps()) {
                Ok(info) => self.lock().mask.info = Some(info),
                Err(_) => return false,
            },
            Segment(segment) => match segment.segment().downcast_ref::<gst::ClockTime>().cloned() {
                Some(segment) => self.lock().mask.segment = segment,
                None => {
                    let _ = self.fail(&anyhow!("the mask's segment isn't in time"));
                    return false;
                }
            },
            StreamStart(_) => self.change(|state| state.mask.is_over = false),
            FlushStart(_) => self.change(|state| state.mask.is_flushing = true),
            FlushStop(_) => self.change(State::forget_masks),
            Eos(_) => self.change(|state| state.mask.is_over = true),
            _ => (),
        }
        true
    }

    /// A flushing seek goes to the masks first, and no frame is merged before it has been to the video as well: one from before
    /// would use up masks from behind it, one from behind it would get a mask from before.
    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        let gst::EventView::Seek(seek) = event.view() else {
            return gst::Pad::event_default(pad, Some(&*self.obj()), event);
        };
        let is_flushing = seek.get().1.contains(gst::SeekFlags::FLUSH);
        self.change(|state| state.is_seeking = is_flushing);
        let done = [&self.mask, &self.sink].map(|pad| pad.push_event(event.clone()));
        self.change(|state| state.is_seeking = false);
        done.contains(&true)
    }

    fn set_caps(&self, caps: &gst::CapsRef) -> Result<()> {
        let picture = VideoInfo::from_caps(caps).context("the caps are not raw video")?;
        let format = merged(&picture).with_context(|| format!("{} has no kin with alpha", picture.format()))?;
        let mut out = caps.to_owned();
        out.make_mut().set("format", format.to_str());
        let info = VideoInfo::from_caps(&out).context("no caps with alpha")?;
        let mut state = self.lock();
        (state.picture.info, state.out) = (Some(picture), Some(info));
        drop(state);
        self.src.push_event(gst::event::Caps::new(&out));
        Ok(())
    }

    /// What downstream takes, before it has got its alpha.
    fn picture_caps(&self, filter: Option<&gst::CapsRef>) -> gst::Caps {
        let downstream = self.src.peer_query_caps(Some(&self.src.pad_template_caps()));
        let mut caps = gst::Caps::new_empty();
        for (from, to) in FORMAT_PAIRS.iter() {
            let of = |format: &VideoFormat| gst_video::VideoCapsBuilder::new().format(*format).build();
            let mut taken = downstream.intersect(&of(to));
            taken.make_mut().iter_mut().for_each(|structure| structure.set("format", from.to_str()));
            caps.merge(taken);
        }
        filter.map_or(caps.clone(), |filter| caps.intersect_with_mode(filter, gst::CapsIntersectMode::First))
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut::*;
        match query.view_mut() {
            Caps(query) if *pad == self.sink => {
                let caps = self.picture_caps(query.filter());
                query.set_result(&caps);
                true
            }
            Allocation(query) => {
                query.add_allocation_meta::<VideoMeta>(None);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for AlphaMerge {
    const NAME: &'static str = "GstAlphaMerge";
    type Type = super::AlphaMerge;
    type ParentType = gst::Element;

    fn with_class(klass: &Self::Class) -> Self {
        let template = |name| klass.pad_template(name).expect("the class has this template");
        let sink = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(parent, || Err(gst::FlowError::Error), |this| this.sink_chain(buffer))
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(pad, query))
            })
            .build();
        let mask = gst::Pad::builder_from_template(&template("mask"))
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(parent, || Err(gst::FlowError::Error), |this| this.mask_chain(buffer))
            })
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.mask_event(event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(pad, query))
            })
            .build();
        let src = gst::Pad::builder_from_template(&template("src"))
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_event(pad, event))
            })
            .build();
        Self { sink, mask, src, state: Mutex::default(), changed: Condvar::new() }
    }
}

impl ObjectImpl for AlphaMerge {
    fn constructed(&self) {
        self.parent_constructed();
        for pad in [&self.sink, &self.mask, &self.src] {
            self.obj().add_pad(pad).expect("a new element has no pad of this name");
        }
    }
}

impl GstObjectImpl for AlphaMerge {}

impl ElementImpl for AlphaMerge {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "Alpha merge",
                "Filter/Editor/Video",
                "Makes a grey mask the alpha of video, paired by running time: fill and key become one stream",
                "gst-harmonize",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            use gst::PadDirection::*;
            let caps = |formats: Vec<VideoFormat>| gst_video::VideoCapsBuilder::new().format_list(formats).build();
            let (from, mut to): (Vec<_>, Vec<_>) = FORMAT_PAIRS.iter().copied().unzip();
            to.sort_by_key(|format| format.to_str());
            to.dedup();
            [("sink", Sink, from), ("mask", Sink, vec![VideoFormat::Gray8]), ("src", Src, to)]
                .into_iter()
                .map(|(name, direction, formats)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps(formats))
                        .expect("a template is valid")
                })
                .collect()
        });
        TEMPLATES.as_ref()
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => {
                self.change(|state| *state = State { is_playing: true, ..State::default() })
            }
            // Before the pads are shut down, which waits for the threads that wait here.
            gst::StateChange::PausedToReady => self.change(|state| state.is_playing = false),
            _ => (),
        }
        self.parent_change_state(transition)
    }
}
