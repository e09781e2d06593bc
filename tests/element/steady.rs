//! Steady in time: the same bytes wherever a stream is entered, however fast it plays and whoever works on it; scenes; what live
//! mode makes of cuts.

use crate::common::manual::{Manual, lift};
use crate::common::rig::Rig;
use crate::common::*;
use crate::models;
use gst::prelude::*;
use gstharmonize::elements::harmonize::Harmonize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const FRAMES: u64 = 75;

/// Time in nanoseconds, and bytes.
type Out = (u64, Vec<u8>);

/// Frames of a pattern that moves under a ball that moves, both by their number alone; the ball's foreground goes through a real
/// model.
struct Film {
    pipeline: gst::Pipeline,
    element: Harmonize,
    out: Arc<Mutex<Vec<Out>>>,
    _model: tempfile::TempDir,
}

impl Film {
    /// With each of `settings` set on the element.
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::of("pattern=zone-plate kx=8 ky=5 kt=2 kxt=1", "pattern=ball animation-mode=frames motion=wavy", settings)
    }

    fn of(composite: &str, mask: &str, settings: &[(&str, &str)]) -> Self {
        init();
        let size = "width=160,height=90,framerate=25/1";
        let line = format!(
            "videotestsrc {composite} ! video/x-raw,format=I420,{size} ! h.sink \
             videotestsrc {mask} ! video/x-raw,format=GRAY8,{size} ! h.mask \
             harmonize name=h device=cpu mask-range=full ! fakesink name=out sync=false"
        );
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let element = pipeline.by_name("h").unwrap().downcast::<Harmonize>().unwrap();
        let folder = model();
        element.set_property("model", folder.path().to_str().unwrap());
        settings.iter().for_each(|(name, value)| element.set_property_from_str(name, value));
        let out = Arc::new(Mutex::new(Vec::new()));
        let seen = out.clone();
        element.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().unwrap();
            let time = buffer.pts().map_or(buffer.offset() * 40_000_000, gst::ClockTime::nseconds);
            seen.lock().unwrap().push((time, bytes(buffer)));
            gst::PadProbeReturn::Ok
        });
        Self { pipeline, element, out, _model: folder }
    }

    /// Time and bytes of the frames from number `from` to before `to`, in the order in which they come out at that rate, after
    /// a seek to them.
    fn frames(&self, rate: f64, from: u64, to: u64) -> Vec<Out> {
        self.sought(gst::SeekFlags::ACCURATE, rate, from, to)
    }

    /// The same after a seek with another flag.
    fn sought(&self, flag: gst::SeekFlags, rate: f64, from: u64, to: u64) -> Vec<Out> {
        // A seek needs something to seek in.
        self.pipeline.set_state(gst::State::Paused).unwrap();
        self.pipeline.state(gst::ClockTime::from_seconds(20)).0.unwrap();
        let flags = gst::SeekFlags::FLUSH | flag;
        let [from, to] = [from, to].map(|n| gst::ClockTime::from_mseconds(40 * n));
        self.pipeline.seek(rate, flags, gst::SeekType::Set, from, gst::SeekType::Set, to).unwrap();
        // What was on its way before is none of it.
        self.pipeline.state(gst::ClockTime::from_seconds(20)).0.unwrap();
        let first = if rate > 0.0 { from } else { to - gst::ClockTime::from_mseconds(40) };
        self.out.lock().unwrap().retain(|(time, _)| *time == first.nseconds());
        self.out.lock().unwrap().reverse();
        self.out.lock().unwrap().truncate(1);
        self.pipeline.set_state(gst::State::Playing).unwrap();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message =
            self.pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
        std::mem::take(&mut *self.out.lock().unwrap())
    }

    fn whole(&self) -> BTreeMap<u64, Vec<u8>> {
        let whole = self.frames(1.0, 0, FRAMES);
        assert_eq!(whole.len() as u64, FRAMES);
        whole.into_iter().collect()
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Each kind of noise and of keyframes.
const SETTINGS: [&[(&str, &str)]; 4] = [
    &[],
    &[("noise", "drift"), ("noise-period", "300000000"), ("keyframe-interval", "200000000"), ("steps", "2")],
    &[("noise", "object"), ("smoothing", "0.5"), ("steps", "2")],
    &[("smoothing", "0"), ("keyframe-interval", "330000000")],
];

#[test]
fn a_seek_leads_to_the_bytes_of_the_whole() {
    for settings in SETTINGS {
        let film = Film::new(settings);
        let whole = film.whole();
        // 20 places, scattered.
        for n in (0..20).map(|i| (i * 29 + 7) % (FRAMES - 3)) {
            let part = film.frames(1.0, n, n + 3);
            assert_eq!(part.iter().map(|(time, _)| time / 40_000_000).collect::<Vec<_>>(), [n, n + 1, n + 2]);
            for (time, bytes) in part {
                assert!(bytes == whole[&time], "{settings:?}: frame {} of a seek to {n}", time / 40_000_000);
            }
        }
    }
}

#[test]
fn a_seek_that_is_not_accurate_leads_to_the_bytes_of_the_whole_from_its_second_frame_on() {
    for settings in SETTINGS {
        let film = Film::new(settings);
        let whole = film.whole();
        for n in [3, 30, 41] {
            let part = film.sought(gst::SeekFlags::empty(), 1.0, n, n + 5);
            let numbers: Vec<_> = part.iter().map(|(time, _)| time / 40_000_000).collect();
            assert_eq!(numbers, [n, n + 1, n + 2, n + 3, n + 4], "{settings:?}");
            for (time, bytes) in &part[1..] {
                assert!(*bytes == whole[time], "{settings:?}: frame {} of a seek to {n}", time / 40_000_000);
            }
        }
    }
}

#[test]
fn every_class_gives_a_part_the_bytes_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    for name in &models::one_of_each(folder.path()) {
        let whole = Film::new(&[("model", name), ("workers", "1")]).whole();
        let film = Film::new(&[("model", name), ("workers", "2")]);
        for (from, to) in [(0, 5), (33, 38), (70, FRAMES)] {
            for (time, bytes) in film.frames(1.0, from, to) {
                assert!(bytes == whole[&time], "{name}: frame {} of a seek to {from}", time / 40_000_000);
            }
        }
    }
}

