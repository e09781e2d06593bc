//! After the end of the stream, which comes with the composite's EOS or with downstream's: nobody who still pushes or asks waits
//! for ever, and a flush begins it all anew.

use crate::common;
use crate::common::rig::Rig;
use crate::common::*;
use gst::prelude::*;
use gst_check::Harness;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const MODES: [&str; 2] = ["exact", "live"];

/// What a thread that pushes `frames` into `source` ends with, and the source.
fn pushes(mut source: Harness, frames: Vec<gst::Buffer>) -> Receiver<(Result<(), gst::FlowError>, Harness)> {
    let (send, ended) = channel();
    thread::spawn(move || {
        let pushed = frames.into_iter().try_for_each(|frame| source.push(frame).map(drop));
        let _ = send.send((pushed, source));
    });
    ended
}

fn ended<T>(what: &str, thread: Receiver<T>) -> T {
    thread.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("{what} waits for ever"))
}

/// A harness in the place of another, which it leaves with the element's pads unlinked from it.
fn take(harness: &mut Harness) -> Harness {
    std::mem::replace(harness, Harness::new_empty())
}

fn playing(mode: &str) -> Rig {
    let element = element(&Arc::default());
    element.set_property_from_str("mode", mode);
    Rig::of(element, |harness| harness.set_live(false))
}

fn masks() -> Vec<gst::Buffer> {
    frames(30, 60, &[255; 8])
}

/// Waits for the end of what comes out.
fn eos(rig: &mut Rig) {
    while rig.out.pull_event().unwrap().type_() != gst::EventType::Eos {}
}

#[test]
fn a_mask_that_goes_on_after_the_composite_is_refused() {
    for mode in MODES {
        let mut rig = playing(mode);
        let mask = pushes(take(&mut rig.mask), masks());
        rig.push_alone(0);
        assert!(rig.composite.push_event(gst::event::Eos::new()));
        let (pushed, _mask) = ended("the mask", mask);
        assert_eq!(pushed, Err(gst::FlowError::Eos), "{mode}");
        rig.pull();
        eos(&mut rig);
        assert_eq!(rig.stat("frames-out"), 1);
    }
}

#[test]
fn both_streams_are_refused_once_downstream_has_ended() {
    for mode in MODES {
        let mut rig = playing(mode);
        rig.out.element().unwrap().static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, |_, info| {
            info.flow_res = Err(gst::FlowError::Eos);
            gst::PadProbeReturn::Handled
        });
        let mask = pushes(take(&mut rig.mask), masks());
        let composite = pushes(take(&mut rig.composite), frames(30, 60, &[90; 24]));
        let (pushed, _mask) = ended("the mask", mask);
        assert_eq!(pushed, Err(gst::FlowError::Eos), "{mode}: the mask");
        let (pushed, _composite) = ended("the composite", composite);
        assert_eq!(pushed, Err(gst::FlowError::Eos), "{mode}: the composite");
    }
}

#[test]
fn a_query_in_the_mask_stream_is_answered_after_the_end() {
    let mut rig = playing("exact");
    rig.lifted(0);
    assert!(rig.composite.push_event(gst::event::Eos::new()));
    let mask = pushes(take(&mut rig.mask), masks());
    let (_, mask) = ended("the mask", mask);
    let (send, answered) = channel();
    thread::spawn(move || {
        let caps = common::rig::GRAY.parse::<gst::Caps>().unwrap();
        let mut query = gst::query::Allocation::new(Some(&caps), false);
        let _ = send.send((mask.srcpad().unwrap().peer_query(&mut query), mask));
    });
    ended("the query", answered);
}

#[test]
fn a_flush_after_the_end_begins_both_streams_anew() {
    for mode in MODES {
        let mut rig = playing(mode);
        rig.lifted(0);
        assert!(rig.composite.push_event(gst::event::Eos::new()));
        let mask = pushes(take(&mut rig.mask), masks());
        rig.mask = ended("the mask", mask).1;
        eos(&mut rig);
        rig.flush();
        for n in 0..3 {
            rig.push(n);
            assert_eq!(rig.pull().nseconds(), at(30, n), "{mode}");
        }
        assert_eq!(rig.stat("missing-masks") + rig.stat("stale-masks"), 0, "{mode}");
    }
}

/// The base class would begin a stream without caps downstream, and end it at once.
#[test]
fn another_stream_of_masks_alone_begins_nothing_after_the_end() {
    for mode in MODES {
        let mut rig = playing(mode);
        rig.lifted(0);
        assert!(rig.composite.push_event(gst::event::Eos::new()));
        eos(&mut rig);
        assert!(rig.mask.push_event(gst::event::FlushStart::new()));
        assert!(rig.mask.push_event(gst::event::FlushStop::new(true)));
        assert!(rig.mask.push_event(gst::event::StreamStart::new("another")));
        assert!(rig.mask.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
        rig.mask.push(frames(30, 1, &[255; 8]).remove(0)).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(rig.out.try_pull_event().map(|event| event.type_()), None, "{mode}");
        rig.flush();
        rig.push(1);
        assert_eq!(rig.pull().nseconds(), at(30, 1), "{mode}");
    }
}

#[test]
fn a_mask_pad_may_be_released_after_the_end_while_its_source_goes_on() {
    let mut rig = playing("exact");
    rig.lifted(0);
    let mask = pushes(take(&mut rig.mask), masks());
    assert!(rig.composite.push_event(gst::event::Eos::new()));
    at_once("releasing", || rig.element.release_request_pad(&rig.element.static_pad("mask").unwrap()));
    let (pushed, _mask) = ended("the mask", mask);
    assert!(pushed.is_err());
}
