//! Composite and mask hold the same foreground frame at the same place, and all else is the background's.

mod common;
mod shared;

use common::*;
use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use gstharmonize::elements::harmonize::{Harmonize, Infer};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

type Frames = Arc<Mutex<Vec<gst::Buffer>>>;

/// A pipeline with a `harmonizebin` named h, whose model is a fake, that ends in a `fakesink` named out.
struct Run {
    pipeline: gst::Pipeline,
    /// What came to `harmonize`, with the mask as alpha.
    composites: Frames,
    out: Frames,
}

fn collect(pad: &gst::Pad) -> Frames {
    let frames = Frames::default();
    let kept = frames.clone();
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_FLUSH, move |_, info| {
        if info.event().is_some_and(|event| event.type_() == gst::EventType::FlushStop) {
            kept.lock().unwrap().clear();
        }
        // A copy, because what is harmonized is harmonized in place.
        kept.lock().unwrap().extend(info.buffer().map(|buffer| buffer.copy_deep().unwrap()));
        gst::PadProbeReturn::Ok
    });
    frames
}

impl Run {
    fn new(description: &str) -> Self {
        init();
        let description = format!("{description} h. ! fakesink name=out sync=false");
        let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        let run = |name: &str, pad: &str| {
            let h = pipeline.by_name("h").unwrap().downcast::<gst::Bin>().unwrap();
            let element = if name == "out" { pipeline.by_name(name) } else { h.by_name(name) };
            collect(&element.unwrap().static_pad(pad).unwrap())
        };
        let (composites, out) = (run("harmonize", "sink"), run("out", "sink"));
        let run = Self { pipeline, composites, out };
        let harmonize = run.child("harmonize").downcast::<Harmonize>().unwrap();
        harmonize.set_loader(Arc::new(|_, _, _| Ok(Arc::<Fake>::default() as Arc<dyn Infer>)));
        run
    }

    fn element(&self, name: &str) -> gst::Element {
        self.pipeline.by_name(name).unwrap()
    }

    fn h(&self) -> gst::Bin {
        self.element("h").downcast().unwrap()
    }

    fn child(&self, name: &str) -> gst::Element {
        self.h().by_name(name).unwrap()
    }

    fn play(&self) {
        self.pipeline.set_state(gst::State::Playing).unwrap();
    }

    fn wait(&self) {
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(30), &end);
        let message = message.expect("neither EOS nor an error in 30 s");
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    }

    fn until_eos(self) -> Self {
        self.play();
        self.wait();
        self
    }

    fn composites(&self) -> Vec<gst::Buffer> {
        self.composites.lock().unwrap().clone()
    }

    fn out(&self) -> Vec<gst::Buffer> {
        self.out.lock().unwrap().clone()
    }

    /// How many composites had something in their masks.
    fn masked(&self) -> usize {
        let caps = self.child("harmonize").static_pad("sink").unwrap().current_caps();
        let Some(info) = caps.and_then(|caps| VideoInfo::from_caps(&caps).ok()) else { return 0 };
        let masks = |composite: &gst::Buffer| rows(composite, &info, 3).concat().iter().any(|&m| m > 0);
        self.composites().iter().filter(|composite| masks(composite)).count()
    }
}

/// A component's samples, row by row; of 16 bits the upper eight.
fn rows(buffer: &gst::Buffer, info: &VideoInfo, component: u32) -> Vec<Vec<u8>> {
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let (step, width) = (info.comp_pstride(component as u8) as usize, info.width() as usize);
    let high = if info.comp_depth(component as u8) == 16 && cfg!(target_endian = "little") { 1 } else { 0 };
    let rows = frame.comp_data(component).unwrap().chunks(frame.comp_stride(component) as usize);
    rows.take(info.height() as usize)
        .map(|row| row.iter().skip(high).step_by(step).take(width).copied().collect())
        .collect()
}

