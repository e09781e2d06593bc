//! What happens while it plays: sources that come and go, other sizes, seeks, starts anew; and its latency.

use super::run::*;
use crate::common::*;
use gst::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_foreground_taken_away_on_air_comes_back() {
    let run = Run::new(&format!(
        "harmonizebin name=h {} ! queue name=q ! h.foreground {} ! h.background",
        source("foreground", 25, 1000, "is-live=true"),
        source("background", 25, 1000, "is-live=true"),
    ));
    rewrite(&run.element("foreground"), 25, numbered);
    rewrite(&run.element("background"), 25, plain);
    run.play();
    let out = |run: &Run| run.out.lock().unwrap().len();
    until("a harmonized frame", || run.masked() > 5);
    let (q, h) = (run.element("q"), run.element("h"));
    q.unlink(&h);
    let before = out(&run);
    until("the background alone", || out(&run) > before + 20);
    let gone = run.masked();
    run.pipeline.remove(&q).unwrap();
    let foreground = run.element("foreground");
    foreground.set_state(gst::State::Null).unwrap();
    q.set_state(gst::State::Null).unwrap();
    foreground.set_state(gst::State::Null).unwrap();
    let again = gst::parse::bin_from_description(
        &source("again", 25, 1000, "is-live=true").replace("! video", "! capsfilter caps=video"),
        true,
    )
    .unwrap();
    run.pipeline.add(&again).unwrap();
    rewrite(&run.element("again"), 25, numbered);
    again.link_pads(Some("src"), &h, Some("foreground")).unwrap();
    again.sync_state_with_parent().unwrap();
    until("the foreground to be back", || run.masked() > gone + 5);
}

#[test]
fn sizes_may_change_under_way() {
    for (changing, sizes) in [("background", [(64, 48), (32, 24)]), ("foreground", [(64, 48), (32, 24)])] {
        let run = Run::new(
            "harmonizebin name=h \
             videotestsrc num-buffers=20 ! capsfilter name=foreground \
             caps=video/x-raw,format=RGBA,width=64,height=48,framerate=25/1 ! h.foreground \
             videotestsrc num-buffers=20 ! capsfilter name=background \
             caps=video/x-raw,format=I420,width=64,height=48,framerate=25/1 ! h.background",
        );
        let filter = run.element(changing);
        let format = if changing == "background" { "I420" } else { "RGBA" };
        let (width, height) = sizes[1];
        let caps: gst::Caps =
            format!("video/x-raw,format={format},width={width},height={height},framerate=25/1").parse().unwrap();
        let (count, changed) = (AtomicU64::new(0), filter.downgrade());
        filter.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if count.fetch_add(1, Ordering::Relaxed) == 9 {
                changed.upgrade().unwrap().set_property("caps", &caps);
            }
            gst::PadProbeReturn::Ok
        });
        let run = run.until_eos();
        let sent: Vec<_> = run.out().iter().map(|buffer| buffer.size()).collect();
        let (large, small) = (64 * 48 * 3 / 2, 32 * 24 * 3 / 2);
        let expected =
            if changing == "background" { [vec![large; 10], vec![small; 10]].concat() } else { vec![large; 20] };
        assert_eq!(sent, expected, "{changing}");
    }
}

#[test]
fn flushing_seeks_go_to_both_and_start_anew() {
    let run = Run::new(&format!(
        "harmonizebin name=h {} ! h.foreground {} ! h.background",
        source("foreground", 50, 10_000, ""),
        source("background", 25, 10_000, ""),
    ));
    rewrite(&run.element("foreground"), 50, numbered);
    rewrite(&run.element("background"), 25, plain);
    // Without composites beside those that are sought.
    run.child("harmonize").set_property("smoothing", 0.0);
    run.pipeline.set_state(gst::State::Paused).unwrap();
    run.pipeline.state(gst::ClockTime::from_seconds(10)).0.unwrap();
    for ms in [2000, 400, 3000] {
        run.pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::from_mseconds(ms)).unwrap();
        run.pipeline.state(gst::ClockTime::from_seconds(10)).0.unwrap();
        let first = run.out()[0].pts().unwrap();
        assert_eq!(first, gst::ClockTime::from_mseconds(ms));
    }
    let (from, to) = (gst::ClockTime::from_seconds(1), gst::ClockTime::from_seconds(4));
    run.pipeline.seek(1.0, gst::SeekFlags::FLUSH, gst::SeekType::Set, from, gst::SeekType::Set, to).unwrap();
    run.play();
    run.wait();
    let numbers = numbers(&run);
    assert_eq!((numbers.len(), numbers.iter().flatten().count()), (75, 75));
}

#[test]
fn plays_twice() {
    let run = Run::new(&format!(
        "harmonizebin name=h {} ! h.foreground {} ! h.background",
        source("foreground", 25, 5, ""),
        source("background", 25, 5, ""),
    ));
    rewrite(&run.element("foreground"), 25, numbered);
    rewrite(&run.element("background"), 25, plain);
    for state in [gst::State::Null, gst::State::Ready, gst::State::Null] {
        run.play();
        run.wait();
        assert_eq!(numbers(&run), (0..5).map(Some).collect::<Vec<_>>());
        run.pipeline.set_state(state).unwrap();
        for frames in [&run.composites, &run.out] {
            frames.lock().unwrap().clear();
        }
    }
}

#[test]
fn a_live_pipeline_has_a_few_frames_of_latency() {
    let run = Run::new(&format!(
        "harmonizebin name=h {} ! h.foreground {} ! h.background",
        source("foreground", 25, 1000, "is-live=true"),
        source("background", 25, 1000, "is-live=true"),
    ));
    run.play();
    until("a frame", || !run.out.lock().unwrap().is_empty());
    let mut query = gst::query::Latency::new();
    assert!(run.h().static_pad("src").unwrap().query(&mut query));
    let (live, min, max) = query.result();
    assert!(live);
    assert!((80..=160).contains(&min.mseconds()), "{min}");
    assert!(max.is_none_or(|max| max >= min), "{max:?} < {min}");
}
