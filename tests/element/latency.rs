//! What is declared, what a composite waits, and that none leaves later than declared: by a test clock.

use crate::common::rig::Rig;
use crate::common::*;
use gst::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const FRAME: u64 = 33_333_333;

/// The element's own part, of sources that add nothing.
fn latency(rig: &Rig) -> u64 {
    let mut query = gst::query::Latency::new();
    assert!(rig.element.static_pad("src").unwrap().query(&mut query));
    query.result().1.nseconds()
}

fn rig(set: &[(&str, &str)], fake: Fake) -> Rig {
    let element = element(&Arc::new(fake));
    set.iter().for_each(|(name, value)| element.set_property_from_str(name, value));
    let rig = Rig::new(element);
    until("the model", || rig.element.property_value("model-state").serialize().unwrap() == "ready");
    rig
}

fn latency_messages(rig: &Rig) -> usize {
    rig.bus.iter_filtered(&[gst::MessageType::Latency]).count()
}

#[test]
fn live_mode_adds_one_frame_and_exact_mode_two() {
    for (mode, frames) in [("live", 1), ("auto", 1), ("exact", 2)] {
        let mut rig = rig(&[("mode", mode)], Fake::default());
        rig.lifted(0);
        assert_eq!(latency(&rig), frames * FRAME, "{mode}");
    }
}

#[test]
fn upstreams_latency_is_added() {
    let mut rig = rig(&[], Fake::default());
    rig.lifted(0);
    rig.composite.set_upstream_latency(gst::ClockTime::from_mseconds(10));
    assert_eq!(latency(&rig), 10_000_000 + 2 * FRAME);
}

#[test]
fn without_a_mask_pad_there_is_no_wait_to_declare() {
    let element = element(&Arc::default());
    let mut composite = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    composite.set_src_caps_str("video/x-raw,format=RGBA,width=1,height=1,framerate=30/1");
    composite.push(buffer(0, FRAME, &[90, 90, 90, 255])).unwrap();
    composite.pull().unwrap();
    let mut query = gst::query::Latency::new();
    assert!(element.static_pad("src").unwrap().query(&mut query));
    assert_eq!(query.result().1.nseconds(), FRAME);
}

#[test]
fn what_is_set_is_declared_and_a_change_is_posted() {
    let mut rig = rig(&[("processing-deadline", "7000000"), ("mask-timeout", "5000000")], Fake::default());
    rig.lifted(0);
    assert_eq!(latency(&rig), 12_000_000);
    assert!(latency_messages(&rig) > 0);
    rig.element.set_property("mask-timeout", 90_000_000u64);
    assert_eq!((latency(&rig), latency_messages(&rig)), (97_000_000, 1));
    rig.element.set_property("mask-timeout", 90_000_000u64);
    assert_eq!(latency_messages(&rig), 0);
    rig.element.set_property_from_str("mode", "live");
    assert_eq!(latency(&rig), 97_000_000);
}

#[test]
fn exact_mode_declares_what_the_work_is_measured_to_take() {
    let mut rig = rig(&[], Fake { delay: Duration::from_millis(75), ..Fake::default() });
    rig.lifted(0);
    assert_eq!(latency(&rig), 2 * FRAME);
    latency_messages(&rig);
    for n in 1..17 {
        rig.lifted(n);
    }
    // A frame to wait, and at least three of 33 ms for 75 ms.
    let declared = latency(&rig);
    assert!(declared >= 4 * FRAME && declared.is_multiple_of(FRAME), "{declared}");
    assert_eq!(latency_messages(&rig), 1);
}

#[test]
fn a_composite_whose_mask_is_late_is_taken_up_in_time_for_the_work_on_it() {
    for (mode, wait) in [("exact", FRAME), ("live", FRAME / 2)] {
        let mut rig = rig(&[("mode", mode)], Fake::default());
        rig.composite.set_upstream_latency(gst::ClockTime::from_mseconds(10));
        rig.lifted(0);
        rig.element.static_pad("src").unwrap().query(&mut gst::query::Latency::new());
        // The mask has stalled.
        for n in 1..6 {
            rig.push_alone(n);
            let (deadline, due) = (rig.deadline(), at(30, n) + 10_000_000 + wait);
            assert!(deadline.abs_diff(due) <= 1, "{mode}: frame {n} was taken up at {deadline}, not {due}");
            rig.out.pull().unwrap();
        }
        assert_eq!(rig.stat("stale-masks"), 5);
    }
}