impl Drop for Run {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// Rewrites each buffer that `element` sends, given its number by PTS at `rate`.
fn rewrite(element: &gst::Element, rate: u64, write: impl Fn(u64, &mut [u8]) + Send + Sync + 'static) {
    element.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let n = (buffer.pts().unwrap().nseconds() * rate + 500_000_000) / 1_000_000_000;
            let mut map = buffer.make_mut().map_writable().unwrap();
            write(n, &mut map);
        }
        gst::PadProbeReturn::Ok
    });
}

const BLOCKS: u64 = 16;

/// A frame of 64x48 RGBA that shows number `n` twice: in its red, and in which of 16 columns is opaque.
fn numbered(n: u64, data: &mut [u8]) {
    data.fill(0);
    for pixel in data.chunks_mut(4).enumerate().filter(|(i, _)| (i % 64) as u64 / 4 == n % BLOCKS).map(|(_, p)| p) {
        pixel.copy_from_slice(&[n as u8 + 1, 200, 90, 255]);
    }
}

const BACKGROUND: [u8; 4] = [0, 7, 8, 255];

fn plain(_: u64, data: &mut [u8]) {
    data.chunks_mut(4).for_each(|pixel| pixel.copy_from_slice(&BACKGROUND));
}

/// The number of the foreground frame in each composite, after checks that its mask is of the same frame and that the
/// background is untouched around it in what came out; `None` for a composite without.
fn numbers(run: &Run) -> Vec<Option<u64>> {
    let out = run.out();
    let check = |(composite, out): (gst::Buffer, &gst::Buffer)| {
        let pts = out.pts();
        assert_eq!(composite.pts(), pts);
        let (composite, out) = (bytes(&composite), bytes(out));
        let mut number = None;
        for (column, pixel) in composite.chunks(4).take(64).enumerate().filter(|(_, p)| p[0] > 0) {
            let n = u64::from(pixel[0]) - 1;
            assert_eq!(column as u64 / 4, n % BLOCKS);
            assert!(number.replace(n).is_none_or(|before| before == n));
        }
        for (i, (pixel, out)) in composite.chunks(4).zip(out.chunks(4)).enumerate() {
            let inside = number.is_some_and(|n| (i % 64) as u64 / 4 == n % BLOCKS);
            let mask = if inside { 255 } else { 0 };
            assert_eq!(pixel[3], mask, "the mask at {pts:?} is of another frame than {number:?}");
            assert_eq!(out[..3] == BACKGROUND[..3], !inside, "at {pts:?}");
            assert!(!inside || pixel[..3] != out[..3], "frame {number:?} has passed untouched");
        }
        number
    };
    let composites = run.composites();
    assert_eq!(out.len(), composites.len());
    composites.into_iter().zip(&out).map(check).collect()
}

fn source(name: &str, rate: u64, count: u64, more: &str) -> String {
    format!(
        "videotestsrc name={name} num-buffers={count} {more} ! video/x-raw,format=RGBA,width=64,height=48,framerate={rate}/1"
    )
}

#[test]
fn a_mask_is_of_the_frame_in_its_composite_at_any_rates() {
    for (foreground, background) in [(25, 25), (60, 25), (10, 25), (24, 30), (7, 50), (100, 12)] {
        let run = Run::new(&format!(
            "harmonizebin name=h {} ! h.foreground {} ! h.background",
            source("foreground", foreground, 2 * foreground, ""),
            source("background", background, 2 * background, "")
        ));
        rewrite(&run.element("foreground"), foreground, numbered);
        rewrite(&run.element("background"), background, plain);
        let run = run.until_eos();
        let numbers = numbers(&run);
        assert_eq!(numbers.len() as u64, 2 * background, "{foreground} over {background}");
        for (i, (n, buffer)) in numbers.iter().zip(run.out()).enumerate() {
            assert_eq!(buffer.pts().unwrap().nseconds() / 1000, i as u64 * 1_000_000 / background);
            let n = n.unwrap_or_else(|| panic!("{foreground} over {background}: nothing in frame {i}"));
            // compositor takes what overlaps, and is never off by more than a frame of each.
            let apart = (n as f64 / foreground as f64 - i as f64 / background as f64).abs();
            assert!(
                apart <= 1.0 / foreground as f64 + 1.0 / background as f64,
                "{foreground} over {background}: {n} in {i}"
            );
        }
    }
}

