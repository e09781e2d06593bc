//! What a user reads where a stock element isn't installed. A test binary of its own, for it empties the registry.

#[allow(dead_code, reason = "no rig is wanted here")]
#[path = "support/common/mod.rs"]
mod common;

use gst::prelude::*;

fn complaint(description: &str) -> (String, Option<String>) {
    let pipeline = gst::parse::launch(description).unwrap();
    assert!(pipeline.set_state(gst::State::Paused).is_err());
    let bus = pipeline.bus().unwrap();
    let mut missing = None;
    while let Some(message) = bus.pop() {
        if let Ok(plugin) = gst_pbutils::MissingPluginMessage::parse(&message) {
            missing = Some(plugin.installer_detail().to_string());
        }
        if let gst::MessageView::Error(error) = message.view() {
            pipeline.set_state(gst::State::Null).unwrap();
            assert!(error.error().matches(gst::CoreError::MissingPlugin));
            return (error.error().to_string(), missing);
        }
    }
    panic!("no error");
}

#[test]
fn a_missing_element_is_named() {
    common::init();
    let registry = gst::Registry::get();
    for (element, description) in
        [("alpha", "harmonizebin key=green ! fakesink"), ("compositor", "harmonizebin ! fakesink")]
    {
        registry.remove_feature(&registry.lookup_feature(element).unwrap());
        let (error, missing) = complaint(description);
        assert_eq!(error, format!("Missing element '{element}' - check your GStreamer installation."));
        assert!(missing.is_some_and(|detail| detail.contains(&format!("element-{element}"))));
    }
}
