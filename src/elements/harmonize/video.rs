//! What caps say of a stream, and a buffer's memory as a `frame::Picture`.
//!
//! Strides and offsets come from the buffer's `GstVideoMeta` where it has one. Memory that can't hold the picture, or
//! planes that overlap, are errors: nothing is read or written outside the buffer.

use super::super::formats;
use super::convert::{self, Conversion};
use super::extents::{Extents, lay_out, planes, short};
use crate::frame::{ChromaSite, Colorimetry, Format, Matrix, Picture, PictureMut, Plane};
use anyhow::{Context, Result, ensure};
use gst_video::prelude::*;
use gst_video::{
    VideoBufferFlags, VideoChromaSite, VideoColorMatrix, VideoColorRange, VideoFormat, VideoInfo, VideoInterlaceMode,
};
use std::sync::Arc;

/// One stream's caps, understood.
#[derive(Clone, Debug)]
pub struct Video {
    pub info: VideoInfo,
    /// Of the samples as they are worked on.
    pub format: Format,
    pub colour: Colorimetry,
    /// For formats that can't be worked on in place.
    conversion: Option<Arc<Conversion>>,
}

impl Video {
    pub fn from_caps(caps: &gst::CapsRef) -> Result<Self> {
        let info = VideoInfo::from_caps(caps).with_context(|| format!("caps {caps} are not raw video"))?;
        ensure!(
            info.interlace_mode() != VideoInterlaceMode::Fields,
            "interlace-mode fields, two pictures in a buffer, is not supported: take interleaved or alternate"
        );
        let colour = colour(&info, chroma_site(caps, &info));
        let description = info.format_info();
        if let Some(format) = formats::describe(&description) {
            return Ok(Self { info, format, colour, conversion: None });
        }
        let (plain, format) =
            formats::partner(&description).with_context(|| format!("format {} is not supported", info.format()))?;
        let conversion = Conversion::new(&info, (info.width(), info.field_height()), plain)?;
        Ok(Self { info, format, colour, conversion: Some(Arc::new(conversion)) })
    }

    /// Of one buffer's picture: a field's in streams of fields by turns.
    pub fn size(&self) -> (usize, usize) {
        (self.info.width() as usize, self.info.field_height() as usize)
    }

    pub fn has_alpha(&self) -> bool {
        self.format.has_alpha()
    }

    /// The format that pictures are converted to and back, if they can't be worked on in place.
    pub fn through(&self) -> Option<VideoFormat> {
        self.conversion.as_ref().map(|conversion| conversion.plain.format())
    }

    /// Whether the rows of a frame belong to two fields by turns.
    fn is_interlaced(&self, buffer: &gst::BufferRef) -> bool {
        match self.info.interlace_mode() {
            VideoInterlaceMode::Interleaved => true,
            VideoInterlaceMode::Mixed => buffer.video_flags().contains(VideoBufferFlags::INTERLACED),
            _ => false,
        }
    }

    /// One buffer's duration; `None` for variable and unknown rates.
    pub fn frame_duration(&self) -> Option<gst::ClockTime> {
        let fps = self.info.field_rate();
        let numer = u64::try_from(fps.numer()).ok().filter(|&numer| numer > 0)?;
        gst::ClockTime::SECOND.mul_div_round(u64::try_from(fps.denom()).ok()?, numer)
    }

    /// Hands `buffer`'s picture to `f`.
    pub fn read<R>(&self, buffer: &gst::BufferRef, f: impl FnOnce(&Picture) -> R) -> Result<R> {
        let (extents, interlaced) = (self.extents(buffer)?, self.is_interlaced(buffer));
        match &self.conversion {
            None => self.read_at(buffer, &extents, interlaced, f),
            Some(conversion) => conversion.read(buffer, &extents, |plain| {
                self.read_at(plain, &self.plain_extents(&conversion.plain)?, interlaced, f)
            }),
        }
    }

