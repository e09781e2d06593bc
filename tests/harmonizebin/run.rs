//! A pipeline with a `harmonizebin`, what went into its `harmonize` and what came out, and sources whose frames are told apart.

use crate::common::*;
use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use gstharmonize::elements::harmonize::Harmonize;
use std::sync::{Arc, Mutex};

pub type Frames = Arc<Mutex<Vec<gst::Buffer>>>;

/// A pipeline with a `harmonizebin` named h, whose model is a fake, that ends in a `fakesink` named out.
pub struct Run {
    pub pipeline: gst::Pipeline,
    /// What came to `harmonize`, with the mask as alpha.
    pub composites: Frames,
    pub out: Frames,
}

pub fn collect(pad: &gst::Pad) -> Frames {
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
    pub fn new(description: &str) -> Self {
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
        harmonize.set_loader(Arc::<Fake>::default().loader());
        run
    }

    pub fn element(&self, name: &str) -> gst::Element {
        self.pipeline.by_name(name).unwrap()
    }

    pub fn h(&self) -> gst::Bin {
        self.element("h").downcast().unwrap()
    }

    pub fn child(&self, name: &str) -> gst::Element {
        self.h().by_name(name).unwrap()
    }

    pub fn play(&self) {
        self.pipeline.set_state(gst::State::Playing).unwrap();
    }

    pub fn wait(&self) {
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(30), &end);
        let message = message.expect("neither EOS nor an error in 30 s");
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    }

    pub fn until_eos(self) -> Self {
        self.play();
        self.wait();
        self
    }

    pub fn composites(&self) -> Vec<gst::Buffer> {
        self.composites.lock().unwrap().clone()
    }

    pub fn out(&self) -> Vec<gst::Buffer> {
        self.out.lock().unwrap().clone()
    }

    /// How many composites had something in their masks.
    pub fn masked(&self) -> usize {
        let caps = self.child("harmonize").static_pad("sink").unwrap().current_caps();
        let Some(info) = caps.and_then(|caps| VideoInfo::from_caps(&caps).ok()) else { return 0 };
        let masks = |composite: &gst::Buffer| rows(composite, &info, 3).concat().iter().any(|&m| m > 0);
        self.composites().iter().filter(|composite| masks(composite)).count()
    }
}

/// A component's samples, row by row; of 16 bits the upper eight.
pub fn rows(buffer: &gst::Buffer, info: &VideoInfo, component: u32) -> Vec<Vec<u8>> {
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
pub fn rewrite(element: &gst::Element, rate: u64, write: impl Fn(u64, &mut [u8]) + Send + Sync + 'static) {
    element.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let n = (buffer.pts().unwrap().nseconds() * rate + 500_000_000) / 1_000_000_000;
            let mut map = buffer.make_mut().map_writable().unwrap();
            write(n, &mut map);
        }
        gst::PadProbeReturn::Ok
    });
}

pub const BLOCKS: u64 = 16;

/// A frame of 64x48 RGBA that shows number `n` twice: in its red, and in which of 16 columns is opaque.
pub fn numbered(n: u64, data: &mut [u8]) {
    data.fill(0);
    for pixel in data.chunks_mut(4).enumerate().filter(|(i, _)| (i % 64) as u64 / 4 == n % BLOCKS).map(|(_, p)| p) {
        pixel.copy_from_slice(&[n as u8 + 1, 200, 90, 255]);
    }
}

pub const BACKGROUND: [u8; 4] = [0, 7, 8, 255];

pub fn plain(_: u64, data: &mut [u8]) {
    data.chunks_mut(4).for_each(|pixel| pixel.copy_from_slice(&BACKGROUND));
}

/// The number of the foreground frame in each composite, after checks that its mask is of the same frame and that the
/// background is untouched around it in what came out; `None` for a composite without.
pub fn numbers(run: &Run) -> Vec<Option<u64>> {
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

pub fn source(name: &str, rate: u64, count: u64, more: &str) -> String {
    format!(
        "videotestsrc name={name} num-buffers={count} {more} ! video/x-raw,format=RGBA,width=64,height=48,framerate={rate}/1"
    )
}

/// White of 24x18 that fades from left to right.
pub fn fading(_: u64, data: &mut [u8]) {
    for (i, pixel) in data.chunks_mut(4).enumerate() {
        pixel.copy_from_slice(&[255, 255, 255, (i % 24 * 11) as u8]);
    }
}

pub fn black(format: &str) -> String {
    format!(
        "videotestsrc name=background num-buffers=3 pattern=black ! video/x-raw,format={format},width=64,height=48,framerate=25/1"
    )
}

pub fn info(format: &str) -> VideoInfo {
    VideoInfo::builder(VideoFormat::from_string(format), 64, 48).build().unwrap()
}

pub const WHITE: &str =
    "videotestsrc name=foreground num-buffers=3 ! video/x-raw,format=RGBA,width=24,height=18,framerate=25/1";
