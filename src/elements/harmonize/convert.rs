//! Pictures of packed formats, by way of a plain one that holds the same samples.
//!
//! Of the packed picture only those bits change in which the packings of the plain one before and after differ. As each packed sample
//! is made of its own plain one and nothing else, a sample that did not change keeps its bits, and so does all padding, whatever it
//! held.

use super::extents::{self, Extent, Extents, planes};
use anyhow::{Context, Result, ensure};
use gst_video::{
    VideoChromaMode, VideoConverter, VideoConverterConfig, VideoDitherMethod, VideoFormat, VideoFrameRef,
    VideoGammaMode, VideoInfo, VideoMatrixMode, VideoPrimariesMode, VideoTileMode,
};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// From a stream's packed format to the plain one and back. Keeps its memory from frame to frame.
#[derive(Debug)]
pub struct Conversion {
    packed: VideoInfo,
    pub plain: VideoInfo,
    /// For RGB of fewer bits than the plain codes: what each of these becomes, so that packing rounds.
    coarse: Option<[[u8; 256]; 3]>,
    /// Bytes of the plain buffer that hold alpha of two bits, which GStreamer doesn't bring to full range.
    alpha: Option<Range<usize>>,
    scratch: Mutex<Option<Scratch>>,
}

#[derive(Debug)]
struct Scratch {
    unpack: VideoConverter,
    pack: VideoConverter,
    plain: gst::Buffer,
    /// Where planes lie in the packings.
    layout: VideoInfo,
    before: gst::Buffer,
    after: gst::Buffer,
}

impl Conversion {
    /// For buffers of `width` x `height` pixels of the format of `info`. Rows are taken as they lie, whichever field they belong to.
    pub fn new(info: &VideoInfo, (width, height): (u32, u32), plain: VideoFormat) -> Result<Self> {
        // A last pixel without its second: packing one into its place would change bits of no sample.
        let width = if info.format() == VideoFormat::Uyvp { width.next_multiple_of(2) } else { width };
        let of = |format| {
            let colorimetry = info.colorimetry();
            let info = VideoInfo::builder(format, width, height).colorimetry(&colorimetry);
            info.chroma_site(gst_video::VideoChromaSite::NONE)
                .build()
                .with_context(|| format!("a picture of {format} {width}x{height} can't be"))
        };
        let depths = info.format_info().depth().to_vec();
        let coarse =
            (info.is_rgb() && depths.iter().any(|&depth| depth < 8)).then(|| [0, 1, 2].map(|c| coarse(depths[c])));
        let plain = of(plain)?;
        let alpha = (depths.get(3) == Some(&2)).then(|| plain.offset()[3]..plain.size());
        Ok(Self { packed: of(info.format())?, plain, coarse, alpha, scratch: Mutex::default() })
    }

    /// The picture of `buffer`, whose planes lie at `extents`, as a buffer of `plain`.
    pub fn read<R>(
        &self,
        buffer: &gst::BufferRef,
        extents: &Extents,
        f: impl FnOnce(&gst::BufferRef) -> Result<R>,
    ) -> Result<R> {
        self.with_scratch(|scratch| {
            self.unpack(scratch, buffer, extents)?;
            f(&scratch.plain)
        })
    }

    /// Lets `f` change the plain picture, and changes `buffer` where that makes a difference.
    pub fn write<R>(
        &self,
        buffer: &mut gst::BufferRef,
        extents: &Extents,
        f: impl FnOnce(&mut gst::BufferRef) -> Result<R>,
    ) -> Result<R> {
        self.with_scratch(|scratch| {
            self.lay_out(scratch, extents)?;
            self.unpack(scratch, buffer, extents)?;
            let Scratch { pack, plain, layout, before, after, .. } = scratch;
            self.convert(pack, (plain, &self.plain), (before, layout))?;
            let result = f(plain.make_mut())?;
            self.coarsen(plain.make_mut())?;
            self.convert(pack, (plain, &self.plain), (after, layout))?;
            let [before, after] = [before, after].map(|b| b.map_readable().context("can't map a packing"));
            let (before, after) = (before?, after?);
            let mut map = buffer.map_writable().context("can't map the buffer for writing")?;
            let mut start = 0;
            for plane in planes(&mut map, extents)? {
                let end = start + plane.data.len();
                let packings = before.get(start..end).zip(after.get(start..end)).context("a packing is too short")?;
                for ((bits, before), after) in plane.data.iter_mut().zip(packings.0).zip(packings.1) {
                    *bits ^= before ^ after;
                }
                start = end;
            }
            Ok(result)
        })
    }

