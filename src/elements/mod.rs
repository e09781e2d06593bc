//! The GStreamer elements. GStreamer's types stop here; tensors never reach this far.

mod engine_log;
pub mod harmonize;

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    engine_log::register();
    harmonize::register(plugin)
}
