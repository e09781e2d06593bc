//! Numbered pictures: composites whose every byte tells their number, and masks that keep their right part empty.
//!
//! A mask is 255 in the left three eighths and 0 in the right three, with noise between, so that the left and the right
//! quarter stay all foreground and all background however it is scaled. Composites with alpha hold the same in it.

use gst_video::{VideoFormat, VideoInfo};

pub const COMPOSITES: [VideoFormat; 8] = [
    VideoFormat::Rgb,
    VideoFormat::Rgba,
    VideoFormat::Bgrx,
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Ayuv,
    VideoFormat::A420,
    VideoFormat::Gray8,
];
pub const MASKS: [VideoFormat; 4] = [VideoFormat::Gray8, VideoFormat::I420, VideoFormat::Rgb, VideoFormat::Rgba];

/// One quarter of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

fn noise(number: u64, index: usize) -> u8 {
    let x = (number << 20 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
}

/// Every sample of component `component`: its index in the buffer, its column and the component's width.
fn samples(info: &VideoInfo, component: u8) -> impl Iterator<Item = (usize, usize, usize)> {
    let format = info.format_info();
    let (width, height) =
        (format.scale_width(component, info.width()) as usize, format.scale_height(component, info.height()) as usize);
    let index = component as usize;
    let plane = format.plane()[index] as usize;
    let start = info.offset()[plane] + format.poffset()[index] as usize;
    let (stride, step) = (info.stride()[plane] as usize, format.pixel_stride()[index] as usize);
    (0..height).flat_map(move |y| (0..width).map(move |x| (start + y * stride + x * step, x, width)))
}

fn is_alpha(info: &VideoInfo, component: u8) -> bool {
    info.has_alpha() && u32::from(component) == info.n_components() - 1
}

fn zoned(number: u64, (index, x, width): (usize, usize, usize)) -> u8 {
    match 8 * x {
        left if left < 3 * width => 255,
        right if right >= 5 * width => 0,
        _ => noise(number, index),
    }
}

/// The bytes of composite `number`.
pub fn composite(info: &VideoInfo, number: u64) -> Vec<u8> {
    let mut data: Vec<_> = (0..info.size()).map(|index| noise(number, index)).collect();
    for component in (0..info.n_components() as u8).filter(|&c| is_alpha(info, c)) {
        samples(info, component).for_each(|sample| data[sample.0] = zoned(number, sample));
    }
    data
}

/// The bytes of mask `number`, the same in every channel.
pub fn mask(info: &VideoInfo, number: u64) -> Vec<u8> {
    let mut data = vec![128; info.size()];
    let chroma = |component| info.is_yuv() && (1..3).contains(&component);
    for component in (0..info.n_components() as u8).filter(|&c| !chroma(c)) {
        samples(info, component).for_each(|sample| data[sample.0] = zoned(number, sample));
    }
    data
}

/// The first sample of `side` that is not as composite `number` had it; alpha has to be so everywhere.
pub fn touched(info: &VideoInfo, number: u64, data: &[u8], side: Side) -> Option<String> {
    (0..info.n_components() as u8).find_map(|component| {
        let alpha = is_alpha(info, component);
        samples(info, component).find_map(|sample| {
            let (index, x, width) = sample;
            let inside = match side {
                Side::Left => 4 * (x + 1) <= width,
                Side::Right => 4 * x >= 3 * width,
            };
            let was = if alpha { zoned(number, sample) } else { noise(number, index) };
            let is_touched = (alpha || inside) && data[index] != was;
            is_touched
                .then(|| format!("byte {index}, column {x} of component {component}, was {was} and is {}", data[index]))
        })
    })
}
