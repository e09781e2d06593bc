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
 * `compositor` has chosen, and goes to `harmonize` as the composite's own alpha. A `tee` before a `compositor` and a `harmonize`
 * can't promise that where the two inputs differ in frame rate, or come live, late or with gaps.
 *
 * The composite has the background's size, frame rate, colorimetry, format and interlacing, and its captions, timecodes and
 * other metas. What the foreground doesn't cover is the background's own samples, byte for byte, where they have 8 bits and
 * are RGB, 4:4:4 or 4:2:0; other backgrounds are converted to such samples and back. Frames begin with the first background
 * and end with the last one. Before, after and between frames of the foreground, and while its pad isn't linked, the
 * background passes alone. A background of variable frame rate leaves at its `max-framerate`, without one at the rate that
 * `compositor` chooses. Both inputs need timestamps and the same interlacing.
 *
 * The foreground's alpha is taken as straight, not premultiplied. A foreground without alpha is harmonized in all of its
 * rectangle. Frames leave without alpha: where a background is transparent they are black.
 *
 * #GstHarmonizeBin:xpos, #GstHarmonizeBin:ypos, #GstHarmonizeBin:width, #GstHarmonizeBin:height, #GstHarmonizeBin:alpha and
 * #GstHarmonizeBin:zorder mean what they mean on a pad of `compositor`, but for two things: width or height alone
 * keeps the foreground's shape, and there are two places for it in the order, 1 before the background and 0 behind it, seen
 * where a background with alpha (a window, a desk that hides the presenter's feet) lets it through. They are taken up
 * between two frames and can be controlled over stream time.
 *
 * All else is set on the children: `harmonize`, `compositor` and, with a key, `alpha`. In gst-launch-1.0 write
 * `harmonize::seed=7` or `alpha::black-sensitivity=100`. What is set on `compositor`'s pads is overruled.
 *
 * ## Keying
 *
 * `alpha` is a simple keyer, 8 bits deep. It measures how far a pixel leans towards the colour of the backing, makes it
 * transparent by that, and takes that colour out of what stays. So it suppresses green spill on skin and hair, and also
 * the green of a green tie: what is coloured like the backing is lost or goes grey. Finest hair is lost with it. It doesn't
 * shrink, soften or clean a matte, and doesn't even out the backing's light.
 *
 * The colour keyed out is that of the backing where it is lit least, for what is stronger goes too: green and blue have
 * such colours built in. If shadows of the backing stay, give a weaker colour with key=custom and #GstHarmonizeBin:key-color; if
 * the subject gets holes or eaten edges, a stronger one. If noise stays, raise #GstHarmonizeBin:key-noise-level. If other
 * colours than the backing's suffer, lower #GstHarmonizeBin:key-angle: 20, `alpha`'s own default, spares most and leaves
 * the backing's colour along edges. Where all that is not enough, key upstream and give `harmonizebin` the alpha.
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
 *
 * In GES an effect has one input. The clip is the background where the description brings the foreground along:
 * `harmonizebin name=h repeat-after-eos=true filesrc location=product.png ! pngdec ! h.foreground`.
 */
mod formats;
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
    gst::Element::register(Some(plugin), masking::FACTORY, gst::Rank::NONE, masking::Masking::static_type())?;
    gst::Element::register(Some(plugin), "harmonizebin", gst::Rank::NONE, HarmonizeBin::static_type())
}
