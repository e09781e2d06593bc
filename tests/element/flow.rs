//! Flushes, seeks, state changes and pads that go away, whatever loading or inference is doing.

use crate::common::rig::{GRAY, RGB, Rig};
use crate::common::*;
use gst::prelude::*;
use gst_check::Harness;
use gstharmonize::elements::harmonize::{Harmonize, ModelState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

/// An element whose model loads until the flag is set.
fn loading() -> (Harmonize, Arc<AtomicBool>) {
    let element = element(&Arc::default());
    let done = Arc::new(AtomicBool::new(false));
    let flag = done.clone();
    element.set_loader(Arc::new(move |_, _, _| {
        while !flag.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        Arc::<Fake>::default().engine()
    }));
    (element, done)
}

#[test]
fn a_flush_ends_an_inference_at_once_and_the_next_frame_goes_on() {
    let slow = Fake::slow(LONG);
    let mut rig = Rig::busy(&slow);
    at_once("a flush", || rig.flush());
    assert_eq!(stat(&rig.element, "dropped"), 1);
    // The engine that went on with a frame nobody waits for would not hold up this one.
    rig.element.set_property("strength", 0.0);
    rig.push(7);
    assert_eq!(rig.pull().nseconds(), at(30, 7));
}

#[test]
fn a_flush_between_two_frames_is_not_lost() {
    for n in 0..50 {
        let fake = Fake::slow(Duration::from_micros(50 * n));
        let mut rig = Rig::busy(&fake);
        at_once("a flush", || rig.flush());
        rig.push(3);
        while rig.pull().nseconds() != at(30, 3) {}
    }
}

#[test]
fn a_flush_of_the_mask_alone_keeps_the_composite() {
    let slow = Fake::slow(Duration::from_millis(300));
    let mut rig = Rig::busy(&slow);
    assert!(rig.mask.push_event(gst::event::FlushStart::new()));
    assert!(rig.mask.push_event(gst::event::FlushStop::new(true)));
    assert_eq!(rig.pull().nseconds(), 0);
    assert_eq!(stat(&rig.element, "harmonized"), 1);
}

#[test]
fn a_state_change_ends_an_inference_at_once() {
    let slow = Fake::slow(LONG);
    let rig = Rig::busy(&slow);
    at_once("the change to READY", || rig.element.set_state(gst::State::Ready).unwrap());
    assert_eq!(rig.element.property::<ModelState>("model-state"), ModelState::Ready);
    rig.element.set_state(gst::State::Null).unwrap();
    assert_eq!(rig.element.property::<ModelState>("model-state"), ModelState::Unloaded);
}

#[test]
fn a_pad_may_be_deactivated_during_an_inference() {
    let slow = Fake::slow(LONG);
    let rig = Rig::busy(&slow);
    let src = rig.element.static_pad("src").unwrap();
    at_once("deactivating src", || src.set_active(false).unwrap());
}

#[test]
fn an_unlinked_or_released_pad_does_not_wait_for_an_inference() {
    let slow = Fake::slow(LONG);
    let rig = Rig::busy(&slow);
    for name in ["mask", "sink"] {
        let pad = rig.element.static_pad(name).unwrap();
        let peer = pad.peer().unwrap();
        at_once("unlinking", || peer.unlink(&pad).unwrap());
    }
    let mask = rig.element.static_pad("mask").unwrap();
    at_once("releasing", || rig.element.release_request_pad(&mask));
    at_once("the change to NULL", || rig.element.set_state(gst::State::Null).unwrap());
}

#[test]
fn frames_go_on_without_a_mask_pad_that_has_been_released() {
    let mut rig = Rig::new(element(&Arc::default()));
    rig.push(0);
    assert_eq!(rig.pull().nseconds(), 0);
    rig.composite.push(buffer(at(30, 1), at(30, 1), &[90; 24])).unwrap();
    rig.element.release_request_pad(&rig.element.static_pad("mask").unwrap());
    let out = rig.out.pull().unwrap();
    assert_eq!((out.pts().unwrap().nseconds(), bytes(&out)), (at(30, 1), vec![90; 24]));
    assert!(rig.element.request_pad_simple("mask").is_some());
}

#[test]
fn an_unlinked_mask_keeps_its_last_frame_until_another_source_is_linked() {
    let mut rig = Rig::new(element(&Arc::default()));
    rig.push(0);
    rig.pull();
    let mask = rig.element.static_pad("mask").unwrap();
    mask.peer().unwrap().unlink(&mask).unwrap();
    for n in 1..4 {
        rig.composite.push(buffer(at(30, n), at(30, 1), &[90; 24])).unwrap();
        assert_ne!(bytes(&rig.out.pull().unwrap()), [90; 24]);
    }
    let mut other = Harness::with_element(&rig.element, None, None);
    other.add_element_sink_pad(&mask);
    other.set_src_caps_str(GRAY);
    for n in 4..8 {
        other.push(buffer(at(30, n), at(30, 1), &[0; 8])).unwrap();
        rig.composite.push(buffer(at(30, n), at(30, 1), &[90; 24])).unwrap();
        assert_eq!(bytes(&rig.out.pull().unwrap()), [90; 24]);
    }
    // Without a mask a composite waits again.
    rig.composite.push(buffer(at(30, 8), at(30, 1), &[90; 24])).unwrap();
    thread::sleep(Duration::from_millis(30));
    assert!(rig.out.try_pull().is_none());
}

#[test]
fn another_mask_source_may_be_linked_while_an_inference_is_under_way() {
    let slow = Fake::slow(Duration::from_millis(300));
    let mut rig = Rig::busy(&slow);
    let mask = rig.element.static_pad("mask").unwrap();
    mask.peer().unwrap().unlink(&mask).unwrap();
    thread::sleep(Duration::from_millis(50));
    let mut other = Harness::with_element(&rig.element, None, None);
    other.add_element_sink_pad(&mask);
    other.set_src_caps_str(GRAY);
    other.push(buffer(at(30, 1), at(30, 1), &[0; 8])).unwrap();
    rig.composite.push(buffer(at(30, 1), at(30, 1), &[90; 24])).unwrap();
    assert_ne!(bytes(&rig.out.pull().unwrap()), [90; 24]);
    assert_eq!(bytes(&rig.out.pull().unwrap()), [90; 24]);
}

#[test]
fn a_mask_pad_that_is_never_linked_holds_up_nothing() {
    let element = element(&Arc::default());
    element.request_pad_simple("mask").unwrap();
    let (out, _) = run(&element, Stream::new(RGB, frames(30, 3, &[90; 24])), None);
    assert_eq!(out.len(), 3);
    assert_eq!(stat(&element, "passed-through"), 3);
}

#[test]
fn there_is_one_mask_pad() {
    let element = element(&Arc::default());
    assert_eq!(element.request_pad_simple("mask").unwrap().name(), "mask");
    let template = element.pad_template("mask").unwrap();
    assert!(element.request_pad(&template, None, None).is_none());
}

#[test]
fn frames_wait_for_the_model() {
    let (element, done) = loading();
    let mut rig = Rig::new(element);
    rig.push(0);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(rig.element.property::<ModelState>("model-state"), ModelState::Loading);
    assert!(rig.out.try_pull().is_none());
    done.store(true, Ordering::SeqCst);
    assert_eq!(rig.pull().nseconds(), 0);
    assert_eq!(rig.element.property::<ModelState>("model-state"), ModelState::Ready);
    assert_eq!(stat(&rig.element, "harmonized"), 1);
}

fn progress(bus: &gst::Bus) -> Vec<gst::ProgressType> {
    let messages = bus.iter_filtered(&[gst::MessageType::Progress]);
    messages
        .map(|message| {
            let gst::MessageView::Progress(progress) = message.view() else { unreachable!() };
            assert_eq!(progress.get().1, "open");
            progress.type_()
        })
        .collect()
}

#[test]
fn loading_tells_of_its_progress() {
    let notified = Arc::new(Mutex::new(Vec::new()));
    let (element, done) = loading();
    let states = notified.clone();
    element.connect_notify(Some("model-state"), move |element, _| {
        states.lock().unwrap().push(element.property::<ModelState>("model-state"));
    });
    let rig = Rig::new(element);
    done.store(true, Ordering::SeqCst);
    until("READY", || *notified.lock().unwrap() == [ModelState::Loading, ModelState::Ready]);
    assert_eq!(progress(&rig.bus), [gst::ProgressType::Start, gst::ProgressType::Complete]);
}

#[test]
fn a_flush_and_a_state_change_do_not_wait_for_loading() {
    let (element, done) = loading();
    let mut rig = Rig::new(element);
    rig.push(0);
    at_once("a flush", || rig.flush());
    rig.push(1);
    at_once("the change to READY", || rig.element.set_state(gst::State::Ready).unwrap());
    assert_eq!(progress(&rig.bus), [gst::ProgressType::Start, gst::ProgressType::Canceled]);
    assert_eq!(rig.element.property::<ModelState>("model-state"), ModelState::Unloaded);
    // The load that was given up ends without a trace.
    done.store(true, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(rig.element.property::<ModelState>("model-state"), ModelState::Unloaded);
    assert!(rig.bus.pop().is_none_or(|m| m.type_() != gst::MessageType::Progress));
}

#[test]
fn an_element_can_be_started_again() {
    let mut rig = Rig::new(element(&Arc::default()));
    rig.push(0);
    rig.pull();
    rig.restart();
    rig.push(0);
    assert_eq!(rig.pull().nseconds(), 0);
    until("one frame in, one out", || ["frames-in", "frames-out"].map(|name| stat(&rig.element, name)) == [1, 1]);
}

/// A pipeline of test sources, whose element has `fake` for its model.
fn pipeline(fake: &Arc<Fake>, sources: &str) -> (gst::Pipeline, Harmonize) {
    init();
    let pipeline = gst::parse::launch(&format!("harmonize name=h ! fakesink name=out sync=false {sources}")).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let element = pipeline.by_name("h").unwrap().downcast::<Harmonize>().unwrap();
    element.set_loader(fake.loader());
    (pipeline, element)
}

const SOURCES: &str = "videotestsrc num-buffers=60 ! video/x-raw,format=I420,width=32,height=18 ! h.sink \
    videotestsrc pattern=ball ! video/x-raw,format=GRAY8,width=16,height=16 ! h.mask";

fn wait_for(pipeline: &gst::Pipeline, kind: gst::MessageType) -> gst::Message {
    let kinds = [kind, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &kinds).unwrap();
    assert_eq!(message.type_(), kind, "{message:?}");
    message
}

#[test]
fn gst_launch_lines_run_to_their_end() {
    let (pipeline, element) = pipeline(&Arc::default(), SOURCES);
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_for(&pipeline, gst::MessageType::Eos);
    assert_eq!((stat(&element, "frames-in"), stat(&element, "harmonized")), (60, 60));
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Seeks a paused pipeline to each of `targets` in ms, whose frame has to be the first after that, and tells whether the last of
/// these frames was harmonized.
fn seeks(pipeline: &gst::Pipeline, element: &Harmonize, targets: &[u64]) -> bool {
    pipeline.set_state(gst::State::Paused).unwrap();
    wait_for(pipeline, gst::MessageType::AsyncDone);
    let first = Arc::new(Mutex::new(None));
    let seen = first.clone();
    element.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data {
            seen.lock().unwrap().get_or_insert(buffer.pts().unwrap());
        }
        gst::PadProbeReturn::Ok
    });
    let mut before = 0;
    for &target in targets {
        let target = gst::ClockTime::from_mseconds(target);
        *first.lock().unwrap() = None;
        before = stat(element, "harmonized");
        at_once("the seek", || pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, target).unwrap());
        wait_for(pipeline, gst::MessageType::AsyncDone);
        assert_eq!(first.lock().unwrap().unwrap(), target);
    }
    let harmonized = stat(element, "harmonized") > before;
    at_once("the change to NULL", || pipeline.set_state(gst::State::Null).unwrap());
    harmonized
}

