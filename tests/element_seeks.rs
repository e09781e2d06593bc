//! Seeks: what was before one is over, what is shown after one and when, and playing fast in both directions.

mod common;

use common::rig::Rig;
use common::*;
use gst::prelude::*;
use gst_base::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An element that a flushing seek has stopped, none of whose pads has been flushed yet, after somebody has looked into its
/// queues: `queued` puts something there.
fn looked_into(queued: impl Fn(&mut Rig)) -> Rig {
    let mut rig = Rig::of(element(&Arc::default()), |harness| harness.set_live(false));
    rig.push_alone(0);
    let [sink, mask] = ["sink", "mask"].map(|name| rig.element.static_pad(name).unwrap());
    let [sink, mask] = [sink, mask].map(|pad| pad.downcast::<gst_base::AggregatorPad>().unwrap());
    until("the segments", || [&sink, &mask].iter().all(|pad| pad.segment().format() == gst::Format::Time));
    let (flags, set) = (gst::SeekFlags::FLUSH, gst::SeekType::Set);
    let seek = gst::event::Seek::new(1.0, flags, set, gst::ClockTime::ZERO, gst::SeekType::None, gst::ClockTime::NONE);
    assert!(rig.element.static_pad("src").unwrap().send_event(seek));
    queued(&mut rig);
    let gap = Arc::new(AtomicBool::new(false));
    let seen = gap.clone();
    mask.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        seen.fetch_or(info.event().is_some_and(|event| event.type_() == gst::EventType::Gap), Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    // Somebody looks whether the composite still waits.
    rig.element.set_property("mask-timeout", 3_600_000_000_000u64);
    if !mask.has_buffer() {
        until("the look", || gap.load(Ordering::SeqCst));
    }
    rig
}

/// What comes first after the flush, where frame `n` is there before the element begins again, with its mask of `value`.
fn first_after_flush(rig: &mut Rig, n: u64, value: u8) -> gst::Buffer {
    let src = rig.element.static_pad("src").unwrap();
    let begins = src.stream_lock();
    rig.flush();
    rig.push_alone(n);
    rig.mask.push(buffer(at(30, n), at(30, n + 1) - at(30, n), &[value; 8])).unwrap();
    drop(begins);
    rig.out.pull().unwrap()
}

#[test]
fn a_composite_that_was_looked_at_before_a_flush_does_not_come_after_it() {
    let mut rig = looked_into(|_| ());
    assert_eq!(first_after_flush(&mut rig, 5, 255).pts().unwrap().nseconds(), at(30, 5));
}

#[test]
fn a_mask_that_was_looked_at_before_a_flush_serves_nothing_after_it() {
    let mut rig = looked_into(|rig| {
        rig.mask.push(buffer(0, at(30, 1), &[255; 8])).unwrap();
    });
    let out = first_after_flush(&mut rig, 0, 0);
    assert_eq!(bytes(&out), [90; 24], "its own mask is black");
}
