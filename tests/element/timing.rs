//! One buffer out for each composite in, with everything but the foreground's samples as it came.

use crate::common::rig::Rig;
use crate::common::*;
use gst::prelude::*;
use std::sync::Arc;

const RGB: &str = "video/x-raw,format=RGBA,width=8,height=6,framerate=30/1";
const GRAY: &str = "video/x-raw,format=GRAY8,width=8,height=6,framerate=30/1";

fn picture() -> Vec<u8> {
    (0..8 * 6 * 4).map(|i| (i * 5 % 251) as u8).collect()
}

fn times(buffers: &[gst::Buffer]) -> Vec<(Option<u64>, Option<u64>)> {
    let ns = |time: Option<gst::ClockTime>| time.map(|t| t.nseconds());
    buffers.iter().map(|b| (ns(b.pts()), ns(b.duration()))).collect()
}

/// The value of the mask each output was harmonized with, told by how far its first pixel's red has moved.
fn moved(buffers: &[gst::Buffer]) -> Vec<u8> {
    buffers.iter().map(|b| bytes(b)[0].abs_diff(picture()[0])).collect()
}

#[test]
fn timestamps_flags_metas_and_size_are_the_composites() {
    let element = element(&Arc::default());
    let mut composites = frames(30, 5, &picture());
    for (n, buffer) in composites.iter_mut().enumerate() {
        let buffer = buffer.get_mut().unwrap();
        buffer.set_dts(gst::ClockTime::from_mseconds(n as u64));
        buffer.set_offset(100 + n as u64);
        buffer.set_flags(gst::BufferFlags::MARKER);
        gst_video::VideoCaptionMeta::add(buffer, gst_video::VideoCaptionType::Cea708Raw, &[n as u8, 7]);
    }
    let sent = composites.clone();
    let mask = Stream::new(GRAY, frames(30, 5, &gray(8, 6, 255)));
    let (out, messages) = run(&element, Stream::new(RGB, composites), Some(mask));
    assert_eq!(times(&out), times(&sent));
    for (n, (out, sent)) in out.iter().zip(&sent).enumerate() {
        assert_eq!((out.dts(), out.offset(), out.size()), (sent.dts(), sent.offset(), sent.size()));
        // New memory is flagged by GStreamer itself.
        assert_eq!(out.flags() - gst::BufferFlags::TAG_MEMORY, sent.flags());
        let caption = out.meta::<gst_video::VideoCaptionMeta>().unwrap();
        assert_eq!(caption.data(), [n as u8, 7]);
        assert_ne!(bytes(out), bytes(sent));
        // The composites sent here are shared, so they were copied, not written.
        assert_eq!(bytes(sent), picture());
    }
    assert!(messages.iter().all(|m| !matches!(m.type_(), gst::MessageType::Error | gst::MessageType::Warning)));
    assert_eq!(["frames-in", "frames-out", "harmonized", "passed-through"].map(|s| stat(&element, s)), [5, 5, 5, 0]);
}

#[test]
fn a_buffer_of_its_own_is_harmonized_in_place() {
    let element = element(&Arc::default());
    let composite = frames(30, 1, &picture()).remove(0);
    let memory = composite.map_readable().unwrap().as_ptr() as usize;
    let (out, _) =
        run(&element, Stream::new(RGB, [composite]), Some(Stream::new(GRAY, frames(30, 1, &gray(8, 6, 255)))));
    assert_eq!(out[0].map_readable().unwrap().as_ptr() as usize, memory);
}

#[test]
fn caps_and_segment_are_the_composites() {
    let element = element(&Arc::default());
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_seconds(3));
    segment.set_time(gst::ClockTime::from_seconds(1));
    segment.set_base(gst::ClockTime::from_seconds(2));
    let src = element.static_pad("src").unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    src.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data {
            log.lock().unwrap().push(event.clone());
        }
        gst::PadProbeReturn::Ok
    })
    .unwrap();
    let caps = format!("{RGB},colorimetry=sRGB,pixel-aspect-ratio=4/3,multiview-mode=mono,interlace-mode=mixed");
    let composite = Stream::new(&caps, [buffer(3_000_000_000, 33_333_333, &picture())])
        .event(0, gst::event::Segment::new(&segment))
        .event(1, gst::event::Tag::new(gst::TagList::new()));
    let (out, _) = run(&element, composite, Some(Stream::new(GRAY, frames(30, 1, &gray(8, 6, 255)))));
    assert_eq!(out.len(), 1);
    let seen = seen.lock().unwrap();
    let kinds: Vec<_> = seen.iter().map(|event| event.type_()).collect();
    use gst::EventType::*;
    assert_eq!(kinds, [StreamStart, Caps, Tag, Segment, Eos]);
    let gst::EventView::Caps(event) = seen[1].view() else { unreachable!() };
    assert_eq!(event.caps_owned(), caps.parse::<gst::Caps>().unwrap());
    let gst::EventView::Segment(event) = seen[3].view() else { unreachable!() };
    assert_eq!(event.segment().downcast_ref::<gst::ClockTime>(), Some(&segment));
}