    /// Hands `buffer`'s picture to `f` to change it in place.
    pub fn write<R>(&self, buffer: &mut gst::BufferRef, f: impl FnOnce(&mut PictureMut) -> R) -> Result<R> {
        let (extents, interlaced) = (self.extents(buffer)?, self.is_interlaced(buffer));
        match &self.conversion {
            None => self.write_at(buffer, &extents, interlaced, f),
            Some(conversion) => conversion.write(buffer, &extents, |plain| {
                self.write_at(plain, &self.plain_extents(&conversion.plain)?, interlaced, f)
            }),
        }
    }

    fn read_at<R>(
        &self,
        buffer: &gst::BufferRef,
        extents: &Extents,
        interlaced: bool,
        f: impl FnOnce(&Picture) -> R,
    ) -> Result<R> {
        let map = buffer.map_readable().context("can't map the buffer")?;
        let mut planes = [Plane::default(); 4];
        for (plane, extent) in planes.iter_mut().zip(extents) {
            let data =
                map.get(extent.offset..).and_then(|data| data.get(..extent.len)).ok_or_else(|| short(map.len()))?;
            *plane = Plane { data, stride: extent.stride };
        }
        let (width, height) = self.size();
        Ok(f(&Picture { format: self.format, colour: self.colour, width, height, interlaced, planes }))
    }

    fn write_at<R>(
        &self,
        buffer: &mut gst::BufferRef,
        extents: &Extents,
        interlaced: bool,
        f: impl FnOnce(&mut PictureMut) -> R,
    ) -> Result<R> {
        let mut map = buffer.map_writable().context("can't map the buffer for writing")?;
        let planes = planes(&mut map, extents)?;
        let (width, height) = self.size();
        Ok(f(&mut PictureMut { format: self.format, colour: self.colour, width, height, interlaced, planes }))
    }

    /// Where the planes of `buffer` lie, which may be beyond its end.
    fn extents(&self, buffer: &gst::BufferRef) -> Result<Extents> {
        let meta = buffer.meta::<gst_video::VideoMeta>();
        if let Some(meta) = &meta {
            let (width, height) = (self.info.width(), self.info.field_height());
            ensure!(
                meta.format() == self.info.format() && meta.width() >= width && meta.height() >= height,
                "its GstVideoMeta ({} {}x{}) contradicts the caps ({} {width}x{height})",
                meta.format(),
                meta.width(),
                meta.height(),
                self.info.format()
            );
        }
        let (offsets, strides) = match &meta {
            Some(meta) => (meta.offset(), meta.stride()),
            None => (self.info.offset(), self.info.stride()),
        };
        match self.conversion {
            None => lay_out(offsets, strides, self.plain_sizes()),
            Some(_) => convert::lay_out(&self.info, offsets, strides),
        }
    }

    fn plain_sizes(&self) -> [(usize, usize); 4] {
        let (width, height) = self.size();
        self.format.plane_sizes(width, height)
    }

    fn plain_extents(&self, plain: &VideoInfo) -> Result<Extents> {
        lay_out(plain.offset(), plain.stride(), self.plain_sizes())
    }
}

/// What the caps say, or else what is usual: of standard definition between the luma samples, above it on their columns. GStreamer
/// before 1.26 takes the same for granted.
fn chroma_site(caps: &gst::CapsRef, info: &VideoInfo) -> VideoChromaSite {
    let said = caps.structure(0).and_then(|structure| structure.get::<&str>("chroma-site").ok());
    let is_high = info.is_yuv() && info.height() > 576;
    let usual = if is_high { VideoChromaSite::H_COSITED } else { VideoChromaSite::NONE };
    said.and_then(|site| site.parse().ok()).unwrap_or(usual)
}