#[test]
fn a_flushing_seek_restarts_both_streams() {
    let (pipeline, element) = pipeline(&Fake::slow(Duration::from_millis(30)), &SOURCES.replace("=60", "=600"));
    assert!(seeks(&pipeline, &element, &[500, 100, 1000]));
}

/// Pushes `buffer` into an appsrc.
fn push(source: &gst::Element, buffer: gst::Buffer) {
    assert_eq!(source.emit_by_name::<gst::FlowReturn>("push-buffer", &[&buffer]), gst::FlowReturn::Ok);
}

const COMPOSITE: &str = "videotestsrc num-buffers=60 ! video/x-raw,format=I420,width=32,height=18 ! h.sink";

#[test]
fn a_seek_is_for_mixers_too_which_say_that_they_cannot() {
    let sources = SOURCES.replace("! h.sink", "! compositor ! h.sink");
    let (pipeline, element) = pipeline(&Arc::default(), &sources);
    assert!(seeks(&pipeline, &element, &[500]));
}

#[test]
fn a_seek_that_a_live_source_refuses_leaves_its_frames_coming() {
    let source = "appsrc name=camera is-live=true format=time caps=video/x-raw,format=RGB,width=4,height=2,framerate=50/1 ! h.sink";
    let (pipeline, element) = pipeline(&Arc::default(), source);
    pipeline.set_state(gst::State::Playing).unwrap();
    let camera = pipeline.by_name("camera").unwrap();
    let come = |frames: std::ops::Range<u64>| {
        for n in frames.clone() {
            push(&camera, buffer(at(50, n), at(50, 1), &[90; 24]));
        }
        until("the frames", || stat(&element, "frames-out") == frames.end);
    };
    come(0..3);
    let seek = || pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::SECOND);
    assert!(at_once("the seek", seek).is_err());
    come(3..8);
    at_once("the change to NULL", || pipeline.set_state(gst::State::Null).unwrap());
}

