//! Raw formats, from GStreamer's descriptions to `frame`'s.
//!
//! A format's samples have words of their own and are worked on where they lie, or they are packed into bits, groups or tiles and have
//! a partner: a format of whole words that holds the same samples.

use crate::frame::{ComponentLayout, Components, Format};
use gst_video::{VideoFormat, VideoFormatFlags, VideoFormatInfo};

/// Where the samples of `info` lie, if each has a word of its own and all of them 8 to 16 bits; `None` for formats that pack samples
/// into bits or pixels into tiles.
pub fn describe(info: &VideoFormatInfo) -> Option<Format> {
    if !is_of_integers(info) || info.flags().intersects(VideoFormatFlags::COMPLEX | VideoFormatFlags::TILED) {
        return None;
    }
    let (&depth, &shift) = (info.depth().first()?, info.shift().first()?);
    // The description of Y210 counts from the word's low end.
    let lowest = if info.format() == VideoFormat::Y210 { 6 } else { shift };
    let bytes = if depth + lowest > 8 { 2 } else { 1 };
    let n = info.n_components() as usize;
    let is_alike = info.depth().iter().zip(info.shift()).all(|(d, s)| (*d, *s) == (depth, shift));
    if !(8..=16).contains(&depth) || !is_alike {
        return None;
    }
    let mut places = [None; 4];
    for (c, place) in places.iter_mut().enumerate().take(n) {
        let step = u8::try_from(info.pixel_stride()[c]).ok()? / bytes;
        *place = Some(ComponentLayout { plane: info.plane()[c] as u8, first: first(info, c, bytes)?, step });
    }
    let is_sound =
        |place: &ComponentLayout| (1..=4).contains(&place.step) && place.first < place.step && place.plane < 4;
    let are_apart = (0..n).all(|c| !places[..c].contains(&places[c]));
    (places.iter().flatten().all(is_sound) && are_apart).then_some(Format {
        components: components(info)?,
        depth: depth as u8,
        bytes,
        big_endian: bytes == 2 && is_big_endian(info),
        shift: lowest as u8,
        sub: sub(info)?,
        places,
    })
}

/// The format that holds the samples of `info`, where they lie in no words of their own, and where and how deep they are in it.
/// `None` for those of `describe`, and for those without one: a palette's entries, which other pixels share, and MediaTek's tiles, of
/// which GStreamer (1.24 to 1.28) leaves samples at the edges of small pictures unread.
pub fn partner(info: &VideoFormatInfo) -> Option<(VideoFormat, Format)> {
    if !is_of_integers(info) || describe(info).is_some() || info.name().starts_with("MT2110") {
        return None;
    }
    let colours = &info.depth()[..info.depth().len().min(3)];
    let depth = colours.iter().copied().max()?;
    let partner = match (components(info)?, depth, sub(info)?, info.n_components() == 4) {
        (Components::Rgb, 1..=8, _, false) => VideoFormat::Rgbx,
        (Components::Rgb, 10, _, false) => VideoFormat::Gbr10le,
        (Components::Rgb, 10, _, true) => VideoFormat::Gbra10le,
        (Components::Yuv, 8, [1, 1], false) => VideoFormat::Nv12,
        (Components::Yuv, 8, [2, 0], false) => VideoFormat::Y41b,
        (Components::Yuv, 10, [1, 1], false) => VideoFormat::P01010le,
        (Components::Yuv, 10, [1, 0], false) => VideoFormat::I42210le,
        (Components::Yuv, 10, [0, 0], true) => VideoFormat::A44410le,
        (Components::Gray, 9..=16, ..) => VideoFormat::Gray16Le,
        _ => return None,
    };
    let mut format = describe(&VideoFormatInfo::from_format(partner))?;
    // In words with bits to spare samples are at the top, which is what keeps their rounding that of their own depth.
    if components(info) == Some(Components::Gray) {
        (format.shift, format.depth) = (16 - depth as u8, depth as u8);
    }
    Some((partner, format))
}

/// All formats that can be worked on, cheap and common ones first, as negotiation prefers them; those with a partner last.
pub fn all() -> impl Iterator<Item = VideoFormat> {
    use VideoFormat::*;
    let common = [Rgba, Bgra, Argb, Abgr, Rgbx, Bgrx, Xrgb, Xbgr, Rgb, Bgr, I420, Nv12, A420, Ayuv, Gray8];
    let mut all: Vec<_> = VideoFormat::iter_raw()
        .filter_map(|format| {
            let info = VideoFormatInfo::from_format(format);
            let in_place = describe(&info).is_some();
            let rank = common.iter().position(|&c| c == format).unwrap_or(common.len());
            (in_place || partner(&info).is_some()).then(|| (!in_place, rank, info.depth()[0], format))
        })
        .collect();
    all.sort_by_key(|&(converted, rank, depth, _)| (converted, rank, depth));
    all.into_iter().map(|(.., format)| format)
}

/// Whether samples are whole numbers of up to 16 bits, as those of all formats that GStreamer reads by way of these.
fn is_of_integers(info: &VideoFormatInfo) -> bool {
    use VideoFormat::{Argb, Argb64, Ayuv, Ayuv64};
    [Argb, Argb64, Ayuv, Ayuv64].contains(&info.unpack_format()) && !info.flags().contains(VideoFormatFlags::PALETTE)
}

