//! The mask of a composite: the alpha of the foreground frame in it, at the place and size it was drawn with.

use super::placement::{Placement, Rectangle};
use crate::elements::alphamask::alpha::{Alpha, Frame};
use anyhow::{Context, Result, anyhow};
use gst_video::{VideoConverter, VideoFormat, VideoFrame, VideoInfo};

/// What `compositor` has chosen for one composite.
pub struct Selection {
    pub pts: Option<gst::ClockTime>,
    pub foreground: Option<gst::Sample>,
    pub background: Option<gst::Sample>,
    /// No background follows.
    pub over: bool,
    pub placement: Placement,
}

/// Makes masks; holds on to the scaler from frame to frame.
#[derive(Default)]
pub struct Masks {
    scaler: Option<VideoConverter>,
}

/// Grey of full range, which alpha is.
pub fn gray(width: u32, height: u32) -> Result<VideoInfo> {
    Ok(VideoInfo::builder(VideoFormat::Gray8, width, height).build()?)
}

fn read(sample: &gst::Sample) -> Result<Option<(VideoInfo, &gst::BufferRef)>> {
    let (Some(buffer), Some(caps)) = (sample.buffer().filter(|buffer| buffer.size() > 0), sample.caps()) else {
        return Ok(None);
    };
    let info = VideoInfo::from_caps(caps).with_context(|| format!("caps {caps} are not raw video"))?;
    Ok(Some((info, buffer)))
}

impl Masks {
    /// The mask for a composite of `out`, GRAY8 as `gray` lays it out; `None` where no foreground is to be seen.
    pub fn make(&mut self, selection: &Selection, out: &VideoInfo) -> Result<Option<gst::Buffer>> {
        let Selection { foreground: Some(foreground), placement, .. } = selection else { return Ok(None) };
        let Some((info, picture)) = read(foreground)? else { return Ok(None) };
        let Some(rectangle) = placement.rectangle(&info, out) else { return Ok(None) };
        let Some((columns, rows)) = rectangle.visible(out.width(), out.height()) else { return Ok(None) };
        let behind = match &selection.background {
            Some(background) if placement.zorder == 0 => read(background)?,
            _ => None,
        };
        if placement.alpha == 0.0
            || placement.zorder == 0 && behind.as_ref().is_none_or(|(info, _)| alpha_of(info).is_none())
        {
            return Ok(None);
        }
        let alpha = self.alpha(&info, picture, &rectangle).context("can't take the foreground's alpha")?;
        let mask_info = gray(out.width(), out.height())?;
        let mut mask = gst::Buffer::with_size(mask_info.size())?;
        {
            let mut map = mask.make_mut().map_writable()?;
            map.fill(0);
            let stride = mask_info.stride()[0] as usize;
            let left = (rectangle.x.max(0)) as usize;
            let top = (rectangle.y.max(0)) as usize;
            let lines = map.chunks_mut(stride).skip(top);
            for (line, y) in lines.zip(rows) {
                let row = alpha.row(y).get(columns.clone()).context("the foreground's alpha is too small")?;
                let line = line.get_mut(left..left + row.len()).context("the foreground's alpha is too large")?;
                line.copy_from_slice(row);
            }
            if placement.alpha < 1.0 {
                let opacity = (placement.alpha * 256.0) as u32;
                map.iter_mut().for_each(|m| *m = ((u32::from(*m) * opacity + 128) >> 8) as u8);
            }
            if let Some((info, picture)) = behind {
                see_through(&mut map, stride, &info, picture).context("can't take the background's alpha")?;
            }
        }
        Ok(Some(mask))
    }

    /// The foreground's alpha at the size of `rectangle`, opaque for a format without.
    fn alpha(&mut self, info: &VideoInfo, picture: &gst::BufferRef, rectangle: &Rectangle) -> Result<Plane> {
        let own = gray(info.width(), info.height())?;
        let mut plane = Plane::new(&own)?;
        match alpha_of(info) {
            None => plane.data.fill(u8::MAX),
            Some(alpha) => {
                let frame = Frame::from_buffer_ref_readable(picture, info).context("the frame can't be read")?;
                let width = info.width() as usize;
                for (y, line) in plane.data.chunks_mut(plane.stride).enumerate() {
                    alpha.read_8(&frame, y, &mut line[..width])?;
                }
            }
        }
        let scaled = gray(rectangle.width, rectangle.height)?;
        if (own.width(), own.height()) == (scaled.width(), scaled.height()) {
            return Ok(plane);
        }
        self.scale(plane, own, scaled)
    }

    /// By the scaler that `compositor` uses, with its settings.
    fn scale(&mut self, plane: Plane, from: VideoInfo, to: VideoInfo) -> Result<Plane> {
        let size = |info: &VideoInfo| (info.width(), info.height());
        let fits = |s: &VideoConverter| size(s.in_info()) == size(&from) && size(s.out_info()) == size(&to);
        let scaler = match self.scaler.take().filter(fits) {
            Some(scaler) => scaler,
            None => VideoConverter::new(&from, &to, None).context("can't scale a mask")?,
        };
        let source = VideoFrame::from_buffer_readable(gst::Buffer::from_mut_slice(plane.data), &from)
            .map_err(|_| anyhow!("the foreground's alpha can't be read"))?;
        let mut target = VideoFrame::from_buffer_writable(gst::Buffer::with_size(to.size())?, &to)
            .map_err(|_| anyhow!("the mask can't be written"))?;
        scaler.frame(&source, &mut target);
        let stride = to.stride()[0] as usize;
        let data = target.plane_data(0).context("the mask can't be read")?.to_vec();
        self.scaler = Some(scaler);
        Ok(Plane { data, stride })
    }
}

fn alpha_of(info: &VideoInfo) -> Option<Alpha> {
    Alpha::of(info.format())
}

/// Rows of 8 bits.
struct Plane {
    data: Vec<u8>,
    stride: usize,
}

impl Plane {
    fn new(info: &VideoInfo) -> Result<Self> {
        let stride = usize::try_from(info.stride()[0]).context("rows run backwards")?;
        Ok(Self { data: vec![0; info.size()], stride })
    }

    fn row(&self, y: usize) -> &[u8] {
        self.data.get(y * self.stride..).unwrap_or_default()
    }
}

/// Leaves of `mask` what shows through the background in front of it.
fn see_through(mask: &mut [u8], stride: usize, info: &VideoInfo, picture: &gst::BufferRef) -> Result<()> {
    let alpha = alpha_of(info).context("it has none")?;
    let frame = Frame::from_buffer_ref_readable(picture, info).context("the frame can't be read")?;
    let mut front = vec![0; info.width() as usize];
    for (y, line) in mask.chunks_mut(stride).take(info.height() as usize).enumerate() {
        alpha.read_8(&frame, y, &mut front)?;
        for (m, &f) in line.iter_mut().zip(&front) {
            *m = ((u32::from(*m) * u32::from(u8::MAX - f) + 127) / 255) as u8;
        }
    }
    Ok(())
}
