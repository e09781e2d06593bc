//! The element `alphamerge`.

/**
 * SECTION:element-alphamerge
 * @title: alphamerge
 * @short_description: A mask becomes the alpha of a video
 *
 * `alphamerge` makes the grey video of its `mask` pad the alpha of the video of its `sink` pad: fill and key, a foreground and
 * its matte, become one stream that `compositor` or `harmonizebin` lays over a background. `alphamask` is its inverse.
 *
 * One frame leaves for each that comes to `sink`, with its timestamps, flags and metas, the last one as well, whichever input
 * ends first. Frames are paired by running time: a frame takes the mask in whose time it begins, so the two may differ in frame
 * rate. A mask that is a still, or has ended, stays; a mask stream of several frames that ends before the video does is told of
 * by a WARNING. What comes on `mask` after the video's end is refused with EOS.
 *
 * Colours stay as they are, in their own range: I420 leaves as A420, NV12 as AV12, GBR as GBRA, RGBx and its like as RGBA, and a
 * format that has 8 bits of alpha keeps its layout and gets a new one. The mask is GRAY8 of the same size; its caps say whether it
 * is of full range, as they do where `colorimetry` is left out, or of 16 to 235, which is stretched.
 *
 * ## Example launch lines
 *
 * |[
 * gst-launch-1.0 compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! autovideosink \
 *   videotestsrc pattern=smpte ! mix.sink_0 \
 *   videotestsrc pattern=gradient ! video/x-raw,format=I420 ! cut.sink \
 *   videotestsrc pattern=ball ! video/x-raw,format=RGB ! videoconvert ! video/x-raw,format=GRAY8 ! cut.mask \
 *   alphamerge name=cut ! queue ! mix.sink_1
 * ]| A ball that moves about, cut from a gradient, over colour bars.
 *
 * |[
 * gst-launch-1.0 harmonizebin name=h ! videoconvert ! autovideosink \
 *   filesrc location=plate.mp4 ! decodebin ! queue ! h.background \
 *   filesrc location=fill.mp4 ! decodebin ! queue ! cut.sink \
 *   filesrc location=key.mp4 ! decodebin ! videoconvert ! video/x-raw,format=GRAY8 ! queue ! cut.mask \
 *   alphamerge name=cut ! queue ! h.foreground
 * ]| Fill and key before the plate and in its light.
 */
mod imp;
mod merge;

use glib::prelude::*;
use once_cell::sync::Lazy;

static CAT: Lazy<gst::DebugCategory> =
    Lazy::new(|| gst::DebugCategory::new("alphamerge", gst::DebugColorFlags::empty(), Some("A mask as alpha")));

glib::wrapper! {
    /// The element; `imp` says how it works.
    pub struct AlphaMerge(ObjectSubclass<imp::AlphaMerge>) @extends gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "alphamerge", gst::Rank::NONE, AlphaMerge::static_type())
}
