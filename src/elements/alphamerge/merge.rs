//! A picture and its mask in one frame. Knows formats and memory, no pads and no time.

use crate::elements::alphamask::alpha::{Alpha, FORMATS};
use anyhow::{Context, Result, ensure};
use gst_video::prelude::*;
use gst_video::{VideoColorRange, VideoFormat, VideoFormatInfo, VideoFrameRef, VideoInfo, VideoMeta};
use once_cell::sync::Lazy;

/// What comes in and what it leaves as: the same planes, and alpha of 8 bits behind them or where a byte lay idle.
pub static FORMAT_PAIRS: Lazy<Vec<(VideoFormat, VideoFormat)>> = Lazy::new(|| {
    use VideoFormat::*;
    let without = [(I420, A420), (Nv12, Av12), (Gbr, Gbra), (Rgbx, Rgba), (Bgrx, Bgra), (Xrgb, Argb), (Xbgr, Abgr)];
    let has_bytes = |format: VideoFormat| {
        let info = VideoFormatInfo::from_format(format);
        !info.has_palette() && info.depth().get(3) == Some(&8) && Alpha::of(format).is_some()
    };
    let with = FORMATS.iter().copied().filter(|&format| has_bytes(format)).map(|format| (format, format));
    without.into_iter().chain(with).collect()
});

/// What `picture` is with alpha.
pub fn merged(picture: &VideoInfo) -> Option<VideoFormat> {
    FORMAT_PAIRS.iter().find(|(from, _)| *from == picture.format()).map(|(_, to)| *to)
}

pub struct Source<'a> {
    pub buffer: &'a gst::BufferRef,
    pub info: &'a VideoInfo,
}

/// `picture`'s samples with `mask` as their alpha, in a new buffer laid out by `out`, which has `picture`'s times, flags and
/// metas.
pub fn merge(picture: Source, mask: Source, out: &VideoInfo) -> Result<gst::Buffer> {
    let size = |info: &VideoInfo| (info.width(), info.height());
    ensure!(
        size(mask.info) == size(picture.info),
        "the mask has {} x {} pixels, the picture {} x {}: put videoscale before the mask's pad",
        mask.info.width(),
        mask.info.height(),
        picture.info.width(),
        picture.info.height()
    );
    let mut buffer = gst::Buffer::with_size(out.size()).context("no memory for a frame")?;
    let edit = buffer.make_mut();
    {
        let from = VideoFrameRef::from_buffer_ref_readable(picture.buffer, picture.info)
            .context("the picture can't be read")?;
        let mask = VideoFrameRef::from_buffer_ref_readable(mask.buffer, mask.info).context("the mask can't be read")?;
        let mut to = VideoFrameRef::from_buffer_ref_writable(edit, out).context("a frame can't be written to")?;
        for plane in 0..picture.info.n_planes() {
            copy_plane(&from, &mut to, plane)?;
        }
        write_alpha(&mask, &mut to)?;
    }
    use gst::BufferCopyFlags as Copy;
    picture
        .buffer
        .copy_into(edit, Copy::FLAGS | Copy::TIMESTAMPS | Copy::META, ..)
        .context("its metas can't be had")?;
    // That of the picture as it came in.
    while let Some(meta) = edit.meta_mut::<VideoMeta>() {
        meta.remove().context("a frame's GstVideoMeta can't be taken off")?;
    }
    Ok(buffer)
}

fn copy_plane(
    from: &VideoFrameRef<&gst::BufferRef>,
    to: &mut VideoFrameRef<&mut gst::BufferRef>,
    plane: u32,
) -> Result<()> {
    let index = plane as usize;
    let pitch = |stride: i32| usize::try_from(stride).context("its rows run backwards");
    let (source, target) = (pitch(from.plane_stride()[index])?, pitch(to.plane_stride()[index])?);
    let info = from.info();
    let component = info.format_info().plane().iter().take(info.n_components() as usize).position(|&p| p == plane);
    let rows = info.comp_height(component.context("a plane without samples")? as u8) as usize;
    let data = from.plane_data(plane).context("a plane can't be read")?;
    let lines = to.plane_data_mut(plane).context("a plane can't be written to")?;
    for (line, row) in lines.chunks_mut(target).zip(data.chunks(source)).take(rows) {
        let len = line.len().min(row.len());
        line[..len].copy_from_slice(&row[..len]);
    }
    Ok(())
}

fn write_alpha(mask: &VideoFrameRef<&gst::BufferRef>, to: &mut VideoFrameRef<&mut gst::BufferRef>) -> Result<()> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let pitch = |stride: i32| usize::try_from(stride).context("the mask's rows run backwards");
    let (source, target) = (pitch(mask.plane_stride()[0])?, pitch(to.comp_stride(3))?);
    let step = pitch(to.comp_pstride(3))?;
    let is_limited = mask.info().colorimetry().range() == VideoColorRange::Range16_235;
    let stretch = |m: u8| (((u32::from(m).clamp(16, 235) - 16) * 255 + 109) / 219) as u8;
    let rows = mask.plane_data(0).context("the mask can't be read")?.chunks(source);
    let lines = to.comp_data_mut(3).context("a frame has no alpha")?.chunks_mut(target);
    for (line, row) in lines.zip(rows).take(height) {
        let samples = line.iter_mut().step_by(step).take(width).zip(row);
        match is_limited {
            true => samples.for_each(|(a, m)| *a = stretch(*m)),
            false => samples.for_each(|(a, m)| *a = *m),
        }
    }
    Ok(())
}
