//! The element with the project's own engine and models.

use crate::common::*;
use crate::models;
use gst::prelude::*;

/// What three alike frames become by `model` on the CPU, with `set` made.
fn harmonize(model: &str, set: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let element = real(model, "cpu");
    set.iter().for_each(|(name, value)| element.set_property_from_str(name, value));
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
    let seeded = |seed| harmonize(model, &[("seed", seed), ("steps", "2")]);
    let first = seeded("1");
    assert!(seeded("1") == first);
    assert!(first[0] == first[1], "the same picture with the same noise");
    assert!(seeded("2") != first);
}

#[test]
fn the_built_in_model_is_the_default_and_runs() {
    init();
    let element = gst::ElementFactory::make("harmonize").build().unwrap();
    assert_eq!(element.property::<String>("model"), "compact");
    assert_eq!(harmonize("compact", &[]).len(), 3);
}

#[test]
fn every_class_changes_the_foreground_and_nothing_else() {
    let picture: Vec<u8> = (0..32 * 18 * 3).map(|i| (i * 7 % 256) as u8).collect();
    let mask: Vec<u8> = (0..32 * 18).map(|i| if i % 32 < 16 { 255 } else { 0 }).collect();
    let caps = "video/x-raw,format=RGB,width=32,height=18,framerate=25/1";
    let folder = tempfile::tempdir().unwrap();
    for name in models::one_of_each(folder.path()) {
        let harmonized = || {
            let element = real(&name, "cpu");
            element.set_property_from_str("mask-range", "full");
            let mask = Stream::new(&caps.replace("RGB", "GRAY8"), frames(25, 2, &mask));
            let (out, messages) = run(&element, Stream::new(caps, frames(25, 2, &picture)), Some(mask));
            let error = messages.iter().find_map(|message| match message.view() {
                gst::MessageView::Error(error) => Some(error.error().to_string()),
                _ => None,
            });
            assert_eq!(error, None, "{name}");
            out.iter().map(bytes).collect::<Vec<_>>()
        };
        let out = harmonized();
        assert!(out == harmonized(), "{name}: run again");
        assert!(out[0] == out[1], "{name}: the same picture");
        let change = |foreground: bool| {
            let pixels = out[0].chunks(3).zip(picture.chunks(3)).enumerate();
            pixels.filter(|(i, (a, b))| (i % 32 < 16) == foreground && a != b).count()
        };
        assert_eq!(change(false), 0, "{name}: the background");
        assert!(change(true) > 0, "{name}: the foreground");
    }
}

#[test]
fn samplers_agree_on_one_step_and_differ_beyond() {
    let folder = model();
    let by = |sampler, steps| {
        harmonize(folder.path().to_str().unwrap(), &[("sampler", sampler), ("steps", steps)]).swap_remove(0)
    };
    let far = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let (one, three) = (by("auto", "1"), by("auto", "3"));
    assert!(one != three);
    // One step is one answer of the network to the same noise, but for the rounding of its scale.
    for sampler in ["ddim", "euler", "euler-ancestral", "lcm"] {
        let (first, last) = (far(&by(sampler, "1"), &one), by(sampler, "3"));
        assert!(first <= u8::from(sampler != "ddim"), "{sampler}: {first} codes off");
        assert!((last == three) == (sampler == "ddim"), "{sampler}");
        assert!(by(sampler, "3") == last, "{sampler}: the same seed gives the same bytes");
    }
}

#[test]
fn a_launch_line_takes_samplers_and_precisions_by_nick() {
    init();
    let parse = |line: &str| gst::parse::launch(&format!("harmonize {line} fakesink"));
    let nick = |line: &str, property: &str| {
        let bin = parse(&format!("name=h {line} !")).unwrap().downcast::<gst::Bin>().unwrap();
        bin.by_name("h").unwrap().property_value(property).serialize().unwrap().to_string()
    };
    assert_eq!(["sampler", "precision"].map(|property| nick("", property)), ["auto", "auto"]);
    for sampler in ["auto", "euler-ancestral", "euler", "ddim", "lcm"] {
        assert_eq!(nick(&format!("sampler={sampler}"), "sampler"), sampler);
    }
    for precision in ["auto", "f32", "bf16", "f16"] {
        assert_eq!(nick(&format!("precision={precision}"), "precision"), precision);
    }
    for wrong in ["sampler=heun", "precision=f64"] {
        let error = parse(&format!("{wrong} !")).unwrap_err();
        assert!(error.matches(gst::ParseError::CouldNotSetProperty), "{error}");
        assert!(error.message().contains(wrong.split('=').next().unwrap()), "{error}");
    }
}
