//! The element with the project's own engine and models.

mod common;

use common::*;
use gst::prelude::*;

/// What three alike frames become by `model` on the CPU.
fn harmonize(model: &str, seed: u64) -> Vec<Vec<u8>> {
    let element = real(model, "cpu");
    element.set_property("seed", seed);
    element.set_property("steps", 2u32);
    let picture: Vec<u8> = (0..16 * 9 * 3).map(|i| (i * 7 % 256) as u8).collect();
    let caps = "video/x-raw,format=RGB,width=16,height=9,framerate=25/1";
    let mask = Stream::new(&caps.replace("RGB", "GRAY8"), frames(25, 3, &gray(16, 9, 255)));
    let (out, _) = run(&element, Stream::new(caps, frames(25, 3, &picture)), Some(mask));
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(["frames-in", "harmonized"].map(|name| stat(&element, name)), [3, 3]);
    assert_eq!(["device", "model"].map(|name| stats.get::<String>(name).unwrap()), ["cpu", model]);
    out.iter().map(bytes).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let folder = model();
    let model = folder.path().to_str().unwrap();
    let first = harmonize(model, 1);
    assert!(harmonize(model, 1) == first);
    assert!(first[0] == first[1], "the same picture with the same noise");
    assert!(harmonize(model, 2) != first);
}

#[test]
fn the_built_in_model_is_the_default_and_runs() {
    init();
    let element = gst::ElementFactory::make("harmonize").build().unwrap();
    assert_eq!(element.property::<String>("model"), "compact");
    assert_eq!(harmonize("compact", 0).len(), 3);
}
