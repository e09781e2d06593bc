//! The element `harmonizebin`.

/**
 * SECTION:element-harmonizebin
 * @title: harmonizebin
 * @short_description: Foreground over background, harmonized, in one element
 *
 * `harmonizebin` lays the video of its `foreground` pad over that of its `background` pad and lets `harmonize` light and colour
 * it like the background. It is `compositor`, `harmonize` and what goes between them; key=green and its like put `alpha` before
 * them, which cuts the foreground from its backing.
 *
 * Composite and mask hold the same foreground frame at the same place, always: the mask is made from the very frame that
 * `compositor` has chosen. A `tee` before a `compositor` and a `harmonize` can't promise that where the two inputs differ
 * in frame rate, or come live, late or with gaps.
 *
 * The composite has the background's size, frame rate, colorimetry and format, and its captions, timecodes and other metas.
 * What the foreground doesn't cover is the background's own samples, byte for byte, if its format is one of `harmonize`'s.
 * Frames begin with the first background and end with the last one. Before, after and between frames of the foreground, and
 * while its pad isn't linked, the background passes alone. A background of variable frame rate leaves at its `max-framerate`,
 * without one at the rate that `compositor` chooses. Both inputs need timestamps and the same interlacing.
 *
 * The foreground's alpha is taken as straight, not premultiplied, and is the mask. A foreground without alpha
 * is harmonized in all of its rectangle.
 *
 * #GstHarmonizeBin:xpos, #GstHarmonizeBin:ypos, #GstHarmonizeBin:width, #GstHarmonizeBin:height, #GstHarmonizeBin:alpha and
 * #GstHarmonizeBin:zorder mean what they mean on a pad of `compositor`, but for two things: width or height alone
 * keeps the foreground's shape, and there are two places for it in the order, 1 before the background and 0 behind it, seen
 * where a background with alpha (a window, a desk that hides the presenter's feet) lets it through. They are taken up
 * between two frames and can be controlled over stream time.
 *
 * All else is set on the children: `harmonize`, `compositor` and, with a key, `alpha`. In gst-launch-1.0 write
 * `harmonize::seed=7` or `alpha::black-sensitivity=80`. What is set on `compositor`'s pads is overruled.
 *
 * ## Keying
 *
 * `alpha` is a simple keyer, 8 bits deep: it knows one colour of backing, measures each pixel by its angle and distance in
 * the plane of chroma from it, and draws foreground towards grey as far as it leans towards the backing. So it takes
 * green spill from skin and hair, and also the green from a green tie: what is coloured like the backing is lost or
 * goes grey. It doesn't shrink, soften or clean a matte, and doesn't even out the backing's light. An uneven or noisy backing
 * needs a larger #GstHarmonizeBin:key-angle and #GstHarmonizeBin:key-noise-level, dark or washed out backing other values of
 * `alpha::black-sensitivity` and `alpha::white-sensitivity`. Where it is not enough, key upstream and give
 * `harmonizebin` the alpha.
 *
 * ## Example launch lines
 *
 * |[
 * gst-launch-1.0 harmonizebin name=h key=green ! videoconvert ! autovideosink \
 *   filesrc location=greenscreen.mp4 ! decodebin ! h.foreground \
 *   filesrc location=plate.mp4 ! decodebin ! h.background
 * ]| The subject, cut from the green, before the plate and in its light.
 *
 * |[
 * gst-launch-1.0 harmonizebin name=h xpos=1200 ypos=300 height=700 harmonize::strength=0.8 ! videoconvert ! autovideosink \
 *   filesrc location=subject.mov ! decodebin ! h.foreground \
 *   filesrc location=plate.mp4 ! decodebin ! h.background
 * ]| A clip with alpha, 700 lines high and to the right, nearly in the plate's light.
 *
 * |[
 * gst-launch-1.0 harmonizebin name=h repeat-after-eos=true ! videoconvert ! autovideosink \
 *   filesrc location=product.png ! pngdec ! h.foreground \
 *   v4l2src ! videoconvert ! h.background
 * ]| A still over a camera's picture, lit anew as the room's light changes.
 */
mod imp;
mod mask;
mod masking;
mod placement;
mod settings;

use glib::prelude::*;
use once_cell::sync::Lazy;

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "harmonizebin",
        gst::DebugColorFlags::empty(),
        Some("Foreground over background, harmonized"),
    )
});

glib::wrapper! {
    /// The element; `imp` says how it works.
    pub struct HarmonizeBin(ObjectSubclass<imp::HarmonizeBin>)
        @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

/// What the foreground is cut from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstHarmonizeBinKey")]
pub enum Key {
    #[default]
    #[enum_value(name = "Nothing: the foreground has alpha", nick = "none")]
    None,
    #[enum_value(name = "A green backing", nick = "green")]
    Green,
    #[enum_value(name = "A blue backing", nick = "blue")]
    Blue,
    #[enum_value(name = "A backing of the colour in key-color", nick = "custom")]
    Custom,
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "harmonizebin", gst::Rank::NONE, HarmonizeBin::static_type())
}
