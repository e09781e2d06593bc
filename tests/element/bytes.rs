//! What may change of a composite: the colour samples of its foreground. `formats` goes through all formats, sizes and memory layouts.

use crate::common::*;
use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use gstharmonize::frame::{Colorimetry, Format, Mask, Matrix, PictureMut, PlaneMut, Region};
use gstharmonize::transfer::Transfer;
use gstharmonize::transfer::apply;
use std::sync::Arc;

/// The common ones, of a byte a sample.
const FORMATS: [VideoFormat; 15] = [
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Ayuv,
    VideoFormat::I420,
    VideoFormat::A420,
    VideoFormat::Nv12,
    VideoFormat::Gray8,
];

/// A composite's memory: where its planes lie, and every byte that is no padding by its component and pixels.
struct Layout {
    info: VideoInfo,
    offsets: Vec<usize>,
    strides: Vec<i32>,
    size: usize,
}

impl Layout {
    fn new(format: VideoFormat, width: u32, height: u32) -> Self {
        init();
        let info = VideoInfo::builder(format, width, height).fps(gst::Fraction::new(25, 1)).build().unwrap();
        let n = info.n_planes() as usize;
        Self { offsets: info.offset()[..n].to_vec(), strides: info.stride()[..n].to_vec(), size: info.size(), info }
    }

    fn buffer(&self) -> gst::Buffer {
        let data: Vec<u8> = (0..self.size).map(|i| 40 + (i * 37 % 151) as u8).collect();
        let mut buffer = buffer(0, 40_000_000, &data);
        gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            self.info.format(),
            self.info.width(),
            self.info.height(),
            &self.offsets,
            &self.strides,
        )
        .unwrap();
        buffer
    }

    /// For each byte of the buffer, whether it is a colour sample of a pixel that `mask` counts to the foreground.
    fn foreground(&self, mask: impl Fn(usize, usize) -> u8) -> Vec<bool> {
        let mut foreground = vec![false; self.size];
        let format = self.info.format_info();
        let (width, height) = (self.info.width() as usize, self.info.height() as usize);
        for component in 0..format.n_components().min(3) as usize {
            let plane = format.plane()[component] as usize;
            for y in 0..height {
                for x in 0..width {
                    let (sx, sy) = (x >> format.w_sub()[component], y >> format.h_sub()[component]);
                    let at = self.offsets[plane]
                        + sy * self.strides[plane] as usize
                        + sx * format.pixel_stride()[component] as usize
                        + format.poffset()[component] as usize;
                    foreground[at] |= mask(x, y) > 0;
                }
            }
        }
        foreground
    }
}

/// Harmonizes one frame of `layout` with `mask`, seen in `region`; which bytes have changed.
fn changes(layout: &Layout, region: Option<Region>, mask: impl Fn(usize, usize) -> u8) -> Vec<bool> {
    let (width, height) = (layout.info.width() as usize, layout.info.height() as usize);
    let stride = width.next_multiple_of(4);
    let mut samples = vec![0; stride * height];
    for y in 0..height {
        for x in 0..width {
            samples[y * stride + x] = mask(x, y);
        }
    }
    let element = element(&Arc::new(Fake { region, ..Fake::default() }));
    element.set_property_from_str("mask-range", "full");
    let sent = layout.buffer();
    let mask = format!("video/x-raw,format=GRAY8,width={width},height={height},framerate=25/1");
    let composite = Stream::new(&layout.info.to_caps().unwrap().to_string(), [sent.clone()]);
    let (out, _) = run(&element, composite, Some(Stream::new(&mask, [buffer(0, 40_000_000, &samples)])));
    assert_eq!(out.len(), 1, "{:?}", layout.info);
    let meta = out[0].meta::<gst_video::VideoMeta>().unwrap();
    assert_eq!((meta.offset(), meta.stride()), (&layout.offsets[..], &layout.strides[..]));
    bytes(&out[0]).iter().zip(bytes(&sent)).map(|(&a, b)| a != b).collect()
}

fn check(layout: Layout, mask: impl Fn(usize, usize) -> u8 + Copy) {
    check_in(None, layout, mask);
}

