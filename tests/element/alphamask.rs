//! The alpha of every format, full range, in the picture's own memory where it can be.

use crate::common::*;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFormatInfo, VideoInfo, VideoMeta};
use gstharmonize::elements::alphamask::alpha::FORMATS;
use std::sync::Arc;

/// Odd, so that chroma is rounded and rows are padded.
const WIDTH: u32 = 7;
const HEIGHT: u32 = 5;

fn info(format: VideoFormat) -> VideoInfo {
    VideoInfo::builder(format, WIDTH, HEIGHT).fps(gst::Fraction::new(25, 1)).build().unwrap()
}

/// A picture of `info` full of bytes that differ, in a buffer whose planes have `padding` more bytes a row and start at an
/// odd place, told by a GstVideoMeta, or exactly as the caps say without `padding`.
fn picture(info: &VideoInfo, padding: Option<usize>) -> gst::Buffer {
    let noise =
        |len: usize| (0..len).map(|i| (i as u32).wrapping_mul(2654435761).to_be_bytes()[0]).collect::<Vec<u8>>();
    let Some(padding) = padding else { return buffer(40_000_000, 40_000_000, &noise(info.size())) };
    let (mut offsets, mut strides, mut end) = ([0; 4], [0; 4], 2);
    let planes = info.n_planes() as usize;
    for plane in (0..planes).rev() {
        let next = (0..planes).map(|p| info.offset()[p]).filter(|&o| o > info.offset()[plane]).min();
        let size = next.unwrap_or(info.size()) - info.offset()[plane];
        let rows = size.div_ceil(info.stride()[plane].max(1) as usize);
        // A palette is no picture: its rows stay together.
        let more = if info.format_info().has_palette() && plane == 1 { 0 } else { padding };
        (offsets[plane], strides[plane]) = (end, info.stride()[plane] + more as i32);
        end += rows * strides[plane] as usize;
    }
    let mut buffer = buffer(40_000_000, 40_000_000, &noise(end + 64));
    let flags = gst_video::VideoFrameFlags::empty();
    let edit = buffer.get_mut().unwrap();
    VideoMeta::add_full(edit, flags, info.format(), WIDTH, HEIGHT, &offsets[..planes], &strides[..planes]).unwrap();
    buffer
}

/// Bits of a sample in a format of planes: A420 has 8, A444_16LE, which GStreamer has since 1.24, 16.
fn bits_of_planes(name: &str) -> u32 {
    let depth = name.split('_').nth(1).map(|depth| depth.trim_end_matches("LE").trim_end_matches("BE"));
    depth.map_or(8, |depth| depth.parse().unwrap())
}

/// Alpha of each pixel and its highest value, told apart from the element's own reading: by name, byte and bit.
fn alpha(info: &VideoInfo, buffer: &gst::Buffer) -> (Vec<u64>, u64) {
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let name = info.format().to_str().to_string();
    let be = name.ends_with("BE");
    let sample = |plane: u32, x: usize, y: usize, step: usize, offset: usize, bytes: usize| {
        let at = y * frame.plane_stride()[plane as usize] as usize + x * step + offset;
        let data = &frame.plane_data(plane).unwrap()[at..at + bytes];
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if be { data.iter().fold(0, fold) } else { data.iter().rev().fold(0, fold) }
    };
    let packed = |letter: char, bytes: usize| name.find(letter).map(|i| i * bytes);
    let pixels = (0..HEIGHT as usize).flat_map(|y| (0..WIDTH as usize).map(move |x| (x, y)));
    let values = pixels.map(|(x, y)| match name.as_str() {
        "RGB8P" => u64::from(frame.plane_data(1).unwrap()[4 * sample(0, x, y, 1, 0, 1) as usize + 3]),
        "AV12" => sample(2, x, y, 1, 0, 1),
        "Y410" | "RGB10A2_LE" | "BGR10A2_LE" => sample(0, x, y, 4, 0, 4) >> 30,
        "Y412_LE" | "Y412_BE" => sample(0, x, y, 8, 6, 2) >> 4,
        "Y416_LE" | "Y416_BE" => sample(0, x, y, 8, 6, 2),
        n if n.starts_with("A4") || n.starts_with("GBRA") => {
            let bits = bits_of_planes(n);
            let bytes = if bits > 8 { 2 } else { 1 };
            sample(3, x, y, bytes, 0, bytes) & ((1 << bits) - 1)
        }
        n if n.contains("64") => sample(0, x, y, 8, packed('A', 2).unwrap(), 2),
        _ => sample(0, x, y, 4, packed('A', 1).unwrap(), 1),
    });
    let max = match name.as_str() {
        "Y410" | "RGB10A2_LE" | "BGR10A2_LE" => 3,
        "Y412_LE" | "Y412_BE" => 4095,
        n if n.starts_with("A4") || n.starts_with("GBRA") => (1 << bits_of_planes(n)) - 1,
        n if n.contains("64") || n.starts_with("Y416") => 65535,
        _ => 255,
    };
    (values.collect(), max)
}

