//! gst-harmonize: makes a composited foreground look as if it had been filmed in the scene behind it.
//!
//! `elements` is all that knows GStreamer; it uses `engine`, which ties together `frame` (raw pictures), `transfer`
//! (colour maps) and `harmonizers` (diffusion models, built from `nets` and `diffusion`). Nothing points back, and no files import each
//! other in a circle: `tests/repository/layers.rs` sees to that. `lab` trains, measures and converts models, and no plugin needs it.

pub mod bands;
pub mod diffusion;
#[cfg(feature = "plugin")]
pub mod elements;
pub mod engine;
pub mod frame;
pub mod harmonizers;
#[cfg(feature = "train")]
pub mod lab;
pub mod nets;
#[cfg(any(feature = "cli", feature = "lab"))]
pub mod pictures;
mod recycle;
pub mod simd;
pub mod transfer;

#[cfg(feature = "plugin")]
fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    elements::register(plugin)
}

#[cfg(feature = "plugin")]
gst::plugin_define!(
    harmonize,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME")
);
