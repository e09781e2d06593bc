//! The frame that is measured, in any format: a painted scene, and a soft-edged ellipse as its foreground.

use anyhow::{Context, Result};
use gst_video::{VideoChromaSite, VideoConverter, VideoFormat, VideoFormatInfo, VideoFrameRef, VideoInfo};
use gstharmonize::elements::formats::describe;
use gstharmonize::frame::{ChromaSite, Colorimetry, Format, Mask, Matrix, Picture, PictureMut, Plane, PlaneMut};
use std::rc::Rc;

/// What the library makes of GStreamer's format; `None` where it takes the format only through a conversion.
pub fn frame_format(format: VideoFormat) -> Option<Format> {
    describe(&VideoFormatInfo::from_format(format))
}

/// The scene before it is brought into a format, and its masks.
pub struct Painting {
    pub size: [u32; 2],
    rgba: gst::Buffer,
    /// The ellipse.
    pub mask: Rc<Mask>,
    /// All foreground.
    pub full: Rc<Mask>,
}

impl Painting {
    /// `share` of the picture is foreground, 0..1.
    pub fn new(size: [u32; 2], share: f64) -> Self {
        let [width, height] = size.map(|side| side as usize);
        let mask = ellipse(width, height, (share / std::f64::consts::PI).sqrt(), 0.5);
        let full = Mask { width, height, data: vec![255; width * height] };
        let rgba = gst::Buffer::from_slice(paint(width, &mask.data, 0));
        Self { size, rgba, mask: Rc::new(mask), full: Rc::new(full) }
    }

    /// The scene in `format`, as GStreamer lays it out.
    pub fn render(&self, format: VideoFormat) -> Result<Raw> {
        let [width, height] = self.size;
        let [from, info] = [VideoFormat::Rgba, format].map(|format| VideoInfo::builder(format, width, height).build());
        let (from, info) = (from?, info?);
        let mut buffer = gst::Buffer::with_size(info.size())?;
        let converter = VideoConverter::new(&from, &info, None).context("GStreamer can't convert to it")?;
        {
            let rgba = VideoFrameRef::from_buffer_ref_readable(&self.rgba, &from)?;
            let mut frame = VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &info)?;
            converter.frame_ref(&rgba, &mut frame);
        }
        let data = buffer.map_readable()?.to_vec();
        Ok(Raw { info, data })
    }

    /// A frame whose every sample is the ellipse's, `format`'s own way.
    pub fn mask_in(&self, format: VideoFormat) -> Result<Raw> {
        let [width, height] = self.size;
        let info = VideoInfo::builder(format, width, height).build()?;
        let mut raw = Raw { data: vec![0; info.size()], info };
        for component in 0..raw.info.n_components() {
            raw.write(component as u8, &self.mask);
        }
        Ok(raw)
    }
}

/// A frame's bytes as they lie in a buffer.
pub struct Raw {
    pub info: VideoInfo,
    pub data: Vec<u8>,
}

impl Raw {
    /// Puts the mask in place of a component whose samples are bytes or words of their own.
    pub fn write(&mut self, component: u8, mask: &Mask) {
        let Self { info, data } = self;
        let (plane, depth) = (info.comp_plane(component) as usize, info.comp_depth(component));
        let (row, step) = (info.stride()[plane] as usize, info.comp_pstride(component) as usize);
        let start = info.offset()[plane] + info.comp_poffset(component) as usize;
        let shift = info.format_info().shift()[component as usize];
        let [w_sub, h_sub] =
            [info.format_info().w_sub(), info.format_info().h_sub()].map(|sub| sub[component as usize]);
        for y in 0..info.comp_height(component) as usize {
            let line = &mask.data[(y << h_sub).min(mask.height - 1) * mask.width..][..mask.width];
            for x in 0..info.comp_width(component) as usize {
                let m = u32::from(line[(x << w_sub).min(mask.width - 1)]);
                let code = (m * ((1 << depth) - 1) / 255) << shift;
                let at = start + y * row + x * step;
                match (depth + shift > 8, info.format_info().is_le()) {
                    (false, _) => data[at] = code as u8,
                    (true, true) => data[at..at + 2].copy_from_slice(&(code as u16).to_le_bytes()),
                    (true, false) => data[at..at + 2].copy_from_slice(&(code as u16).to_be_bytes()),
                }
            }
        }
    }
}