#[test]
fn variable_frame_rates_keep_their_times() {
    let element = element(&Arc::default());
    let starts = [5u64, 40, 55, 140, 141, 300];
    let composites: Vec<_> = starts
        .iter()
        .map(|ms| {
            let mut b = buffer(ms * 1_000_000, 0, &picture());
            b.get_mut().unwrap().set_duration(gst::ClockTime::NONE);
            b
        })
        .collect();
    let sent = times(&composites);
    let caps = RGB.replace("30/1", "0/1");
    let (out, _) =
        run(&element, Stream::new(&caps, composites), Some(Stream::new(GRAY, frames(30, 12, &gray(8, 6, 255)))));
    assert_eq!(times(&out), sent);
    assert_eq!(stat(&element, "harmonized"), 6);
}

#[test]
fn interlaced_frames_keep_their_fields() {
    use gst_video::{VideoBufferFlags as F, prelude::*};
    let element = element(&Arc::default());
    let mut composites = frames(25, 4, &picture());
    for (n, b) in composites.iter_mut().enumerate() {
        let tff = if n % 2 == 0 { F::TFF } else { F::empty() };
        b.get_mut().unwrap().set_video_flags(F::INTERLACED | tff);
    }
    let flags: Vec<_> = composites.iter().map(|b| b.flags()).collect();
    let caps = format!("{RGB},interlace-mode=interleaved");
    let (out, _) =
        run(&element, Stream::new(&caps, composites), Some(Stream::new(GRAY, frames(25, 4, &gray(8, 6, 255)))));
    assert_eq!(out.iter().map(|b| b.flags()).collect::<Vec<_>>(), flags);
    assert_eq!(stat(&element, "harmonized"), 4);
}

/// Masks that say by their value which one they are.
fn numbered(rate: u64, count: u64) -> Vec<gst::Buffer> {
    (0..count).map(|n| buffer(at(rate, n), at(rate, n + 1) - at(rate, n), &gray(8, 6, 20 * n as u8 + 20))).collect()
}

/// What became of six composites, and for how many of them the masks were over.
fn ended_with(rate: u64, count: u64) -> (Vec<u8>, u64) {
    let element = element(&Arc::default());
    element.set_property_from_str("mask-range", "full");
    let mask = Stream::new(&GRAY.replace("30/1", &format!("{rate}/1")), numbered(rate, count));
    let (out, messages) = run(&element, Stream::new(RGB, frames(30, 6, &picture())), Some(mask));
    assert_eq!(times(&out), times(&frames(30, 6, &picture())));
    let warned = messages.iter().filter(|m| m.type_() == gst::MessageType::Warning).count() as u64;
    assert_eq!(warned, stat(&element, "stale-masks").min(1), "told of once");
    (moved(&out), stat(&element, "stale-masks"))
}

/// The same where no mask is missing.
fn pair_with(rate: u64, count: u64) -> Vec<u8> {
    let (moved, stale) = ended_with(rate, count);
    assert_eq!(stale, 0);
    moved
}

#[test]
fn masks_of_other_rates_pair_by_time() {
    let each = pair_with(30, 6);
    assert!(each.is_sorted() && each[0] < each[5], "{each:?} don't tell the masks apart");
    let slow = pair_with(15, 3);
    assert_eq!(slow, [each[0], each[0], each[1], each[1], each[2], each[2]]);
    let fast = pair_with(60, 12);
    assert_eq!(fast[..3], [each[0], each[2], each[4]]);
}

#[test]
fn a_still_stays_after_its_eos() {
    let each = pair_with(30, 6);
    assert_eq!(pair_with(30, 1), [each[0]; 6]);
}

#[test]
fn a_mask_stream_that_ends_before_the_composite_is_missing_from_then_on() {
    let each = pair_with(30, 6);
    assert_eq!(ended_with(30, 2), (vec![each[0], each[1], each[1], each[1], each[1], each[1]], 4));
    // Of the composite's last frame it masks half.
    assert_eq!(ended_with(12, 2).1, 1);
    assert_eq!(ended_with(11, 2).1, 0);
}