#[test]
fn a_mask_is_of_the_frame_in_its_composite_live_with_jitter_and_losses() {
    // In live mode the first frames would pass before there is a transfer.
    let run = Run::new(&format!(
        "harmonizebin name=h harmonize::mode=exact {} ! h.foreground {} ! h.background",
        source("foreground", 60, 180, "is-live=true"),
        source("background", 25, 75, "is-live=true"),
    ));
    rewrite(&run.element("foreground"), 60, numbered);
    rewrite(&run.element("background"), 25, plain);
    for (name, seed) in [("foreground", 1u64), ("background", 7)] {
        let count = AtomicU64::new(seed);
        run.element(name).static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let n = count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e3779b97f4a7c15) >> 40;
            if n % 7 == 3 {
                return gst::PadProbeReturn::Drop;
            }
            thread::sleep(Duration::from_millis(n % 31));
            gst::PadProbeReturn::Ok
        });
    }
    let run = run.until_eos();
    let numbers = numbers(&run);
    let shown = numbers.iter().flatten().count();
    assert!(numbers.len() >= 60 && shown * 10 >= numbers.len() * 9, "{shown} of {}", numbers.len());
    assert!(numbers.is_sorted(), "{numbers:?}");
}

/// Checks that each composite of a white foreground over black is its mask, to within `rounding`. The stock scaler rounds
/// coarsely and in other ways for other formats.
fn assert_composites_are_their_masks(run: &Run, rounding: f64, what: &str) -> usize {
    let caps = run.child("harmonize").static_pad("sink").unwrap().current_caps();
    let info = &VideoInfo::from_caps(&caps.expect("composites have come")).unwrap();
    let mut shown = 0;
    for (n, composite) in run.composites().iter().enumerate() {
        let masks = rows(composite, info, 3);
        for (y, (row, mask)) in rows(composite, info, 0).into_iter().zip(masks).enumerate() {
            for (x, (value, m)) in row.into_iter().zip(mask).enumerate() {
                let value = if info.is_rgb() { f64::from(value) } else { (f64::from(value) - 16.0) * 255.0 / 219.0 };
                let apart = (value - f64::from(m)).abs();
                assert!(apart <= rounding, "{what}, frame {n}, {x},{y}: {value} in the composite, {m} in the mask");
                shown += usize::from(m > 0);
            }
        }
    }
    shown
}

/// White of 24x18 that fades from left to right.
fn fading(_: u64, data: &mut [u8]) {
    for (i, pixel) in data.chunks_mut(4).enumerate() {
        pixel.copy_from_slice(&[255, 255, 255, (i % 24 * 11) as u8]);
    }
}

fn black(format: &str) -> String {
    format!(
        "videotestsrc name=background num-buffers=3 pattern=black ! video/x-raw,format={format},width=64,height=48,framerate=25/1"
    )
}

fn info(format: &str) -> VideoInfo {
    VideoInfo::builder(VideoFormat::from_string(format), 64, 48).build().unwrap()
}

const WHITE: &str =
    "videotestsrc name=foreground num-buffers=3 ! video/x-raw,format=RGBA,width=24,height=18,framerate=25/1";

#[test]
fn the_mask_lies_where_the_foreground_is_drawn() {
    let places = [
        "",
        "xpos=3 ypos=5",
        "xpos=-7 ypos=-3",
        "xpos=51 ypos=41",
        "width=40",
        "height=31 xpos=9",
        "width=13 height=40 ypos=1",
        "width=130 xpos=-50 ypos=-31",
        "alpha=0.5 xpos=4 ypos=4",
        "alpha=0.31 width=33 height=21 xpos=1 ypos=1",
    ];
    let formats = [
        "RGBA",
        "RGBx",
        "I420",
        "NV12",
        "AYUV",
        "YUY2",
        "Y444",
        "GBR",
        "I420_10LE",
        "I422_10LE",
        "Y444_10LE",
        "GBR_10LE",
    ];
    for format in formats {
        for place in places {
            let run = Run::new(&format!(
                "harmonizebin name=h {place} {WHITE} ! h.foreground {} ! h.background",
                black(format)
            ));
            rewrite(&run.element("foreground"), 25, fading);
            let run = run.until_eos();
            let shown = assert_composites_are_their_masks(
                &run,
                match place {
                    place if place.contains("th=") || place.contains("ht=") => 12.0,
                    // Opacity is rounded down on the way from one release on, by a code of alpha, and luma by another.
                    place if place.contains("alpha=") => 3.0,
                    _ => 2.0,
                },
                &format!("{format} {place}"),
            );
            assert!(shown > 0, "{format} {place}");
        }
    }
}