/// `values` of 0..=`max` as the bytes of `gray`, in rounding by floating point.
fn expected(values: &[u64], max: u64, gray: VideoFormat) -> Vec<u8> {
    let scaled = |v: u64, to: f64| (v as f64 * to / max as f64).round();
    match gray {
        VideoFormat::Gray8 => values.iter().map(|&v| scaled(v, 255.0) as u8).collect(),
        _ => values.iter().flat_map(|&v| (scaled(v, 65535.0) as u16).to_le_bytes()).collect(),
    }
}

/// The mask's samples without padding.
fn samples(mask: &gst::Buffer, info: &VideoInfo) -> Vec<u8> {
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(mask, info).unwrap();
    let row = (info.width() * info.comp_pstride(0) as u32) as usize;
    let stride = frame.plane_stride()[0] as usize;
    frame.plane_data(0).unwrap().chunks(stride).take(HEIGHT as usize).flat_map(|line| line[..row].to_vec()).collect()
}

fn harness(format: VideoFormat, gray: Option<&str>) -> Harness {
    init();
    let mut harness = Harness::new("alphamask");
    if let Some(gray) = gray {
        harness.set_sink_caps_str(&format!("video/x-raw,format={gray}"));
    }
    harness.set_src_caps(info(format).to_caps().unwrap());
    harness
}

fn out_info(harness: &Harness) -> VideoInfo {
    VideoInfo::from_caps(&harness.sinkpad().unwrap().current_caps().unwrap()).unwrap()
}

#[test]
fn the_alpha_of_every_format_is_read_at_full_range() {
    init();
    assert!(FORMATS.len() >= 35, "{}", FORMATS.len());
    for &format in FORMATS.iter() {
        for gray in ["GRAY8", "GRAY16_LE"] {
            for padding in [None, Some(0), Some(13)] {
                let mut harness = harness(format, Some(gray));
                let buffer = picture(&info(format), padding);
                let (values, max) = alpha(&info(format), &buffer);
                let mask = harness.push_and_pull(buffer).unwrap();
                let out = out_info(&harness);
                assert_eq!(out.format().to_str(), gray);
                assert_eq!(
                    samples(&mask, &out),
                    expected(&values, max, out.format()),
                    "{format} to {gray}, padding {padding:?}"
                );
            }
        }
    }
}

#[test]
fn more_than_8_bits_give_16_unless_downstream_wants_8() {
    init();
    for &format in FORMATS.iter() {
        let depth = VideoFormatInfo::from_format(format).depth().get(3).copied().unwrap_or(8);
        let mut harness = harness(format, None);
        harness.push(picture(&info(format), None)).unwrap();
        let gray = if depth > 8 { VideoFormat::Gray16Le } else { VideoFormat::Gray8 };
        assert_eq!(out_info(&harness).format(), gray, "{format}");
    }
}

#[test]
fn caps_say_full_range_and_keep_the_rest() {
    init();
    let mut harness = Harness::new("alphamask");
    harness.set_src_caps_str(
        "video/x-raw,format=A420,width=8,height=6,framerate=30000/1001,pixel-aspect-ratio=12/11,\
         interlace-mode=interleaved,colorimetry=bt709,chroma-site=mpeg2",
    );
    harness.push(buffer(0, 1, &[0; 1000])).unwrap();
    let caps = harness.sinkpad().unwrap().current_caps().unwrap();
    let structure = caps.structure(0).unwrap();
    assert_eq!(structure.get::<&str>("colorimetry").unwrap(), "1:4:0:0");
    assert!(!structure.has_field("chroma-site"));
    let info = VideoInfo::from_caps(&caps).unwrap();
    assert_eq!((info.format(), info.width(), info.height()), (VideoFormat::Gray8, 8, 6));
    assert_eq!((info.fps(), info.par()), (gst::Fraction::new(30000, 1001), gst::Fraction::new(12, 11)));
    assert_eq!(info.interlace_mode(), gst_video::VideoInterlaceMode::Interleaved);
    assert_eq!(info.colorimetry().range(), gst_video::VideoColorRange::Range0_255);
}