#[test]
fn downstream_gets_the_segment_that_was_sought_at_upstream_s_running_times() {
    let film = Film::new(&[]);
    for (rate, running_ms) in [(1.0, 520), (0.5, 1040)] {
        film.frames(rate, 30, 40);
        let segment = |pad: gst::Pad| {
            let event = pad.sticky_event::<gst::event::Segment>(0).unwrap();
            event.segment().downcast_ref::<gst::ClockTime>().unwrap().clone()
        };
        let [start, stop] = [30, 40].map(|n| gst::ClockTime::from_mseconds(40 * n));
        let out = segment(film.element.static_pad("src").unwrap());
        assert_eq!((out.start(), out.stop(), out.to_stream_time(start)), (Some(start), Some(stop), Some(start)));
        // 500 ms in whole frames come before it, as they do for other sinks of the source.
        assert_eq!(out.to_running_time(start), Some(gst::ClockTime::from_mseconds(running_ms)));
        let peer = film.element.static_pad("sink").unwrap().peer().unwrap();
        assert_eq!(segment(peer).to_running_time(start), out.to_running_time(start));
    }
}

/// Of every five frames of `film`'s composite the last two lose their timestamps.
fn without_timestamps(film: &Film) {
    let source = film.element.static_pad("sink").unwrap().peer().unwrap();
    source.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        let buffer = info.buffer_mut().unwrap().make_mut();
        if buffer.offset() % 5 >= 3 {
            buffer.set_pts(gst::ClockTime::NONE);
        }
        gst::PadProbeReturn::Ok
    });
}