    fn with_scratch<R>(&self, f: impl FnOnce(&mut Scratch) -> Result<R>) -> Result<R> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if scratch.is_none() {
            *scratch = Some(Scratch {
                unpack: converter(&self.packed, &self.plain)?,
                pack: converter(&self.plain, &self.packed)?,
                plain: zeros(self.plain.size()),
                layout: self.packed.clone(),
                before: gst::Buffer::new(),
                after: gst::Buffer::new(),
            });
        }
        f(scratch.as_mut().context("there is no memory to convert in")?)
    }

    /// Makes the packings as wide as the picture at `extents`, one plane after the other.
    fn lay_out(&self, scratch: &mut Scratch, extents: &Extents) -> Result<()> {
        let (mut close, mut end) = (*extents, 0);
        for extent in &mut close {
            extent.offset = end;
            end += extent.len;
        }
        let layout = self.packed_at(&close)?;
        if scratch.before.size() != end || scratch.layout != layout {
            (scratch.before, scratch.after, scratch.layout) = (zeros(end), zeros(end), layout);
        }
        Ok(())
    }

    fn packed_at(&self, extents: &Extents) -> Result<VideoInfo> {
        let n = self.packed.n_planes() as usize;
        let (offsets, strides) = (extents.map(|e| e.offset), extents.map(|e| e.stride as i32));
        let size = extents.iter().map(|e| e.offset + e.len).max().unwrap_or(0);
        let info = VideoInfo::builder(self.packed.format(), self.packed.width(), self.packed.height());
        let info = info.offset(&offsets[..n]).stride(&strides[..n]).size(size);
        info.colorimetry(&self.packed.colorimetry()).build().context("its strides can't be")
    }

    fn unpack(&self, scratch: &mut Scratch, buffer: &gst::BufferRef, extents: &Extents) -> Result<()> {
        // The same memory without the buffer's metas, whose flags are not for the plain picture.
        let memory = buffer.copy_region(gst::BufferCopyFlags::MEMORY, ..).context("can't share its memory")?;
        self.convert(&scratch.unpack, (&memory, &self.packed_at(extents)?), (&mut scratch.plain, &self.plain))?;
        let Some(alpha) = self.alpha.clone() else { return Ok(()) };
        let mut map = scratch.plain.make_mut().map_writable().context("can't map the memory to convert to")?;
        for word in map.get_mut(alpha).unwrap_or_default().as_chunks_mut::<2>().0 {
            // Two bits of ten, over and over.
            *word = ((u16::from_le_bytes(*word) >> 8) * 0x155).to_le_bytes();
        }
        Ok(())
    }

    fn convert(
        &self,
        converter: &VideoConverter,
        (from, info): (&gst::BufferRef, &VideoInfo),
        (to, to_info): (&mut gst::Buffer, &VideoInfo),
    ) -> Result<()> {
        // A frame's only row would be taken for that of the frame before, which the converter remembers.
        let fresh = if info.height() == 1 { Some(self::converter(info, to_info)?) } else { None };
        let converter = fresh.as_ref().unwrap_or(converter);
        let from = VideoFrameRef::from_buffer_ref_readable(from, info).ok().context("can't map the buffer")?;
        let to = VideoFrameRef::from_buffer_ref_writable(to.make_mut(), to_info);
        converter.frame_ref(&from, &mut to.ok().context("can't map the memory to convert to")?);
        Ok(())
    }

    /// Rounds to the codes that the packed samples have, where packing would cut bits off.
    fn coarsen(&self, plain: &mut gst::BufferRef) -> Result<()> {
        let Some(tables) = &self.coarse else { return Ok(()) };
        let mut map = plain.map_writable().context("can't map the memory to convert from")?;
        for pixel in map.as_chunks_mut::<4>().0 {
            for (code, table) in pixel.iter_mut().zip(tables) {
                *code = table[usize::from(*code)];
            }
        }
        Ok(())
    }
}

