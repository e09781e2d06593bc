//! The element's promises with DiffHarmony for a model: 1080p, exact mode, the reference's tiny weights.

use crate::common::*;
use crate::shared;
use gst::prelude::*;
use gstharmonize::elements::harmonize::Harmonize;
use std::thread;
use std::time::Duration;

const SIZE: (usize, usize) = (1920, 1080);
const COMPOSITE: &str = "video/x-raw,format=I420,width=1920,height=1080,framerate=25/1,colorimetry=bt709";
const MASK: &str = "video/x-raw,format=GRAY8,width=1920,height=1080,framerate=25/1,colorimetry=1:3:5:1";

fn golden() -> Option<String> {
    Some(shared::folder("golden/diffharmony-tiny")?.to_str().unwrap().to_owned())
}

/// Two steps, to be quick, and each frame by itself; everything else is the default.
fn diffharmony(model: &str) -> Harmonize {
    let element = real(model, "cpu");
    element.set_property("smoothing", 0.0);
    element.set_property_from_str("precision", "f32");
    element.set_property("steps", 2u32);
    element
}

/// A ramp whose phase moves on with `frame`.
fn picture(frame: usize) -> Vec<u8> {
    let (w, h) = SIZE;
    (0..w * h * 3 / 2).map(|i| 40 + ((i % w + 3 * (i / w) + 40 * frame) * 150 / (w + 3 * h)) as u8).collect()
}

/// The foreground is a disc of 200 pixels radius.
fn inside(x: usize, y: usize) -> bool {
    (x as f64 - 900.0).hypot(y as f64 - 500.0) < 200.0
}

fn mask() -> Vec<u8> {
    let (w, h) = SIZE;
    (0..w * h).map(|i| if inside(i % w, i / w) { 255 } else { 0 }).collect()
}

fn composites(range: std::ops::Range<u64>) -> Vec<gst::Buffer> {
    range.map(|n| buffer(at(25, n), at(25, n + 1) - at(25, n), &picture(n as usize))).collect()
}

fn harmonize(element: &Harmonize, range: std::ops::Range<u64>) -> (Vec<gst::Buffer>, Vec<gst::Message>) {
    let masks = range.clone().map(|n| buffer(at(25, n), at(25, n + 1) - at(25, n), &mask()));
    run(element, Stream::new(COMPOSITE, composites(range)), Some(Stream::new(MASK, masks)))
}

#[test]
fn every_frame_comes_out_in_time_and_changes_in_the_foreground_alone() {
    let Some(golden) = golden() else { return };
    let element = diffharmony(&golden);
    let (out, messages) = harmonize(&element, 0..3);
    assert!(messages.iter().all(|m| !matches!(m.type_(), gst::MessageType::Error | gst::MessageType::Warning)));
    assert_eq!(["frames-in", "frames-out", "harmonized"].map(|s| stat(&element, s)), [3, 3, 3]);
    let (w, h) = SIZE;
    for (n, (out, sent)) in out.iter().zip(composites(0..3)).enumerate() {
        assert_eq!((out.pts(), out.duration(), out.size()), (sent.pts(), sent.duration(), sent.size()));
        let (out, sent) = (bytes(out), bytes(&sent));
        let pixel = |i: usize| {
            if i < w * h { (i % w, i / w, 1) } else { (i % (w / 2) * 2, (i - w * h) / (w / 2) % (h / 2) * 2, 2) }
        };
        let touched = |(x, y, side)| (0..side).any(|dy| (0..side).any(|dx| inside(x + dx, y + dy)));
        let background = (0..out.len()).filter(|&i| !touched(pixel(i)));
        assert!(background.into_iter().all(|i| out[i] == sent[i]), "frame {n}: the background has changed");
        let changed = (0..w * h).filter(|&i| inside(i % w, i / w) && out[i] != sent[i]).count();
        assert!(changed > 100_000, "frame {n}: {changed} of the foreground's 125,664 pixels have changed");
    }
}

#[test]
fn a_frame_s_bytes_do_not_depend_on_where_the_stream_began() {
    let Some(golden) = golden() else { return };
    let all: Vec<_> = harmonize(&diffharmony(&golden), 0..3).0.iter().map(bytes).collect();
    let late: Vec<_> = harmonize(&diffharmony(&golden), 2..3).0.iter().map(bytes).collect();
    assert!(all[2] == late[0]);
    let other = diffharmony(&golden);
    other.set_property("seed", 5u64);
    assert!(bytes(&harmonize(&other, 2..3).0[0]) != late[0]);
}

#[test]
fn each_sampler_is_chosen_by_its_name() {
    let Some(golden) = golden() else { return };
    let by = |sampler: &str| {
        let element = diffharmony(&golden);
        element.set_property_from_str("sampler", sampler);
        bytes(&harmonize(&element, 0..1).0[0])
    };
    let own = by("auto");
    for sampler in ["ddim", "euler", "euler-ancestral", "lcm"] {
        assert_eq!(by(sampler) == own, sampler == "ddim", "{sampler}");
    }
}

#[test]
fn a_model_that_does_not_fit_ends_in_an_error_that_names_the_cause() {
    let Some(golden) = golden() else { return };
    for (property, value, cause) in [("precision", "f16", "precision f16"), ("device", "cuda", "device cuda")] {
        if property == "device" && gstharmonize::harmonizers::device("cuda").is_ok() {
            continue;
        }
        let element = diffharmony(&golden);
        element.set_property_from_str(property, value);
        let (out, messages) = harmonize(&element, 0..1);
        assert!(out.is_empty());
        let error = messages.iter().find_map(|message| match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        });
        assert!(error.as_ref().is_some_and(|error| error.contains(cause)), "{error:?}");
    }
}

/// With 1000 steps an inference takes far longer than a test waits.
#[test]
fn a_seek_gives_up_the_inference_and_the_next_frame_goes_on() {
    let Some(golden) = golden() else { return };
    init();
    let source = "videotestsrc pattern=ball ! video/x-raw,format=RGBA,width=1920,height=1080,framerate=25/1";
    let launch =
        format!("{source} ! harmonize name=h device=cpu smoothing=0 steps=1000 model={golden} ! fakesink name=sink");
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let element = pipeline.by_name("h").unwrap().downcast::<Harmonize>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    until("loading", || element.property_value("model-state").serialize().unwrap() == "ready");
    let precision = || element.property::<gst::Structure>("stats").get::<String>("precision").unwrap();
    assert!(["f32", "bf16"].contains(&precision().as_str()), "{}", precision());
    until("the first frame", || stat(&element, "frames-in") > 0);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(stat(&element, "frames-out"), 0);
    element.set_property("steps", 1u32);
    let flush = gst::SeekFlags::FLUSH;
    at_once("the seek", || pipeline.seek_simple(flush, gst::ClockTime::from_mseconds(400)).unwrap());
    until("a frame after the seek", || stat(&element, "frames-out") > 0);
    element.set_property("steps", 1000u32);
    let before = stat(&element, "frames-in");
    until("another frame", || stat(&element, "frames-in") > before);
    at_once("the change to NULL", || pipeline.set_state(gst::State::Null).unwrap());
}
