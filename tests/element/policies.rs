//! What becomes of frames that lack something: counted, warned of once an episode, and as the property says.

use crate::common::manual::{Manual, lift};
use crate::common::rig::Rig;
use crate::common::*;
use gst::prelude::*;
use gstharmonize::elements::harmonize::Harmonize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// An element whose model is there when the flag says so.
fn loading(set: &[(&str, &str)]) -> (Harmonize, Arc<AtomicBool>) {
    let element = element(&Arc::default());
    set.iter().for_each(|(name, value)| element.set_property_from_str(name, value));
    let done = Arc::new(AtomicBool::new(false));
    let flag = done.clone();
    element.set_loader(Arc::new(move |_, _, is_given_up| {
        while !flag.load(Ordering::SeqCst) && !is_given_up() {
            thread::sleep(Duration::from_millis(2));
        }
        Arc::<Fake>::default().engine()
    }));
    (element, done)
}

#[test]
fn frames_pass_untouched_until_the_model_is_ready() {
    for mode in ["live", "exact"] {
        let policy = if mode == "live" { "auto" } else { "pass-through" };
        let (element, done) = loading(&[("mode", mode), ("on-not-ready", policy)]);
        let mut rig = Rig::new(element);
        assert_eq!([0, 1, 2].map(|n| rig.lifted(n)), [0; 3], "{mode}");
        assert_eq!((rig.stat("not-ready"), rig.stat("passed-through")), (3, 3));
        assert_eq!(rig.warnings(), ["The model is not ready: frames pass untouched until it is"]);
        done.store(true, Ordering::SeqCst);
        let mut n = 3;
        until("the first harmonized frame", || {
            rig.element.property_value("model-state").serialize().unwrap() == "ready"
        });
        while rig.lifted(n) == 0 {
            n += 1;
            assert!(n < 9);
        }
        assert_eq!(rig.warnings().len(), 0);
    }
}

#[test]
fn frames_are_dropped_until_the_model_is_ready() {
    for mode in ["live", "exact"] {
        let (element, done) = loading(&[("mode", mode), ("on-not-ready", "drop")]);
        let mut rig = Rig::new(element);
        (0..3).for_each(|n| rig.push(n));
        until("three frames to go", || rig.stat("dropped") == 3);
        done.store(true, Ordering::SeqCst);
        until("the model", || rig.element.property_value("model-state").serialize().unwrap() == "ready");
        // In live mode those are dropped too that come before the first transfer.
        let out = (3..100).find_map(|n| {
            rig.push(n);
            thread::sleep(Duration::from_millis(5));
            rig.out.try_pull().map(|out| (n, out))
        });
        let (n, out) = out.unwrap();
        assert!(mode == "live" || out.pts().unwrap().nseconds() == at(30, 3), "in exact mode none after it is dropped");
        rig.push(n + 1);
        assert!(out.flags().contains(gst::BufferFlags::DISCONT), "{mode}");
        assert!(bytes(&out)[0] > 90);
        assert!(!rig.out.pull().unwrap().flags().contains(gst::BufferFlags::DISCONT));
        assert_eq!(rig.warnings(), ["The model is not ready: frames are dropped until it is"]);
    }
}

#[test]
fn live_frames_wait_for_the_model_where_that_is_asked() {
    let (element, done) = loading(&[("mode", "live"), ("on-not-ready", "wait")]);
    let mut rig = Rig::new(element);
    rig.push(0);
    thread::sleep(Duration::from_millis(50));
    assert!(rig.out.try_pull().is_none());
    done.store(true, Ordering::SeqCst);
    assert_ne!(rig.out_lift(0), 0, "and for the first transfer");
    assert_eq!((rig.stat("not-ready"), rig.warnings().len()), (0, 0));
}

/// Exact mode with masks at frames 1 and 4 alone, frames 0 to 5; which come out, and which are harmonized.
fn holes(policy: &str) -> (Vec<u64>, Vec<bool>, Vec<gst::Message>, Harmonize) {
    let element = element(&Arc::default());
    element.set_property_from_str("on-missing-mask", policy);
    let caps = |format: &str| format!("video/x-raw,format={format},width=4,height=2,framerate=30/1");
    let masks = frames(30, 6, &gray(4, 2, 255)).into_iter().enumerate().filter(|(n, _)| [1, 4].contains(n));
    let mask = Stream::new(&caps("GRAY8"), masks.map(|(_, mask)| mask));
    let (out, messages) = run(&element, Stream::new(&caps("RGB"), frames(30, 6, &[90; 24])), Some(mask));
    let numbers = out.iter().map(|b| (b.pts().unwrap().nseconds() + 1) * 30 / 1_000_000_000).collect();
    (numbers, out.iter().map(|b| bytes(b)[0] != 90).collect(), messages, element)
}

fn warnings(messages: &[gst::Message]) -> usize {
    messages.iter().filter(|message| message.type_() == gst::MessageType::Warning).count()
}