#[test]
fn downstreams_wishes_reach_upstream() {
    init();
    let mut harness = Harness::new("alphamask");
    harness.set_sink_caps_str("video/x-raw,format=GRAY8,width=320,height=[1,240],framerate=25/1");
    let upstream = harness.srcpad().unwrap().peer_query_caps(None);
    let can = |caps: &str| upstream.can_intersect(&caps.parse::<gst::Caps>().unwrap());
    assert!(can("video/x-raw,format=A420,width=320,height=240,framerate=25/1,colorimetry=bt709"));
    assert!(can("video/x-raw,format=RGBA64_BE,width=320,height=1,framerate=25/1"));
    assert!(!can("video/x-raw,format=A420,width=640,height=240,framerate=25/1"));
    assert!(!can("video/x-raw,format=A420,width=320,height=240,framerate=50/1"));
    assert!(!can("video/x-raw,format=I420,width=320,height=240,framerate=25/1"), "I420 has no alpha");
}

/// Offers or doesn't offer GstVideoMeta downstream.
fn downstream(harness: &mut Harness, takes_strides: bool) {
    harness.sinkpad().unwrap().add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
        let Some(query) = info.query_mut() else { return gst::PadProbeReturn::Ok };
        let gst::QueryViewMut::Allocation(query) = query.view_mut() else { return gst::PadProbeReturn::Ok };
        if takes_strides {
            query.add_allocation_meta::<VideoMeta>(None);
        }
        gst::PadProbeReturn::Handled
    });
}

fn address(buffer: &gst::Buffer) -> usize {
    buffer.map_readable().unwrap().as_ptr() as usize
}

#[test]
fn an_alpha_plane_leaves_in_the_same_memory() {
    init();
    for format in FORMATS.iter().copied().filter(|f| ["A420", "GBRA", "AV12"].contains(&f.to_str().as_str())) {
        for padding in [None, Some(13)] {
            let mut harness = Harness::new("alphamask");
            downstream(&mut harness, true);
            harness.set_src_caps(info(format).to_caps().unwrap());
            let buffer = picture(&info(format), padding);
            let plane = info(format).n_planes() as usize - 1;
            let offset = buffer.meta::<VideoMeta>().map_or(info(format).offset()[plane], |meta| meta.offset()[plane]);
            let (values, max) = alpha(&info(format), &buffer);
            let mask = harness.push_and_pull(buffer.clone()).unwrap();
            assert_eq!(address(&mask), address(&buffer) + offset, "{format}, padding {padding:?}");
            assert_eq!(mask.meta::<VideoMeta>().is_some(), padding.is_some(), "packed rows need no GstVideoMeta");
            assert_eq!(samples(&mask, &out_info(&harness)), expected(&values, max, VideoFormat::Gray8));
        }
    }
}

#[test]
fn without_strides_downstream_the_mask_is_packed() {
    init();
    let mut harness = Harness::new("alphamask");
    downstream(&mut harness, false);
    let info = info(VideoFormat::A420);
    harness.set_src_caps(info.to_caps().unwrap());
    let buffer = picture(&info, Some(13));
    let (values, max) = alpha(&info, &buffer);
    let mask = harness.push_and_pull(buffer).unwrap();
    let out = out_info(&harness);
    assert!(mask.meta::<VideoMeta>().is_none_or(|meta| meta.stride()[0] == out.stride()[0]));
    assert_eq!(mask.size(), out.size());
    assert_eq!(samples(&mask, &out), expected(&values, max, VideoFormat::Gray8));
    // What lies packed already needs no strides.
    let buffer = picture(&info, None);
    let mask = harness.push_and_pull(buffer.clone()).unwrap();
    assert_eq!(address(&mask), address(&buffer) + info.offset()[3]);
}

#[test]
fn a_lent_picture_stays_lent_while_its_mask_is_in_use() {
    init();
    let info = info(VideoFormat::A420);
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    config.set_params(Some(&info.to_caps().unwrap()), info.size() as u32, 1, 1);
    pool.set_config(config).unwrap();
    pool.set_active(true).unwrap();
    let mut harness = harness(VideoFormat::A420, None);
    let mut lent = pool.acquire_buffer(None).unwrap();
    lent.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
    let mask = harness.push_and_pull(lent).unwrap();
    let params = gst::BufferPoolAcquireParams::with_flags(gst::BufferPoolAcquireFlags::DONTWAIT);
    assert!(pool.acquire_buffer(Some(&params)).is_err());
    drop(mask);
    assert!(pool.acquire_buffer(Some(&params)).is_ok());
    pool.set_active(false).unwrap();
}

