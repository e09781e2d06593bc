//! What caps say of a stream, and a buffer's memory as a `frame::Picture`.
//!
//! Strides and offsets come from the buffer's `GstVideoMeta` where it has one. Memory that can't hold the picture, or
//! planes that overlap, are errors: nothing is read or written outside the buffer.

use super::super::formats;
use crate::frame::{Colour, Format, Matrix, Picture, PictureMut, Plane, PlaneMut, Siting};
use anyhow::{Context, Result, anyhow, bail, ensure};
use gst_video::prelude::*;
use gst_video::{VideoBufferFlags, VideoChromaSite, VideoColorMatrix, VideoColorRange, VideoInfo, VideoInterlaceMode};

/// One stream's caps, understood.
#[derive(Clone, Debug)]
pub struct Video {
    pub info: VideoInfo,
    pub format: Format,
    pub colour: Colour,
}

/// Where a plane lies in its buffer, in bytes.
#[derive(Clone, Copy, Default)]
struct Extent {
    offset: usize,
    stride: usize,
    len: usize,
}

impl Video {
    pub fn from_caps(caps: &gst::CapsRef) -> Result<Self> {
        let info = VideoInfo::from_caps(caps).with_context(|| format!("caps {caps} are not raw video"))?;
        let format = formats::describe(&info.format_info())
            .with_context(|| format!("format {} is not supported", info.format()))?;
        let colour = colour(&info);
        Ok(Self { info, format, colour })
    }

    pub fn size(&self) -> (usize, usize) {
        (self.info.width() as usize, self.info.height() as usize)
    }

    pub fn has_alpha(&self) -> bool {
        self.info.has_alpha()
    }

    /// Whether the rows of a frame belong to two fields by turns.
    fn is_interlaced(&self, buffer: &gst::BufferRef) -> bool {
        match self.info.interlace_mode() {
            VideoInterlaceMode::Interleaved => true,
            VideoInterlaceMode::Mixed => buffer.flags().bits() & VideoBufferFlags::INTERLACED.bits() != 0,
            _ => false,
        }
    }

    /// One frame's duration; `None` for variable and unknown rates.
    pub fn frame_duration(&self) -> Option<gst::ClockTime> {
        let fps = self.info.fps();
        let numer = u64::try_from(fps.numer()).ok().filter(|&numer| numer > 0)?;
        gst::ClockTime::SECOND.mul_div_round(u64::try_from(fps.denom()).ok()?, numer)
    }

    /// Hands `buffer`'s picture to `f`.
    pub fn read<R>(&self, buffer: &gst::BufferRef, f: impl FnOnce(&Picture) -> R) -> Result<R> {
        let extents = self.extents(buffer)?;
        let map = buffer.map_readable().context("can't map the buffer")?;
        let mut planes = [Plane::default(); 4];
        for (plane, extent) in planes.iter_mut().zip(&extents) {
            let data =
                map.get(extent.offset..).and_then(|data| data.get(..extent.len)).ok_or_else(|| short(map.len()))?;
            *plane = Plane { data, stride: extent.stride };
        }
        let (width, height) = self.size();
        let interlaced = self.is_interlaced(buffer);
        Ok(f(&Picture { format: self.format, colour: self.colour, width, height, interlaced, planes }))
    }

    /// Hands `buffer`'s picture to `f` to change it in place.
    pub fn write<R>(&self, buffer: &mut gst::BufferRef, f: impl FnOnce(&mut PictureMut) -> R) -> Result<R> {
        let extents = self.extents(buffer)?;
        let interlaced = self.is_interlaced(buffer);
        let mut map = buffer.map_writable().context("can't map the buffer for writing")?;
        let size = map.len();
        let mut order = [0, 1, 2, 3];
        order.sort_by_key(|&plane| extents[plane].offset);
        let mut planes: [PlaneMut; 4] = Default::default();
        let (mut rest, mut start) = (map.as_mut_slice(), 0);
        for plane in order {
            let Extent { offset, stride, len } = extents[plane];
            if len == 0 {
                continue;
            }
            ensure!(offset >= start, "its planes overlap");
            let (_, tail) = rest.split_at_mut_checked(offset - start).ok_or_else(|| short(size))?;
            let (data, tail) = tail.split_at_mut_checked(len).ok_or_else(|| short(size))?;
            planes[plane] = PlaneMut { data, stride };
            (rest, start) = (tail, offset + len);
        }
        let (width, height) = self.size();
        Ok(f(&mut PictureMut { format: self.format, colour: self.colour, width, height, interlaced, planes }))
    }

    fn extents(&self, buffer: &gst::BufferRef) -> Result<[Extent; 4]> {
        let meta = buffer.meta::<gst_video::VideoMeta>();
        if let Some(meta) = &meta {
            let (width, height) = (self.info.width(), self.info.height());
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
        let (width, height) = self.size();
        let mut extents = [Extent::default(); 4];
        for (plane, (row, rows)) in self.format.plane_sizes(width, height).into_iter().enumerate() {
            if rows == 0 {
                continue;
            }
            let stride = strides.get(plane).and_then(|&s| usize::try_from(s).ok()).filter(|&s| s >= row);
            let (Some(stride), Some(&offset)) = (stride, offsets.get(plane)) else {
                bail!("plane {plane} has strides that can't hold rows of {row} bytes");
            };
            extents[plane] = Extent { offset, stride, len: (rows - 1) * stride + row };
        }
        Ok(extents)
    }
}

fn short(size: usize) -> anyhow::Error {
    anyhow!("its {size} bytes can't hold the picture that its caps announce")
}

fn colour(info: &VideoInfo) -> Colour {
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        // SMPTE 240M differs from BT.709 in the third decimal.
        VideoColorMatrix::Bt709 | VideoColorMatrix::Smpte240m => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let site = info.chroma_site();
    let siting =
        Siting { across: site.contains(VideoChromaSite::H_COSITED), down: site.contains(VideoChromaSite::V_COSITED) };
    Colour { matrix, full_range: colorimetry.range() == VideoColorRange::Range0_255, siting }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(colour("bt601"), Colour::new(Matrix::Bt601, false));
        assert_eq!(colour("bt709"), Colour::new(Matrix::Bt709, false));
        assert_eq!(colour("bt2020"), Colour::new(Matrix::Bt2020, false));
        assert_eq!(colour("1:4:0:0"), Colour::new(Matrix::Bt601, true));
    }
}
