//! Each fault ends in an ERROR message that names its cause, or leaves the frame untouched: never a panic or a hang.

use crate::common::*;
use crate::models;
use crate::shared;
use gst::prelude::*;
use gstharmonize::elements::harmonize::{Harmonize, ModelState};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const RGB: &str = "video/x-raw,format=RGB,width=16,height=9,framerate=25/1";
const GRAY: &str = "video/x-raw,format=GRAY8,width=16,height=9,framerate=25/1";

fn composite() -> Stream {
    let picture: Vec<u8> = (0..16 * 9 * 3).map(|i| (i * 7 % 256) as u8).collect();
    Stream::new(RGB, frames(25, 3, &picture))
}

fn mask() -> Stream {
    Stream::new(GRAY, frames(25, 3, &gray(16, 9, 255)))
}

/// Runs `element` into its one error, without any output.
fn error(element: &Harmonize, composite: Stream, mask: Stream) -> glib::Error {
    let (out, messages) = at_once("failing", || run(element, composite, Some(mask)));
    assert_eq!(out.len(), 0);
    let errors = messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Error(error) => Some(error.error()),
        _ => None,
    });
    let mut errors: Vec<_> = errors.collect();
    // A pad offers an event that was refused again with each buffer.
    errors.dedup_by_key(|error| error.message().to_owned());
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

fn load_error(folder: &Path, device: &str) -> glib::Error {
    error(&real(folder.to_str().unwrap(), device), composite(), mask())
}

#[test]
fn a_loading_that_fails_is_told_and_ends_the_stream() {
    let element = element_that_cannot_load(Duration::from_millis(20));
    let error = error(&element, composite(), mask());
    assert!(error.matches(gst::ResourceError::Settings));
    assert!(error.message().contains("compact") && error.message().contains("the disk is on fire"), "{error}");
}

