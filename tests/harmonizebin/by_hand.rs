//! The bin on the reference clips, against the pipeline that it saves its users from building.

use crate::common::*;
use crate::shared;
use gst::prelude::*;
use std::sync::{Arc, Mutex};

/// `foreground` of the reference clip with its matte as alpha, on pad `to`.
fn cutout(clips: &std::path::Path, to: &str) -> String {
    let at = |name: &str| clips.join(name).display().to_string();
    format!(
        "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=I420 ! queue ! cut.sink \
         filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=GRAY8 ! tee name=matte \
         matte. ! queue max-size-bytes=0 ! cut.mask alphamerge name=cut ! {to}",
        at("foreground.mp4"),
        at("mask.mp4")
    )
}

#[test]
fn equals_the_pipeline_built_by_hand() {
    let Some(clips) = shared::folder("data/clips") else { return };
    init();
    let background = format!("filesrc location={} ! decodebin ! queue", clips.join("background.mp4").display());
    // `videoconvert` forgets where chroma lies, and what is taken for it instead differs between releases.
    let by_hand = format!(
        "{background} ! mix.sink_0 {} matte. ! queue max-size-bytes=0 ! h.mask \
         compositor name=mix sink_0::zorder=0 sink_1::zorder=1 ! videoconvert ! \
         video/x-raw,format=I420,colorimetry=bt709,chroma-site=mpeg2 ! queue ! h.sink harmonize name=h",
        cutout(&clips, "mix.sink_1")
    );
    let by_bin = format!("{background} ! h.background {} harmonizebin name=h", cutout(&clips, "h.foreground"));
    let [by_hand, by_bin] = [by_hand, by_bin].map(|description| {
        let pipeline = gst::parse::launch(&format!("{description} ! fakesink name=out sync=false")).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let frames = Arc::new(Mutex::new(Vec::new()));
        let kept = frames.clone();
        let out = pipeline.by_name("out").unwrap();
        out.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().unwrap();
            let sum = glib::compute_checksum_for_data(glib::ChecksumType::Sha256, &bytes(buffer)).unwrap();
            kept.lock().unwrap().push((buffer.pts(), buffer.duration(), sum));
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(120), &end).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
        pipeline.set_state(gst::State::Null).unwrap();
        frames.lock().unwrap().clone()
    });
    assert_eq!(by_bin.len(), 75);
    assert_eq!(by_bin, by_hand);
}
