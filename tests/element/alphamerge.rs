//! A mask becomes the alpha of a video, frame by frame and to the last one.

use crate::common::*;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo, VideoMeta};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WIDTH: u32 = 7;
const HEIGHT: u32 = 5;

fn info(format: &str) -> VideoInfo {
    let format = VideoFormat::from_string(format);
    VideoInfo::builder(format, WIDTH, HEIGHT).fps(gst::Fraction::new(25, 1)).build().unwrap()
}

fn noise(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|i| (i + seed).wrapping_mul(2654435761).to_be_bytes()[0]).collect()
}

/// A component's samples, row by row.
fn samples(buffer: &gst::BufferRef, info: &VideoInfo, component: u32) -> Vec<u8> {
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let (step, width) = (info.comp_pstride(component as u8) as usize, info.comp_width(component as u8) as usize);
    let rows = frame.comp_data(component).unwrap().chunks(frame.comp_stride(component) as usize);
    let rows = rows.take(info.comp_height(component as u8) as usize);
    rows.flat_map(|row| row.iter().step_by(step).take(width).copied().collect::<Vec<_>>()).collect()
}

/// Both pads of one element, each with a thread that sends to the other's.
struct Merge {
    sink: Harness,
    mask: Harness,
}

impl Merge {
    fn new(picture: &str, mask: &str) -> Self {
        init();
        let element = gst::ElementFactory::make("alphamerge").build().unwrap();
        let mut sink = Harness::with_element(&element, Some("sink"), Some("src"));
        let mut mask_pad = Harness::with_element(&element, Some("mask"), None);
        sink.set_src_caps(info(picture).to_caps().unwrap());
        let caps = format!("video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate=25/1{mask}");
        mask_pad.set_src_caps(caps.parse().unwrap());
        Self { sink, mask: mask_pad }
    }

    fn out_info(&self) -> VideoInfo {
        VideoInfo::from_caps(&self.sink.sinkpad().unwrap().current_caps().unwrap()).unwrap()
    }
}

fn at(ms: u64, data: &[u8]) -> gst::Buffer {
    buffer(ms * 1_000_000, 40_000_000, data)
}

/// GRAY8's rows are padded.
fn mask_of(values: &[u8]) -> Vec<u8> {
    let stride = info("GRAY8").stride()[0] as usize;
    values.chunks(WIDTH as usize).flat_map(|row| [row, &vec![9; stride - row.len()]].concat()).collect()
}

#[test]
fn the_mask_is_the_alpha_and_all_else_stays() {
    let kin = [("I420", "A420"), ("NV12", "AV12"), ("GBR", "GBRA"), ("RGBx", "RGBA"), ("xBGR", "ABGR")];
    let same = ["A420", "AYUV", "ARGB", "BGRA", "GBRA"].map(|format| (format, format));
    for (from, to) in kin.into_iter().chain(same) {
        for has_strides in [false, true] {
            let mut merge = Merge::new(from, "");
            let (from, values) = (info(from), noise((WIDTH * HEIGHT) as usize, 5));
            let mut picture = at(0, &noise(from.size() + 100, 0));
            if has_strides {
                let edit = picture.get_mut().unwrap();
                let planes = from.n_planes() as usize;
                let offsets: Vec<_> = from.offset()[..planes].iter().map(|offset| offset + 8).collect();
                let flags = gst_video::VideoFrameFlags::empty();
                let strides = &from.stride()[..planes];
                VideoMeta::add_full(edit, flags, from.format(), WIDTH, HEIGHT, &offsets, strides).unwrap();
            }
            gst_video::VideoRegionOfInterestMeta::add(picture.get_mut().unwrap(), "face", (1, 2, 3, 4));
            merge.mask.push(at(0, &mask_of(&values))).unwrap();
            let out = merge.sink.push_and_pull(picture.clone()).unwrap();
            let info = merge.out_info();
            assert_eq!(info.format().to_str(), to);
            assert_eq!(samples(&out, &info, 3), values, "{to}");
            for component in 0..3 {
                assert_eq!(samples(&out, &info, component), samples(&picture, &from, component), "{to} {component}");
            }
            assert_eq!((out.pts(), out.duration()), (picture.pts(), picture.duration()));
            assert!(out.meta::<VideoMeta>().is_none_or(|meta| meta.format() == info.format()));
            assert!(out.meta::<gst_video::VideoRegionOfInterestMeta>().is_some());
        }
    }
}

#[test]
fn a_mask_of_limited_range_is_stretched() {
    let mut merge = Merge::new("I420", ",colorimetry=(string)2:4:0:0");
    let values: Vec<u8> = (0..WIDTH * HEIGHT).map(|i| (7 * i + 5) as u8).collect();
    merge.mask.push(at(0, &mask_of(&values))).unwrap();
    let out = merge.sink.push_and_pull(at(0, &noise(info("I420").size(), 0))).unwrap();
    let expected = values.iter().map(|&v| ((f64::from(v) - 16.0) * 255.0 / 219.0).clamp(0.0, 255.0).round() as u8);
    assert_eq!(samples(&out, &merge.out_info(), 3), expected.collect::<Vec<_>>());
}

