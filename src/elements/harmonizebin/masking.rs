//! The element between `compositor` and `harmonize`: writes the mask into each composite's alpha.
//!
//! `compositor` says which frames it has chosen (`select`) in the thread that pushes the composite right after, so the
//! two can't be mixed up. Composites without a background frame go no further, and nothing goes after the last
//! background frame. Caps, segments and tags wait for the first composite that does.
//!
//! Locks are held for moments only, except `Stream`'s, which only the streaming thread takes.
//!
//! It is registered for one reason alone: applications look up the factory of every element in a bin, and GES, which does so
//! for an effect's, does without checking that there is one.

use super::CAT;
use super::mask::{Masks, Selection};
use anyhow::{Context, Result, anyhow};
use gst::buffer::BufferMetaForeachAction;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoInfo;
use once_cell::sync::Lazy;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

glib::wrapper! {
    pub struct Masking(ObjectSubclass<imp::Masking>) @extends gst::Element, gst::Object;
}

/// The name of its factory.
pub const FACTORY: &str = "harmonizebinmasking";

impl Masking {
    /// What the next composite is made of.
    pub fn select(&self, selection: Selection) {
        *lock(&self.imp().selection) = Some(selection);
    }

    /// The caps that composites are to have from the next negotiation on. Doesn't ask for one: `compositor` negotiates
    /// when it takes the first frame of new caps from its queue.
    pub fn want(&self, caps: gst::Caps) {
        *lock(&self.imp().wanted) = Some(caps);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

mod imp {
    use super::*;

    #[derive(Default)]
    struct Stream {
        /// Caps, segment and tags that are to go ahead of the next composite.
        pending: Vec<gst::Event>,
        video: Option<VideoInfo>,
        masks: Masks,
        /// The background frame of the last composite.
        background: Option<gst::Buffer>,
    }

    pub struct Masking {
        sink: gst::Pad,
        src: gst::Pad,
        pub(super) selection: Mutex<Option<Selection>>,
        pub(super) wanted: Mutex<Option<gst::Caps>>,
        stream: Mutex<Stream>,
    }

    impl Masking {
        fn fail(&self, error: &anyhow::Error) -> gst::FlowError {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("Can't make the foreground's mask: {error:#}"));
            gst::FlowError::Error
        }

        fn chain(&self, mut composite: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
            let selection = lock(&self.selection).take().filter(|selection| selection.pts == composite.pts());
            let Some(selection) = selection else {
                return Err(self.fail(&anyhow!("compositor has not said what a composite is made of")));
            };
            let Some(background) = selection.background.as_ref().map(|background| background.buffer.clone()) else {
                gst::debug!(CAT, imp = self, "No background for {composite:?}");
                return if selection.over { Err(gst::FlowError::Eos) } else { Ok(gst::FlowSuccess::Ok) };
            };
            {
                let mut stream = lock(&self.stream);
                let edit = composite.make_mut();
                self.mask(&mut stream, &selection, edit).map_err(|error| self.fail(&error))?;
                // compositor of GStreamer 1.28 brings its inputs' metas along.
                edit.foreach_meta_mut(|meta| {
                    let is_memorys = meta.flags().intersects(gst::MetaFlags::POOLED | gst::MetaFlags::LOCKED)
                        || meta.api() == gst_video::VideoMeta::meta_api();
                    let action =
                        if is_memorys { BufferMetaForeachAction::Keep } else { BufferMetaForeachAction::Remove };
                    ControlFlow::Continue(action)
                });
                let news = stream.background.as_ref().is_none_or(|last| last.as_ptr() != background.as_ptr());
                if news && background.copy_into(edit, gst::BufferCopyFlags::META, ..).is_err() {
                    gst::warning!(CAT, imp = self, "The metas of {background:?} are lost");
                }
                stream.background = Some(background);
            }
            let foreground = selection.foreground.as_ref().and_then(|foreground| foreground.buffer.pts());
            gst::log!(CAT, imp = self, "{composite:?} holds the foreground of {}", foreground.display());
            self.src.push(composite)
        }

        fn mask(&self, stream: &mut Stream, selection: &Selection, composite: &mut gst::BufferRef) -> Result<()> {
            for event in std::mem::take(&mut stream.pending) {
                if let gst::EventView::Caps(caps) = event.view() {
                    stream.video = Some(VideoInfo::from_caps(caps.caps())?);
                }
                self.src.push_event(event);
            }
            let video = stream.video.clone().context("a composite came before its caps")?;
            stream.masks.write(selection, &video, composite)
        }

        fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
            use gst::EventView::*;
            match event.view() {
                Caps(_) | Segment(_) | Tag(_) => {
                    lock(&self.stream).pending.push(event);
                    return true;
                }
                FlushStop(_) => {
                    lock(&self.selection).take();
                    let mut stream = lock(&self.stream);
                    stream.pending.retain(|event| event.type_() != gst::EventType::Segment);
                    stream.background = None;
                }
                _ => (),
            }
            gst::Pad::event_default(pad, Some(&*self.obj()), event)
        }

        fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
            use gst::QueryViewMut::*;
            match query.view_mut() {
                Caps(query) => {
                    let wanted = lock(&self.wanted).clone().unwrap_or_else(|| pad.pad_template_caps());
                    let caps =
                        query.filter().map(|filter| filter.intersect_with_mode(&wanted, gst::CapsIntersectMode::First));
                    query.set_result(&caps.unwrap_or(wanted));
                    true
                }
                AcceptCaps(query) => {
                    query.set_result(true);
                    true
                }
                _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
            }
        }

        fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
            let gst::QueryViewMut::Caps(caps) = query.view_mut() else {
                return gst::Pad::query_default(pad, Some(&*self.obj()), query);
            };
            let own = pad.current_caps().unwrap_or_else(|| pad.pad_template_caps());
            let result = caps.filter().map(|filter| filter.intersect_with_mode(&own, gst::CapsIntersectMode::First));
            caps.set_result(&result.unwrap_or(own));
            true
        }

        /// Composites are as the background has it, whatever is downstream.
        fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
            if event.type_() == gst::EventType::Reconfigure {
                return true;
            }
            gst::Pad::event_default(pad, Some(&*self.obj()), event)
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Masking {
        const NAME: &'static str = "GstHarmonizeBinMasking";
        type Type = super::Masking;
        type ParentType = gst::Element;

        fn with_class(klass: &Self::Class) -> Self {
            let template = |name| klass.pad_template(name).expect("the class has this template");
            let sink = gst::Pad::builder_from_template(&template("sink"))
                .chain_function(|_, parent, buffer| {
                    Self::catch_panic_pad_function(parent, || Err(gst::FlowError::Error), |this| this.chain(buffer))
                })
                .event_function(|pad, parent, event| {
                    Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(pad, event))
                })
                .query_function(|pad, parent, query| {
                    Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(pad, query))
                })
                .build();
            let src = gst::Pad::builder_from_template(&template("src"))
                .event_function(|pad, parent, event| {
                    Self::catch_panic_pad_function(parent, || false, |this| this.src_event(pad, event))
                })
                .query_function(|pad, parent, query| {
                    Self::catch_panic_pad_function(parent, || false, |this| this.src_query(pad, query))
                })
                .build();
            Self { sink, src, selection: Mutex::default(), wanted: Mutex::default(), stream: Mutex::default() }
        }
    }

    impl ObjectImpl for Masking {
        fn constructed(&self) {
            self.parent_constructed();
            for pad in [&self.sink, &self.src] {
                self.obj().add_pad(pad).expect("a new element has no pad of this name");
            }
        }
    }

    impl GstObjectImpl for Masking {}

    impl ElementImpl for Masking {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
                gst::subclass::ElementMetadata::new(
                    "Harmonize bin's masking",
                    "Filter/Editor/Video",
                    "A part of harmonizebin, which alone can use it: writes the foreground's mask into the composite's alpha",
                    "gst-harmonize",
                )
            });
            Some(&*METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
                let caps = gst_video::VideoCapsBuilder::new().build();
                [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                    .into_iter()
                    .map(|(name, direction)| {
                        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                            .expect("a template is valid")
                    })
                    .collect()
            });
            TEMPLATES.as_ref()
        }

        fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
            let done = self.parent_change_state(transition)?;
            if transition == gst::StateChange::PausedToReady {
                *lock(&self.stream) = Stream::default();
                lock(&self.selection).take();
                lock(&self.wanted).take();
            }
            Ok(done)
        }
    }
}
