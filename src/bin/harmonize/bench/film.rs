//! A film out of memory: a foreground that moves to and fro over a still scene, and the source that plays it as a camera does.
//!
//! Frames are rendered once and copied into recycled buffers, as a capture card's are written, so nobody else holds a buffer and
//! `harmonize` works in place.

use super::{lock, scene};
use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;
use gst_video::{VideoConverter, VideoFormat, VideoFrameRef, VideoInfo};
use once_cell::sync::{Lazy, OnceCell};
use std::sync::{Arc, Mutex};

/// Different frames; played forwards and backwards.
const FRAMES: usize = 8;
/// How far the foreground goes to either side, as a share of the width.
const SWAY: f64 = 0.1;

/// The pictures of one stream.
pub struct Reel {
    info: VideoInfo,
    frames: Vec<gst::Buffer>,
}

impl Reel {
    /// The reels of composite and mask (GRAY8, full range), with a soft-edged ellipse of `share` of the picture as foreground.
    pub fn pair(format: VideoFormat, size: [u32; 2], rate: gst::Fraction, share: f64) -> Result<[Arc<Self>; 2]> {
        let [width, height] = size;
        let info = |format| VideoInfo::builder(format, width, height).fps(rate).build();
        let [rgba, composite, mask] = [info(VideoFormat::Rgba)?, info(format)?, info(VideoFormat::Gray8)?];
        let converter = VideoConverter::new(&rgba, &composite, None)?;
        let half_axis = (share / std::f64::consts::PI).sqrt();
        let sway = SWAY.min(0.5 - half_axis);
        let (mut composites, mut masks) = (Vec::new(), Vec::new());
        for index in 0..FRAMES {
            let centre = 0.5 + sway * (2.0 * index as f64 / (FRAMES - 1) as f64 - 1.0);
            let matte = scene::ellipse(width as usize, height as usize, half_axis, centre).data;
            let picture = gst::Buffer::from_slice(scene::paint(width as usize, &matte, index as u32));
            let mut converted = gst::Buffer::with_size(composite.size())?;
            {
                let picture = VideoFrameRef::from_buffer_ref_readable(&picture, &rgba)?;
                let mut frame = VideoFrameRef::from_buffer_ref_writable(converted.make_mut(), &composite)?;
                converter.frame_ref(&picture, &mut frame);
            }
            composites.push(converted);
            masks.push(padded(&matte, &mask)?);
        }
        let reel = |info, frames| Arc::new(Self { info, frames });
        Ok([reel(composite, composites), reel(mask, masks)])
    }

    fn frame(&self, number: u64) -> &gst::Buffer {
        let period = 2 * (FRAMES - 1);
        let at = (number % period as u64) as usize;
        &self.frames[at.min(period - at)]
    }

    fn time(&self, number: u64) -> Option<gst::ClockTime> {
        let fps = self.info.fps();
        number.mul_div_floor(1_000_000_000 * fps.denom() as u64, fps.numer() as u64).map(gst::ClockTime::from_nseconds)
    }

    /// The first frame that is not over at running time `now`.
    fn number(&self, now: gst::ClockTime) -> Option<u64> {
        let fps = self.info.fps();
        now.nseconds().mul_div_ceil(fps.numer() as u64, 1_000_000_000 * fps.denom() as u64)
    }
}

/// Rows of GRAY8 with the stride that GStreamer gives them.
fn padded(matte: &[u8], info: &VideoInfo) -> Result<gst::Buffer> {
    let mut data = vec![0; info.size()];
    let rows = data.chunks_mut(info.stride()[0] as usize);
    for (to, from) in rows.zip(matte.chunks(info.width() as usize)) {
        to.get_mut(..from.len()).context("a stride shorter than its row")?.copy_from_slice(from);
    }
    Ok(gst::Buffer::from_slice(data))
}

glib::wrapper! {
    /// Plays a reel: live, each frame at its time on the clock; or as fast as it is taken.
    pub struct FilmSrc(ObjectSubclass<imp::FilmSrc>) @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object;
}

