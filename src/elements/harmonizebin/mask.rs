//! The mask of a composite: the alpha of the foreground frame in it, at the place and size it was drawn with. It becomes
//! the composite's own alpha, so that the two can't part any more.

use super::placement::{Placement, Rectangle};
use crate::elements::alphamask::alpha::{Alpha, Frame};
use anyhow::{Context, Result, anyhow};
use gst_video::prelude::*;
use gst_video::{VideoConverter, VideoFormat, VideoFrame, VideoFrameRef, VideoInfo};

/// A frame that `compositor` has chosen.
pub struct Chosen {
    pub buffer: gst::Buffer,
    pub info: VideoInfo,
}

/// What one composite is made of.
pub struct Selection {
    pub pts: Option<gst::ClockTime>,
    pub foreground: Option<Chosen>,
    pub background: Option<Chosen>,
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
fn gray(width: u32, height: u32) -> Result<VideoInfo> {
    Ok(VideoInfo::builder(VideoFormat::Gray8, width, height).build()?)
}

impl Masks {
    /// Makes the alpha of `composite`, as `out` lays it out, the mask of the foreground in it.
    pub fn write(&mut self, selection: &Selection, out: &VideoInfo, composite: &mut gst::BufferRef) -> Result<()> {
        let mask = self.make(selection, out)?;
        let mut frame =
            VideoFrameRef::from_buffer_ref_writable(composite, out).context("a composite can't be written to")?;
        let (step, stride) = (frame.comp_pstride(3), frame.comp_stride(3));
        let (step, stride) =
            (usize::try_from(step)?, usize::try_from(stride).context("a composite's rows run backwards")?);
        let data = frame.comp_data_mut(3).context("a composite has no alpha")?;
        let width = out.width() as usize;
        for (y, line) in data.chunks_mut(stride).take(out.height() as usize).enumerate() {
            let samples = line.iter_mut().step_by(step).take(width);
            match mask.as_ref().map(|mask| mask.row(y)) {
                Some(row) => samples.zip(row).for_each(|(a, m)| *a = *m),
                None => samples.for_each(|a| *a = 0),
            }
        }
        Ok(())
    }

    /// `None` where no foreground is to be seen.
    fn make(&mut self, selection: &Selection, out: &VideoInfo) -> Result<Option<Plane>> {
        let Selection { foreground: Some(foreground), placement, .. } = selection else { return Ok(None) };
        // A GAP has no picture.
        if foreground.buffer.size() == 0 || placement.alpha == 0.0 {
            return Ok(None);
        }
        let Some(rectangle) = placement.rectangle(&foreground.info, out) else { return Ok(None) };
        let Some((columns, rows)) = rectangle.visible(out.width(), out.height()) else { return Ok(None) };
        let front = selection.background.as_ref().filter(|_| placement.zorder == 0);
        if front.is_some_and(|front| Alpha::of(front.info.format()).is_none()) {
            return Ok(None);
        }
        let alpha = self.alpha(foreground, &rectangle).context("can't take the foreground's alpha")?;
        let mut mask = Plane::new(&gray(out.width(), out.height())?)?;
        let (left, top) = (rectangle.x.max(0) as usize, rectangle.y.max(0) as usize);
        for (line, y) in mask.data.chunks_mut(mask.stride).skip(top).zip(rows) {
            let row = alpha.row(y).get(columns.clone()).context("the foreground's alpha is too small")?;
            let line = line.get_mut(left..left + row.len()).context("the foreground's alpha is too large")?;
            line.copy_from_slice(row);
        }
        if placement.alpha < 1.0 {
            let opacity = (placement.alpha * 256.0) as u32;
            mask.data.iter_mut().for_each(|m| *m = ((u32::from(*m) * opacity + 128) >> 8) as u8);
        }
        if let Some(front) = front {
            mask.see_through(front).context("can't take the background's alpha")?;
        }
        Ok(Some(mask))
    }

    /// The foreground's alpha at the size of `rectangle`, opaque for a format without.
    fn alpha(&mut self, foreground: &Chosen, rectangle: &Rectangle) -> Result<Plane> {
        let Chosen { buffer, info } = foreground;
        let own = gray(info.width(), info.height())?;
        let mut plane = Plane::new(&own)?;
        match Alpha::of(info.format()) {
            None => plane.data.fill(u8::MAX),
            Some(alpha) => {
                let frame = Frame::from_buffer_ref_readable(buffer, info).context("the frame can't be read")?;
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

    /// Leaves what shows through the background in `front` of it.
    fn see_through(&mut self, front: &Chosen) -> Result<()> {
        let Chosen { buffer, info } = front;
        let alpha = Alpha::of(info.format()).context("it has none")?;
        let frame = Frame::from_buffer_ref_readable(buffer, info).context("the frame can't be read")?;
        let mut row = vec![0; info.width() as usize];
        for (y, line) in self.data.chunks_mut(self.stride).take(info.height() as usize).enumerate() {
            alpha.read_8(&frame, y, &mut row)?;
            for (m, &f) in line.iter_mut().zip(&row) {
                *m = ((u32::from(*m) * u32::from(u8::MAX - f) + 127) / 255) as u8;
            }
        }
        Ok(())
    }
}
