//! The debug category `harmonize-engine`: what the parts without GStreamer tell through `log`.

use gst::prelude::*;
use log::{Level, Log, Metadata, Record};
use once_cell::sync::Lazy;

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("harmonize-engine", gst::DebugColorFlags::empty(), Some("Loading and inference of models"))
});

struct Bridge;

fn level(level: Level) -> gst::DebugLevel {
    match level {
        Level::Error => gst::DebugLevel::Error,
        Level::Warn => gst::DebugLevel::Warning,
        Level::Info => gst::DebugLevel::Info,
        Level::Debug => gst::DebugLevel::Debug,
        Level::Trace => gst::DebugLevel::Trace,
    }
}

impl Log for Bridge {
    /// Other crates have nothing to say in a category of ours.
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME")) && CAT.above_threshold(level(metadata.level()))
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let file = glib::GString::from(record.file().unwrap_or_default());
            let (function, line) = (record.module_path().unwrap_or_default(), record.line().unwrap_or_default());
            CAT.log(None::<&glib::Object>, level(record.level()), file.as_gstr(), function, line, *record.args());
        }
    }

    fn flush(&self) {}
}

pub fn register() {
    // The program may have a logger of its own: then that one is told.
    if log::set_logger(&Bridge).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    Lazy::force(&CAT);
}