impl FilmSrc {
    pub fn new(reel: Arc<Reel>, live: bool) -> Result<Self> {
        let source: Self = glib::Object::new();
        source.set_live(live);
        source.set_format(gst::Format::Time);
        source.imp().load(reel)?;
        Ok(source)
    }
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct FilmSrc {
        reel: OnceCell<Arc<Reel>>,
        pool: Mutex<Option<gst::BufferPool>>,
        /// The number of the next frame; none before the first.
        next: Mutex<Option<u64>>,
    }

    impl FilmSrc {
        pub fn load(&self, reel: Arc<Reel>) -> Result<()> {
            self.reel.set(reel).map_err(|_| anyhow!("the source has a reel"))
        }

        fn frame(&self) -> Result<gst::Buffer> {
            let reel = self.reel.get().context("the source has no reel")?;
            let number = match lock(&self.next).take() {
                Some(number) => number,
                None if self.obj().is_live() => {
                    let now = self.obj().current_running_time().context("the source has no clock")?;
                    reel.number(now).context("the clock is beyond all frames")?
                }
                None => 0,
            };
            *lock(&self.next) = Some(number + 1);
            let pool = lock(&self.pool).clone().context("no buffers")?;
            let mut buffer = pool.acquire_buffer(None)?;
            let (start, end) = (reel.time(number), reel.time(number + 1));
            let frame = buffer.make_mut();
            frame.map_writable()?.copy_from_slice(&reel.frame(number).map_readable()?);
            frame.set_pts(start);
            frame.set_duration(end.zip(start).map(|(end, start)| end - start));
            if self.obj().is_live() {
                self.wait(start.context("the frame has no time")?)?;
            }
            Ok(buffer)
        }

        /// Waits for a running time, less than a frame away. The base class would do so too, but move the first frame to the
        /// instant at which it came, so that composites and masks had times of their own.
        fn wait(&self, time: gst::ClockTime) -> Result<()> {
            let clock = self.obj().clock().context("the source has no clock")?;
            let base = self.obj().base_time().context("the source has no base time")?;
            // A time that is past is a frame that is late, which is for others to see.
            let _ = clock.new_single_shot_id(base + time).wait();
            Ok(())
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for FilmSrc {
        const NAME: &'static str = "HarmonizeBenchFilmSrc";
        type Type = super::FilmSrc;
        type ParentType = gst_base::PushSrc;
    }

    impl ObjectImpl for FilmSrc {}
    impl GstObjectImpl for FilmSrc {}

    impl ElementImpl for FilmSrc {
        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
                let caps = gst::Caps::new_empty_simple("video/x-raw");
                gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &caps)
                    .into_iter()
                    .collect()
            });
            TEMPLATES.as_ref()
        }
    }

    impl BaseSrcImpl for FilmSrc {
        fn start(&self) -> Result<(), gst::ErrorMessage> {
            let failed = |error: glib::BoolError| gst::error_msg!(gst::ResourceError::Failed, ("{error}"));
            let size = self.reel.get().map_or(0, |reel| reel.info.size());
            let pool = gst::BufferPool::new();
            let mut config = pool.config();
            config.set_params(None, size as u32, 4, 0);
            pool.set_config(config).and_then(|()| pool.set_active(true)).map_err(failed)?;
            *lock(&self.pool) = Some(pool);
            *lock(&self.next) = None;
            Ok(())
        }

        fn stop(&self) -> Result<(), gst::ErrorMessage> {
            if let Some(pool) = lock(&self.pool).take() {
                // The last buffer that comes back frees it; there is nothing to do about one that can't stop.
                let _ = pool.set_active(false);
            }
            Ok(())
        }

        fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
            let caps = self.reel.get()?.info.to_caps().ok()?;
            Some(filter.map_or(caps.clone(), |filter| filter.intersect(&caps)))
        }

        fn is_seekable(&self) -> bool {
            false
        }
    }

    impl PushSrcImpl for FilmSrc {
        fn create(&self, _buffer: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
            self.frame().map(CreateSuccess::NewBuffer).map_err(|error| {
                gst::element_imp_error!(self, gst::ResourceError::Read, ("{error:#}"));
                gst::FlowError::Error
            })
        }
    }
}