fn colour(info: &VideoInfo, site: VideoChromaSite) -> Colorimetry {
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        // SMPTE 240M differs from BT.709 in the third decimal.
        VideoColorMatrix::Bt709 | VideoColorMatrix::Smpte240m => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let full_range = match colorimetry.range() {
        VideoColorRange::Range0_255 => true,
        VideoColorRange::Range16_235 => false,
        _ => !info.is_yuv(),
    };
    let siting = ChromaSite {
        across: site.contains(VideoChromaSite::H_COSITED),
        down: site.contains(VideoChromaSite::V_COSITED),
    };
    Colorimetry { matrix, full_range, siting }
}

#[cfg(test)]
mod tests {
    use super::super::extents::Extent;
    use super::*;
    use gst_video::VideoFormat;

    fn video(format: VideoFormat, width: u32, height: u32) -> Video {
        gst::init().unwrap();
        let info = VideoInfo::builder(format, width, height).fps(gst::Fraction::new(25, 1)).build().unwrap();
        Video::from_caps(&info.to_caps().unwrap()).unwrap()
    }

    /// A buffer whose planes have `padding` more bytes a row than they need and lie in reverse order.
    fn padded(video: &Video, padding: usize) -> gst::Buffer {
        let plain = video.extents(&gst::Buffer::new()).unwrap();
        let n = video.info.n_planes() as usize;
        let (mut offsets, mut strides, mut end) = ([0; 4], [0; 4], 5);
        for plane in (0..n).rev() {
            let rows = (plain[plane].len - 1) / plain[plane].stride + 1;
            strides[plane] = (plain[plane].stride + padding) as i32;
            offsets[plane] = end;
            end += rows * strides[plane] as usize;
        }
        let mut buffer = gst::Buffer::from_mut_slice(vec![7u8; end]);
        gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            video.info.format(),
            video.info.width(),
            video.info.height(),
            &offsets[..n],
            &strides[..n],
        )
        .unwrap();
        buffer
    }

    #[test]
    fn planes_follow_the_video_meta() {
        for format in formats::all() {
            let video = video(format, 7, 5);
            if video.through().is_some() {
                continue;
            }
            let mut buffer = padded(&video, 11);
            let read: Vec<_> = video
                .read(&buffer, |p| p.planes.map(|plane| (plane.data.as_ptr() as usize, plane.stride)))
                .unwrap()
                .into();
            let buffer = buffer.get_mut().unwrap();
            let written: Vec<_> = video
                .write(buffer, |p| p.planes.each_mut().map(|plane| (plane.data.as_ptr() as usize, plane.stride)))
                .unwrap()
                .into();
            for plane in 0..video.info.n_planes() as usize {
                assert_eq!(read[plane], written[plane], "{format} plane {plane}");
                assert!(read[plane].1 > video.info.stride()[plane] as usize, "{format} plane {plane}");
            }
        }
    }

    #[test]
    fn odd_sizes_have_rounded_chroma() {
        let video = video(VideoFormat::Nv12, 7, 5);
        let buffer = padded(&video, 2);
        let lens = video.read(&buffer, |p| p.planes.map(|plane| plane.data.len())).unwrap();
        assert_eq!(lens, [4 * 10 + 7, 2 * 10 + 8, 0, 0]);
    }

    #[test]
    fn memory_that_is_too_short_is_refused() {
        let video = video(VideoFormat::Rgba, 8, 8);
        let mut buffer = gst::Buffer::from_mut_slice(vec![0u8; 8 * 8 * 4 - 1]);
        assert!(video.read(&buffer, |_| ()).is_err());
        assert!(video.write(buffer.get_mut().unwrap(), |_| ()).is_err());
    }

    #[test]
    fn overlapping_planes_are_refused() {
        let video = video(VideoFormat::I420, 8, 8);
        let mut buffer = gst::Buffer::from_mut_slice(vec![0u8; 200]);
        let format = VideoFormat::I420;
        let flags = gst_video::VideoFrameFlags::empty();
        let buffer = buffer.get_mut().unwrap();
        gst_video::VideoMeta::add_full(buffer, flags, format, 8, 8, &[0, 60, 100], &[8, 4, 4]).unwrap();
        let error = video.write(buffer, |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "its planes overlap");
    }

    #[test]
    fn colorimetry_comes_from_the_caps() {
        gst::init().unwrap();
        let colour = |colorimetry: &str| {
            let caps = format!("video/x-raw,format=I420,width=8,height=8,framerate=25/1,colorimetry={colorimetry}");
            Video::from_caps(&caps.parse::<gst::Caps>().unwrap()).unwrap().colour
        };
        assert_eq!(colour("bt601"), Colorimetry::new(Matrix::Bt601, false));
        assert_eq!(colour("bt709"), Colorimetry::new(Matrix::Bt709, false));
        assert_eq!(colour("bt2020"), Colorimetry::new(Matrix::Bt2020, false));
        assert_eq!(colour("1:4:0:0"), Colorimetry::new(Matrix::Bt601, true));
    }

    fn of(caps: &str) -> Result<Video> {
        gst::init().unwrap();
        Video::from_caps(&format!("video/x-raw{caps},width=16,framerate=25/1").parse::<gst::Caps>().unwrap())
    }

    #[test]
    fn range_and_siting_are_what_caps_say_or_else_the_usual() {
        let colour = |caps: &str| of(caps).unwrap().colour;
        let full = |caps: &str| colour(caps).full_range;
        assert!(full(",format=RGB,height=8") && full(",format=GRAY8,height=8") && !full(",format=I420,height=8"));
        assert!(!full(",format=RGB,height=8,colorimetry=2:1:5:1") && full(",format=RGB,height=8,colorimetry=0:1:5:1"));
        assert!(!full(",format=GRAY8,height=8,colorimetry=bt709"));
        let site = |caps: &str| {
            let ChromaSite { across, down } = colour(&format!(",format=I420{caps}")).siting;
            [across, down]
        };
        assert_eq!(site(",height=8,chroma-site=mpeg2"), [true, false]);
        assert_eq!(site(",height=8,colorimetry=bt709,chroma-site=mpeg2"), [true, false]);
        assert_eq!(site(",height=1080,chroma-site=jpeg"), [false, false]);
        assert_eq!(site(",height=1080,chroma-site=cosited"), [true, true]);
        assert_eq!((site(",height=8"), site(",height=1080")), ([false, false], [true, false]));
        assert_eq!(site(",height=1080,colorimetry=bt2100-hlg"), [true, false]);
    }

    #[test]
    fn fields_are_told_by_caps_or_by_each_buffer() {
        let interlaced = |mode: &str, flags: VideoBufferFlags| {
            let video = of(&format!(",format=I420,height=8,interlace-mode={mode}")).unwrap();
            let mut buffer = gst::Buffer::from_mut_slice(vec![0u8; 16 * 8 * 3 / 2]);
            buffer.get_mut().unwrap().set_video_flags(flags);
            let read = video.read(&buffer, |picture| picture.interlaced).unwrap();
            assert_eq!(video.write(buffer.get_mut().unwrap(), |picture| picture.interlaced).unwrap(), read);
            read
        };
        let (none, flagged) = (VideoBufferFlags::empty(), VideoBufferFlags::INTERLACED);
        assert!(interlaced("interleaved", none) && interlaced("mixed", flagged));
        assert!(!interlaced("mixed", none) && !interlaced("progressive", flagged));
        let alternate = of("(format:Interlaced),format=I420,height=9,interlace-mode=alternate").unwrap();
        assert_eq!((alternate.size(), alternate.frame_duration()), ((16, 5), Some(gst::ClockTime::from_mseconds(20))));
        let error = of(",format=I420,height=8,interlace-mode=fields").unwrap_err().to_string();
        assert!(error.contains("interleaved or alternate"), "{error}");
        let error = of(",format=RGB8P,height=8").unwrap_err().to_string();
        assert!(error.contains("RGB8P"), "{error}");
    }

    /// Random bytes in planes of random strides with gaps between, the last `cut` bytes left out.
    fn random(video: &Video, seed: u64, cut: usize) -> gst::Buffer {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) as usize
        };
        let info = &video.info;
        let n = info.n_planes() as usize;
        let mut strides = info.stride().to_vec();
        let is_tiled = info.format_info().is_tiled();
        for stride in &mut strides {
            *stride += if is_tiled { 2 * (next() % 2) + ((next() % 2) << 16) } else { next() % 9 } as i32;
            if info.format() == VideoFormat::Uyvp {
                *stride = (*stride).max(info.width().div_ceil(2) as i32 * 5);
            }
        }
        let mut offsets = vec![0; n];
        let with_meta = |bytes: Vec<u8>, offsets: &[usize]| {
            let mut buffer = gst::Buffer::from_mut_slice(bytes);
            let (edit, flags) = (buffer.get_mut().unwrap(), gst_video::VideoFrameFlags::INTERLACED);
            let (width, height) = (info.width(), info.height());
            gst_video::VideoMeta::add_full(edit, flags, info.format(), width, height, offsets, &strides).unwrap();
            buffer
        };
        let mut end = 0;
        for (plane, Extent { len, .. }) in
            video.extents(&with_meta(vec![0], &offsets)).unwrap().into_iter().enumerate().take(n)
        {
            offsets[plane] = end + next() % 20;
            end = offsets[plane] + len;
        }
        with_meta((0..end - cut).map(|_| next() as u8).collect(), &offsets)
    }

    fn converted() -> impl Iterator<Item = VideoFormat> {
        gst::init().unwrap();
        formats::all().filter(|&format| video(format, 2, 2).through().is_some())
    }

    #[test]
    fn a_converted_picture_takes_any_samples_and_gives_them_back() {
        let formats: Vec<_> = converted().collect();
        assert!(formats.len() >= 20, "{formats:?}");
        for (i, format) in formats.into_iter().enumerate() {
            for (width, height) in [(1, 1), (7, 1), (5, 2), (2, 3), (13, 9), (46, 34), (131, 67)] {
                let video = video(format, width, height);
                let (mut a, b) = (random(&video, 7 + i as u64, 0), random(&video, 99 + i as u64, 0));
                let samples = |buffer: &gst::BufferRef| {
                    video.read(buffer, |p| p.planes.map(|plane| plane.data.to_vec())).unwrap()
                };
                let (of_a, of_b, before) = (samples(&a), samples(&b), a.map_readable().unwrap().to_vec());
                assert_ne!(of_a, of_b, "{format} {width}x{height}");
                video.write(a.get_mut().unwrap(), |_| ()).unwrap();
                assert!(a.map_readable().unwrap()[..] == before, "{format} {width}x{height} changed by itself");
                let change = |p: &mut PictureMut, to: &[Vec<u8>; 4]| {
                    p.planes.iter_mut().zip(to).for_each(|(plane, to)| plane.data.copy_from_slice(to));
                };
                video.write(a.get_mut().unwrap(), |p| change(p, &of_b)).unwrap();
                assert!(samples(&a) == of_b, "{format} {width}x{height}");
                video.write(a.get_mut().unwrap(), |p| change(p, &of_a)).unwrap();
                assert!(a.map_readable().unwrap()[..] == before, "{format} {width}x{height} is not what it was");
            }
        }
    }

    #[test]
    fn packed_memory_that_is_too_short_is_refused() {
        for format in converted() {
            let video = video(format, 13, 9);
            let mut short = random(&video, 5, 1);
            assert!(video.read(&random(&video, 5, 0), |_| ()).is_ok(), "{format}");
            assert!(video.read(&short, |_| ()).is_err(), "{format}");
            assert!(video.write(short.get_mut().unwrap(), |_| ()).is_err(), "{format}");
        }
    }
}
