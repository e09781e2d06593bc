//! Seeks: what was before one is over, what is shown after one and when, and playing fast in both directions.

use crate::common::manual::{Manual, lift};
use crate::common::rig::Rig;
use crate::common::*;
use gst::prelude::*;
use gst_base::prelude::*;
use gstharmonize::elements::harmonize::Harmonize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// A seek without flush sets the base class's segment at once, which goes ahead of a frame where a GAP came first in its segment.
#[test]
fn a_frame_that_a_seek_without_flush_has_overtaken_leaves_in_its_own_segment() {
    let mut rig = Rig::of(element(&Arc::default()), |harness| harness.set_live(false));
    rig.push(0);
    rig.out.pull().unwrap();
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_nseconds(at(30, 1)));
    segment.set_time(gst::ClockTime::from_nseconds(at(30, 1)));
    segment.set_base(gst::ClockTime::from_nseconds(at(30, 1)));
    for pad in [&mut rig.composite, &mut rig.mask] {
        assert!(pad.push_event(gst::event::Segment::new(&segment)));
    }
    let src = rig.element.static_pad("src").unwrap();
    let left = || {
        let segment = src.peer().unwrap().sticky_event::<gst::event::Segment>(0).unwrap();
        segment.segment().downcast_ref::<gst::ClockTime>().unwrap().start().unwrap().nseconds()
    };
    let gap = gst::event::Gap::builder(gst::ClockTime::from_nseconds(at(30, 1))).duration(gst::ClockTime::MSECOND);
    assert!(rig.composite.push_event(gap.build()));
    rig.mask.push(buffer(at(30, 1), at(30, 2) - at(30, 1), &[255; 8])).unwrap();
    until("the gap", || left() == at(30, 1));
    for name in ["sink", "mask"] {
        // Sources that take the seek, and go on with what they had begun.
        rig.element.static_pad(name).unwrap().add_probe(gst::PadProbeType::EVENT_UPSTREAM, |_, info| {
            let is_seek = info.event().is_some_and(|event| event.type_() == gst::EventType::Seek);
            if is_seek { gst::PadProbeReturn::Handled } else { gst::PadProbeReturn::Ok }
        });
    }
    let (start, set, none) = (5 * gst::ClockTime::SECOND, gst::SeekType::Set, gst::SeekType::None);
    let flags = gst::SeekFlags::empty();
    assert!(src.send_event(gst::event::Seek::new(1.0, flags, set, start, none, gst::ClockTime::NONE)));
    rig.push(2);
    assert_eq!(rig.out.pull().unwrap().pts().unwrap().nseconds(), at(30, 2));
    assert_eq!(left(), at(30, 1));
}

