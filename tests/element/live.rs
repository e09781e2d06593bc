//! Live mode: no frame waits, each takes the newest transfer; models that change while it plays.

use crate::common::manual::{Manual, lift};
use crate::common::rig::{RGB, Rig};
use crate::common::*;
use gst::prelude::*;
use gstharmonize::diffusion::Noise;
use gstharmonize::elements::harmonize::ModelState;
use gstharmonize::harmonizers::{self, Precision};
use std::sync::Arc;
use std::time::Duration;
use tch::Device;

fn mode(rig: &Rig) -> String {
    rig.element.property::<gst::Structure>("stats").get("mode").unwrap()
}

#[test]
fn frames_take_the_newest_transfer_and_wait_for_none() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    assert_eq!(rig.lifted(0), 0, "there is no transfer yet");
    assert_eq!(rig.lifted(1), 0);
    assert_eq!(model.count(), 1, "the model is at work on frame 0");
    model.answer(0, Ok(lift(20)));
    assert_eq!(rig.lifted(2), 20);
    assert_eq!(model.count(), 2, "free again, it looks at frame 2");
    assert_eq!(rig.lifted(3), 20);
    model.answer(1, Ok(lift(40)));
    assert_eq!(rig.lifted(4), 30, "frames 0 and 2 are two frames apart, and so long it takes from one to the other");
    let age = rig.element.property::<gst::Structure>("stats").get::<f64>("transfer-age-ms").unwrap();
    assert!((age - 66.67).abs() < 0.1, "frame 4 took what was found for frame 2, {age} ms before");
    assert_eq!(rig.lifted(5), 40);
    assert_eq!((rig.stat("harmonized"), rig.stat("not-ready"), rig.stat("transfers")), (4, 2, 2));
}

#[test]
fn auto_is_live_in_live_pipelines_alone() {
    let model = Arc::<Manual>::default();
    let mut live = Rig::live(&model);
    live.element.set_property_from_str("mode", "auto");
    assert_eq!((live.lifted(0), mode(&live)), (0, "live".into()));

    let fake = Arc::<Fake>::default();
    let mut rig = Rig::of(element(&fake), |harness| harness.set_live(false));
    rig.element.set_property_from_str("mode", "auto");
    assert_ne!(rig.lifted(0), 0);
    assert_eq!(mode(&rig), "exact");
}

#[test]
fn a_keyframe_lattice_spares_inferences() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.element.set_property("keyframe-interval", 100_000_000u64);
    for n in 0..9 {
        rig.lifted(n);
        for job in 0..model.count() {
            model.answer(job, Ok(lift(20)));
        }
    }
    // Nine frames are 0 to 267 ms.
    assert_eq!(model.count(), 3);
}

#[test]
fn a_flush_and_other_caps_forget_the_transfer() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    model.answer(0, Ok(lift(20)));
    assert_eq!(rig.lifted(1), 20);
    rig.flush();
    assert_eq!(rig.lifted(0), 0);
    model.answer(2, Ok(lift(30)));
    assert_eq!(rig.lifted(1), 30);
    rig.composite.set_src_caps_str(RGB);
    assert_eq!(rig.lifted(2), 30, "the same caps again change nothing");
    rig.composite.set_src_caps_str(&RGB.replace("30/1", "31/1"));
    assert_eq!(rig.lifted(3), 0);
}

#[test]
fn frames_pass_without_mask_model_or_foreground_where_passthrough_says_so() {
    let element = element(&Arc::default());
    element.set_loader(Arc::new(|_, _, is_given_up| {
        while !is_given_up() {
            std::thread::sleep(Duration::from_millis(2));
        }
        anyhow::bail!("given up")
    }));
    element.set_property("passthrough", true);
    let mut rig = Rig::new(element);
    rig.clock().set_time(gst::ClockTime::SECOND);
    for n in 30..33 {
        rig.push_alone(n);
        let clock = rig.clock();
        until("the frame", || {
            // It waits for no mask, nor for a time that is to come: whichever of the two the base class finds out first.
            if let Some(id) = clock.peek_next_pending_id() {
                assert!(id.time().nseconds() < 100_000_000, "that was over long ago");
                clock.crank();
            }
            rig.out.buffers_in_queue() > 0
        });
        assert_eq!(rig.out_lift(n), 0);
    }
    assert_eq!((rig.stat("passed-through"), rig.warnings().len()), (3, 0));
}

#[test]
fn masks_go_on_being_paired_after_a_passthrough() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    model.answer(0, Ok(lift(20)));
    rig.element.set_property("passthrough", true);
    for n in 1..6 {
        assert_eq!(rig.lifted(n), 0);
    }
    rig.element.set_property("passthrough", false);
    assert_eq!(rig.lifted(6), 20);
    assert_eq!(rig.stat("stale-masks"), 0);
}