#[test]
fn nothing_to_be_seen_is_no_mask() {
    for place in ["alpha=0", "xpos=64", "ypos=-18", "zorder=0"] {
        let run =
            Run::new(&format!("harmonizebin name=h {place} {WHITE} ! h.foreground {} ! h.background", black("RGBx")));
        rewrite(&run.element("foreground"), 25, fading);
        let run = run.until_eos();
        assert_eq!(run.out().len(), 3, "{place}");
        assert_eq!(run.masked(), 0, "{place}");
    }
}

#[test]
fn behind_the_background_the_mask_is_what_its_alpha_lets_through() {
    let run = Run::new(&format!(
        "harmonizebin name=h zorder=0 xpos=10 ypos=8 {WHITE} ! h.foreground {} ! h.background",
        black("RGBA")
    ));
    rewrite(&run.element("foreground"), 25, |_, data| data.fill(255));
    rewrite(&run.element("background"), 25, |_, data| {
        for (i, pixel) in data.chunks_mut(4).enumerate() {
            pixel.copy_from_slice(&[0, 0, 0, (i % 64 * 4) as u8]);
        }
    });
    let run = run.until_eos();
    assert!(assert_composites_are_their_masks(&run, 2.0, "behind") > 0);
}

#[test]
fn places_changed_while_playing_go_for_both() {
    let run = Run::new(&format!(
        "harmonizebin name=h {} ! h.foreground {} ! h.background",
        WHITE.replace("num-buffers=3", "num-buffers=400"),
        black("RGBx").replace("num-buffers=3", "num-buffers=400")
    ));
    rewrite(&run.element("foreground"), 25, fading);
    let (h, over) = (run.h(), Arc::new(AtomicBool::new(false)));
    let stop = over.clone();
    let user = thread::spawn(move || {
        for n in 0i32.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            h.set_property("xpos", n % 70 - 10);
            h.set_property("ypos", n * 7 % 60 - 10);
            h.set_property("width", n % 50);
            h.set_property("height", n * 3 % 40);
            h.set_property("alpha", f64::from(n % 10) / 10.0);
        }
    });
    let run = run.until_eos();
    over.store(true, Ordering::Relaxed);
    user.join().unwrap();
    assert_eq!(run.out().len(), 400);
    assert!(assert_composites_are_their_masks(&run, 12.0, "under way") > 0);
}

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

#[test]
fn children_are_reached_by_name() {
    init();
    let h = gst::parse::launch(
        "harmonizebin key=custom key-color=0x1030f0 key-angle=31 harmonize::strength=0.25 alpha::black-sensitivity=80",
    )
    .unwrap()
    .downcast::<gst::Bin>()
    .unwrap();
    assert_eq!(h.by_name("harmonize").unwrap().property::<f64>("strength"), 0.25);
    let keyer = h.by_name("alpha").unwrap();
    assert_eq!(["target-r", "target-g", "target-b"].map(|name| keyer.property::<u32>(name)), [0x10, 0x30, 0xf0]);
    assert_eq!((keyer.property::<u32>("black-sensitivity"), keyer.property::<f32>("angle")), (80, 31.0));
    h.set_property_from_str("key", "none");
    assert!(h.by_name("alpha").is_none());
}

