//! Pictures of any raw format in memory of odd strides and places, whose samples GStreamer's own unpacking reads.

use crate::common::*;
use glib::translate::*;
use gst_video::{
    VideoFormat, VideoFormatInfo, VideoFrameFlags, VideoInfo, VideoInterlaceMode, VideoMeta, VideoPackFlags,
};

/// Unpacking may look at the rest of a group of samples.
const SLACK: usize = 4096;

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize >> 1
    }
}

#[derive(Clone)]
pub struct Frame {
    pub info: VideoInfo,
    pub interlaced: bool,
    offsets: Vec<usize>,
    strides: Vec<i32>,
    pub data: Vec<u8>,
}

impl Frame {
    /// Random bytes for a picture of `caps`, planes in any order with gaps between.
    pub fn random(caps: &gst::Caps, dice: &mut Dice) -> Self {
        let info = VideoInfo::from_caps(caps).unwrap();
        let (format, n) = (info.format_info(), info.n_planes() as usize);
        let (mut strides, mut offsets, mut end) = (info.stride().to_vec(), vec![0; n], dice.next() % 20);
        let mut order: Vec<_> = (0..n).collect();
        order.sort_by_key(|_| dice.next());
        for plane in order {
            let least = if info.format() == VideoFormat::Uyvp { info.width().div_ceil(2) as i32 * 5 } else { 0 };
            strides[plane] += if format.is_tiled() { 2 * (dice.next() % 2) } else { dice.next() % 12 } as i32;
            strides[plane] = strides[plane].max(least);
            offsets[plane] = end;
            let component = format.plane().iter().position(|&p| p as usize == plane).unwrap();
            let rows = format.scale_height(component as u8, info.field_height()) as usize;
            end += dice.next() % 20
                + match format.is_tiled() {
                    true => {
                        let tiles = (strides[plane] & 0xffff) * (strides[plane] >> 16);
                        tiles as usize * format.tile_info(plane as u32).size() as usize
                    }
                    false => rows * strides[plane] as usize,
                };
        }
        let interlaced = info.interlace_mode() == VideoInterlaceMode::Interleaved;
        let data = (0..end).map(|_| dice.next() as u8).collect();
        Self { info, interlaced, offsets, strides, data }
    }

    /// Sets the samples of a format of two bytes a word: `code` of each column and component.
    pub fn fill(&mut self, code: impl Fn(usize, usize) -> u16) {
        let info = self.info.clone();
        let (format, (_, height)) = (info.format_info(), self.size());
        for c in 0..info.n_components() as usize {
            let (plane, step) = (format.plane()[c] as usize, format.pixel_stride()[c] as usize);
            // P010's and its like count words.
            let first = if format.poffset()[c] % 2 == 1 { 2 } else { format.poffset()[c] as usize };
            let rows = format.scale_height(c as u8, height as u32) as usize;
            for (row, x) in (0..rows).flat_map(|row| (0..info.comp_width(c as u8) as usize).map(move |x| (row, x))) {
                let at = self.offsets[plane] + row * self.strides[plane] as usize + x * step + first;
                let word = code(x << format.w_sub()[c], c) << format.shift()[c];
                self.data[at..at + 2].copy_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// The same picture in the memory of `buffer`.
    pub fn of(&self, buffer: &gst::BufferRef) -> Self {
        Self { data: buffer.map_readable().unwrap().to_vec(), ..self.clone() }
    }

    pub fn size(&self) -> (usize, usize) {
        (self.info.width() as usize, self.info.field_height() as usize)
    }

    pub fn buffer(&self) -> gst::Buffer {
        let mut buffer = buffer(0, 20_000_000, &self.data);
        let (width, height) = (self.info.width(), self.info.field_height());
        let (edit, format) = (buffer.get_mut().unwrap(), self.info.format());
        let flags = if self.interlaced { VideoFrameFlags::INTERLACED } else { VideoFrameFlags::empty() };
        VideoMeta::add_full(edit, flags, format, width, height, &self.offsets, &self.strides).unwrap();
        buffer
    }

    /// As `codes_as`, by fields where the picture has them: GStreamer unpacks tiles as if it hadn't.
    pub fn codes(&self) -> Vec<[u32; 4]> {
        let (width, height) = self.size();
        if !(self.interlaced && self.info.format_info().is_tiled()) {
            return self.codes_as(self.interlaced);
        }
        let codes = self.codes_as(false);
        let of = |(i, luma): (usize, &[u32; 4])| {
            let (x, y) = (i % width, i / width);
            let shown_at = ((y / 4 * 2 + y % 2) * 2).min(height - 1);
            let chroma = codes[shown_at * width + x];
            [luma[0], chroma[1], chroma[2], 0]
        };
        codes.iter().enumerate().map(of).collect()
    }

    /// The codes of each pixel: R, G, B or Y, Cb, Cr and alpha, each of its own depth.
    fn codes_as(&self, interlaced: bool) -> Vec<[u32; 4]> {
        let info = self.info.format_info();
        let mut data = self.data.clone();
        data.resize(data.len() + SLACK, 0);
        let unpacked = VideoFormatInfo::from_format(info.unpack_format());
        let (bits, bytes) = (unpacked.depth()[0], unpacked.depth()[0] as usize / 8);
        let (width, height) = self.size();
        // GStreamer takes the last pixel of an odd number of VYUY for one of UYVY.
        let all = width.next_multiple_of(2);
        let mut row = vec![0u64; 2 * all + SLACK / 8];
        let mut planes = [std::ptr::null::<std::ffi::c_void>(); 4];
        let mut strides = [0; 4];
        for (plane, (&offset, &stride)) in self.offsets.iter().zip(&self.strides).enumerate() {
            (planes[plane], strides[plane]) = (data[offset..].as_ptr().cast(), stride);
        }
        let flags = if interlaced { VideoPackFlags::INTERLACED } else { VideoPackFlags::empty() };
        let mut codes = Vec::new();
        for y in 0..height {
            // SAFETY: GStreamer's description; planes hold the rows of the picture, `row` the most that one unpacks to, and both a
            // group of samples more.
            unsafe {
                let raw = info.to_glib_none().0;
                (*raw).unpack_func.unwrap()(
                    raw,
                    flags.into_glib(),
                    row.as_mut_ptr().cast(),
                    planes.as_ptr().cast(),
                    strides.as_ptr(),
                    0,
                    y as i32,
                    all as i32,
                );
            }
            let samples: Vec<u8> = row.iter().flat_map(|word| word.to_ne_bytes()).collect();
            for x in 0..width {
                codes.push([1, 2, 3, 0].map(|c| {
                    let sample = &samples[(4 * x + c) * bytes..];
                    let sample = if bytes == 1 {
                        u32::from(sample[0])
                    } else {
                        u32::from(u16::from_ne_bytes([sample[0], sample[1]]))
                    };
                    let component = (c + 3) % 4;
                    info.depth().get(component).map_or(0, |depth| sample >> (bits - depth))
                }));
            }
        }
        codes
    }
}
