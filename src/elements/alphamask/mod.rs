//! The element `alphamask`.

/**
 * SECTION:element-alphamask
 * @title: alphamask
 * @short_description: The alpha of a video as a stream of its own
 *
 * `alphamask` takes video of any raw format with alpha and gives its alpha, without its colours, as GRAY8: the mask that
 * `harmonize`, `shapewipe` or `alphacombine` want, or a key signal beside its fill. Formats with more than 8 bits of alpha
 * give GRAY16_LE where downstream takes it.
 *
 * Alpha is full range in every format, and so is the mask: 0 is transparent, 255 (65535 in GRAY16_LE) opaque, and the
 * caps say so (`colorimetry=1:4:0:0`). Other depths are scaled exactly: the highest value stays the highest, what lies
 * between is rounded. No other stock element reads alpha: `videoconvert` to GRAY8 gives luma.
 *
 * Where alpha has a plane of its own (A420, GBRA and their like), that plane leaves without being copied, as a part of the
 * same memory; without support for GstVideoMeta downstream, only if it is packed. Timestamps, flags and metas are
 * the picture's; those that speak of colours or lay something over them are left behind.
 *
 * ## Example launch lines
 *
 * |[
 * gst-launch-1.0 videotestsrc pattern=ball ! alpha method=custom target-r=0 target-g=0 target-b=0 angle=40 ! \
 *   alphamask ! videoconvert ! autovideosink
 * ]| A white ball in the dark: what the keyer keeps is white, what it takes away is black.
 *
 * |[
 * gst-launch-1.0 harmonize name=h ! videoconvert ! autovideosink \
 *   compositor name=mix ! videoconvert ! queue ! h.sink \
 *   filesrc location=plate.mp4 ! decodebin ! videoconvert ! mix.sink_0 \
 *   filesrc location=greenscreen.mp4 ! decodebin ! videoconvert ! alpha method=green ! tee name=key \
 *   key. ! queue ! mix.sink_1 \
 *   key. ! queue ! alphamask ! h.mask
 * ]| The subject cut from the green, before the plate and in its light. `harmonizebin` does the same in one element.
 *
 * |[
 * gst-launch-1.0 filesrc location=subject.mov ! decodebin ! tee name=t \
 *   t. ! queue ! videoconvert ! video/x-raw,format=I420 ! autovideosink \
 *   t. ! queue ! alphamask ! videoconvert ! autovideosink
 * ]| A clip with alpha as fill and key, in two windows.
 */
pub mod alpha;
mod imp;

use glib::prelude::*;
use once_cell::sync::Lazy;

static CAT: Lazy<gst::DebugCategory> =
    Lazy::new(|| gst::DebugCategory::new("alphamask", gst::DebugColorFlags::empty(), Some("Alpha as a mask")));

glib::wrapper! {
    /// The element; `imp` says how it works.
    pub struct AlphaMask(ObjectSubclass<imp::AlphaMask>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "alphamask", gst::Rank::NONE, AlphaMask::static_type())
}
