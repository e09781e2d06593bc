//! The GStreamer elements. GStreamer's types stop here; tensors never reach this far.

pub mod alphamask;
pub mod alphamerge;
mod engine_log;
pub mod formats;
pub mod harmonize;
pub mod harmonizebin;

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    engine_log::register();
    alphamask::register(plugin)?;
    alphamerge::register(plugin)?;
    harmonize::register(plugin)?;
    harmonizebin::register(plugin)
}