fn check_in(region: Option<Region>, layout: Layout, mask: impl Fn(usize, usize) -> u8 + Copy) {
    let may = layout.foreground(mask);
    let did = changes(&layout, region, mask);
    let what =
        format!("{} {}x{} {:?}", layout.info.format(), layout.info.width(), layout.info.height(), layout.strides);
    for (i, (&may, &did)) in may.iter().zip(&did).enumerate() {
        assert!(may || !did, "{what}: byte {i} is not the foreground's and has changed");
    }
    let (may, did) = (may.iter().filter(|&&b| b).count(), did.iter().filter(|&&b| b).count());
    assert!(2 * did >= may, "{what}: only {did} of the foreground's {may} samples have changed");
}

/// Soft where it ends, and of no shape that chroma samples would line up with.
fn blob(x: usize, y: usize) -> u8 {
    let distance = x.abs_diff(7) + 2 * y.abs_diff(4);
    [255, 255, 255, 255, 190, 90][..].get(distance).copied().unwrap_or(0)
}

#[test]
fn a_crop_changes_the_foreground_alone_beyond_its_border_too() {
    for format in FORMATS {
        check_in(Some(Region { x: 5, y: 3, width: 4, height: 3 }), Layout::new(format, 16, 10), blob);
    }
}

#[test]
fn a_crop_s_transfer_is_applied_where_the_crop_was() {
    const CAPS: &str = "video/x-raw,format=RGBA,width=16,height=10,framerate=25/1";
    let sent: Vec<u8> = (0..160).flat_map(|i| [90, 80 + i as u8, 70, blob(i % 16, i / 16)]).collect();
    let region = Some(Region { x: 4, y: 2, width: 8, height: 5 });
    let by = |region| {
        let element = element(&Arc::new(Fake { region, ..Fake::default() }));
        bytes(&run(&element, Stream::new(CAPS, frames(25, 1, &sent)), None).0[0])
    };
    let mut expected = sent.clone();
    let mask = Mask { width: 16, height: 10, data: sent.iter().skip(3).step_by(4).copied().collect() };
    let mut planes: [PlaneMut; 4] = Default::default();
    planes[0] = PlaneMut { data: &mut expected, stride: 64 };
    let mut picture = PictureMut {
        format: Format::RGBA,
        colour: Colorimetry::new(Matrix::Bt709, true),
        width: 16,
        height: 10,
        interlaced: false,
        planes,
    };
    apply(&mut picture, &mask, &Transfer { region, ..transfer() }, 1.0);
    assert_eq!(by(region), expected);
    assert_ne!(by(None), expected);
}

#[test]
fn an_all_one_mask_harmonizes_the_whole_frame() {
    for format in FORMATS {
        check(Layout::new(format, 9, 7), |_, _| 255);
    }
}

#[test]
fn a_frame_of_one_pixel_is_harmonized() {
    for format in FORMATS {
        check(Layout::new(format, 1, 1), |_, _| 255);
    }
}

#[test]
fn an_all_zero_mask_leaves_the_frame_without_an_inference() {
    let fake = Arc::new(Fake { fails: Some("an empty mask needs no inference"), ..Fake::default() });
    let element = element(&fake);
    let layout = Layout::new(VideoFormat::I420, 13, 9);
    let sent = layout.buffer();
    let composite = Stream::new(&layout.info.to_caps().unwrap().to_string(), [sent.clone()]);
    let mask = Stream::new("video/x-raw,format=GRAY8,width=8,height=8,framerate=25/1", frames(25, 1, &gray(8, 8, 0)));
    let (out, _) = run(&element, composite, Some(mask));
    assert_eq!(bytes(&out[0]), bytes(&sent));
    assert_eq!((fake.count(), stat(&element, "passed-through")), (0, 1));
}

const RGBA: &str = "video/x-raw,format=RGBA,width=2,height=1,framerate=25/1";

#[test]
fn without_a_mask_pad_the_composites_alpha_is_the_mask() {
    let element = element(&Arc::default());
    let sent = [90, 80, 70, 255, 90, 80, 70, 0];
    let (out, _) = run(&element, Stream::new(RGBA, frames(25, 1, &sent)), None);
    let out = bytes(&out[0]);
    assert_ne!(out[..3], sent[..3]);
    assert_eq!(out[3..], sent[3..]);
}

#[test]
fn without_mask_pad_and_alpha_frames_pass_untouched_with_a_warning() {
    let element = element(&Arc::default());
    let sent = [90; 8];
    let caps = RGBA.replace("RGBA", "RGBx");
    let (out, messages) = run(&element, Stream::new(&caps, frames(25, 3, &sent)), None);
    assert!(out.len() == 3 && out.iter().all(|out| bytes(out) == sent));
    assert_eq!(messages.iter().filter(|m| m.type_() == gst::MessageType::Warning).count(), 1);
    assert_eq!(stat(&element, "passed-through"), 3);
}

