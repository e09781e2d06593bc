//! One composite, harmonized by one transfer in different formats, is the same picture to within what their chroma can hold.
//!
//! The measure: codes of eight bits inside the foreground, all converted to AYUV64 by GStreamer. What a format's own way to AYUV64
//! and back does to the picture unharmonized stands beside it.

use crate::common::*;
use crate::shared;
use gst::prelude::*;
use gst_video::{VideoConverter, VideoConverterConfig, VideoDitherMethod, VideoFormat, VideoFrame, VideoInfo};
use std::path::Path;
use std::sync::{Arc, Mutex};

const SIZE: (u32, u32) = (960, 540);

fn info(format: VideoFormat) -> VideoInfo {
    let info = VideoInfo::builder(format, SIZE.0, SIZE.1).fps(gst::Fraction::new(25, 1));
    let rgb = format == VideoFormat::Rgba;
    let colorimetry = if rgb { "1:1:5:1" } else { "bt709" }.parse().unwrap();
    let site = if rgb { gst_video::VideoChromaSite::empty() } else { gst_video::VideoChromaSite::MPEG2 };
    info.colorimetry(&colorimetry).chroma_site(site).build().unwrap()
}

/// The first frames of `clip` in `format`.
fn frames_of(clip: &Path, format: VideoFormat, count: u32) -> Vec<gst::Buffer> {
    init();
    let colorimetry = if format == VideoFormat::Gray8 { "" } else { ",colorimetry=bt709" };
    let caps = format!("video/x-raw,format={format},width={},height={}{colorimetry}", SIZE.0, SIZE.1);
    let clip = clip.display();
    let text = format!(
        "filesrc location={clip} ! decodebin ! videoconvertscale dither=none ! {caps} ! identity eos-after={} ! fakesink name=out",
        count + 1
    );
    let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    let sink = pipeline.by_name("out").unwrap().static_pad("sink").unwrap();
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        keep.lock().unwrap().push(info.buffer().unwrap().copy_deep().unwrap());
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &end);
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    kept.lock().unwrap().drain(..).take(count as usize).collect()
}

fn convert(buffer: &gst::Buffer, from: &VideoInfo, to: &VideoInfo) -> gst::Buffer {
    let mut config = VideoConverterConfig::new();
    config.set_dither_method(VideoDitherMethod::None);
    let converter = VideoConverter::new(from, to, Some(config)).unwrap();
    let source = VideoFrame::from_buffer_readable(buffer.clone(), from).unwrap();
    let target = gst::Buffer::with_size(to.size()).unwrap();
    let mut target = VideoFrame::from_buffer_writable(target, to).unwrap();
    converter.frame(&source, &mut target);
    target.into_buffer()
}

/// Y, Cb and Cr of each pixel of a buffer of AYUV64, in codes of eight bits.
fn samples(buffer: &gst::Buffer) -> Vec<[f64; 3]> {
    let word = |bytes: &[u8]| f64::from(u16::from_ne_bytes([bytes[0], bytes[1]])) / 256.0;
    bytes(buffer).chunks(8).map(|pixel| [2, 4, 6].map(|at| word(&pixel[at..]))).collect()
}

/// Root mean square and 99th percentile of the differences inside the foreground, of luma and of chroma.
fn differences(a: &[[f64; 3]], b: &[[f64; 3]], mask: &[u8]) -> [[f64; 2]; 2] {
    [&[0][..], &[1, 2]].map(|components| {
        let inside = a.iter().zip(b).zip(mask).filter(|(_, m)| **m > 0);
        let mut apart: Vec<_> =
            inside.flat_map(|((a, b), _)| components.iter().map(|&k| (a[k] - b[k]).abs())).collect();
        apart.sort_by(f64::total_cmp);
        let square = apart.iter().map(|d| d * d).sum::<f64>() / apart.len() as f64;
        [square.sqrt(), apart[apart.len() * 99 / 100]]
    })
}

#[test]
fn formats_agree_within_what_their_chroma_holds() {
    let Some(clips) = shared::folder("data/clips") else { return };
    init();
    let common = info(VideoFormat::Ayuv64);
    let composite = &frames_of(&clips.join("paired/composite.mp4"), VideoFormat::Ayuv64, 1)[0];
    let mask = bytes(&frames_of(&clips.join("paired/mask.mp4"), VideoFormat::Gray8, 1)[0]);
    assert!(mask.iter().filter(|&&m| m > 127).count() > 5000, "the mask shows a foreground");
    let harmonized = |buffer: &gst::Buffer, info: &VideoInfo| {
        let element = element(&Arc::default());
        element.set_property_from_str("mask-range", "full");
        let mask_caps = format!("video/x-raw,format=GRAY8,width={},height={},framerate=25/1", SIZE.0, SIZE.1);
        let frame = frames(25, 1, &bytes(buffer));
        let mask = Stream::new(&mask_caps, frames(25, 1, &mask));
        run(&element, Stream::new(&info.to_caps().unwrap().to_string(), frame), Some(mask)).0.remove(0)
    };
    let (source, ideal) = (samples(composite), harmonized(composite, &common));
    for format in [VideoFormat::I420, VideoFormat::Nv12, VideoFormat::P01010le, VideoFormat::Ayuv, VideoFormat::Rgba] {
        let info = info(format);
        let own = convert(composite, &common, &info);
        let alone = differences(&samples(&convert(&own, &info, &common)), &source, &mask);
        // Colours that RGB has no codes for end at the edge of those it has.
        let ideal = if info.is_rgb() { &convert(&convert(&ideal, &common, &info), &info, &common) } else { &ideal };
        let ours = differences(&samples(&convert(&harmonized(&own, &info), &info, &common)), &samples(ideal), &mask);
        println!("{format}: harmonized {ours:.2?}, converted alone {alone:.2?} (luma, chroma; RMS, 99 %)");
        let [[luma, luma_most], [chroma, chroma_most]] = ours;
        let [_, [chroma_alone, chroma_alone_most]] = alone;
        assert!(luma < 1.0 && luma_most < 3.0, "{format}: luma differs by {luma}, {luma_most}");
        assert!(
            chroma < chroma_alone + 0.5,
            "{format}: chroma differs by {chroma}, {chroma_alone} by conversion alone"
        );
        assert!(
            chroma_most < chroma_alone_most + 1.0,
            "{format}: {chroma_most}, {chroma_alone_most} by conversion alone"
        );
    }
}