#[test]
fn frames_without_a_mask_take_the_last_one_pass_or_go() {
    // After the mask's EOS frame 5 is missing one as well.
    let (numbers, harmonized, messages, element) = holes("repeat");
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    assert_eq!(harmonized, [false, true, true, true, true, true]);
    assert_eq!(["missing-masks", "stale-masks"].map(|name| stat(&element, name)), [1, 3]);
    assert_eq!(warnings(&messages), 3, "before the first mask, in the hole and after the end");

    let (numbers, harmonized, messages, element) = holes("pass-through");
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    assert_eq!(harmonized, [false, true, false, false, true, false]);
    assert_eq!((stat(&element, "passed-through"), warnings(&messages)), (4, 3));

    let (numbers, harmonized, messages, element) = holes("drop");
    assert_eq!((numbers, harmonized), (vec![1, 4], vec![true; 2]));
    assert_eq!((stat(&element, "dropped"), warnings(&messages)), (4, 3));
}

#[test]
fn a_missing_mask_may_be_an_error() {
    let (numbers, _, messages, _) = holes("error");
    assert!(numbers.is_empty());
    let error = messages.iter().find_map(|message| match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    });
    assert_eq!(error.unwrap(), "Pad mask: No mask for the composite at running time 0:00:00.000000000");
}

#[test]
fn frames_whose_inference_fails_pass_or_go_as_is_asked() {
    for (policy, then) in [("pass-through", "pass untouched"), ("drop", "are dropped")] {
        let fake = Arc::new(Fake { fails: Some("out of memory"), ..Fake::default() });
        let element = element(&fake);
        element.set_property_from_str("on-error", policy);
        let mut rig = Rig::new(element);
        (0..3).for_each(|n| rig.push(n));
        until("three failures", || rig.stat("errors") == 3);
        let counted = if policy == "drop" { "dropped" } else { "passed-through" };
        until("three frames", || rig.stat(counted) == 3);
        let warning = format!(
            "Can't harmonize a frame: inference failed: out of memory: frames {then} until one can be harmonized again"
        );
        assert_eq!(rig.warnings(), [warning]);
    }
}

#[test]
fn a_failure_in_live_mode_lasts_until_an_inference_succeeds() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.element.set_property_from_str("on-error", "pass-through");
    rig.lifted(0);
    model.answer(0, Ok(lift(20)));
    assert_eq!(rig.lifted(1), 20);
    rig.warnings();
    for n in 1..4 {
        model.answer(n, Err(anyhow::anyhow!("out of memory")));
        assert_eq!(rig.lifted(n as u64 + 1), 0);
    }
    assert_eq!(rig.lifted(5), 0, "the model is at work");
    assert_eq!((rig.warnings().len(), rig.stat("errors")), (1, 3));
    model.answer(4, Ok(lift(30)));
    assert_eq!(rig.lifted(6), 30);
    model.answer(5, Err(anyhow::anyhow!("out of memory")));
    assert_eq!(rig.lifted(7), 0);
    assert_eq!(rig.warnings().len(), 1, "another episode");
}

#[test]
fn a_failure_in_live_mode_is_an_error_by_default() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    model.answer(0, Err(anyhow::anyhow!("out of memory")));
    rig.push(1);
    let error = rig.bus.timed_pop_filtered(gst::ClockTime::from_seconds(10), &[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = error.view() else { unreachable!() };
    assert_eq!(error.error().to_string(), "Can't harmonize a frame: inference failed: out of memory");
}

#[test]
fn frames_that_come_too_late_are_dropped_with_a_qos_message() {
    let mut rig = Rig::new(element(&Arc::default()));
    rig.lifted(0);
    let late =
        |by: i64| gst::event::Qos::builder(gst::QOSType::Underflow, 1.5, by).timestamp(gst::ClockTime::ZERO).build();
    assert!(rig.out.push_upstream_event(late(70_000_000)));
    for n in 1..5 {
        rig.push(n);
    }
    // Frames 1 and 2 start at 33 and 67 ms.
    let out = rig.out.pull().unwrap();
    assert_eq!(out.pts().unwrap().nseconds(), at(30, 3));
    assert!(out.flags().contains(gst::BufferFlags::DISCONT));
    assert_eq!((rig.stat("late"), rig.stat("dropped")), (2, 2));
    let messages: Vec<_> = rig.bus.iter().collect();
    assert_eq!(warnings(&messages), 1);
    let messages: Vec<_> = messages.iter().filter(|message| message.type_() == gst::MessageType::Qos).collect();
    assert_eq!(messages.len(), 2);
    let gst::MessageView::Qos(qos) = messages[1].view() else { unreachable!() };
    let (jitter, proportion, _) = qos.values();
    assert_eq!(
        (qos.timestamp().unwrap().nseconds(), jitter, proportion),
        (at(30, 2), 70_000_000 - at(30, 2) as i64, 1.5)
    );

    rig.element.set_property("qos", false);
    assert!(rig.out.push_upstream_event(late(500_000_000)));
    assert_eq!(rig.out_lift(4), rig.lifted(5));
    assert_eq!(rig.stat("late"), 2);
}