#[test]
fn a_frame_without_timestamp_is_that_of_its_place() {
    // Noise that drifts goes by stream time, and smoothing has seeks ask for more than they are for. Backwards the source begins
    // with frame 45, which its timestamp shows to be beyond; a mean is summed in another order then.
    let drift = [("noise", "drift"), ("noise-period", "300000000"), ("smoothing", "0"), ("steps", "2")];
    // A widened seek to frame 36 begins with frame 23, which has none.
    let forwards = [(1.0, 0, FRAMES), (1.0, 33, 45), (2.0, 33, 45), (0.5, 33, 45), (1.0, 36, 48), (2.0, 36, 48)];
    let backwards = [(-1.0, 32, 45), (-2.0, 32, 45)];
    for (settings, seeks) in [(SETTINGS[2], forwards.to_vec()), (&drift, [&forwards[..], &backwards].concat())] {
        let film = Film::new(settings);
        let whole = film.whole();
        without_timestamps(&film);
        for (rate, from, to) in seeks {
            let frames = film.frames(rate, from, to);
            assert_eq!(frames.len() as u64, to - from, "{settings:?}: from {from} at {rate}");
            for (time, bytes) in frames {
                let number = time / 40_000_000;
                assert!(bytes == whole[&time], "{settings:?}: frame {number} of {from} to {to} at {rate}");
            }
        }
    }
}

#[test]
fn frames_depend_on_those_around_them() {
    // Or the test above could not fail.
    let film = Film::new(&[]);
    let whole = film.whole();
    let key_unit = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
    film.pipeline.set_state(gst::State::Paused).unwrap();
    film.pipeline.seek_simple(key_unit, gst::ClockTime::from_mseconds(1200)).unwrap();
    film.pipeline.state(gst::ClockTime::from_seconds(20)).0.unwrap();
    let (time, bytes) = film.out.lock().unwrap().pop().unwrap();
    assert_eq!(time, 1_200_000_000);
    assert!(bytes != whole[&time], "without the frames before it");
    let alone = Film::new(&[("smoothing", "0")]).whole();
    assert!((0..FRAMES).all(|n| alone[&(n * 40_000_000)] != whole[&(n * 40_000_000)]));
}

#[test]
fn shards_make_the_whole_and_speed_and_workers_change_nothing() {
    for settings in SETTINGS {
        let film = Film::new(settings);
        let whole = film.whole();
        for shards in [2, 3] {
            let pieces = (0..shards).map(|i| film.frames(1.0, FRAMES * i / shards, FRAMES * (i + 1) / shards));
            let joined: Vec<_> = pieces.flatten().collect();
            assert_eq!(joined.len(), whole.len(), "{settings:?}");
            assert!(joined.iter().map(|(time, bytes)| (time, bytes)).eq(&whole), "{settings:?}: {shards} shards");
        }
        let half_speed: BTreeMap<_, _> = film.frames(0.5, 0, FRAMES).into_iter().collect();
        assert!(half_speed == whole, "{settings:?}: at half speed");
        let two = Film::new(settings);
        two.element.set_property("model", film.element.property::<String>("model"));
        two.element.set_property("workers", 2u32);
        assert!(two.whole() == whole, "{settings:?}: two workers");
    }
}

#[test]
fn backwards_each_frame_is_what_it_is_forwards() {
    for (settings, tolerance) in [(&[("strength", "0")][..], 0), (&[("smoothing", "0")][..], 0), (&[][..], 1)] {
        let film = Film::new(settings);
        let whole = film.whole();
        let backwards = film.frames(-1.0, 0, FRAMES);
        assert_eq!(backwards.len() as u64, FRAMES);
        assert!(backwards.is_sorted_by(|a, b| a.0 > b.0));
        for (time, bytes) in backwards {
            // A mean is summed in another order.
            let apart = bytes.iter().zip(&whole[&time]).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(apart <= tolerance, "{settings:?}: {apart} codes at {time}");
        }
    }
}

