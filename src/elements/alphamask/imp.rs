//! The element `alphamask`: one mask for each picture, the alpha plane's own memory where it can be.
//!
//! `state` is written when caps and allocation are settled and read in the streaming thread; it is never held while
//! GStreamer is called.

use super::CAT;
use super::alpha::{Alpha, FORMATS, Frame};
use anyhow::{Context, Result, ensure};
use gst::subclass::prelude::*;
use gst_base::subclass::base_transform::{BaseTransformMode, InputBuffer, PrepareOutputBufferSuccess};
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo, VideoMeta};
use once_cell::sync::Lazy;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the mask's samples are, as a `colorimetry`: full range. It is GStreamer's own for grey.
const FULL_RANGE: &str = "1:4:0:0";

#[derive(Clone)]
struct Stream {
    alpha: Alpha,
    picture: VideoInfo,
    mask: VideoInfo,
}

/// A part of a picture's bytes, and its stride if that isn't the mask's own.
#[derive(Clone, Copy)]
struct Region {
    offset: usize,
    len: usize,
    stride: Option<i32>,
}

#[derive(Default)]
struct State {
    stream: Option<Stream>,
    /// Downstream takes strides from the mask's GstVideoMeta.
    takes_strides: bool,
    /// Where the mask at hand lies in its picture, if it isn't written.
    region: Option<Region>,
}

#[derive(Default)]
pub struct AlphaMask {
    state: Mutex<State>,
}

/// The formats to give for `format`, the better first.
fn masks_of(format: VideoFormat) -> [VideoFormat; 2] {
    match Alpha::of(format) {
        Some(alpha) if alpha.depth > 8 => [VideoFormat::Gray16Le, VideoFormat::Gray8],
        _ => [VideoFormat::Gray8, VideoFormat::Gray16Le],
    }
}

impl AlphaMask {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: &anyhow::Error) -> gst::FlowError {
        gst::element_imp_error!(self, gst::StreamError::Failed, ("Can't take the alpha of a picture: {error:#}"));
        gst::FlowError::Error
    }

    /// Where `picture` holds its alpha as a plane that can be the mask; `None` where the mask has to be written. Without
    /// strides of its own, a mask's rows lie as its caps say.
    fn region(&self, stream: &Stream, picture: &gst::BufferRef, takes_strides: bool) -> Result<Option<Region>> {
        let Stream { alpha, picture: info, mask } = stream;
        if !alpha.is_plane_of(mask.format()) {
            return Ok(None);
        }
        let plane = alpha.plane as usize;
        let (offset, stride) = match picture.meta::<VideoMeta>() {
            Some(meta) => {
                ensure!(
                    meta.format() == info.format() && meta.width() >= info.width() && meta.height() >= info.height(),
                    "its GstVideoMeta contradicts its caps"
                );
                (meta.offset()[plane], meta.stride()[plane])
            }
            None => (info.offset()[plane], info.stride()[plane]),
        };
        let Ok(pitch) = usize::try_from(stride) else { return Ok(None) };
        let bytes = if mask.format() == VideoFormat::Gray8 { 1 } else { 2 };
        let (rows, row) = (mask.height() as usize, mask.width() as usize * bytes);
        let left = picture.size().saturating_sub(offset);
        if stride == mask.stride()[0] && mask.size() <= left {
            return Ok(Some(Region { offset, len: mask.size(), stride: None }));
        }
        let fits = pitch >= row && (rows - 1) * pitch + row <= left;
        Ok((fits && takes_strides).then_some(Region { offset, len: left.min(rows * pitch), stride: Some(stride) }))
    }

    /// Makes `mask`, an empty buffer, a part of `picture`.
    fn share(&self, stream: &Stream, picture: &gst::Buffer, region: Region, mask: &mut gst::BufferRef) -> Result<()> {
        let Region { offset, len, stride } = region;
        picture
            .copy_into(mask, gst::BufferCopyFlags::MEMORY, offset..offset + len)
            .context("its alpha plane can't be had as a buffer")?;
        if let Some(stride) = stride {
            let (info, flags) = (&stream.mask, gst_video::VideoFrameFlags::empty());
            VideoMeta::add_full(mask, flags, info.format(), info.width(), info.height(), &[0], &[stride])?;
        }
        // Keeps a picture that is lent by a pool from going back while its memory is in use.
        gst::meta::ParentBufferMeta::add(mask, picture);
        Ok(())
    }

    fn write(&self, stream: &Stream, picture: &gst::BufferRef, mask: &mut gst::BufferRef) -> Result<()> {
        let picture = Frame::from_buffer_ref_readable(picture, &stream.picture).context("it can't be read")?;
        let mut mask = gst_video::VideoFrameRef::from_buffer_ref_writable(mask, &stream.mask)
            .context("the mask can't be written")?;
        let (width, rows) = (stream.mask.width() as usize, stream.mask.height() as usize);
        let stride = usize::try_from(mask.plane_stride()[0]).context("the mask's rows run backwards")?;
        let data = mask.plane_data_mut(0).context("the mask can't be written")?;
        let read = |y: usize, line: &mut [u8]| match stream.mask.format() {
            VideoFormat::Gray8 => stream.alpha.read_8(&picture, y, &mut line[..width]),
            _ => stream.alpha.read_16_le(&picture, y, &mut line[..2 * width]),
        };
        data.chunks_mut(stride).take(rows).enumerate().try_for_each(|(y, line)| read(y, line))
    }
}