#[test]
fn a_mask_of_another_size_is_an_error_that_says_so() {
    let mut merge = Merge::new("I420", "");
    merge.mask.set_src_caps("video/x-raw,format=GRAY8,width=16,height=16,framerate=25/1".parse().unwrap());
    merge.mask.push(at(0, &[0; 256])).unwrap();
    let bus = gst::Bus::new();
    merge.sink.element().unwrap().set_bus(Some(&bus));
    assert_eq!(merge.sink.push(at(0, &noise(info("I420").size(), 0))), Err(gst::FlowError::Error));
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    assert!(error.error().to_string().contains("16 x 16 pixels, the picture 7 x 5"), "{}", error.error());
}

/// Runs `description`, whose last element is a `fakesink` named out and whose masks come from a `videotestsrc` named matte, each of
/// the number of its frame at `rate`. Gives for every frame its time in ms and its mask, and how many warnings there were.
fn run(description: &str, rate: u64) -> (Vec<(u64, u8)>, usize) {
    init();
    let pipeline = gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let pad = |name: &str, pad: &str| pipeline.by_name(name).unwrap().static_pad(pad).unwrap();
    pad("matte", "src").add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let n = (buffer.pts().unwrap().nseconds() * rate + 500_000_000) / 1_000_000_000;
            buffer.make_mut().map_writable().unwrap().fill(n as u8);
        }
        gst::PadProbeReturn::Ok
    });
    let frames = Arc::new(Mutex::new(vec![]));
    let kept = frames.clone();
    pad("out", "sink").add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let (buffer, video) = (info.buffer().unwrap(), VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap());
        kept.lock().unwrap().push((buffer.pts().unwrap().mseconds(), samples(buffer, &video, 3)[0]));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let mut warnings = 0;
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(20)).expect("neither EOS nor an error in 20 s");
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => panic!("{description}: {error:?}"),
            gst::MessageView::Warning(_) => warnings += 1,
            _ => (),
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let frames = frames.lock().unwrap().clone();
    (frames, warnings)
}

fn source(name: &str, format: &str, rate: u64, count: u64) -> String {
    format!(
        "videotestsrc name={name} num-buffers={count} ! video/x-raw,format={format},width=8,height=6,framerate={rate}/1"
    )
}

/// `alphacombine` loses the last frame where its mask and the EOS behind it come before that frame is taken.
#[test]
fn the_last_frame_has_its_mask_whichever_input_ends_first() {
    for n in 0..40 {
        let (fill, matte) = (source("fill", "I420", 25, 5), source("matte", "GRAY8", 25, 5));
        let slow = if n % 2 == 0 { "identity sleep-time=2000" } else { "queue" };
        let (frames, warnings) = run(
            &format!(
                "{fill} ! {slow} ! m.sink {matte} ! queue ! m.mask alphamerge name=m ! queue ! \
                 identity sleep-time=1000 ! fakesink name=out sync=false"
            ),
            25,
        );
        let expected: Vec<_> = (0..5).map(|n| (40 * n, n as u8)).collect();
        assert_eq!((frames, warnings), (expected, 0));
    }
}

#[test]
fn masks_are_paired_by_time_at_any_rates() {
    for (fill, matte) in [(25, 50), (50, 25), (24, 30), (30, 24), (25, 5)] {
        let description = format!(
            "{} ! m.sink {} ! queue ! m.mask alphamerge name=m ! fakesink name=out sync=false",
            source("fill", "NV12", fill, 2 * fill),
            source("matte", "GRAY8", matte, 2 * matte)
        );
        let (frames, warnings) = run(&description, matte);
        assert_eq!((frames.len() as u64, warnings), (2 * fill, 0));
        for (n, (_, mask)) in frames.into_iter().enumerate() {
            let expected = (n as f64 / fill as f64 * matte as f64 + 1e-9).floor();
            assert_eq!(f64::from(mask), expected, "{fill} with {matte}: frame {n}");
        }
    }
}

#[test]
fn a_still_stays_and_a_mask_that_ends_early_is_told_of() {
    for (count, last, told) in [(1, 0, 0), (3, 2, 1)] {
        let description = format!(
            "{} ! m.sink {} ! m.mask alphamerge name=m ! fakesink name=out sync=false",
            source("fill", "RGBx", 25, 10),
            source("matte", "GRAY8", 25, count)
        );
        let (frames, warnings) = run(&description, 25);
        let masks: Vec<_> = frames.into_iter().map(|(_, mask)| mask).collect();
        assert_eq!(masks, (0..10).map(|n| n.min(last)).collect::<Vec<u8>>());
        assert_eq!(warnings, told);
    }
}

/// Both branches of a tee: one that is held up for ever would hold up the other.
#[test]
fn a_mask_that_goes_on_after_the_video_holds_nothing_up() {
    let description = format!(
        "{} ! m.sink {} ! tee name=t t. ! queue max-size-buffers=2 ! m.mask alphamerge name=m ! fakesink name=out sync=false \
         t. ! queue max-size-buffers=2 ! fakesink sync=false",
        source("fill", "I420", 25, 5),
        source("matte", "GRAY8", 25, 100)
    );
    assert_eq!(run(&description, 25).0.len(), 5);
}