#[test]
fn a_seek_needs_no_mask_that_is_linked() {
    let (pipeline, element) = pipeline(&Arc::default(), COMPOSITE);
    element.request_pad_simple("mask").unwrap();
    assert!(!seeks(&pipeline, &element, &[500]));
}

#[test]
fn a_still_mask_that_cannot_seek_serves_after_a_seek() {
    let still = "appsrc name=still format=time caps=video/x-raw,format=GRAY8,width=4,height=2,framerate=0/1 ! h.mask";
    let (pipeline, element) = pipeline(&Arc::default(), &format!("{COMPOSITE} {still}"));
    let source = pipeline.by_name("still").unwrap();
    push(&source, buffer(0, 1_000_000, &[255; 8]));
    assert_eq!(source.emit_by_name::<gst::FlowReturn>("end-of-stream", &[]), gst::FlowReturn::Ok);
    assert!(seeks(&pipeline, &element, &[500]));
}

#[test]
fn a_flush_that_a_stop_cuts_short_is_over_at_the_next_start() {
    let mut rig = Rig::new(element(&Arc::default()));
    rig.lifted(0);
    assert!(rig.element.static_pad("sink").unwrap().send_event(gst::event::FlushStart::new()));
    rig.restart();
    rig.lifted(0);
}

#[test]
fn a_mask_pad_that_is_released_is_freed() {
    let element = element(&Arc::default());
    let pad = element.request_pad_simple("mask").unwrap();
    let weak = pad.downgrade();
    element.release_request_pad(&pad);
    drop(pad);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_seek_during_a_long_inference_returns_at_once() {
    let slow = Fake::slow(LONG);
    let (pipeline, element) = pipeline(&slow, SOURCES);
    element.set_property("smoothing", 0.0);
    pipeline.set_state(gst::State::Paused).unwrap();
    until("the inference", || slow.count() == 1);
    let flags = gst::SeekFlags::FLUSH;
    at_once("the seek", || pipeline.seek_simple(flags, gst::ClockTime::from_mseconds(100)).unwrap());
    until("the next inference", || slow.count() == 2);
    at_once("the change to NULL", || pipeline.set_state(gst::State::Null).unwrap());
}

#[test]
fn downstream_decides_on_the_composites_caps_and_the_mask_keeps_its_own() {
    let sources = "videotestsrc num-buffers=3 name=c ! h.sink videotestsrc num-buffers=3 ! video/x-raw,format=NV12,width=40,height=30 ! h.mask";
    init();
    let line =
        format!("harmonize name=h ! video/x-raw,format=BGRx,width=64,height=36,framerate=25/1 ! fakesink {sources}");
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let element = pipeline.by_name("h").unwrap().downcast::<Harmonize>().unwrap();
    element.set_loader(Arc::<Fake>::default().loader());
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_for(&pipeline, gst::MessageType::Eos);
    assert_eq!(stat(&element, "frames-out"), 3);
    let caps = element.static_pad("sink").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get::<&str>("format").unwrap(), "BGRx");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn position_and_seekability_are_the_composites() {
    let (pipeline, element) = pipeline(&Arc::default(), SOURCES);
    pipeline.set_state(gst::State::Paused).unwrap();
    wait_for(&pipeline, gst::MessageType::AsyncDone);
    let src = element.static_pad("src").unwrap();
    let mut seeking = gst::query::Seeking::new(gst::Format::Time);
    assert!(src.query(&mut seeking) && seeking.result().0);
    // 60 frames at 30 a second; the mask's source knows no end.
    assert_eq!(src.query_duration::<gst::ClockTime>(), Some(gst::ClockTime::from_seconds(2)));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_live_pipeline_goes_on_at_the_deadline_without_its_mask() {
    let sources = "videotestsrc is-live=true num-buffers=10 ! video/x-raw,format=I420,width=32,height=18,framerate=50/1 ! h.sink \
        videotestsrc is-live=true ! video/x-raw,format=GRAY8,width=8,height=8,framerate=50/1 ! valve drop=true ! h.mask";
    let (pipeline, element) = pipeline(&Arc::default(), sources);
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_for(&pipeline, gst::MessageType::Eos);
    assert_eq!(["frames-in", "frames-out", "passed-through"].map(|name| stat(&element, name)), [10; 3]);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn latencies_that_contradict_each_other_are_warned_of_but_not_again_and_again() {
    let sources = "videotestsrc is-live=true ! video/x-raw,format=I420,width=32,height=18,framerate=50/1 ! h.sink \
        appsrc is-live=true format=time caps=video/x-raw,format=GRAY8,width=8,height=8,framerate=50/1 max-latency=0 ! h.mask";
    let (pipeline, _element) = pipeline(&Arc::default(), sources);
    pipeline.set_state(gst::State::Playing).unwrap();
    let warnings = || {
        thread::sleep(Duration::from_millis(750));
        pipeline.bus().unwrap().iter_filtered(&[gst::MessageType::Warning]).count()
    };
    // The pipeline asks a few times while it starts, then nobody does.
    let (starting, running) = (warnings(), warnings());
    pipeline.set_state(gst::State::Null).unwrap();
    assert!((1..10).contains(&starting) && running == 0, "{starting} warnings, then {running}");
}

#[test]
fn live_masks_that_are_on_time_are_used() {
    let sources = "videotestsrc is-live=true num-buffers=20 ! video/x-raw,format=I420,width=32,height=18,framerate=50/1 ! queue ! h.sink \
        videotestsrc is-live=true pattern=white ! video/x-raw,format=GRAY8,width=8,height=8,framerate=50/1 ! queue ! h.mask";
    let (pipeline, element) = pipeline(&Arc::default(), sources);
    pipeline.set_state(gst::State::Playing).unwrap();
    wait_for(&pipeline, gst::MessageType::Eos);
    let used = stat(&element, "harmonized") - stat(&element, "stale-masks");
    assert!(used >= 18, "only {used} of 20 composites got their own mask");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_state_change_gives_up_a_load() {
    let element = element(&Arc::default());
    let ended = Arc::new(AtomicBool::new(false));
    let flag = ended.clone();
    element.set_loader(Arc::new(move |_, _, is_given_up| {
        while !is_given_up() {
            thread::sleep(Duration::from_millis(2));
        }
        flag.store(true, Ordering::SeqCst);
        anyhow::bail!("given up")
    }));
    element.set_state(gst::State::Paused).unwrap();
    until("the load", || element.property_value("model-state").serialize().unwrap() == "loading");
    assert!(!ended.load(Ordering::SeqCst));
    at_once("the change to NULL", || element.set_state(gst::State::Null).unwrap());
    until("the load's end", || ended.load(Ordering::SeqCst));
}
