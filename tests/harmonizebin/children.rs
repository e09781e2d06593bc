//! The elements inside, by name, and the keyer among them.

use super::run::*;
use crate::common::*;
use gst::prelude::*;

#[test]
fn children_are_reached_by_name() {
    init();
    let h = gst::parse::launch(
        "harmonizebin key=custom key-color=0x1030f0 key-angle=31 harmonize::strength=0.25 alpha::black-sensitivity=80",
    )
    .unwrap()
    .downcast::<gst::Bin>()
    .unwrap();
    assert_eq!(h.by_name("harmonize").unwrap().property::<f64>("strength"), 0.25);
    let keyer = h.by_name("alpha").unwrap();
    assert_eq!(["target-r", "target-g", "target-b"].map(|name| keyer.property::<u32>(name)), [0x10, 0x30, 0xf0]);
    assert_eq!((keyer.property::<u32>("black-sensitivity"), keyer.property::<f32>("angle")), (80, 31.0));
    h.set_property_from_str("key", "none");
    assert!(h.by_name("alpha").is_none());
}

/// GES looks up the factory of each, and what that says of it, without asking whether there is one.
#[test]
fn every_element_inside_comes_from_a_factory() {
    init();
    for description in ["harmonizebin", "harmonizebin key=green"] {
        let h = gst::parse::launch(description).unwrap().downcast::<gst::Bin>().unwrap();
        let inside = h.iterate_recurse().into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert!(inside.len() >= 8, "{}", inside.len());
        for element in inside {
            let factory =
                element.factory().unwrap_or_else(|| panic!("{description}: {} has no factory", element.name()));
            for key in ["long-name", "klass", "description", "author"] {
                assert!(factory.metadata(key).is_some_and(|text| !text.is_empty()), "{}: no {key}", factory.name());
            }
            assert!(gst::ElementFactory::find(&factory.name()).is_some(), "{} is not registered", factory.name());
        }
    }
}

#[test]
fn a_green_backing_is_keyed_out() {
    for key in ["green", "custom key-color=0x00ff00"] {
        let run = Run::new(&format!(
            "harmonizebin name=h key={key} {} ! h.foreground {} ! h.background",
            source("foreground", 25, 5, "").replace("format=RGBA", "format=NV12").replace(" !", " pattern=smpte !"),
            source("background", 25, 5, ""),
        ));
        let run = run.until_eos();
        assert_eq!(run.masked(), 5);
        let composite = bytes(&run.composites()[0]);
        let mask = |x: usize| composite[4 * (64 * 10 + x) + 3];
        // The bars are white, yellow, cyan, green and so on.
        assert!(mask(4) >= 250 && mask(32) == 0, "{key}: {} and {}", mask(4), mask(32));
    }
}

#[test]
fn a_key_keeps_the_foregrounds_colorimetry() {
    // That of neither this size nor the background.
    let run = Run::new(&format!(
        "harmonizebin name=h key=green {} ! h.foreground {} ! h.background",
        source("foreground", 25, 5, "").replace("format=RGBA", "format=NV12,colorimetry=bt709"),
        source("background", 25, 5, ""),
    ));
    let run = run.until_eos();
    assert_eq!(run.out().len(), 5);
    let compositor = run.h().by_name("compositor").unwrap();
    let caps = compositor.static_pad("sink_1").unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().get::<&str>("colorimetry").unwrap(), "bt709");
}
