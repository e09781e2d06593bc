//! Loading a model beside the pipeline: its thread, its messages, and the kind of error it ends with.

use super::model::{Finish, Loaded, Model};
use super::{CAT, Harmonize};
use crate::harmonizers::{Malformed, ModelSpec};
use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// What an application is given to get from its state change to its main loop.
const UNTIL_MAIN_LOOP: Duration = Duration::from_millis(100);

/// Starts loading on a thread that nothing ever waits for; a model that is there stays in use meanwhile if `keep` says so. How
/// it ends is told by messages, and to those who wait in `model`.
pub fn start(
    element: &Harmonize,
    model: &Arc<Model>,
    (spec, workers): (ModelSpec, usize),
    keep: bool,
) -> Result<(), gst::ErrorMessage> {
    let (load, gave_up) = model.begin_load(keep);
    if gave_up {
        post_progress(element, gst::ProgressType::Canceled, "Another model is asked for");
    }
    element.notify_model_state();
    let what = format!("model {} on device {}", spec.model, spec.device);
    post_progress(element, gst::ProgressType::Start, &format!("Loading {what}"));
    let (element, loads) = (element.downgrade(), model.clone());
    let loader = model.loader();
    let run = move || {
        let loaded = catch_unwind(AssertUnwindSafe(|| loader(&spec, workers, &|| !loads.is_current(load))));
        let loaded = loaded.unwrap_or_else(|_| Err(anyhow!("its loading panicked")));
        if let Some(element) = element.upgrade() {
            let loaded = loaded.and_then(|engine| engine.check(element.imp().sampling()).map(|()| engine));
            let loaded = loaded.with_context(|| format!("Can't load {what}"));
            finish(&element, &loads, load, loaded.map(|engine| Loaded { engine, spec, workers }));
        }
    };
    std::thread::Builder::new().name("harmonize-load".into()).spawn(run).map(drop).map_err(|error| {
        model.give_up_load();
        gst::error_msg!(gst::ResourceError::Failed, ("Can't start a thread to load the model: {error}"))
    })
}

fn finish(element: &Harmonize, model: &Model, load: u64, loaded: Result<Loaded>) {
    if !model.is_current(load) {
        gst::debug!(CAT, obj = element, "Load {load} was given up before it ended");
        return;
    }
    match loaded {
        Ok(loaded) => {
            let Loaded { engine, spec, .. } = &loaded;
            let text = format!("Model {} ready on device {} in {}", spec.model, engine.device(), engine.precision());
            if model.finish_load(load, Some(loaded)) == Finish::Ready {
                post_progress(element, gst::ProgressType::Complete, &text);
            }
        }
        Err(error) if model.loaded().is_some() => {
            if model.finish_load(load, None) == Finish::Kept {
                gst::element_warning!(element, kind(&error), ("{error:#}: the model before it stays in use"));
                post_progress(element, gst::ProgressType::Error, &format!("{error:#}"));
            }
        }
        Err(error) => {
            wait_for_state_change(element);
            if !model.is_current(load) {
                return;
            }
            // The streaming thread fails as soon as it learns of this, so its cause is told first.
            gst::element_error!(element, kind(&error), ("{error:#}"));
            post_progress(element, gst::ProgressType::Error, &format!("{error:#}"));
            model.finish_load(load, None);
        }
    }
    element.notify_model_state();
}

/// Returns once the state change that began this load is over. gst-launch stops its main loop from within the ERROR message:
/// one that came before the loop runs would be lost on it, and leave it waiting for ever.
fn wait_for_state_change(element: &Harmonize) {
    let mut top: gst::Object = element.clone().upcast();
    while let Some(parent) = top.parent() {
        top = parent;
    }
    if let Ok(top) = top.downcast::<gst::Element>() {
        // SAFETY: `top` keeps the element alive; `state_lock` is GStreamer's public GST_STATE_LOCK, which a state change holds
        // from beginning to end. Nothing is done under it, and no state change waits for this thread.
        unsafe {
            let lock = &raw mut (*top.as_ptr()).state_lock;
            glib::ffi::g_rec_mutex_lock(lock);
            glib::ffi::g_rec_mutex_unlock(lock);
        }
    }
    std::thread::sleep(UNTIL_MAIN_LOOP);
}

pub fn post_progress(element: &Harmonize, kind: gst::ProgressType, text: &str) {
    gst::info!(CAT, obj = element, "{text}");
    // Refused only while the element has no bus, when there is nobody to tell.
    let _ = element.post_message(gst::message::Progress::builder(kind, "open", text).src(element).build());
}

fn kind(error: &anyhow::Error) -> gst::ResourceError {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    let malformed =
        |cause: &(dyn std::error::Error + 'static)| cause.is::<Malformed>() || cause.is::<serde_json::Error>();
    match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::NotFound) => gst::ResourceError::NotFound,
        Some(_) => gst::ResourceError::Read,
        None if error.chain().any(malformed) => gst::ResourceError::Read,
        None => gst::ResourceError::Settings,
    }
}