#[test]
fn a_frozen_picture_stays_frozen_but_for_noise_that_drifts() {
    for (noise, is_frozen) in [("fixed", true), ("object", true), ("drift", false)] {
        for interval in ["0", "200000000"] {
            let settings = [("noise", noise), ("keyframe-interval", interval), ("steps", "2")];
            let film = Film::of("pattern=gradient", "pattern=circular", &settings);
            let whole = film.whole();
            let first = &whole[&0];
            assert_eq!(
                whole.values().all(|bytes| bytes == first),
                is_frozen,
                "noise={noise} keyframe-interval={interval}"
            );
        }
    }
}

#[test]
fn workers_are_busy_with_frames_that_wait_for_each_other() {
    let fake = Arc::<Fake>::default();
    let mut rig = Rig::of(element(&fake), |harness| harness.set_live(false));
    assert!(rig.lifted(0) > 0, "one worker holds nothing back");
    let mut rig = {
        let element = element(&fake);
        element.set_property("workers", 3u32);
        Rig::of(element, |harness| harness.set_live(false))
    };
    rig.push(0);
    rig.push(1);
    until("two inferences", || fake.count() == 3);
    assert_eq!(rig.stat("frames-out"), 0);
    rig.push(2);
    assert_eq!(rig.pull(), gst::ClockTime::ZERO);
}

#[test]
fn live_a_scene_begins_untouched_and_takes_what_is_found_for_it_at_once() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    model.answer(0, Ok(lift(20)));
    assert_eq!(rig.lifted(1), 20);
    // The inference of frame 1 is of the scene before.
    rig.element.set_property("scene", 7u32);
    assert_eq!(rig.lifted(2), 0, "nothing of the scene before");
    assert_eq!(model.count(), 3, "frame 2 is looked at at once");
    model.answer(1, Ok(lift(30)));
    assert_eq!(rig.lifted(3), 0, "what was found for the scene before comes too late");
    model.answer(2, Ok(lift(60)));
    assert_eq!(rig.lifted(4), 60, "at once, not eased over to");
    assert_eq!(rig.stat("not-ready"), 3);
    assert_eq!(rig.warnings().len(), 1, "of the start alone: {:?}", rig.warnings());
}

#[test]
fn live_a_background_that_changes_begins_a_scene_unless_nobody_looks() {
    for (detection, after) in [(true, 0), (false, 20)] {
        let model = Arc::<Manual>::default();
        let mut rig = Rig::live(&model);
        rig.element.set_property("scene-detection", detection);
        let lifted = |rig: &mut Rig, n: u64, background: u8| {
            let (pts, duration) = (at(30, n), at(30, n + 1) - at(30, n));
            // The left half is foreground.
            let row = |left: u8, right: u8, channels: usize| {
                [vec![left; 2 * channels], vec![right; 2 * channels]].concat().repeat(2)
            };
            rig.composite.push(buffer(pts, duration, &row(90, background, 3))).unwrap();
            rig.mask.push(buffer(pts, duration, &row(255, 0, 1))).unwrap();
            rig.out_lift(n)
        };
        lifted(&mut rig, 0, 40);
        model.answer(0, Ok(lift(20)));
        assert_eq!(lifted(&mut rig, 1, 44), 20, "a little brighter is the same scene");
        assert_eq!(lifted(&mut rig, 2, 200), after, "scene-detection={detection}");
    }
}

#[test]
fn live_a_source_that_loses_frames_begins_no_scene() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    model.answer(0, Ok(lift(20)));
    assert_eq!(rig.lifted(1), 20);
    let (pts, duration) = (at(30, 5), at(30, 6) - at(30, 5));
    let mut lossy = buffer(pts, duration, &[90; 24]);
    lossy.make_mut().set_flags(gst::BufferFlags::DISCONT);
    rig.composite.push(lossy).unwrap();
    rig.mask.push(buffer(pts, duration, &[255; 8])).unwrap();
    assert_eq!(rig.out_lift(5), 20);
}

/// Lifts of frames 0..6 in exact mode where a lattice of an hour makes frame 0 the only keyframe, but for what `begin` does ahead
/// of frame 3.
fn keyframes(begin: impl Fn(&mut Rig) -> bool) -> usize {
    keyframes_with_mask(255, begin)
}