#[test]
fn steps_and_seed_are_taken_up_with_the_next_inference() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    rig.element.set_property("steps", 7u32);
    rig.element.set_property("seed", 9u64);
    model.answer(0, Ok(lift(20)));
    rig.lifted(1);
    until("the second inference", || model.asked() == 2);
    let requests = model.requests.lock().unwrap();
    assert_eq!(*requests, [(0, Noise::fixed(0)), (7, Noise::fixed(9))]);
}

#[test]
fn another_model_is_taken_up_between_two_frames() {
    let (first, second) = (Arc::<Manual>::default(), Arc::<Manual>::default());
    let mut rig = Rig::live(&first);
    rig.lifted(0);
    first.answer(0, Ok(lift(20)));
    assert_eq!(rig.lifted(1), 20);
    let (next, gate) = (second.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let opened = gate.clone();
    rig.element.set_loader(Arc::new(move |spec, _, _| {
        assert_eq!(spec.model, "another");
        until("the gate", || opened.load(std::sync::atomic::Ordering::SeqCst));
        next.engine()
    }));
    rig.element.set_property("model", "another");
    assert_eq!(rig.lifted(2), 20, "the one before is in use until the next is there");
    assert_eq!(rig.element.property::<ModelState>("model-state"), ModelState::Ready);
    first.answer(1, Ok(lift(25)));
    gate.store(true, std::sync::atomic::Ordering::SeqCst);
    let model = |rig: &Rig| rig.element.property::<gst::Structure>("stats").get::<String>("model").unwrap();
    until("the other model", || model(&rig) == "another");
    assert_eq!(rig.lifted(3), 25, "no frame is left untouched in between");
    second.answer(0, Ok(lift(50)));
    assert!((25..50).contains(&rig.lifted(4)), "on its way");
    assert_eq!(rig.lifted(5), 50);
    let progress: Vec<_> = rig.bus.iter_filtered(&[gst::MessageType::Progress]).collect();
    assert_eq!(progress.len(), 4, "two loads were begun and ended: {progress:?}");
}

#[test]
fn a_model_that_cannot_be_loaded_leaves_the_one_before_in_use() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    model.answer(0, Ok(lift(20)));
    rig.element.set_loader(Arc::new(|_, _, _| anyhow::bail!("the disk is on fire")));
    rig.element.set_property("model", "another");
    let mut warnings = Vec::new();
    let told = std::sync::Mutex::new(&mut warnings);
    until("the warning", || {
        told.lock().unwrap().extend(rig.warnings());
        told.lock().unwrap().len() == 2
    });
    assert_eq!(
        warnings,
        [
            "The model is not ready: frames pass untouched until it is",
            "Can't load model another on device auto: the disk is on fire: the model before it stays in use",
        ]
    );
    assert_eq!(rig.lifted(1), 20);
    assert!(rig.bus.pop_filtered(&[gst::MessageType::Error]).is_none());
}

#[test]
fn elements_share_a_model_and_null_gives_it_back() {
    let folder = model();
    let path = folder.path().to_str().unwrap();
    init();
    let held = harmonizers::shared(path, Device::Cpu, Precision::Auto, &|| false).unwrap();
    let alone = Arc::strong_count(&held);
    let elements = [real(path, "cpu"), real(path, "auto")];
    for element in &elements {
        element.set_state(gst::State::Paused).unwrap();
        until("the model", || element.property::<ModelState>("model-state") == ModelState::Ready);
    }
    // An engine for each element, with the same model in both.
    let both = Arc::strong_count(&held);
    assert!(both >= alone + 2, "{both} against {alone}");
    elements[0].set_state(gst::State::Ready).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(Arc::strong_count(&held), both, "READY keeps it for the next start");
    for element in &elements {
        element.set_state(gst::State::Null).unwrap();
    }
    until("the model's release", || Arc::strong_count(&held) == alone);
}

#[test]
fn stats_are_posted_when_asked() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    assert!(rig.bus.pop_filtered(&[gst::MessageType::Element]).is_none());
    rig.element.set_property("stats-interval", 30_000_000u64);
    rig.lifted(1);
    std::thread::sleep(Duration::from_millis(40));
    rig.lifted(2);
    rig.lifted(3);
    let messages: Vec<_> = rig.bus.iter_filtered(&[gst::MessageType::Element]).collect();
    let stats = messages[0].structure().unwrap();
    assert_eq!((messages.len(), stats.name().as_str()), (1, "application/x-harmonize-stats"));
    assert_eq!((stats.get::<u64>("running-time").unwrap(), stats.get::<u64>("frames-in").unwrap()), (at(30, 2), 3));
}

#[test]
fn what_may_be_controlled_is() {
    init();
    let element = element(&Arc::default());
    for name in
        ["strength", "steps", "proxy-size", "seed", "sampler", "passthrough", "keyframe-interval", "mask-invert"]
    {
        let flags = element.find_property(name).unwrap().flags();
        assert!(flags.contains(gst::PARAM_FLAG_CONTROLLABLE), "{name}");
    }
}