#[glib::object_subclass]
impl ObjectSubclass for AlphaMask {
    const NAME: &'static str = "GstAlphaMask";
    type Type = super::AlphaMask;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for AlphaMask {}

impl GstObjectImpl for AlphaMask {}

impl ElementImpl for AlphaMask {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "Alpha mask",
                "Filter/Converter/Video",
                "Gives the alpha of video as a grey mask, full range, without copying where alpha has its own plane",
                "gst-harmonize",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            let caps = |formats: &[VideoFormat]| {
                gst_video::VideoCapsBuilder::new().format_list(formats.iter().copied()).build()
            };
            let mask = caps(&[VideoFormat::Gray8, VideoFormat::Gray16Le]);
            [("sink", gst::PadDirection::Sink, caps(&FORMATS)), ("src", gst::PadDirection::Src, mask)]
                .into_iter()
                .map(|(name, direction, caps)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                        .expect("a template is valid")
                })
                .collect()
        });
        TEMPLATES.as_ref()
    }
}

impl BaseTransformImpl for AlphaMask {
    const MODE: BaseTransformMode = BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.lock() = State::default();
        Ok(())
    }

    /// Size, rate, shape of pixels and interlacing are the same on both sides; the kind of samples is not.
    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let mut others = gst::Caps::new_empty();
        let edit = others.make_mut();
        for (structure, features) in caps.iter_with_features() {
            let mut other = structure.to_owned();
            other.remove_fields(["colorimetry", "chroma-site"]);
            if direction == gst::PadDirection::Sink {
                let best = structure.get::<&str>("format").map(VideoFormat::from_string);
                let formats = masks_of(best.unwrap_or(VideoFormat::Ayuv));
                other.set("format", gst::List::new(formats.map(|f| f.to_str())));
                other.set("colorimetry", FULL_RANGE);
            } else {
                other.set("format", gst::List::new(FORMATS.iter().map(|f| f.to_str())));
            }
            edit.append_structure_full(other, Some(features.to_owned()));
        }
        gst::debug!(CAT, imp = self, "{caps} on {direction:?} are {others} on the other side");
        Some(filter.map_or(others.clone(), |filter| filter.intersect_with_mode(&others, gst::CapsIntersectMode::First)))
    }

    fn fixate_caps(&self, direction: gst::PadDirection, caps: &gst::Caps, mut others: gst::Caps) -> gst::Caps {
        if direction == gst::PadDirection::Sink
            && let Ok(info) = VideoInfo::from_caps(caps)
        {
            // Downstream's order of preference says nothing about depth.
            let best = masks_of(info.format()).map(|format| {
                let mut wanted = gst_video::VideoCapsBuilder::new().format(format).build();
                wanted.make_mut().set("colorimetry", FULL_RANGE);
                others.intersect(&wanted)
            });
            others = best.into_iter().find(|caps| !caps.is_empty()).unwrap_or(others);
        }
        others.truncate();
        self.parent_fixate_caps(direction, caps, others)
    }

    fn set_caps(&self, incaps: &gst::Caps, outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = |caps: &gst::Caps| {
            VideoInfo::from_caps(caps).map_err(|_| gst::loggable_error!(CAT, "{caps} are not raw video"))
        };
        let (picture, mask) = (info(incaps)?, info(outcaps)?);
        let alpha = Alpha::of(picture.format())
            .ok_or_else(|| gst::loggable_error!(CAT, "{} has no alpha", picture.format()))?;
        gst::debug!(CAT, imp = self, "{} of {alpha:?} from {}", mask.format(), picture.format());
        self.lock().stream = Some(Stream { alpha, picture, mask });
        Ok(())
    }

    fn unit_size(&self, caps: &gst::Caps) -> Option<usize> {
        VideoInfo::from_caps(caps).ok().map(|info| info.size())
    }

    /// A picture with a GstVideoMeta may have any size.
    fn transform_size(
        &self,
        _direction: gst::PadDirection,
        _caps: &gst::Caps,
        _size: usize,
        othercaps: &gst::Caps,
    ) -> Option<usize> {
        self.unit_size(othercaps)
    }

    fn propose_allocation(
        &self,
        decide: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        query.add_allocation_meta::<VideoMeta>(None);
        self.parent_propose_allocation(decide, query)
    }

    fn decide_allocation(&self, query: &mut gst::query::Allocation) -> Result<(), gst::LoggableError> {
        self.lock().takes_strides = query.find_allocation_meta::<VideoMeta>().is_some();
        self.parent_decide_allocation(query)
    }

    fn prepare_output_buffer(&self, picture: InputBuffer) -> Result<PrepareOutputBufferSuccess, gst::FlowError> {
        let (stream, takes_strides) = {
            let state = self.lock();
            (state.stream.clone().ok_or(gst::FlowError::NotNegotiated)?, state.takes_strides)
        };
        let source: &gst::BufferRef = match &picture {
            InputBuffer::Readable(buffer) => buffer,
            InputBuffer::Writable(buffer) => buffer,
        };
        let region = self.region(&stream, source, takes_strides).map_err(|error| self.fail(&error))?;
        self.lock().region = region;
        if region.is_none() {
            return self.parent_prepare_output_buffer(picture);
        }
        let mut mask = gst::Buffer::new();
        self.copy_metadata(source, mask.make_mut()).map_err(|error| {
            error.log();
            gst::FlowError::Error
        })?;
        Ok(PrepareOutputBufferSuccess::Buffer(mask))
    }

    fn transform(&self, picture: &gst::Buffer, mask: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (stream, region) = {
            let mut state = self.lock();
            (state.stream.clone().ok_or(gst::FlowError::NotNegotiated)?, state.region.take())
        };
        match region {
            Some(region) => self.share(&stream, picture, region, mask),
            None => self.write(&stream, picture, mask),
        }
        .map_err(|error| self.fail(&error))?;
        Ok(gst::FlowSuccess::Ok)
    }

    fn transform_meta<'a>(
        &self,
        mask: &mut gst::BufferRef,
        meta: gst::MetaRef<'a, gst::Meta>,
        picture: &'a gst::BufferRef,
    ) -> bool {
        if meta.downcast_ref::<gst_video::VideoOverlayCompositionMeta>().is_some() {
            return false;
        }
        meta.tags_contain_only(&["video", "size", "orientation"]) || self.parent_transform_meta(mask, meta, picture)
    }
}
