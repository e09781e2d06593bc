//! Each fault ends in an ERROR message that names its cause, or leaves the frame untouched: never a panic or a hang.

mod common;

use common::*;
use gst::prelude::*;
use gstharmonize::elements::harmonize::{Harmonize, ModelState};
use gstharmonize::harmonizers::compact::{Compact, Config};
use gstharmonize::nets::Weights;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tch::{Device, Tensor};

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

fn real(model: &str, device: &str) -> Harmonize {
    init();
    let factory = gst::ElementFactory::make("harmonize").property("model", model).property("device", device);
    factory.build().unwrap().downcast().unwrap()
}

/// A folder with a small model of fresh weights.
fn model() -> tempfile::TempDir {
    let config = Config { channels: [8, 16, 16], emb_channels: 16, ..Config::default() };
    let weights = Weights::new(Device::Cpu);
    Compact::new(&weights.root(), config.clone(), Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    // A fresh model leaves its proxy alone, by weights of zero.
    let awake = |t: Tensor| if t.count_nonzero(None::<i64>).int64_value(&[]) == 0 { t.randn_like() * 0.1 } else { t };
    let tensors = weights.finish().unwrap().into_iter();
    let tensors: Vec<_> = tensors.map(|(name, t)| (name, awake(t.detach()).contiguous())).collect();
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
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
fn a_panic_while_loading_is_an_error() {
    let element = element(&Arc::default());
    element.set_loader(Arc::new(|_, _| panic!("out of luck")));
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
    assert!(load_error(folder.path(), "cpu").message().contains("model.safetensors"));
    std::fs::rename(&weights, folder.path().join("model.bin")).unwrap();
    assert!(load_error(folder.path(), "cpu").message().contains("pickle"));
}

#[test]
fn cuda_without_cuda_is_an_error_not_the_cpu() {
    if tch::Cuda::is_available() {
        eprintln!("SKIPPED: there is CUDA here");
        return;
    }
    let error = load_error(model().path(), "cuda");
    assert!(error.message().to_lowercase().contains("cuda"), "{error}");
    assert!(load_error(model().path(), "gpu7").message().contains("gpu7"));
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

/// What a model of the project makes of three frames.
fn harmonize(folder: &Path, seed: u64) -> Vec<Vec<u8>> {
    let element = real(folder.to_str().unwrap(), "cpu");
    element.set_property("seed", seed);
    element.set_property("steps", 2u32);
    let (out, _) = run(&element, composite(), Some(mask()));
    assert_eq!(stat(&element, "harmonized"), 3);
    assert_eq!(element.property::<gst::Structure>("stats").get::<String>("device").unwrap(), "cpu");
    out.iter().map(bytes).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let folder = model();
    let first = harmonize(folder.path(), 1);
    assert!(harmonize(folder.path(), 1) == first);
    assert!(first[0] == first[1], "the same picture with the same noise");
    assert!(harmonize(folder.path(), 2) != first);
}