/// The same where the mask of frame 3 is of that value.
fn keyframes_with_mask(third: u8, begin: impl Fn(&mut Rig) -> bool) -> usize {
    let fake = Arc::<Fake>::default();
    let element = element(&fake);
    element.set_property("keyframe-interval", 3_600_000_000_000u64);
    let mut rig = Rig::of(element, |harness| harness.set_live(false));
    for n in 0..6 {
        let discont = n == 3 && begin(&mut rig);
        let (pts, duration) = (at(30, n), at(30, n + 1) - at(30, n));
        let mut composite = buffer(pts, duration, &[90; 24]);
        if discont {
            composite.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        rig.composite.push(composite).unwrap();
        rig.mask.push(buffer(pts, duration, &[if n == 3 { third } else { 255 }; 8])).unwrap();
    }
    rig.composite.push_event(gst::event::Eos::new());
    rig.mask.push_event(gst::event::Eos::new());
    until("the end", || rig.stat("frames-out") == 6);
    fake.count()
}

#[test]
fn a_scene_begins_by_property_event_and_discontinuity() {
    assert_eq!(keyframes(|_| false), 1);
    let by_property = |rig: &mut Rig| {
        rig.element.set_property("scene", 1u32);
        false
    };
    assert_eq!(keyframes(by_property), 2);
    let event = gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build();
    assert_eq!(keyframes(|rig| !rig.composite.push_event(event.clone())), 2);
    assert_eq!(keyframes(|_| true), 2);
}

/// Frames of 40 ms through an element in exact mode that looks ahead; a mask that is black from frame `gone` on.
fn with_a_foreground_that_leaves(gone: u64, frames: u64, halfway: impl Fn(&Rig)) -> Rig {
    let fake = Arc::<Fake>::default();
    let element = element(&fake);
    element.set_property("smoothing", 0.95);
    let mut rig = Rig::of(element, |harness| harness.set_live(false));
    for n in 0..frames {
        if n == frames / 2 {
            halfway(&rig);
        }
        let (pts, duration) = (at(25, n), at(25, n + 1) - at(25, n));
        rig.composite.push(buffer(pts, duration, &[90; 24])).unwrap();
        rig.mask.push(buffer(pts, duration, &[if n < gone { 255 } else { 0 }; 8])).unwrap();
    }
    rig
}

#[test]
fn a_foreground_that_leaves_keeps_no_frame_waiting() {
    let mut rig = with_a_foreground_that_leaves(5, 40, |_| ());
    until("all frames", || rig.stat("frames-out") == 40);
    assert_eq!((rig.stat("harmonized"), rig.stat("passed-through")), (5, 35));
    for n in 0..40 {
        assert_eq!(rig.pull().nseconds(), at(25, n), "in their order");
    }
}

#[test]
fn passthrough_ends_the_wait_of_those_before_it() {
    let rig = with_a_foreground_that_leaves(99, 40, |rig| {
        until("frames 0 to 9", || rig.stat("frames-out") == 9);
        rig.element.set_property("passthrough", true);
    });
    until("all frames", || rig.stat("frames-out") == 40);
    assert_eq!((rig.stat("harmonized"), rig.stat("passed-through")), (20, 20));
}

#[test]
fn another_mode_takes_nothing_of_the_one_before() {
    let model = Arc::<Manual>::default();
    let mut rig = Rig::live(&model);
    rig.lifted(0);
    model.answer(0, Ok(lift(20)));
    assert_eq!(rig.lifted(1), 20);
    rig.element.set_property_from_str("mode", "exact");
    rig.push(2);
    model.answer(2, Ok(lift(50)));
    assert_eq!(rig.out_lift(2), 50);
    rig.element.set_property_from_str("mode", "live");
    assert_eq!(rig.lifted(3), 0, "what was found long ago is over");
}

#[test]
fn a_scene_begins_with_the_next_frame_that_is_looked_at() {
    let by_property = |rig: &mut Rig| {
        rig.element.set_property("scene", 1u32);
        false
    };
    assert_eq!(keyframes_with_mask(0, by_property), 2, "frame 3 has no foreground, frame 4 has");
}