/// Where the planes of a packed picture lie, up to the last byte that converting looks at.
pub fn lay_out(info: &VideoInfo, offsets: &[usize], strides: &[i32]) -> Result<Extents> {
    match info.format_info().is_tiled() {
        true => tiles_at(info, offsets, strides),
        false => extents::lay_out(offsets, strides, packed_sizes(info)),
    }
}

/// Bytes of a row and rows of each plane of a packed format.
fn packed_sizes(info: &VideoInfo) -> [(usize, usize); 4] {
    let format = info.format_info();
    let mut sizes = [(0, 0); 4];
    for (plane, size) in sizes.iter_mut().enumerate().take(info.n_planes() as usize) {
        let component = format.plane().iter().position(|&p| p as usize == plane).unwrap_or_default();
        let row = match format.pixel_stride()[component] {
            // A pair of pixels takes five bytes. Rows as GStreamer lays them out lack some of them at some odd widths.
            0 if info.format() == VideoFormat::Uyvp => info.width().div_ceil(2) as usize * 5,
            // Groups of samples: all of the row's may be read.
            0 => info.stride()[plane] as usize,
            step => format.scale_width(component as u8, info.width()) as usize * step as usize,
        };
        *size = (row, format.scale_height(component as u8, info.field_height()) as usize);
    }
    sizes
}

/// Planes of tiles, whose strides are numbers of tiles.
fn tiles_at(info: &VideoInfo, offsets: &[usize], strides: &[i32]) -> Result<Extents> {
    let tiles = |stride: i32| ((stride & 0xffff) as usize, (stride >> 16) as usize);
    let mut extents = Extents::default();
    for (plane, (&offset, &stride)) in offsets.iter().zip(strides).enumerate().take(info.n_planes() as usize) {
        let ((across, down), (least_across, least_down)) = (tiles(stride), tiles(info.stride()[plane]));
        let format = info.format_info();
        let tile = format.tile_info(plane as u32);
        // Cb and Cr of a last odd pixel may take a tile more than GStreamer lays out.
        let bits = info.width().next_multiple_of(2) * format.depth()[0];
        let least_across = least_across.max(bits.div_ceil(8 * tile.stride()) as usize);
        let in_pairs = format.tile_mode() == VideoTileMode::Zflipz2x2;
        let fits = across >= least_across && down >= least_down && (!in_pairs || across % 2 == 0);
        ensure!(fits, "plane {plane} has {across}x{down} tiles and needs {least_across}x{least_down}");
        let len = across * down * tile.size() as usize;
        extents[plane] = Extent { offset, stride: stride as usize, len };
    }
    Ok(extents)
}

/// For each code of 8 bits one with the nearest code of `depth` bits at its top, which packing takes.
fn coarse(depth: u32) -> [u8; 256] {
    let highest = (1u32 << depth.min(8)) - 1;
    std::array::from_fn(|code| (((code as u32 * highest + 127) / 255) << (8 - depth.min(8))) as u8)
}

fn zeros(size: usize) -> gst::Buffer {
    gst::Buffer::from_mut_slice(vec![0u8; size])
}

/// From sample to sample, with no arithmetic between.
fn converter(from: &VideoInfo, to: &VideoInfo) -> Result<VideoConverter> {
    let mut config = VideoConverterConfig::new();
    config.set_chroma_mode(VideoChromaMode::None);
    config.set_matrix_mode(VideoMatrixMode::None);
    config.set_gamma_mode(VideoGammaMode::None);
    config.set_primaries_mode(VideoPrimariesMode::None);
    config.set_dither_method(VideoDitherMethod::None);
    let converter = VideoConverter::new(from, to, Some(config));
    converter.with_context(|| format!("{} can't be converted to {}", from.format(), to.format()))
}
