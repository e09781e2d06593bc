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
 * - Where masks are missing in between, the last one stays in use. It is counted in `stale-masks`, and a warning tells of
 *   it once.
 * - Before the first mask, and where the mask stream has a GAP or an empty buffer, frames pass untouched.
 * - In a live pipeline a composite waits for its mask until the declared latency is used up, then goes on as if masks
 *   were missing. Otherwise it waits for as long as it takes: end a mask stream with EOS.
 *
 * With no `mask` pad, the composite's own alpha is the mask. A composite without alpha then passes untouched.
 *
 * Loading begins with the change to PAUSED and is told in PROGRESS messages of code `open`. Frames wait for its end. If it
 * fails, an ERROR message says why.
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
 */
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

pub use enums::{MaskChannel, MaskRange, Mode, ModelState, OnError, OnMissingMask, OnNotReady, Precision, Sampler};

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