#[test]
fn the_composites_eos_ends_the_stream_at_once() {
    let element = element(&Arc::default());
    let (out, _) =
        run(&element, Stream::new(RGB, frames(30, 2, &picture())), Some(Stream::new(GRAY, numbered(30, 10))));
    assert_eq!(out.len(), 2);
}

#[test]
fn a_hole_in_the_mask_stream_is_counted_and_warned_of_once() {
    let element = element(&Arc::default());
    let mut masks = numbered(30, 6);
    masks.drain(2..5);
    let (out, messages) = run(&element, Stream::new(RGB, frames(30, 6, &picture())), Some(Stream::new(GRAY, masks)));
    assert_eq!(out.len(), 6);
    assert_eq!((stat(&element, "stale-masks"), stat(&element, "harmonized")), (3, 6));
    assert_eq!(messages.iter().filter(|m| m.type_() == gst::MessageType::Warning).count(), 1);
}

#[test]
fn composites_before_the_first_mask_pass_untouched() {
    let element = element(&Arc::default());
    let masks = numbered(30, 6).split_off(3);
    let (out, _) = run(&element, Stream::new(RGB, frames(30, 6, &picture())), Some(Stream::new(GRAY, masks)));
    assert_eq!(moved(&out).iter().map(|&m| m > 0).collect::<Vec<_>>(), [false, false, false, true, true, true]);
    assert_eq!((stat(&element, "passed-through"), stat(&element, "harmonized")), (3, 3));
}

#[test]
fn gaps_and_empty_buffers_of_the_mask_leave_frames_untouched() {
    let element = element(&Arc::default());
    let gap = gst::event::Gap::builder(gst::ClockTime::from_nseconds(at(30, 1)))
        .duration(gst::ClockTime::from_nseconds(at(30, 2) - at(30, 1)))
        .build();
    let mut masks = frames(30, 4, &gray(8, 6, 255));
    masks.remove(1);
    masks[1] = buffer(at(30, 2), at(30, 3) - at(30, 2), &[]);
    let mask = Stream::new(GRAY, masks).event(1, gap);
    let (out, messages) = run(&element, Stream::new(RGB, frames(30, 4, &picture())), Some(mask));
    assert_eq!(moved(&out).iter().map(|&m| m > 0).collect::<Vec<_>>(), [true, false, false, true]);
    assert!(messages.iter().all(|m| m.type_() != gst::MessageType::Warning));
}

#[test]
fn gaps_of_the_composite_stay_gaps_and_empty_buffers_pass() {
    let element = element(&Arc::default());
    let gaps = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = gaps.clone();
    element.static_pad("src").unwrap().add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data
            && let gst::EventView::Gap(gap) = event.view()
        {
            seen.lock().unwrap().push(gap.get());
        }
        gst::PadProbeReturn::Ok
    });
    let gap = (gst::ClockTime::from_nseconds(at(30, 1)), Some(gst::ClockTime::from_nseconds(at(30, 2) - at(30, 1))));
    let mut composites = frames(30, 4, &picture());
    composites[2] = buffer(at(30, 2), at(30, 3) - at(30, 2), &[]);
    composites.remove(1);
    let sent = times(&composites);
    let composite = Stream::new(RGB, composites).event(1, gst::event::Gap::builder(gap.0).duration(gap.1).build());
    let (out, _) = run(&element, composite, Some(Stream::new(GRAY, frames(30, 4, &gray(8, 6, 255)))));
    assert_eq!(times(&out), sent);
    assert_eq!(out.iter().map(|b| b.size()).collect::<Vec<_>>(), [192, 0, 192]);
    assert_eq!(*gaps.lock().unwrap(), [gap]);
}

#[test]
fn a_stream_may_begin_with_a_gap() {
    let element = element(&Arc::default());
    let first = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = first.clone();
    element.static_pad("src").unwrap().add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data {
            seen.lock().unwrap().push(event.type_());
        }
        gst::PadProbeReturn::Ok
    });
    let gap = gst::event::Gap::builder(gst::ClockTime::ZERO).duration(gst::ClockTime::from_nseconds(at(30, 1))).build();
    let composite = Stream::new(RGB, frames(30, 2, &picture()).split_off(1)).event(0, gap);
    let (out, _) = run(&element, composite, Some(Stream::new(GRAY, frames(30, 2, &gray(8, 6, 255)))));
    assert_eq!(times(&out), times(&frames(30, 2, &picture())[1..]));
    use gst::EventType::*;
    assert_eq!(first.lock().unwrap()[..4], [StreamStart, Caps, Segment, Gap]);
}