#[test]
fn times_flags_and_metas_are_the_pictures() {
    for format in [VideoFormat::A420, VideoFormat::Rgba] {
        let mut harness = harness(format, None);
        let mut buffer = picture(&info(format), None);
        let edit = buffer.get_mut().unwrap();
        edit.set_offset(42);
        edit.set_flags(gst::BufferFlags::MARKER);
        gst_video::VideoRegionOfInterestMeta::add(edit, "face", (1, 2, 3, 4));
        gst::ReferenceTimestampMeta::add(
            edit,
            &"timestamp/x-unix".parse::<gst::Caps>().unwrap(),
            gst::ClockTime::SECOND,
            gst::ClockTime::NONE,
        );
        let mask = harness.push_and_pull(buffer).unwrap();
        assert_eq!(mask.pts(), Some(gst::ClockTime::from_mseconds(40)));
        assert_eq!(mask.duration(), Some(gst::ClockTime::from_mseconds(40)));
        assert!(mask.flags().contains(gst::BufferFlags::MARKER));
        assert_eq!(mask.meta::<gst_video::VideoRegionOfInterestMeta>().unwrap().rect(), (1, 2, 3, 4));
        assert!(mask.meta::<gst::ReferenceTimestampMeta>().is_some());
    }
}

#[test]
fn memory_that_is_too_short_is_an_error_with_its_cause() {
    for format in [VideoFormat::Rgba, VideoFormat::A420] {
        let mut harness = harness(format, None);
        let bus = gst::Bus::new();
        harness.element().unwrap().set_bus(Some(&bus));
        assert_eq!(harness.push(buffer(0, 1, &[0; 20])), Err(gst::FlowError::Error), "{format}");
        let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        assert!(error.error().to_string().contains("Can't take the alpha"), "{}", error.error());
    }
}

#[test]
fn caps_may_change_under_way() {
    let mut harness = harness(VideoFormat::A420, Some("{GRAY8,GRAY16_LE}"));
    for format in [VideoFormat::A420, VideoFormat::Ayuv, VideoFormat::A42010le, VideoFormat::A420] {
        harness.set_src_caps(info(format).to_caps().unwrap());
        let buffer = picture(&info(format), None);
        let (values, max) = alpha(&info(format), &buffer);
        let mask = harness.push_and_pull(buffer).unwrap();
        let out = out_info(&harness);
        assert_eq!(samples(&mask, &out), expected(&values, max, out.format()), "{format}");
    }
}

/// What the palette's entries are is GStreamer's to say.
#[test]
fn a_palettes_alpha_is_what_videoconvert_makes_of_it() {
    init();
    let info = info(VideoFormat::Rgb8p);
    let mut convert = Harness::new_parse("videoconvert ! capsfilter caps=video/x-raw,format=ARGB");
    convert.set_src_caps(info.to_caps().unwrap());
    let buffer = picture(&info, None);
    let argb = bytes(&convert.push_and_pull(buffer.clone()).unwrap());
    let mut harness = harness(VideoFormat::Rgb8p, None);
    let mask = harness.push_and_pull(buffer).unwrap();
    let alpha: Vec<u8> = argb.chunks(4).map(|pixel| pixel[0]).collect();
    assert_eq!(samples(&mask, &out_info(&harness)), alpha);
}

#[test]
fn a_keyed_stream_masks_its_composite() {
    let element = element(&Arc::default());
    let pipeline = gst::parse::launch(
        "videotestsrc num-buffers=5 pattern=smpte ! video/x-raw,width=64,height=48,framerate=25/1 ! \
         alpha method=green ! video/x-raw,format=AYUV ! tee name=key \
         key. ! queue ! videoconvert ! video/x-raw,format=RGBA ! queue name=composite \
         key. ! queue ! alphamask ! queue name=mask fakesink name=out sync=false",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    pipeline.add(&element).unwrap();
    let named = |name: &str| pipeline.by_name(name).unwrap();
    named("composite").link_pads(Some("src"), &element, Some("sink")).unwrap();
    named("mask").link_pads(Some("src"), &element, Some("mask")).unwrap();
    element.link(&named("out")).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &end).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    assert_eq!((stat(&element, "harmonized"), stat(&element, "stale-masks")), (5, 0));
    pipeline.set_state(gst::State::Null).unwrap();
}