/// The red of a grey pixel under a mask of one pixel, harmonized with `set` made.
fn red(mask_format: &str, mask: &[u8], set: &[(&str, &str)]) -> u8 {
    let element = element(&Arc::default());
    set.iter().for_each(|(name, value)| element.set_property_from_str(name, value));
    let caps = "video/x-raw,format=RGBx,width=1,height=1,framerate=25/1";
    let mask_caps = caps.replace("RGBx", mask_format);
    let composite = Stream::new(caps, frames(25, 1, &[100; 4]));
    let (out, _) = run(&element, composite, Some(Stream::new(&mask_caps, frames(25, 1, mask))));
    bytes(&out[0])[0]
}

#[test]
fn mask_settings_choose_what_the_mask_is() {
    let (full, none) = (red("GRAY8", &[255; 4], &[]), 100);
    assert_ne!(full, none);
    assert_eq!(red("GRAY8", &[235; 4], &[("mask-range", "limited")]), full);
    assert_ne!(red("GRAY8", &[235; 4], &[("mask-range", "full")]), full);
    assert_eq!(red("GRAY8", &[16; 4], &[("mask-range", "limited")]), none);
    assert_eq!(red("GRAY8", &[0; 4], &[("mask-invert", "true")]), full);
    assert_eq!(red("RGBA", &[0, 0, 0, 255], &[]), full);
    assert_eq!(red("RGBA", &[255, 255, 255, 0], &[]), none);
    assert_eq!(red("RGBA", &[255, 255, 255, 0], &[("mask-channel", "luma")]), full);
    assert_eq!(red("RGBA", &[0, 255, 0, 0], &[("mask-channel", "green")]), full);
    assert_eq!(red("RGBA", &[0, 255, 0, 0], &[("mask-channel", "blue")]), none);
}

#[test]
fn strength_may_be_controlled_frame_by_frame() {
    let element = element(&Arc::default());
    element.add_control_binding(&ramp::new(&element, "strength")).unwrap();
    let mask = Stream::new("video/x-raw,format=GRAY8,width=2,height=1,framerate=25/1", frames(25, 3, &[255; 4]));
    let (out, _) = run(&element, Stream::new(RGBA, frames(25, 3, &[100; 8])), Some(mask));
    let red: Vec<_> = out.iter().map(|b| bytes(b)[0]).collect();
    assert_eq!(red[0], 100);
    assert!(100 < red[1] && red[1] < red[2], "{red:?}");
}

/// A control binding that sets a property to 0 at stream time 0, 0.5 at 40 ms and 1 at 80 ms.
mod ramp {
    use glib::translate::*;
    use gst::ffi;
    use gst::prelude::*;
    use gst::subclass::prelude::*;

    glib::wrapper! {
        pub struct Ramp(ObjectSubclass<imp::Ramp>) @extends gst::ControlBinding, gst::Object;
    }

    mod imp {
        use super::*;

        #[derive(Default)]
        pub struct Ramp;

        #[glib::object_subclass]
        impl ObjectSubclass for Ramp {
            const NAME: &'static str = "HarmonizeTestRamp";
            type Type = super::Ramp;
            type ParentType = gst::ControlBinding;
        }

        impl ObjectImpl for Ramp {}
        impl GstObjectImpl for Ramp {}
    }

    // SAFETY: only a function of the parent's class is filled in, with the signature it declares.
    unsafe impl IsSubclassable<imp::Ramp> for gst::ControlBinding {
        fn class_init(class: &mut glib::Class<Self>) {
            Self::parent_class_init::<imp::Ramp>(class);
            class.as_mut().sync_values = Some(sync);
        }
    }

    unsafe extern "C" fn sync(
        binding: *mut ffi::GstControlBinding,
        object: *mut ffi::GstObject,
        time: ffi::GstClockTime,
        _last: ffi::GstClockTime,
    ) -> glib::ffi::gboolean {
        // SAFETY: GStreamer hands in live objects.
        let (binding, object) =
            unsafe { (gst::ControlBinding::from_glib_borrow(binding), gst::Object::from_glib_borrow(object)) };
        object.set_property(&binding.property::<String>("name"), time as f64 / 80e6);
        true.into_glib()
    }

    pub fn new(object: &impl IsA<gst::Object>, name: &str) -> Ramp {
        glib::Object::builder().property("object", object).property("name", name).build()
    }
}
