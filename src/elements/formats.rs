//! Raw formats, from GStreamer's descriptions to `frame`'s.

use crate::frame::{Components, Format, Place};
use gst_video::{VideoFormat, VideoFormatFlags, VideoFormatInfo};

/// Where the samples of `info` lie, if each has a word of its own and all of them 8 to 16 bits; `None` for formats that pack samples
/// into bits or pixels into tiles.
pub fn describe(info: &VideoFormatInfo) -> Option<Format> {
    if info.flags().intersects(VideoFormatFlags::COMPLEX | VideoFormatFlags::TILED | VideoFormatFlags::PALETTE) {
        return None;
    }
    let components = match () {
        () if info.is_rgb() => Components::Rgb,
        () if info.is_gray() => Components::Gray,
        () => Components::Yuv,
    };
    let (&depth, &shift) = (info.depth().first()?, info.shift().first()?);
    let bytes = if depth + shift > 8 { 2 } else { 1 };
    let n = info.n_components() as usize;
    let is_alike = info.depth().iter().zip(info.shift()).all(|(d, s)| (*d, *s) == (depth, shift));
    if !(8..=16).contains(&depth) || !is_alike || n < if components == Components::Gray { 1 } else { 3 } {
        return None;
    }
    let mut places = [None; 4];
    for (c, place) in places.iter_mut().enumerate().take(n) {
        let step = u8::try_from(info.pixel_stride()[c]).ok()? / bytes;
        *place = Some(Place { plane: info.plane()[c] as u8, first: first(info, c)?, step });
    }
    let is_sound = |place: &Place| (1..=4).contains(&place.step) && place.first < place.step && place.plane < 4;
    let are_apart = (0..n).all(|c| !places[..c].contains(&places[c]));
    let sub = |of: &[u32]| of.get(1).and_then(|&sub| u8::try_from(sub).ok()).filter(|&sub| sub <= 2);
    let sub = if components == Components::Yuv { [sub(info.w_sub())?, sub(info.h_sub())?] } else { [0, 0] };
    (places.iter().flatten().all(is_sound) && are_apart).then_some(Format {
        components,
        depth: depth as u8,
        bytes,
        // The formats of the machine's own order carry no byte order in their name.
        big_endian: bytes == 2 && !info.is_le() && (cfg!(target_endian = "big") || info.name().ends_with("BE")),
        shift: shift as u8,
        sub,
        places,
    })
}

/// The word of a pixel, or of two that share chroma, that holds component `c`.
fn first(info: &VideoFormatInfo, c: usize) -> Option<u8> {
    // The descriptions of these give no offsets.
    let order: [u8; 4] = match info.format() {
        VideoFormat::Y210 | VideoFormat::Y212Le | VideoFormat::Y212Be => [0, 1, 3, 0],
        VideoFormat::Y412Le | VideoFormat::Y412Be => [1, 0, 2, 3],
        _ => {
            let bytes = if info.depth()[0] + info.shift()[0] > 8 { 2 } else { 1 };
            // P010's and its like count words.
            return u8::try_from(info.poffset()[c].div_ceil(bytes)).ok();
        }
    };
    order.get(c).copied()
}

/// All formats that `describe` knows.
pub fn all() -> impl Iterator<Item = VideoFormat> {
    VideoFormat::iter_raw().filter(|&format| describe(&VideoFormatInfo::from_format(format)).is_some())
}
