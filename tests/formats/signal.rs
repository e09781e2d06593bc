//! High dynamic range: PQ and HLG content is worked on in its own signal, and keeps its caps and its depth.

use crate::common::*;
use crate::picture::{Dice, Frame};
use gst::prelude::*;
use gst_video::VideoInfo;
use std::sync::Arc;

const WIDTH: usize = 877;

/// Luma or red, and with it green and blue, of a ramp over all nominal codes, before and after.
fn ramp(format: &str, colorimetry: &str, codes: impl Fn(usize) -> u16) -> [Vec<u32>; 2] {
    init();
    let text = format!("video/x-raw,format={format},width={WIDTH},height=2,framerate=25/1,colorimetry={colorimetry}");
    let caps: gst::Caps = text.parse().unwrap();
    let info = VideoInfo::from_caps(&caps).unwrap();
    let mut frame = Frame::random(&caps, &mut Dice(1));
    frame.fill(|x, component| match component {
        1 | 2 if info.is_yuv() => 1 << (info.comp_depth(0) - 1),
        3 => u16::MAX,
        _ => codes(x),
    });
    let mask = format!("video/x-raw,format=GRAY8,width={WIDTH},height=2,framerate=25/1");
    let element = element(&Arc::default());
    let mask = Stream::new(&mask, frames(25, 1, &gray(WIDTH, 2, 255)));
    let src = element.static_pad("src").unwrap();
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = kept.clone();
    src.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        *keep.lock().unwrap() = pad.current_caps();
        gst::PadProbeReturn::Ok
    });
    let (out, _) = run(&element, Stream::new(&text, [frame.buffer()]), Some(mask));
    assert_eq!(kept.lock().unwrap().take(), Some(caps), "caps changed");
    let after = frame.of(&out[0]);
    [frame, after].map(|frame| frame.codes()[..WIDTH].iter().map(|codes| codes[0]).collect())
}

#[test]
fn pq_and_hlg_ramps_keep_their_levels() {
    for colorimetry in ["bt2100-pq", "bt2100-hlg"] {
        for (format, first, step) in [("P010_10LE", 64, 1), ("I420_10LE", 64, 1), ("RGBA64_LE", 0, 74)] {
            let rgb = format.starts_with("RGB");
            let said = match (rgb, colorimetry) {
                (false, said) => said,
                (true, "bt2100-pq") => "1:1:14:7",
                (true, _) => "1:1:15:7",
            };
            let [before, after] = ramp(format, said, |x| (first + step * x) as u16);
            let what = format!("{format} {said}");
            assert_eq!((before[0], before[WIDTH - 1]), (first as u32, (first + step * (WIDTH - 1)) as u32), "{what}");
            assert!(after.is_sorted(), "{what}: {after:?}");
            let levels = after.chunk_by(|a, b| a == b).count();
            // The map's slope is a half and more: no fewer than half the levels are left.
            assert!(2 * levels >= before.len(), "{what}: {levels} levels of {}", before.len());
            let longest = after.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
            assert!(longest <= Some(3), "{what}: {longest:?} codes became one");
        }
    }
}
