//! What comes out is the background: its bytes around the foreground, its metas, its beginning and its end.

use super::run::*;
use gst::prelude::*;
use gst_video::VideoInfo;
use gst_video::prelude::*;

/// A fading foreground over noise of `format` and `caps`: the backgrounds sent, the run at its end, what came in and what goes out.
fn over_snow(format: &str, caps: &str) -> (Frames, Run, [VideoInfo; 2]) {
    let run = Run::new(&format!(
        "harmonizebin name=h xpos=20 ypos=10 {WHITE} ! h.foreground {} ! h.background",
        black(format).replace("pattern=black", "pattern=snow").replace("framerate", &format!("{caps},framerate"))
    ));
    rewrite(&run.element("foreground"), 25, fading);
    let sent = collect(&run.element("background").static_pad("src").unwrap());
    let run = run.until_eos();
    let caps = run.element("out").static_pad("sink").unwrap().current_caps().unwrap();
    (sent, run, [info(format), VideoInfo::from_caps(&caps).unwrap()])
}

#[test]
fn backgrounds_of_4_2_2_leave_byte_for_byte_around_the_foreground() {
    for (format, given) in [
        ("Y42B", "Y42B"),
        ("NV16", "NV16"),
        ("UYVY", "UYVY"),
        ("YUY2", "YUY2"),
        ("Y41B", "Y41B"),
        ("VUYA", "Y444"),
        ("GBRA", "GBR"),
    ] {
        let (sent, run, [from, to]) = over_snow(format, "chroma-site=mpeg2");
        assert_eq!(to.format().to_str(), given);
        assert_eq!(run.out().len(), 3, "{format}");
        for (sent, out) in sent.lock().unwrap().iter().zip(run.out()) {
            let line = |buffer: &gst::Buffer, info: &VideoInfo, component: u32, row: usize| {
                let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
                let (stride, bytes) =
                    (frame.comp_stride(component) as usize, info.comp_depth(component as u8).div_ceil(8) as usize);
                let (step, width) =
                    (info.comp_pstride(component as u8) as usize, info.comp_width(component as u8) as usize);
                let data = &frame.comp_data(component).unwrap()[row * stride..];
                data.chunks(step).take(width).flat_map(|word| word[..bytes].to_vec()).collect::<Vec<_>>()
            };
            for component in 0..3 {
                let rows = to.comp_height(component as u8) as usize;
                // The foreground's rows are 10 to 27, and chroma filters reach one further.
                for row in (0..rows / 6).chain(rows * 29 / 48 + 1..rows) {
                    let (sent, out) = (line(sent, &from, component, row), line(&out, &to, component, row));
                    assert_eq!(sent, out, "{format} {component} row {row}");
                }
                assert_ne!(
                    line(sent, &from, component, rows / 3),
                    line(&out, &to, component, rows / 3),
                    "{format} {component}"
                );
            }
        }
    }
}

#[test]
fn the_background_leaves_byte_for_byte_around_the_foreground() {
    for (format, given) in [
        ("I420", "I420"),
        ("NV12", "NV12"),
        ("YV12", "YV12"),
        ("RGB", "RGB"),
        ("BGRx", "BGRx"),
        ("RGBA", "RGBx"),
        ("AYUV", "Y444"),
        ("A420", "I420"),
        ("Y444", "Y444"),
        ("GBR", "GBR"),
    ] {
        let (sent, run, [from, to]) = over_snow(format, "colorimetry=bt601");
        assert_eq!(to.format().to_str(), given);
        for (sent, out) in sent.lock().unwrap().iter().zip(run.out()) {
            for component in 0..3 {
                let (sent, out) = (rows(sent, &from, component), rows(&out, &to, component));
                let rows = |rows: std::ops::Range<u32>| {
                    to.format_info().scale_height(component as u8, rows.start) as usize
                        ..to.format_info().scale_height(component as u8, rows.end) as usize
                };
                assert_eq!(sent[rows(0..10)], out[rows(0..10)], "{format} {component} above");
                assert_eq!(sent[rows(28..48)], out[rows(28..48)], "{format} {component} below");
                assert_ne!(sent, out, "{format} {component}");
            }
        }
    }
}

#[test]
fn captions_and_timecodes_of_the_background_stay() {
    let run = Run::new(&format!("harmonizebin name=h {WHITE} ! h.foreground {} ! h.background", black("RGBx")));
    run.element("background").static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, |_, info| {
        let edit = info.buffer_mut().unwrap().make_mut();
        gst_video::VideoCaptionMeta::add(edit, gst_video::VideoCaptionType::Cea708Raw, &[1, 2, 3]);
        gst::PadProbeReturn::Ok
    });
    for buffer in run.until_eos().out() {
        assert_eq!(buffer.iter_meta::<gst_video::VideoCaptionMeta>().count(), 1);
    }
}

#[test]
fn output_begins_and_ends_with_the_background() {
    let run = Run::new(&format!(
        "harmonizebin name=h {} ! h.foreground {} ! h.background",
        source("foreground", 25, 50, ""),
        source("background", 25, 10, "timestamp-offset=400000000"),
    ));
    rewrite(&run.element("foreground"), 25, numbered);
    rewrite(&run.element("background"), 25, plain);
    let run = run.until_eos();
    let numbers = numbers(&run);
    assert_eq!(numbers, (10..20).map(Some).collect::<Vec<_>>());
    assert_eq!(run.out()[0].pts(), Some(gst::ClockTime::from_mseconds(400)));
}

#[test]
fn after_the_foregrounds_end_the_background_passes_or_the_last_frame_stays() {
    for (repeat, shown) in [(false, 5), (true, 20)] {
        let run = Run::new(&format!(
            "harmonizebin name=h repeat-after-eos={repeat} {} ! h.foreground {} ! h.background",
            source("foreground", 25, 5, ""),
            source("background", 25, 20, ""),
        ));
        rewrite(&run.element("foreground"), 25, numbered);
        rewrite(&run.element("background"), 25, plain);
        let numbers = numbers(&run.until_eos());
        assert_eq!((numbers.len(), numbers.iter().flatten().count()), (20, shown));
        assert_eq!(numbers.iter().flatten().max(), Some(&4));
    }
}

#[test]
fn an_unlinked_foreground_lets_the_background_pass() {
    let run = Run::new(&format!("harmonizebin name=h {} ! h.background", source("background", 25, 10, "")));
    rewrite(&run.element("background"), 25, plain);
    assert_eq!(numbers(&run.until_eos()), [None; 10]);
}
