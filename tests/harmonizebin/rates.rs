//! A mask is of the same foreground frame as what its composite shows, whatever the rates, the jitter and the losses.

use super::run::*;
use gst::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn a_mask_is_of_the_frame_in_its_composite_at_any_rates() {
    for (foreground, background) in [(25, 25), (60, 25), (10, 25), (24, 30), (7, 50), (100, 12)] {
        let run = Run::new(&format!(
            "harmonizebin name=h {} ! h.foreground {} ! h.background",
            source("foreground", foreground, 2 * foreground, ""),
            source("background", background, 2 * background, "")
        ));
        rewrite(&run.element("foreground"), foreground, numbered);
        rewrite(&run.element("background"), background, plain);
        let run = run.until_eos();
        let numbers = numbers(&run);
        assert_eq!(numbers.len() as u64, 2 * background, "{foreground} over {background}");
        for (i, (n, buffer)) in numbers.iter().zip(run.out()).enumerate() {
            assert_eq!(buffer.pts().unwrap().nseconds() / 1000, i as u64 * 1_000_000 / background);
            let n = n.unwrap_or_else(|| panic!("{foreground} over {background}: nothing in frame {i}"));
            // compositor takes what overlaps, and is never off by more than a frame of each.
            let apart = (n as f64 / foreground as f64 - i as f64 / background as f64).abs();
            assert!(
                apart <= 1.0 / foreground as f64 + 1.0 / background as f64,
                "{foreground} over {background}: {n} in {i}"
            );
        }
    }
}

#[test]
fn a_mask_is_of_the_frame_in_its_composite_live_with_jitter_and_losses() {
    // In live mode the first frames would pass before there is a transfer.
    let run = Run::new(&format!(
        "harmonizebin name=h harmonize::mode=exact {} ! h.foreground {} ! h.background",
        source("foreground", 60, 180, "is-live=true"),
        source("background", 25, 75, "is-live=true"),
    ));
    rewrite(&run.element("foreground"), 60, numbered);
    rewrite(&run.element("background"), 25, plain);
    for (name, seed) in [("foreground", 1u64), ("background", 7)] {
        let count = AtomicU64::new(seed);
        run.element(name).static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let n = count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e3779b97f4a7c15) >> 40;
            if n % 7 == 3 {
                return gst::PadProbeReturn::Drop;
            }
            thread::sleep(Duration::from_millis(n % 31));
            gst::PadProbeReturn::Ok
        });
    }
    let run = run.until_eos();
    let numbers = numbers(&run);
    let shown = numbers.iter().flatten().count();
    assert!(numbers.len() >= 60 && shown * 10 >= numbers.len() * 9, "{shown} of {}", numbers.len());
    assert!(numbers.is_sorted(), "{numbers:?}");
}