#[test]
fn after_a_seek_masks_are_of_their_frames() {
    init();
    let description = format!(
        "{} ! queue ! m.sink {} ! queue ! m.mask alphamerge name=m ! fakesink name=out sync=false",
        source("fill", "GBR", 25, 1_000_000),
        source("matte", "GRAY8", 25, 1_000_000)
    );
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let pad = |name: &str, pad: &str| pipeline.by_name(name).unwrap().static_pad(pad).unwrap();
    pad("matte", "src").add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let buffer = info.buffer_mut().unwrap().make_mut();
        let n = buffer.pts().unwrap().mseconds() / 40 % 251;
        buffer.map_writable().unwrap().fill(n as u8);
        gst::PadProbeReturn::Ok
    });
    let wrong = Arc::new(Mutex::new((0, vec![])));
    let found = wrong.clone();
    pad("out", "sink").add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let (buffer, video) = (info.buffer().unwrap(), VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap());
        let (n, mask) = (buffer.pts().unwrap().mseconds() / 40, samples(buffer, &video, 3)[0]);
        let mut found = found.lock().unwrap();
        found.0 += 1;
        if n % 251 != u64::from(mask) {
            found.1.push((n, mask));
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    for n in 0..60u64 {
        std::thread::sleep(Duration::from_millis(7));
        let to = gst::ClockTime::from_mseconds(40 * (n * 97 % 5000));
        pipeline.seek_simple(gst::SeekFlags::FLUSH, to).unwrap();
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let (frames, wrong) = wrong.lock().unwrap().clone();
    assert!(frames > 60 && wrong.is_empty(), "{} of {frames} have another's mask: {wrong:?}", wrong.len());
}

#[test]
fn after_its_end_a_seek_starts_it_anew() {
    init();
    let description = format!(
        "{} ! m.sink {} ! m.mask alphamerge name=m ! fakesink name=out sync=false",
        source("fill", "I420", 25, 1_000_000),
        source("matte", "GRAY8", 25, 1_000_000)
    );
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let frames = Arc::new(Mutex::new(0));
    let count = frames.clone();
    let out = pipeline.by_name("out").unwrap().static_pad("sink").unwrap();
    out.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        *count.lock().unwrap() += 1;
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(gst::ClockTime::from_seconds(10)).0.unwrap();
    let (start, stop) = (gst::ClockTime::from_mseconds(80), gst::ClockTime::from_mseconds(400));
    for _ in 0..20 {
        pipeline.seek(1.0, gst::SeekFlags::FLUSH, gst::SeekType::Set, start, gst::SeekType::Set, stop).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        *frames.lock().unwrap() = 0;
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &end);
        let message = message.expect("neither EOS nor an error in 20 s");
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
        assert!(*frames.lock().unwrap() <= 8);
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_mask_without_a_frame_and_an_unlinked_mask_are_errors() {
    init();
    for (mask, why) in [
        ("videotestsrc num-buffers=0 ! video/x-raw,format=GRAY8 ! m.mask", "the mask has ended without a frame"),
        ("", "the pad `mask` isn't linked"),
    ] {
        let description = format!("videotestsrc ! m.sink {mask} alphamerge name=m ! fakesink");
        let pipeline = gst::parse::launch(&description).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let message =
            pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &[gst::MessageType::Error]);
        let message = message.expect("an error");
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        assert!(error.error().to_string().contains(why), "{}", error.error());
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn waiting_for_the_other_input_ends_with_the_state_and_with_a_flush() {
    init();
    for waits in ["sink", "mask"] {
        let element = gst::ElementFactory::make("alphamerge").build().unwrap();
        let sources = ["sink", "mask"].map(|name| {
            let (pad, target) = (gst::Pad::new(gst::PadDirection::Src), element.static_pad(name).unwrap());
            pad.set_active(true).unwrap();
            pad.link(&target).unwrap();
            pad
        });
        element.set_state(gst::State::Playing).unwrap();
        let format = if waits == "sink" { "I420" } else { "GRAY8" };
        let source = sources[usize::from(waits == "mask")].clone();
        let begin = |source: &gst::Pad| {
            source.push_event(gst::event::StreamStart::new("test"));
            source.push_event(gst::event::Caps::new(&info(format).to_caps().unwrap()));
            source.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        };
        begin(&source);
        let push = |source: &gst::Pad| {
            let source = source.clone();
            std::thread::spawn(move || {
                let size = info(format).size();
                (0..2).map(|n| source.push(at(40 * n, &noise(size, 0)))).find_map(Result::err)
            })
        };
        let waiting = push(&source);
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        source.push_event(gst::event::FlushStart::new());
        assert_eq!(waiting.join().unwrap(), Some(gst::FlowError::Flushing));
        source.push_event(gst::event::FlushStop::new(true));
        source.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        let waiting = push(&source);
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        element.set_state(gst::State::Null).unwrap();
        assert_eq!(waiting.join().unwrap(), Some(gst::FlowError::Flushing));
    }
}