#[test]
fn composites_without_timestamps_follow_one_another() {
    let element = element(&Arc::default());
    let mut composites = frames(30, 4, &picture());
    for b in &mut composites {
        b.get_mut().unwrap().set_pts(gst::ClockTime::NONE);
        b.get_mut().unwrap().set_duration(gst::ClockTime::NONE);
    }
    element.set_property_from_str("mask-range", "full");
    let (out, _) = run(&element, Stream::new(RGB, composites), Some(Stream::new(GRAY, numbered(30, 4))));
    assert_eq!(times(&out), [(None, None); 4]);
    assert_eq!(moved(&out), pair_with(30, 6)[..4]);
}

#[test]
fn caps_may_change_on_either_pad() {
    let element = element(&Arc::default());
    let caps = |caps: &str| gst::event::Caps::new(&caps.parse::<gst::Caps>().unwrap());
    let small = buffer(at(30, 1), at(30, 2) - at(30, 1), &[90; 4 * 2 * 3]);
    let composite = Stream::new(RGB, [frames(30, 1, &picture()).remove(0), small])
        .event(1, caps(&RGB.replace("RGBA", "RGB").replace("width=8,height=6", "width=4,height=2")));
    let wide = buffer(at(30, 1), at(30, 2) - at(30, 1), &gray(32, 2, 255));
    let mask = Stream::new(GRAY, [frames(30, 1, &gray(8, 6, 255)).remove(0), wide])
        .event(1, caps("video/x-raw,format=GRAY8,width=32,height=2,framerate=30/1"));
    let (out, _) = run(&element, composite, Some(mask));
    assert_eq!(out.iter().map(|b| b.size()).collect::<Vec<_>>(), [192, 24]);
    assert_eq!(stat(&element, "harmonized"), 2);
    assert_ne!(bytes(&out[1]), [90; 24]);
}

#[test]
fn a_new_segment_moves_the_pairing_with_it() {
    let element = element(&Arc::default());
    element.set_property_from_str("mask-range", "full");
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_seconds(50));
    segment.set_base(gst::ClockTime::from_nseconds(at(30, 2)));
    let mut composites = frames(30, 4, &picture());
    for (n, b) in composites.iter_mut().enumerate().skip(2) {
        let pts = 50_000_000_000 + at(30, n as u64 - 2);
        b.get_mut().unwrap().set_pts(gst::ClockTime::from_nseconds(pts));
    }
    let sent = times(&composites);
    let composite = Stream::new(RGB, composites).event(2, gst::event::Segment::new(&segment));
    let (out, _) = run(&element, composite, Some(Stream::new(GRAY, numbered(30, 4))));
    assert_eq!(times(&out), sent);
    assert_eq!(moved(&out), pair_with(30, 6)[..4]);
}

#[test]
fn composites_outside_their_segment_are_dropped_and_those_that_touch_it_stay_whole() {
    let element = element(&Arc::default());
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_nseconds(at(30, 2) + 10_000_000));
    segment.set_stop(gst::ClockTime::from_nseconds(at(30, 5)));
    let event = || gst::event::Segment::new(&segment);
    let sent = times(&frames(30, 8, &picture()));
    let composite = Stream::new(RGB, frames(30, 8, &picture())).event(0, event());
    let mask = Stream::new(GRAY, frames(30, 8, &gray(8, 6, 255))).event(0, event());
    let (out, _) = run(&element, composite, Some(mask));
    assert_eq!(times(&out), sent[2..5]);
    assert_eq!(["frames-in", "harmonized", "dropped"].map(|name| stat(&element, name)), [8, 3, 5]);
}

#[test]
fn the_position_is_where_frames_have_come_to() {
    let mut rig = Rig::new(element(&Arc::default()));
    let src = rig.element.static_pad("src").unwrap();
    let position = || src.query_position::<gst::ClockTime>().map(gst::ClockTime::nseconds);
    until("the beginning", || position() == Some(0));
    for n in 0..3 {
        rig.lifted(n);
        until("the position", || position() == Some(at(30, n + 1)));
    }
    rig.flush();
    until("the beginning", || position() == Some(0));
}

#[test]
fn start_times_that_would_have_no_effect_cannot_be_set() {
    let element = element(&Arc::default());
    for name in ["start-time-selection", "start-time"] {
        let property = element.find_property(name).unwrap();
        assert!(!property.flags().contains(glib::ParamFlags::WRITABLE));
        assert!(property.blurb().unwrap().contains("leave at the composite's times"));
    }
    assert_eq!(element.property_value("start-time-selection").serialize().unwrap(), "first");
}