fn components(info: &VideoFormatInfo) -> Option<Components> {
    let (components, least) = match () {
        () if info.is_rgb() => (Components::Rgb, 3),
        () if info.is_gray() => (Components::Gray, 1),
        () => (Components::Yuv, 3),
    };
    (info.n_components() >= least).then_some(components)
}

fn sub(info: &VideoFormatInfo) -> Option<[u8; 2]> {
    if !info.is_yuv() {
        return Some([0, 0]);
    }
    let sub = |of: &[u32]| of.get(1).and_then(|&sub| u8::try_from(sub).ok()).filter(|&sub| sub <= 2);
    Some([sub(info.w_sub())?, sub(info.h_sub())?])
}

/// Only names tell: formats are flagged little-endian or not at all, and not all of those that are.
fn is_big_endian(info: &VideoFormatInfo) -> bool {
    let is_machine_s = [VideoFormat::Argb64, VideoFormat::Ayuv64].contains(&info.format());
    info.name().ends_with("BE") || is_machine_s && cfg!(target_endian = "big")
}

/// The word of a pixel, or of two that share chroma, that holds component `c`.
fn first(info: &VideoFormatInfo, c: usize, bytes: u8) -> Option<u8> {
    let order: [u8; 4] = match info.format() {
        // Described as UYVY is.
        VideoFormat::Vyuy => [1, 2, 0, 0],
        // Their descriptions give no offsets.
        VideoFormat::Y210 | VideoFormat::Y212Le | VideoFormat::Y212Be => [0, 1, 3, 0],
        VideoFormat::Y412Le | VideoFormat::Y412Be => [1, 0, 2, 3],
        // P010's and its like count words.
        _ => return u8::try_from(info.poffset()[c].div_ceil(u32::from(bytes))).ok(),
    };
    order.get(c).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_video::VideoPackFlags;

    const STRIDE: usize = 200;
    const ROWS: usize = 8;

    /// Sample (x, y) of component `c` in planes of `STRIDE` x `ROWS` bytes.
    fn code(format: &Format, planes: &[&[u8]], x: usize, y: usize, c: usize) -> u32 {
        let ComponentLayout { plane, first, step } = format.places[c].unwrap();
        let sub = if c == 1 || c == 2 { format.sub } else { [0, 0] };
        let (x, y, bytes) = (x >> sub[0], y >> sub[1], usize::from(format.bytes));
        let at = y * STRIDE + (x * usize::from(step) + usize::from(first)) * bytes;
        let word = planes[usize::from(plane)][at..at + bytes].iter().copied();
        let word: Vec<u8> = if format.big_endian { word.collect() } else { word.rev().collect() };
        let word = word.into_iter().fold(0, |word, byte| word << 8 | u32::from(byte));
        word >> format.shift & ((1 << format.depth) - 1)
    }

    #[test]
    fn described_samples_are_those_that_gstreamer_unpacks() {
        gst::init().unwrap();
        let mut state = 1u64;
        let mut known = 0;
        for video_format in VideoFormat::iter_raw() {
            let info = VideoFormatInfo::from_format(video_format);
            let Some(format) = describe(&info) else { continue };
            known += 1;
            let memory: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                (state >> 56) as u8
            })
            .take(4 * STRIDE * ROWS)
            .collect();
            let planes: Vec<_> = memory.chunks(STRIDE * ROWS).take(info.n_planes() as usize).collect();
            let unpacked = VideoFormatInfo::from_format(info.unpack_format());
            let (bits, bytes) = (unpacked.depth()[0], unpacked.depth()[0] as usize / 8);
            let strides = vec![STRIDE as i32; planes.len()];
            for y in 0..5 {
                let mut row = vec![0; 16 * 4 * bytes];
                info.unpack(VideoPackFlags::empty(), &mut row, &planes, &strides, 0, y as i32, 12);
                for x in 0..12 {
                    for c in (0..4).filter(|&c| format.places[c].is_some()) {
                        let sample = &row[(4 * x + (c + 1) % 4) * bytes..][..bytes];
                        let sample =
                            if bytes == 1 { u16::from(sample[0]) } else { u16::from_ne_bytes([sample[0], sample[1]]) };
                        let expected = u32::from(sample) >> (bits - u32::from(format.depth));
                        assert_eq!(
                            code(&format, &planes, x, y, c),
                            expected,
                            "{video_format}: component {c} at {x}, {y}"
                        );
                    }
                }
            }
        }
        assert!(known >= 89, "{known}");
    }

    #[test]
    fn every_raw_format_but_the_palette_can_be_worked_on() {
        gst::init().unwrap();
        let all: Vec<_> = all().collect();
        let listed_by_1_22 = VideoFormat::iter_raw().filter(|format| !matches!(format, VideoFormat::__Unknown(_)));
        let left_out: Vec<_> = listed_by_1_22.filter(|format| !all.contains(format)).collect();
        assert_eq!(left_out, [VideoFormat::Rgb8p]);
        assert_eq!(all[..2], [VideoFormat::Rgba, VideoFormat::Bgra]);
        assert!(describe(&VideoFormatInfo::from_format(*all.last().unwrap())).is_none());
    }
}
