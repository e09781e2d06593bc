//! The mask lies where the foreground is drawn, as large and as opaque.

use super::run::*;
use gst::prelude::*;
use gst_video::VideoInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Checks that each composite of a white foreground over black is its mask, to within `rounding`. The stock scaler rounds
/// coarsely and in other ways for other formats.
fn assert_composites_are_their_masks(run: &Run, rounding: f64, what: &str) -> usize {
    let caps = run.child("harmonize").static_pad("sink").unwrap().current_caps();
    let info = &VideoInfo::from_caps(&caps.expect("composites have come")).unwrap();
    let mut shown = 0;
    for (n, composite) in run.composites().iter().enumerate() {
        let masks = rows(composite, info, 3);
        for (y, (row, mask)) in rows(composite, info, 0).into_iter().zip(masks).enumerate() {
            for (x, (value, m)) in row.into_iter().zip(mask).enumerate() {
                let value = if info.is_rgb() { f64::from(value) } else { (f64::from(value) - 16.0) * 255.0 / 219.0 };
                let apart = (value - f64::from(m)).abs();
                assert!(apart <= rounding, "{what}, frame {n}, {x},{y}: {value} in the composite, {m} in the mask");
                shown += usize::from(m > 0);
            }
        }
    }
    shown
}

#[test]
fn the_mask_lies_where_the_foreground_is_drawn() {
    let places = [
        "",
        "xpos=3 ypos=5",
        "xpos=-7 ypos=-3",
        "xpos=51 ypos=41",
        "width=40",
        "height=31 xpos=9",
        "width=13 height=40 ypos=1",
        "width=130 xpos=-50 ypos=-31",
        "alpha=0.5 xpos=4 ypos=4",
        "alpha=0.31 width=33 height=21 xpos=1 ypos=1",
    ];
    let formats = [
        "RGBA",
        "RGBx",
        "I420",
        "NV12",
        "AYUV",
        "YUY2",
        "Y444",
        "GBR",
        "I420_10LE",
        "I422_10LE",
        "Y444_10LE",
        "GBR_10LE",
    ];
    for format in formats {
        for place in places {
            let run = Run::new(&format!(
                "harmonizebin name=h {place} {WHITE} ! h.foreground {} ! h.background",
                black(format)
            ));
            rewrite(&run.element("foreground"), 25, fading);
            let run = run.until_eos();
            let shown = assert_composites_are_their_masks(
                &run,
                match place {
                    place if place.contains("th=") || place.contains("ht=") => 12.0,
                    // Opacity is rounded down on the way from one release on, by a code of alpha, and luma by another.
                    place if place.contains("alpha=") => 3.0,
                    _ => 2.0,
                },
                &format!("{format} {place}"),
            );
            assert!(shown > 0, "{format} {place}");
        }
    }
}

#[test]
fn nothing_to_be_seen_is_no_mask() {
    for place in ["alpha=0", "xpos=64", "ypos=-18", "zorder=0"] {
        let run =
            Run::new(&format!("harmonizebin name=h {place} {WHITE} ! h.foreground {} ! h.background", black("RGBx")));
        rewrite(&run.element("foreground"), 25, fading);
        let run = run.until_eos();
        assert_eq!(run.out().len(), 3, "{place}");
        assert_eq!(run.masked(), 0, "{place}");
    }
}

#[test]
fn behind_the_background_the_mask_is_what_its_alpha_lets_through() {
    let run = Run::new(&format!(
        "harmonizebin name=h zorder=0 xpos=10 ypos=8 {WHITE} ! h.foreground {} ! h.background",
        black("RGBA")
    ));
    rewrite(&run.element("foreground"), 25, |_, data| data.fill(255));
    rewrite(&run.element("background"), 25, |_, data| {
        for (i, pixel) in data.chunks_mut(4).enumerate() {
            pixel.copy_from_slice(&[0, 0, 0, (i % 64 * 4) as u8]);
        }
    });
    let run = run.until_eos();
    assert!(assert_composites_are_their_masks(&run, 2.0, "behind") > 0);
}

#[test]
fn places_changed_while_playing_go_for_both() {
    let run = Run::new(&format!(
        "harmonizebin name=h {} ! h.foreground {} ! h.background",
        WHITE.replace("num-buffers=3", "num-buffers=400"),
        black("RGBx").replace("num-buffers=3", "num-buffers=400")
    ));
    rewrite(&run.element("foreground"), 25, fading);
    let (h, over) = (run.h(), Arc::new(AtomicBool::new(false)));
    let stop = over.clone();
    let user = thread::spawn(move || {
        for n in 0i32.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            h.set_property("xpos", n % 70 - 10);
            h.set_property("ypos", n * 7 % 60 - 10);
            h.set_property("width", n % 50);
            h.set_property("height", n * 3 % 40);
            h.set_property("alpha", f64::from(n % 10) / 10.0);
        }
    });
    let run = run.until_eos();
    over.store(true, Ordering::Relaxed);
    user.join().unwrap();
    assert_eq!(run.out().len(), 400);
    assert!(assert_composites_are_their_masks(&run, 12.0, "under way") > 0);
}
