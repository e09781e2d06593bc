//! Which formats backgrounds of each kind are composited in and leave in.

use gst_video::{VideoFormat, VideoFormatInfo, VideoInfo};

/// The format to composite a background of `format` in: of those with alpha that `compositor` draws in, one that holds the
/// same samples, or chroma of twice the rate, from which they come back as they were. Of eight bits always: into more,
/// GStreamer's scaler loses part of a foreground that it makes narrower and taller, or wider and lower.
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

/// The format to give for a background of `format`: its own, or the one with the same samples and no alpha; of 16-bit RGB the
/// deepest there is without.
pub fn without_alpha(format: VideoFormat) -> VideoFormat {
    use VideoFormat::*;
    let info = VideoFormatInfo::from_format(format);
    match format {
        Rgba => Rgbx,
        Bgra => Bgrx,
        Argb => Xrgb,
        Abgr => Xbgr,
        Rgb8p => Rgbx,
        _ if info.depth().len() < 4 => format,
        _ => match (info.is_rgb(), info.depth()[0], info.w_sub()[1], info.h_sub()[1]) {
            (true, 8, ..) => Gbr,
            (true, 10, ..) => Gbr10le,
            (true, ..) => Gbr12le,
            (_, 8, 0, _) => Y444,
            (_, 8, ..) => I420,
            (_, 10, 0, _) => Y44410le,
            (_, 10, _, 0) => I42210le,
            (_, 10, ..) => I42010le,
            (_, 12, ..) => Y44412le,
            _ => Y44416le,
        },
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
    // GStreamer doesn't flag all formats with alpha.
    let opaque = VideoFormat::iter_raw().filter(|&format| without_alpha(format) == format);
    gst_video::VideoCapsBuilder::new().format_list(opaque).build()
}
