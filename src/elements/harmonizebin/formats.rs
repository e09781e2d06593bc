//! Which formats backgrounds of each kind are composited in and leave in.

use gst_video::{VideoFormat, VideoFormatInfo, VideoInfo};

/// The format to composite a background of `format` in: of those with alpha that `harmonize` takes, the one that has the
/// same samples, if there is one.
fn with_alpha(format: VideoFormat) -> VideoFormat {
    use VideoFormat::*;
    let info = VideoFormatInfo::from_format(format);
    match format {
        Rgba | Bgra | Argb | Abgr | A420 | Ayuv => format,
        Rgbx | Rgb => Rgba,
        Bgrx | Bgr => Bgra,
        Xrgb => Argb,
        Xbgr => Abgr,
        _ if info.is_rgb() => Rgba,
        _ if info.h_sub().get(1).is_some_and(|&sub| sub > 0) => A420,
        _ => Ayuv,
    }
}

/// The format to give for a background of `format`: its own, or the one with the same samples and no alpha.
pub fn without_alpha(format: VideoFormat) -> VideoFormat {
    use VideoFormat::*;
    match format {
        Rgba => Rgbx,
        Bgra => Bgrx,
        Argb => Xrgb,
        Abgr => Xbgr,
        A420 => I420,
        Ayuv => Y444,
        _ => format,
    }
}

/// What `compositor` is to make of a background of `caps`.
pub fn composite_caps(caps: &gst::CapsRef) -> Option<gst::Caps> {
    let info = VideoInfo::from_caps(caps).ok()?;
    let mut wanted = caps.to_owned();
    let structure = wanted.make_mut().structure_mut(0)?;
    structure.set("format", with_alpha(info.format()).to_str());
    structure.set("colorimetry", info.colorimetry().to_string());
    structure.remove_fields(["multiview-mode", "multiview-flags", "views"]);
    if info.fps().numer() == 0 {
        match structure.get::<gst::Fraction>("max-framerate") {
            Ok(most) => structure.set("framerate", most),
            Err(_) => structure.remove_field("framerate"),
        }
        structure.remove_field("max-framerate");
    }
    Some(wanted)
}

/// Any format without alpha, which is a mask inside.
pub fn opaque_caps() -> gst::Caps {
    let opaque = VideoFormat::iter_raw().filter(|&format| !VideoFormatInfo::from_format(format).has_alpha());
    gst_video::VideoCapsBuilder::new().format_list(opaque).build()
}
