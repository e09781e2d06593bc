//! The element `harmonize`.

/**
 * SECTION:element-harmonize
 * @title: harmonize
 * @short_description: Light and colour the foreground of a composite like the scene behind it
 *
 * `harmonize` takes a composite on its `sink` pad and the mask of its foreground on its `mask` pad. A diffusion model
 * looks at a small proxy of both and finds how the foreground's colours have to change; that change is applied to the
 * foreground's samples at full size, in place. Background samples leave byte for byte as they came, and every buffer
 * keeps its timestamps, flags and metas.
 *
 * Models that lose small foregrounds see them in a crop of the frame, chosen by this frame's mask alone: 1/2, 1/4 or 1/8
 * of its sides, around all that is foreground, and never with fewer pixels than the proxy. A larger
 * #GstHarmonize:proxy-size leaves less room to crop.
 *
 * #GstHarmonize:sampler and #GstHarmonize:steps trade time for quality. Noise is a function of #GstHarmonize:seed and place,
 * the fresh noise of some samplers included, so all of them give the same bytes again. #GstHarmonize:precision is taken as
 * asked or refused, never lowered in silence.
 *
 * The mask may have any of the formats of the composite, any size and any frame rate. Its alpha is the mask if it has
 * one, else its luma; see #GstHarmonize:mask-channel, #GstHarmonize:mask-range and #GstHarmonize:mask-invert. A composite
 * goes with the mask whose interval of running time contains the composite's:
 *
 * - After the mask's EOS its last frame stays: a still can mask a whole stream.
 * - Where masks are missing in between, #GstHarmonize:on-missing-mask decides: by default the last one stays in use. It is
 *   counted in `stale-masks`, and a warning tells of it once.
 * - Before the first mask, and where the mask stream has a GAP or an empty buffer, frames pass untouched.
 * - A composite waits for its mask for #GstHarmonize:mask-timeout, which is part of the latency declared in live pipelines,
 *   then goes on as if masks were missing. In pipelines that are not live it waits for as long as it takes unless that is
 *   set: end a mask stream with EOS.
 *
 * Formats are all raw ones but RGB8P, whose palette background and foreground share. Samples of 8 to 16 bits that have bytes or
 * words of their own are changed in place. Those that are packed into bits or tiles, such as v210's, go through a format that
 * holds the same samples and back, and only the bits of samples that changed are written; `GST_DEBUG=harmonize:4` says so once.
 * Colorimetry, chroma siting and interlacing are as the caps say. PQ and HLG are worked on in their own signal.
 *
 * With no `mask` pad, the composite's own alpha is the mask. A composite without alpha then passes untouched.
 *
 * Loading begins with the change to PAUSED and is told in PROGRESS messages of code `open`; #GstHarmonize:on-not-ready says
 * what becomes of frames until its end. If it fails, an ERROR message says why. The model stays loaded in READY and is given
 * back in NULL. Elements that ask for the same model, device and precision share it. Another #GstHarmonize:model, set while
 * playing, is loaded beside the one in use and taken up between two frames; if it can't be loaded, a WARNING says why and the
 * one before stays.
 *
 * ## Exact and live
 *
 * In exact mode every frame waits for the transfer inferred from it: the same frames, seed and settings give the same bytes.
 * In live mode, the default in live pipelines, no frame waits for the model: it takes the newest transfer, while the model
 * looks at the newest frame whenever it is free, or once in each #GstHarmonize:keyframe-interval. Colours then follow the
 * scene a few frames late, and what a frame takes in the streaming thread is the change to its foreground alone. The latency
 * declared is one frame in live mode. In exact mode it is a frame for the mask and as many as the work is measured to take;
 * #GstHarmonize:processing-deadline and #GstHarmonize:mask-timeout set both by hand. Put a `queue` behind the element: a
 * sink that waits for the clock would make it wait too.
 *
 * ## Seen from outside
 *
 * #GstHarmonize:stats counts what happened to frames and what they took; #GstHarmonize:stats-interval posts it as an
 * element message. `GST_DEBUG=harmonize:5` tells for every composite which mask it went with, by running time, and what
 * became of it; `harmonize-engine:5` what loading and each inference took. `GST_TRACERS="latency(flags=element)"` works: a
 * buffer comes out for each that goes in.
 *
 * ## A look out
 *
 * The action signal #GstHarmonize::export-look takes a file name and writes what happens to the foreground's colours now,
 * #GstHarmonize:strength included, as a 33-point look in a .cube file. It may be emitted at any time from any thread, which
 * does the work. On success it returns %TRUE and posts an element message `application/x-harmonize-look` with `location`
 * and the look's error against the true transfer in codes of 255: `rms`, `maximum`, and for scale `untouched`, the RMS
 * without a look. Else it returns %FALSE and a WARNING says why; while no frame has been harmonized there is nothing to
 * write. The file is for the foreground alone: lay what it gives over the composite through the mask. In #harmonizebin the
 * element is the child `harmonize`.
 *
 * ## Example launch lines
 *
 * |[
 * gst-launch-1.0 harmonize name=h ! videoconvert ! autovideosink \
 *   filesrc location=composite.mp4 ! decodebin ! videoconvert ! queue ! h.sink \
 *   filesrc location=mask.mp4 ! decodebin ! videoconvert ! queue ! h.mask
 * ]| The composite with its foreground, white in the mask, in the light of the background.
 *
 * |[
 * gst-launch-1.0 harmonize name=h mask-channel=alpha ! videoconvert ! autovideosink \
 *   compositor name=c background=black ! videoconvert ! queue ! h.sink \
 *   filesrc location=plate.mp4 ! decodebin ! videoconvert ! c.sink_0 \
 *   filesrc location=subject.mov ! decodebin ! videoconvert ! video/x-raw,format=RGBA ! tee name=t \
 *   t. ! queue ! c.sink_1 \
 *   t. ! queue ! h.mask
 * ]| The subject, whose alpha is the mask, over the plate and in the plate's light.
 *
 * |[
 * gst-launch-1.0 harmonize name=h strength=0.5 mask-invert=true ! videoconvert ! autovideosink \
 *   videotestsrc pattern=smpte num-buffers=150 ! video/x-raw,format=I420 ! h.sink \
 *   videotestsrc pattern=circular num-buffers=1 ! video/x-raw,format=GRAY8 ! h.mask
 * ]| Colour bars, half harmonized where a single still mask is dark.
 *
 * |[
 * gst-launch-1.0 -m harmonize name=h stats-interval=5000000000 ! queue ! videoconvert ! autovideosink \
 *   videotestsrc is-live=true pattern=smpte ! video/x-raw,format=I420,width=1280,height=720 ! queue ! h.sink \
 *   videotestsrc is-live=true pattern=ball ! video/x-raw,format=GRAY8,width=1280,height=720 ! queue ! h.mask
 * ]| A ball of harmonized colour bars, live, and every five seconds the statistics.
 */
mod convert;
mod enums;
mod imp;
mod inference;
mod latency;
mod loading;
mod masks;
mod pairing;
mod settings;
mod stats;
mod video;

#[doc(hidden)]
pub use inference::{Infer, Job};
#[doc(hidden)]
pub use loading::Loader;
pub use settings::SMOOTHING;

pub use enums::{
    MaskChannel, MaskRange, Mode, ModelState, Noise, OnError, OnMissingMask, OnNotReady, Precision, Sampler,
};

use glib::prelude::*;
use glib::subclass::prelude::*;
use once_cell::sync::Lazy;
use std::sync::Arc;

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("harmonize", gst::DebugColorFlags::empty(), Some("Harmonization of composites"))
});

glib::wrapper! {
    /// The element; `imp` says how it works.
    pub struct Harmonize(ObjectSubclass<imp::Harmonize>)
        @extends gst_base::Aggregator, gst::Element, gst::Object;
}

impl Harmonize {
    /// Loads models through `loader` instead of the engine from the next start on. For tests.
    #[doc(hidden)]
    pub fn set_loader(&self, loader: Arc<Loader>) {
        self.imp().set_loader(loader);
    }
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "harmonize", gst::Rank::NONE, Harmonize::static_type())
}