#[test]
fn no_frame_leaves_later_than_declared_with_a_stalled_mask() {
    // The mask is stalled from the first frame on, when the time for the work can't be taken off yet, or from the third.
    for first in [0, 2] {
        let mut rig = rig(&[("processing-deadline", "80000000")], Fake::default());
        for n in 0..first {
            rig.lifted(n);
        }
        let clock = rig.clock();
        for n in first..8 {
            rig.push_alone(n);
            let deadline = rig.deadline();
            let out = rig.out.pull().unwrap();
            // The work takes all the time it may.
            let worked = bytes(&out)[0] != 90;
            let left = deadline + if worked { 80_000_000 } else { 0 };
            let declared = at(30, n) + 80_000_000 + FRAME;
            assert!(left <= declared + 1, "frame {n} left at {left}, {declared} was declared");
            assert!(clock.time() >= gst::ClockTime::from_nseconds(deadline));
        }
    }
}

fn not_live(set: &[(&str, &str)]) -> Rig {
    let element = element(&Arc::default());
    set.iter().for_each(|(name, value)| element.set_property_from_str(name, value));
    Rig::of(element, |harness| harness.set_live(false))
}

#[test]
fn a_wait_for_a_mask_has_an_end_in_pipelines_that_are_not_live() {
    let mut rig = not_live(&[("mask-timeout", "30000000")]);
    assert_ne!(rig.lifted(0), 0);
    for n in 1..4 {
        rig.push_alone(n);
        assert_ne!(rig.out_lift(n), 0, "the last mask stays in use");
    }
    assert_eq!((rig.stat("stale-masks"), rig.warnings().len()), (3, 1));
    // One that comes late after all is of no use any more, and in nobody's way.
    rig.mask.push(buffer(at(30, 2), at(30, 1), &[255; 8])).unwrap();
    assert_ne!(rig.lifted(4), 0);
    assert_ne!(rig.lifted(5), 0);
    assert_eq!(rig.stat("stale-masks"), 3);
    rig.flush();
    assert_ne!(rig.lifted(0), 0);
    rig.push_alone(1);
    assert_ne!(rig.out_lift(1), 0);
    assert_eq!(rig.stat("stale-masks"), 4);
}

#[test]
fn a_mask_stream_that_never_begins_is_not_waited_for_beyond_the_timeout() {
    let element = element(&Arc::default());
    element.set_property("mask-timeout", 30_000_000u64);
    let mut mask = gst_check::Harness::with_element(&element, None, None);
    mask.set_live(false);
    mask.add_element_sink_pad(&element.request_pad_simple("mask").unwrap());
    let mut composite = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    composite.set_live(false);
    composite.set_src_caps_str("video/x-raw,format=RGB,width=4,height=2,framerate=30/1");
    for n in 0..3 {
        composite.push(buffer(at(30, n), at(30, 1), &[90; 24])).unwrap();
        assert_eq!(bytes(&composite.pull().unwrap()), [90; 24]);
    }
    assert_eq!(stat(&element, "missing-masks"), 3);
    mask.set_src_caps_str("video/x-raw,format=GRAY8,width=4,height=2,framerate=30/1");
    mask.push(buffer(at(30, 3), at(30, 1), &[255; 8])).unwrap();
    composite.push(buffer(at(30, 3), at(30, 1), &[90; 24])).unwrap();
    assert_ne!(bytes(&composite.pull().unwrap()), [90; 24]);
}

#[test]
fn a_wait_without_end_is_told_of() {
    let mut rig = not_live(&[]);
    rig.lifted(0);
    rig.push_alone(1);
    let told = std::sync::Mutex::new(Vec::new());
    until("the hint", || {
        told.lock().unwrap().extend(rig.warnings());
        !told.lock().unwrap().is_empty()
    });
    let told = told.into_inner().unwrap();
    assert_eq!(
        told,
        [
            "The composite at running time 0:00:00.033333333 has been waiting for its mask for 5s: end a mask stream with EOS, \
          or set mask-timeout"
        ]
    );
    assert!(rig.out.try_pull().is_none());
    rig.mask.push(buffer(at(30, 1), at(30, 1), &[255; 8])).unwrap();
    assert_ne!(rig.out_lift(1), 0);
}

#[test]
fn passthrough_does_not_wait_for_masks_in_pipelines_that_are_not_live() {
    let mut rig = not_live(&[]);
    rig.push_alone(0);
    std::thread::sleep(Duration::from_millis(20));
    assert!(rig.out.try_pull().is_none());
    rig.element.set_property("passthrough", true);
    assert_eq!(rig.out_lift(0), 0);
    for n in 1..4 {
        rig.push_alone(n);
        assert_eq!(rig.out_lift(n), 0);
    }
    rig.element.set_property("passthrough", false);
    assert_ne!(rig.lifted(4), 0);
    assert_eq!((rig.stat("missing-masks"), rig.warnings().len()), (0, 0));
}