/// A paused pipeline whose model answers when it is told to, at its start.
fn paused(model: &Arc<Manual>) -> (gst::Pipeline, Harmonize) {
    init();
    let size = "width=32,height=18,framerate=25/1";
    let line = format!(
        "videotestsrc num-buffers=100 ! video/x-raw,format=I420,{size} ! h.sink \
         videotestsrc pattern=white num-buffers=100 ! video/x-raw,format=GRAY8,{size} ! h.mask \
         harmonize name=h mode=exact ! fakesink name=out sync=false enable-last-sample=true"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let element = pipeline.by_name("h").unwrap().downcast::<Harmonize>().unwrap();
    element.set_loader(model.loader());
    pipeline.set_state(gst::State::Paused).unwrap();
    let mut answered = 0;
    while !is_prerolled(&pipeline) {
        while answered < model.count() {
            model.answer(answered, Ok(lift(10)));
            answered += 1;
        }
    }
    (pipeline, element)
}

/// Whether the pipeline is paused by a moment from now.
fn is_prerolled(pipeline: &gst::Pipeline) -> bool {
    pipeline.state(gst::ClockTime::from_mseconds(20)).0 == Ok(gst::StateChangeSuccess::Success)
}

/// The timestamp of what is shown.
fn shown(pipeline: &gst::Pipeline) -> gst::ClockTime {
    let out = pipeline.by_name("out").unwrap();
    out.property::<gst::Sample>("last-sample").buffer().unwrap().pts().unwrap()
}

#[test]
fn a_seek_shows_its_first_frame_by_its_own_inference_alone_unless_it_is_to_be_accurate() {
    for (flag, is_at_once) in [(gst::SeekFlags::empty(), true), (gst::SeekFlags::ACCURATE, false)] {
        let model = Arc::<Manual>::default();
        let (pipeline, _element) = paused(&model);
        until("all that is to be seen", || model.asked() == model.count());
        let before = model.count();
        pipeline.seek_simple(gst::SeekFlags::FLUSH | flag, gst::ClockTime::SECOND).unwrap();
        model.answer(before, Ok(lift(10)));
        if is_at_once {
            // Where the threads of two inferences overtook each other, it is the next one's.
            for n in before + 1..before + 3 {
                if !(0..50).any(|_| is_prerolled(&pipeline)) {
                    model.answer(n, Ok(lift(10)));
                }
            }
            until("the first frame", || is_prerolled(&pipeline));
            assert_eq!(shown(&pipeline), gst::ClockTime::SECOND);
        } else {
            // Frames 12 to 35, as far as a mean reaches, and one.
            until("the inferences", || model.count() >= before + 24);
            assert!(!is_prerolled(&pipeline), "it waits for the others");
        }
        at_once("the change to NULL", || pipeline.set_state(gst::State::Null).unwrap());
    }
}

const LENGTH: gst::ClockTime = gst::ClockTime::from_seconds(3);

/// A film of `LENGTH` that plays by the clock, as gst-validate has it: what is wrong in the two streams that come to the element,
/// or in the place it says it has come to, is noted down.
struct Watched {
    pipeline: gst::Pipeline,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    fn new(set: &str) -> Self {
        init();
        let size = "width=32,height=18,framerate=25/1";
        let line = format!(
            "videotestsrc ! video/x-raw,format=I420,{size} ! queue ! h.sink \
             videotestsrc pattern=ball ! video/x-raw,format=GRAY8,{size} ! queue ! h.mask \
             harmonize name=h {set} ! queue ! fakesink sync=true"
        );
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let element = pipeline.by_name("h").unwrap().downcast::<Harmonize>().unwrap();
        element.set_loader(Fake::slow(Duration::from_millis(2)).loader());
        let wrong = Arc::<Mutex<Vec<String>>>::default();
        for name in ["sink", "mask"] {
            let (wrong, over) = (wrong.clone(), AtomicBool::new(false));
            let kinds =
                gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
            element.static_pad(name).unwrap().add_probe(kinds, move |pad, info| {
                match info.event().map(|event| event.type_()) {
                    Some(gst::EventType::Eos) => over.store(true, Ordering::SeqCst),
                    Some(gst::EventType::FlushStop | gst::EventType::StreamStart) => {
                        over.store(false, Ordering::SeqCst)
                    }
                    Some(_) => (),
                    None => {
                        // Whoever was refused does not come again.
                        let refused =
                            pad.peer().is_some_and(|peer| peer.last_flow_result() == Err(gst::FlowError::Eos));
                        if refused || over.load(Ordering::SeqCst) {
                            wrong.lock().unwrap().push(format!("a buffer after EOS at {name}"));
                        }
                    }
                }
                gst::PadProbeReturn::Ok
            });
        }
        pipeline.set_state(gst::State::Paused).unwrap();
        pipeline.state(gst::ClockTime::from_seconds(20)).0.unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, wrong }
    }

    /// Plays from one end of that part of the film to the other, and asks for the position all the time.
    fn play(&self, rate: f64, [from, to]: [u64; 2]) {
        let [from, to] = [from, to].map(gst::ClockTime::from_mseconds);
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        self.pipeline.seek(rate, flags, gst::SeekType::Set, from, gst::SeekType::Set, to).unwrap();
        let source = self.pipeline.by_name("h").unwrap().static_pad("src").unwrap();
        let bus = self.pipeline.bus().unwrap();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        for _ in 0..4000 {
            let places = [source.query_position::<gst::ClockTime>(), self.pipeline.query_position()];
            for (whose, place) in ["the element's", "the pipeline's"].into_iter().zip(places) {
                if place.is_some_and(|place| !(from..=to).contains(&place)) {
                    let what = format!("at {rate} {whose} position {} outside {from} to {to}", place.display());
                    self.wrong.lock().unwrap().push(what);
                }
            }
            if let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(5), &kinds) {
                assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
                return;
            }
        }
        panic!("no EOS at {rate}");
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

const WAYS: [&str; 3] = ["mode=exact", "mode=exact smoothing=0", "mode=live"];

#[test]
fn fast_backward() {
    for set in WAYS {
        let film = Watched::new(set);
        for rate in [-2.0, -4.0, -8.0, -16.0, -32.0] {
            film.play(rate, [0, LENGTH.mseconds()]);
        }
        assert_eq!(film.wrong.lock().unwrap().first(), None, "{set}");
    }
}

#[test]
fn alternate_fast_backward_and_forward() {
    for set in WAYS {
        let film = Watched::new(set);
        for rate in [-2.0, 2.0, -4.0, 4.0, -8.0, 8.0, -16.0, 16.0] {
            film.play(rate, [1000, 2000]);
        }
        assert_eq!(film.wrong.lock().unwrap().first(), None, "{set}");
    }
}

#[test]
fn an_end_without_a_frame_after_a_seek_is_one_of_what_was_sought() {
    init();
    let line = "videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=32,height=18,framerate=25/1 ! harmonize name=h \
                mode=exact on-not-ready=pass-through ! fakesink sync=false";
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let ends = || {
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &kinds);
        assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    ends();
    // The source has had all its buffers.
    let [from, to] = [1, 2].map(gst::ClockTime::from_seconds);
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
    pipeline.seek(1.0, flags, gst::SeekType::Set, from, gst::SeekType::Set, to).unwrap();
    ends();
    let segment =
        pipeline.by_name("h").unwrap().static_pad("src").unwrap().sticky_event::<gst::event::Segment>(0).unwrap();
    let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap().clone();
    assert_eq!((segment.start(), segment.stop(), segment.time()), (Some(from), Some(to), Some(from)));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_flush_ahead_of_a_seeks_segment_ends_the_seek() {
    let element = element(&Arc::default());
    element.set_property("smoothing", 0.95);
    let mut rig = Rig::of(element, |harness| harness.set_live(false));
    let (flags, set) = (gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, gst::SeekType::Set);
    let place = gst::ClockTime::from_seconds(5);
    let seek = gst::event::Seek::new(1.0, flags, set, place, gst::SeekType::None, gst::ClockTime::NONE);
    let number = seek.seqnum();
    assert!(rig.element.static_pad("src").unwrap().send_event(seek));
    for pad in [&mut rig.composite, &mut rig.mask] {
        assert!(pad.push_event(gst::event::FlushStart::builder().seqnum(number).build()));
        assert!(pad.push_event(gst::event::FlushStop::builder(true).seqnum(number).build()));
    }
    rig.flush();
    (0..3).for_each(|n| rig.push(n));
    rig.composite.push_event(gst::event::Eos::new());
    rig.mask.push_event(gst::event::Eos::new());
    assert_eq!([0, 1, 2].map(|_| rig.pull().nseconds()), [0, 1, 2].map(|n| at(30, n)));
}

/// The base class does not tell of every flush of one pad alone.
#[test]
fn what_waits_ends_with_a_flush_of_the_composite_alone() {
    let element = element(&Arc::default());
    element.set_property("smoothing", 0.95);
    let mut rig = Rig::of(element, |harness| harness.set_live(false));
    (0..3).for_each(|n| rig.push(n));
    until("the first frames", || rig.stat("frames-in") == 3);
    assert_eq!(rig.stat("frames-out"), 0, "they wait for what comes after them");
    assert!(rig.composite.push_event(gst::event::FlushStart::new()));
    assert!(rig.composite.push_event(gst::event::FlushStop::new(false)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(rig.composite.push_event(gst::event::Segment::new(&segment)));
    (3..6).for_each(|n| rig.push(n));
    rig.composite.push_event(gst::event::Eos::new());
    rig.mask.push_event(gst::event::Eos::new());
    // The third may have been at work still.
    let mut left: Vec<u64> = vec![rig.pull().nseconds()];
    while left.last() != Some(&at(30, 5)) {
        left.push(rig.pull().nseconds());
    }
    left.retain(|&pts| pts != at(30, 2));
    assert_eq!(left, [3, 4, 5].map(|n| at(30, n)));
}