#[test]
fn a_failed_load_is_a_state_and_a_progress() {
    let element = element_that_cannot_load(Duration::ZERO);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_state(gst::State::Paused).unwrap();
    until("the failure", || element.property::<ModelState>("model-state") == ModelState::Failed);
    use gst::MessageType::*;
    let kinds: Vec<_> = bus.iter_filtered(&[Progress, Error]).map(|m| m.type_()).collect();
    assert_eq!(kinds, [Progress, Error, Progress]);
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_load_that_fails_at_once_is_told_after_the_state_change() {
    let pipeline = gst::Pipeline::new();
    pipeline.add(&element_that_cannot_load(Duration::ZERO)).unwrap();
    let changed = Arc::new(AtomicBool::new(false));
    let told = Arc::new(Mutex::new(None));
    let (has_changed, tell) = (changed.clone(), told.clone());
    pipeline.bus().unwrap().set_sync_handler(move |_, message| {
        match message.view() {
            // Makes the state change slow: this one comes from within it.
            gst::MessageView::StateChanged(_) => std::thread::sleep(Duration::from_millis(100)),
            gst::MessageView::Error(_) => *tell.lock().unwrap() = Some(has_changed.load(Ordering::SeqCst)),
            _ => (),
        }
        gst::BusSyncReply::Drop
    });
    let _ = pipeline.set_state(gst::State::Paused);
    changed.store(true, Ordering::SeqCst);
    until("the failure", || told.lock().unwrap().is_some());
    assert_eq!(*told.lock().unwrap(), Some(true), "gst-launch would have missed it");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_panic_while_loading_is_an_error() {
    let element = element(&Arc::default());
    element.set_loader(Arc::new(|_, _, _| panic!("out of luck")));
    assert!(error(&element, composite(), mask()).message().contains("panicked"));
}

#[test]
fn an_inference_that_fails_is_an_error_with_its_cause() {
    let fake = Arc::new(Fake { fails: Some("no memory left"), ..Fake::default() });
    let error = error(&element(&fake), composite(), mask());
    assert!(error.message().contains("no memory left"), "{error}");
}

#[test]
fn a_missing_model_folder_is_named() {
    let error = load_error(Path::new("/nowhere/models/x"), "cpu");
    assert!(error.message().contains("/nowhere/models/x"), "{error}");
}

#[test]
fn truncated_weights_and_pickles_are_refused_by_name() {
    let folder = model();
    let weights = folder.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let error = load_error(folder.path(), "cpu");
    assert!(error.message().contains("model.safetensors") && error.matches(gst::ResourceError::Read), "{error:?}");
    std::fs::rename(&weights, folder.path().join("model.bin")).unwrap();
    assert!(load_error(folder.path(), "cpu").message().contains("pickle"));
}

#[test]
fn cuda_without_cuda_is_an_error_not_the_cpu() {
    // Not `tch::Cuda::is_available`: that is false until the plugin has loaded libtorch's CUDA half.
    if ["/dev/nvidiactl", "/dev/dxg"].iter().any(|file| Path::new(file).exists()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED: this machine has an NVIDIA driver");
        return;
    }
    let error = load_error(model().path(), "cuda");
    assert!(error.message().to_lowercase().contains("cuda"), "{error}");
    assert!(load_error(model().path(), "gpu7").message().contains("gpu7"));
}

#[test]
fn a_precision_that_the_model_does_not_bear_is_an_error() {
    for precision in ["f16", "bf16"] {
        let element = real("compact", "cpu");
        element.set_property_from_str("precision", precision);
        let error = error(&element, composite(), mask());
        let told = [&format!("precision {precision}"), "compact", "f32"].map(|part| error.message().contains(part));
        assert_eq!(told, [true; 3], "{error}");
    }
}

#[test]
fn steps_of_a_model_of_one_pass_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    models::write_gift(&folder.path().join("gift"));
    for (name, value) in [("steps", "2"), ("sampler", "euler")] {
        let element = real(folder.path().join("gift").to_str().unwrap(), "cpu");
        element.set_property_from_str(name, value);
        let error = error(&element, composite(), mask());
        let told = format!("{error} {:?}", error.message());
        assert!(told.contains("the model answers in one pass"), "{told}");
        assert!(told.contains("Can't load model"), "before any frame: {told}");
    }
}

#[test]
fn steps_that_the_loaded_model_cannot_take_are_refused_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    models::write_gift(&folder.path().join("gift"));
    let element = real(folder.path().join("gift").to_str().unwrap(), "cpu");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_state(gst::State::Paused).unwrap();
    until("the model", || element.property_value("model-state").serialize().unwrap() == "ready");
    for (name, value, kept) in [("steps", "2", "0"), ("sampler", "euler", "auto"), ("steps", "1", "1")] {
        element.set_property_from_str(name, value);
        assert_eq!(element.property_value(name).serialize().unwrap(), kept);
    }
    let warnings: Vec<_> = bus.iter_filtered(&[gst::MessageType::Warning]).collect();
    let texts = warnings.iter().map(|message| match message.view() {
        gst::MessageView::Warning(warning) => warning.error().message().to_owned(),
        _ => unreachable!(),
    });
    assert_eq!(
        texts.collect::<Vec<_>>(),
        [
            "Can't set steps: 2 steps were asked for: the model answers in one pass",
            "Can't set sampler: a sampler was asked for: the model answers in one pass",
        ]
    );
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn steps_that_a_sampler_cannot_take_are_an_error_that_names_it() {
    let Some(folder) = shared::folder("golden/diffharmony-tiny") else { return };
    let element = real(folder.to_str().unwrap(), "cpu");
    element.set_properties(&[("steps", &1u32), ("proxy-size", &64u32)]);
    element.set_property_from_str("sampler", "euler-ancestral");
    let (out, messages) = run(&element, composite(), Some(mask()));
    assert!(out.is_empty());
    let error = messages.iter().find_map(|message| match message.view() {
        gst::MessageView::Error(error) => Some(error.error()),
        _ => None,
    });
    let error = error.unwrap();
    assert!(["euler-ancestral", "take 2 or more"].iter().all(|part| error.message().contains(part)), "{error}");
}

#[test]
fn a_composite_too_short_for_its_caps_is_an_error() {
    let short = Stream::new(RGB, frames(25, 1, &[1; 100]));
    let message = error(&element(&Arc::default()), short, mask());
    assert!(message.message().contains("sink") && message.message().contains("100 bytes"), "{message}");
}

#[test]
fn a_mask_too_short_for_its_caps_is_an_error() {
    let short = Stream::new(GRAY, frames(25, 1, &[1; 100]));
    let message = error(&element(&Arc::default()), composite(), short);
    assert!(message.message().contains("mask") && message.message().contains("100 bytes"), "{message}");
}

#[test]
fn a_mask_channel_that_is_not_there_is_an_error() {
    let element = element(&Arc::default());
    element.set_property_from_str("mask-channel", "alpha");
    assert!(error(&element, composite(), mask()).message().contains("mask-channel"));
}

#[test]
fn masks_that_no_time_can_be_told_of_are_an_error() {
    let mut masks = frames(25, 2, &gray(16, 9, 255));
    for b in &mut masks {
        b.get_mut().unwrap().set_pts(gst::ClockTime::NONE);
        b.get_mut().unwrap().set_duration(gst::ClockTime::NONE);
    }
    let untimed = Stream::new(&GRAY.replace("25/1", "0/1"), masks);
    let message = error(&element(&Arc::default()), composite(), untimed);
    assert!(message.message().contains("timestamp"), "{message}");
}

#[test]
fn a_segment_that_is_not_in_time_is_an_error() {
    let segment = gst::FormattedSegment::<gst::format::Bytes>::new();
    let bytes = composite().event(0, gst::event::Segment::new(&segment));
    assert!(error(&element(&Arc::default()), bytes, mask()).message().contains("segment"));
}
