//! A mask says the same in every format that can hold it.

use crate::common::*;
use crate::formats;
use glib::translate::*;
use gst::prelude::*;
use gst_video::{VideoChromaSite, VideoFormat, VideoFormatInfo, VideoInfo, VideoPackFlags};
use std::sync::Arc;

const WIDTH: usize = 12;
const HEIGHT: usize = 6;

/// Of every code that two bits have, at a width that all formats hold.
fn mask(coarse: bool) -> Vec<u8> {
    (0..WIDTH * HEIGHT).map(|i| if coarse { [0, 255, 255, 0][i * 7 / 5 % 4] } else { (i * 53 % 256) as u8 }).collect()
}

/// `mask` as a frame of `format`, packed by GStreamer: its alpha, or else its luma.
fn packed(format: VideoFormat, mask: &[u8], times: usize) -> (VideoInfo, Vec<u8>) {
    let (width, height) = (WIDTH * times, HEIGHT * times);
    let info = VideoInfo::builder(format, width as u32, height as u32).fps(gst::Fraction::new(25, 1)).build().unwrap();
    let description = info.format_info();
    let wide = VideoFormatInfo::from_format(description.unpack_format()).depth()[0] == 16;
    let is_alpha = description.n_components() == 4;
    let mut data = vec![0; info.size() + 4096];
    let mut planes = [std::ptr::null_mut::<std::ffi::c_void>(); 4];
    let mut strides = [0; 4];
    for plane in 0..info.n_planes() as usize {
        planes[plane] = data[info.offset()[plane]..].as_mut_ptr().cast();
        strides[plane] = info.stride()[plane];
    }
    for y in 0..height {
        let mut line = Vec::new();
        for x in 0..width {
            let m = mask[y / times * WIDTH + x / times];
            let pixel = match (is_alpha, info.is_rgb()) {
                (true, _) => [m, 90, 90, 90],
                (false, true) => [255, m, m, m],
                (false, false) => [255, m, 128, 128],
            };
            line.extend(pixel.into_iter().flat_map(|code| [code; 2].into_iter().take(if wide { 2 } else { 1 })));
        }
        line.resize(line.len() + 4096, 0);
        // SAFETY: GStreamer's description; `line` holds a row of its unpacked pixels, and planes those of the frame.
        unsafe {
            let raw = description.to_glib_none().0;
            let (flags, site) = (VideoPackFlags::empty().into_glib(), VideoChromaSite::NONE.into_glib());
            let pack = (*raw).pack_func.unwrap();
            pack(
                raw,
                flags,
                line.as_ptr() as *mut _,
                0,
                planes.as_mut_ptr(),
                strides.as_ptr(),
                site,
                y as i32,
                width as i32,
            );
        }
    }
    data.truncate(info.size());
    (info, data)
}

/// A grey picture harmonized by the mask in `data`.
fn harmonized(info: &VideoInfo, data: &[u8]) -> Vec<u8> {
    let element = element(&Arc::default());
    element.set_property_from_str("mask-range", "full");
    let caps = format!("video/x-raw,format=RGBx,width={WIDTH},height={HEIGHT},framerate=25/1");
    let composite = Stream::new(&caps, frames(25, 1, &[77; 4 * WIDTH * HEIGHT]));
    let (out, messages) =
        run(&element, composite, Some(Stream::new(&info.to_caps().unwrap().to_string(), frames(25, 1, data))));
    assert_eq!(out.len(), 1, "{messages:?}");
    bytes(&out[0])
}

#[test]
fn a_mask_of_every_format_and_of_another_size_is_read() {
    let by_gray = [false, true].map(|coarse| {
        let (info, data) = packed(VideoFormat::Gray8, &mask(coarse), 1);
        harmonized(&info, &data)
    });
    assert_ne!(by_gray[0], by_gray[1]);
    for format in formats() {
        let depths = VideoFormatInfo::from_format(format).depth().to_vec();
        // What holds the mask.
        let coarse = *depths.get(3).unwrap_or(&depths[0]) < 8;
        for times in [1, 2] {
            let (info, data) = packed(format, &mask(coarse), times);
            let out = harmonized(&info, &data);
            assert!(out == by_gray[usize::from(coarse)], "{format}, {times} times as large");
        }
    }
}