/// GES looks up the factory of each, and what that says of it, without asking whether there is one.
#[test]
fn every_element_inside_comes_from_a_factory() {
    init();
    for description in ["harmonizebin", "harmonizebin key=green"] {
        let h = gst::parse::launch(description).unwrap().downcast::<gst::Bin>().unwrap();
        let inside = h.iterate_recurse().into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert!(inside.len() >= 8, "{}", inside.len());
        for element in inside {
            let factory =
                element.factory().unwrap_or_else(|| panic!("{description}: {} has no factory", element.name()));
            for key in ["long-name", "klass", "description", "author"] {
                assert!(factory.metadata(key).is_some_and(|text| !text.is_empty()), "{}: no {key}", factory.name());
            }
            assert!(gst::ElementFactory::find(&factory.name()).is_some(), "{} is not registered", factory.name());
        }
    }
}

#[test]
fn a_green_backing_is_keyed_out() {
    for key in ["green", "custom key-color=0x00ff00"] {
        let run = Run::new(&format!(
            "harmonizebin name=h key={key} {} ! h.foreground {} ! h.background",
            source("foreground", 25, 5, "").replace("format=RGBA", "format=NV12").replace(" !", " pattern=smpte !"),
            source("background", 25, 5, ""),
        ));
        let run = run.until_eos();
        assert_eq!(run.masked(), 5);
        let composite = bytes(&run.composites()[0]);
        let mask = |x: usize| composite[4 * (64 * 10 + x) + 3];
        // The bars are white, yellow, cyan, green and so on.
        assert!(mask(4) >= 250 && mask(32) == 0, "{key}: {} and {}", mask(4), mask(32));
    }
}

#[test]
fn a_key_keeps_the_foregrounds_colorimetry() {
    // That of neither this size nor the background.
    let run = Run::new(&format!(
        "harmonizebin name=h key=green {} ! h.foreground {} ! h.background",
        source("foreground", 25, 5, "").replace("format=RGBA", "format=NV12,colorimetry=bt709"),
        source("background", 25, 5, ""),
    ));
    let run = run.until_eos();
    assert_eq!(run.out().len(), 5);
    let compositor = run.h().by_name("compositor").unwrap();
    let caps = compositor.static_pad("sink_1").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get::<&str>("colorimetry").unwrap(), "bt709");
}

/// `foreground` of the reference clip with its matte as alpha, on pad `to`.
fn cutout(clips: &std::path::Path, to: &str) -> String {
    let at = |name: &str| clips.join(name).display().to_string();
    format!(
        "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=I420 ! queue ! cut.sink \
         filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=GRAY8 ! tee name=matte \
         matte. ! queue max-size-bytes=0 ! cut.mask alphamerge name=cut ! {to}",
        at("foreground.mp4"),
        at("mask.mp4")
    )
}

#[test]
fn equals_the_pipeline_built_by_hand() {
    let Some(clips) = shared::folder("data/clips") else { return };
    init();
    let background = format!("filesrc location={} ! decodebin ! queue", clips.join("background.mp4").display());
    // `videoconvert` forgets where chroma lies, and what is taken for it instead differs between releases.
    let by_hand = format!(
        "{background} ! mix.sink_0 {} matte. ! queue max-size-bytes=0 ! h.mask \
         compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! \
         video/x-raw,format=I420,colorimetry=bt709,chroma-site=mpeg2 ! queue ! h.sink harmonize name=h",
        cutout(&clips, "mix.sink_1")
    );
    let by_bin = format!("{background} ! h.background {} harmonizebin name=h", cutout(&clips, "h.foreground"));
    let [by_hand, by_bin] = [by_hand, by_bin].map(|description| {
        let pipeline = gst::parse::launch(&format!("{description} ! fakesink name=out sync=false")).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let frames = Arc::new(Mutex::new(Vec::new()));
        let kept = frames.clone();
        let out = pipeline.by_name("out").unwrap();
        out.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().unwrap();
            let sum = glib::compute_checksum_for_data(glib::ChecksumType::Sha256, &bytes(buffer)).unwrap();
            kept.lock().unwrap().push((buffer.pts(), buffer.duration(), sum));
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(120), &end).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
        pipeline.set_state(gst::State::Null).unwrap();
        frames.lock().unwrap().clone()
    });
    assert_eq!(by_bin.len(), 75);
    assert_eq!(by_bin, by_hand);
}
