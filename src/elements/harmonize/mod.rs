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
 * #GstHarmonize:sampler and #GstHarmonize:steps trade time for quality. Noise is a function of #GstHarmonize:seed and place, and
 * of stream time or the frame's own mask where #GstHarmonize:noise says so, the fresh noise of some samplers included, so all of
 * them give the same bytes again. #GstHarmonize:precision is taken as
 * asked or refused, never lowered in silence.
 *
 * The mask may have any of the formats of the composite, any size and any frame rate. Its alpha is the mask if it has
 * one, else its luma; see #GstHarmonize:mask-channel, #GstHarmonize:mask-range and #GstHarmonize:mask-invert. A composite
 * goes with the mask whose interval of running time contains the composite's:
 *
 * - A mask stream of a single frame is a still, which masks all that comes after its EOS too.
 * - Where masks are missing in between, or the mask stream has had more frames than one and is over before the composite,
 *   #GstHarmonize:on-missing-mask decides: by default the last one stays in use. It is counted in `stale-masks`, and a
 *   warning tells of it once.
 * - Before the first mask, and where the mask stream has a GAP or an empty buffer, frames pass untouched.
 * - A composite waits for its mask for #GstHarmonize:mask-timeout, which is part of the latency declared in live pipelines,
 *   then goes on as if masks were missing. In pipelines that are not live it waits for as long as it takes unless that is
 *   set: end a mask stream with EOS.
 *
 * Composites that lie outside their segment are dropped, as `compositor` does; those that touch it leave whole. After the
 * composite's EOS what still comes with the mask is refused with EOS. The position is where frames have come to, not where the
 * sources are.
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
 * In exact mode every frame waits for the transfers that its own depends on: the same frames, seed and settings give the same
 * bytes. In live mode, the default in live pipelines, no frame waits for the model: it takes what has been found by now, while the
 * model looks at the newest frame whenever it is free, or once in each #GstHarmonize:keyframe-interval. Colours then follow the
 * scene a few frames late, easing over in the time that lies between two keyframes, and what a frame takes in the streaming
 * thread is the change to its foreground alone. The latency declared is one frame in live mode. In exact mode it is a frame for
 * the mask, as many as the work is measured to take, and what is looked ahead; #GstHarmonize:processing-deadline and
 * #GstHarmonize:mask-timeout set the first two by hand. Put a `queue` behind the element: a sink that waits for the clock would
 * make it wait too.
 *
 * ## Steady in time
 *
 * In exact mode the transfer of a frame is one fit to what the model found in the frames within 400 ms before and after it, near
 * ones and those of a like background before all (#GstHarmonize:smoothing). With #GstHarmonize:keyframe-interval the model sees
 * only the first frame of each cell of a lattice of stream time, and frames between two of these are interpolated. Frames wait
 * in the element for what they look ahead to, up to 512 of them; keyframes further apart than two cells are not interpolated
 * between, for a hole in the stream lies there. Frames that wait are sent at EOS and ahead of new caps or another
 * segment, whatever they still lack, and #GstHarmonize:workers of them are at work at once.
 *
 * A flushing seek in time to a place and not to a key unit is widened on its way upstream, by as much as transfers depend on
 * what lies around; what comes of that leaves no frame, and the segment downstream is the one that was sought, at upstream's
 * running times: sound that comes from the same source begins as much earlier and goes with its picture. So frames after a seek
 * are those of a stream that was played from its beginning, byte for byte, and so are shards of a film; not where another sink's
 * seek reaches the source first, nor with control bindings on #GstHarmonize:smoothing or #GstHarmonize:keyframe-interval.
 *
 * Only an accurate seek, one with that flag, has its first frame wait for what lies around: after any other flushing seek it is
 * shown at once, with what the model finds in it alone, so that scrubbing is quick, and those after it are exact again.
 *
 * Scenes keep to themselves. One begins where the background is another than in the frame before
 * (#GstHarmonize:scene-detection), at a change of #GstHarmonize:scene, at a force-key-unit event from upstream, which
 * `scenechange` sends at cuts, and in exact mode at a DISCONT. In live mode a new scene passes as
 * #GstHarmonize:on-not-ready says until its first transfer is found, and takes that at once.
 *
 * Played backwards, frames are the same up to rounding where every frame is a keyframe; else keyframes are the last frames of
 * their cells, which come first.
 *
 * ## Seen from outside
 *
 * #GstHarmonize:stats counts what happened to frames and what they took; #GstHarmonize:stats-interval posts it as an
 * element message. `GST_DEBUG=harmonize:5` tells for every composite which mask it went with, by running time, and what
 * became of it; `harmonize-engine:5` where scenes begin, what the model sees, and what loading and each inference took.
 * `GST_TRACERS="latency(flags=element)"` works: a buffer comes out for each that goes in.
 *
 * ## Exporting a LUT
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
 * gst-launch-1.0 harmonize name=h keyframe-interval=200000000 workers=4 ! videoconvert ! autovideosink \
 *   filesrc location=composite.mp4 ! decodebin ! videoconvert ! queue ! h.sink \
 *   filesrc location=mask.mp4 ! decodebin ! videoconvert ! queue ! h.mask
 * ]| The same as the first, inferred five times a second of film and interpolated, by four threads.
 *
 * |[
 * gst-launch-1.0 -m harmonize name=h stats-interval=5000000000 ! queue ! videoconvert ! autovideosink \
 *   videotestsrc is-live=true pattern=smpte ! video/x-raw,format=I420,width=1280,height=720 ! queue ! h.sink \
 *   videotestsrc is-live=true pattern=ball ! video/x-raw,format=GRAY8,width=1280,height=720 ! queue ! h.mask
 * ]| A ball of harmonized colour bars, live, and every five seconds the statistics.
 */
mod convert;
mod enums;
mod extents;
mod imp;
mod latency;
mod loading;
mod masks;
mod model;
pub(crate) mod pairing;
mod settings;
mod stats;
mod video;

#[doc(hidden)]
pub use model::Loader;
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
    /// Loads models through `loader` in place of `Engine::load` from the next start on. For tests.
    #[doc(hidden)]
    pub fn set_loader(&self, loader: Arc<Loader>) {
        self.imp().model.set_loader(loader);
    }
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "harmonize", gst::Rank::NONE, Harmonize::static_type())
}