/// A frame that the stages work on. Its bytes may lie elsewhere than in `raw`, in the same places.
pub struct Scene {
    pub raw: Raw,
    format: Format,
}

impl Scene {
    pub fn new(painting: &Painting, format: VideoFormat) -> Result<Self> {
        let ours = frame_format(format).context("the library has no such format")?;
        Ok(Self { raw: painting.render(format)?, format: ours })
    }

    fn size(&self) -> (usize, usize) {
        (self.raw.info.width() as usize, self.raw.info.height() as usize)
    }

    /// As the caps of such a stream say by default.
    fn colour(&self) -> Colorimetry {
        let site = self.raw.info.chroma_site();
        let [across, down] = [VideoChromaSite::H_COSITED, VideoChromaSite::V_COSITED].map(|axis| site.contains(axis));
        Colorimetry { siting: ChromaSite { across, down }, ..Colorimetry::new(Matrix::Bt709, false) }
    }

    /// Bytes of each plane, its padding included.
    fn planes(&self) -> impl Iterator<Item = (usize, usize)> {
        let info = &self.raw.info;
        let ends = info.offset().iter().skip(1).copied().chain([info.size()]);
        info.offset().iter().zip(ends).zip(info.stride()).map(|((start, end), stride)| (end - start, *stride as usize))
    }

    pub fn picture<'a>(&self, mut data: &'a [u8]) -> Picture<'a> {
        let mut planes = [Plane::default(); 4];
        for (plane, (bytes, stride)) in planes.iter_mut().zip(self.planes()) {
            let (this, behind) = data.split_at(bytes);
            *plane = Plane { data: this, stride };
            data = behind;
        }
        let (width, height) = self.size();
        Picture { format: self.format, colour: self.colour(), width, height, interlaced: false, planes }
    }

    pub fn picture_mut<'a>(&self, mut data: &'a mut [u8]) -> PictureMut<'a> {
        let mut planes: [PlaneMut; 4] = Default::default();
        for (plane, (bytes, stride)) in planes.iter_mut().zip(self.planes()) {
            let (this, behind) = data.split_at_mut(bytes);
            *plane = PlaneMut { data: this, stride };
            data = behind;
        }
        let (width, height) = self.size();
        PictureMut { format: self.format, colour: self.colour(), width, height, interlaced: false, planes }
    }
}

/// An ellipse of `half_axis` as a share of width and height, with an edge four pixels wide; `centre` is its place across.
pub fn ellipse(width: usize, height: usize, half_axis: f64, centre: f64) -> Mask {
    let (a, b) = (half_axis * width as f64, half_axis * height as f64);
    let value = |x: usize, y: usize| {
        let (x, y) = (x as f64 + 0.5 - centre * width as f64, y as f64 + 0.5 - height as f64 / 2.0);
        let inside = (1.0 - (x / a).hypot(y / b)) * b;
        ((inside / 4.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
    };
    let data = (0..height).flat_map(|y| (0..width).map(move |x| value(x, y))).collect();
    Mask { width, height, data }
}

/// RGBA of a scene in blue and green with a foreground in warm colours, and the grain of a camera.
pub fn paint(width: usize, matte: &[u8], seed: u32) -> Vec<u8> {
    let height = matte.len() / width;
    let pixel = |(i, &m): (usize, &u8)| {
        let (x, y) = ((i % width) as f32 / width as f32, (i / width) as f32 / height as f32);
        let wave = 20.0 * (40.0 * x).sin() * (25.0 * y).cos();
        let grain = (((i as u32 ^ seed << 24).wrapping_mul(2_654_435_761) >> 24) % 5) as f32 - 2.0;
        let (behind, front) = ([60.0 + 40.0 * x, 90.0 + 60.0 * y, 150.0 - 40.0 * y], [200.0, 150.0 - 60.0 * y, 90.0]);
        let share = f32::from(m) / 255.0;
        let colour = |c: usize| (front[c] * share + behind[c] * (1.0 - share) + wave + grain) as u8;
        [colour(0), colour(1), colour(2), 255]
    };
    matte.iter().enumerate().flat_map(pixel).collect()
}
