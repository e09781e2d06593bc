//! The element over every format that its pads take: GStreamer's own unpacking reads what came in and what went out, and plain f64
//! arithmetic says what should have become of each sample. Of all other bits none may change.

mod agreement;
#[allow(dead_code, reason = "no rig is wanted here")]
#[path = "../support/common/mod.rs"]
mod common;
mod masks;
mod picture;
mod reference;
#[path = "../support/shared.rs"]
mod shared;
mod signal;

use common::*;
use gst::prelude::*;
use gst_video::{VideoFormat, VideoFormatInfo};
use picture::{Dice, Frame};
use reference::{Colorimetry, Reference};
use std::sync::Arc;

const BT601: (f64, f64) = (0.299, 0.114);
const BT709: (f64, f64) = (0.2126, 0.0722);
const BT2020: (f64, f64) = (0.2627, 0.0593);

/// As caps have it, and what that means.
type Said = (&'static str, (f64, f64), bool);

const YUV: [Said; 4] =
    [("bt601", BT601, false), ("bt709", BT709, false), ("1:4:0:0", BT601, true), ("bt2020-10", BT2020, false)];
const RGB: [Said; 4] =
    [("sRGB", BT601, true), ("2:1:7:1", BT601, false), ("1:1:16:4", BT601, true), ("sRGB", BT601, true)];
const SITES: [(&str, [bool; 2]); 4] =
    [("jpeg", [false, false]), ("mpeg2", [true, false]), ("cosited", [true, true]), ("v-cosited", [false, true])];

/// All formats that a pad of the element lists.
pub fn formats() -> Vec<VideoFormat> {
    init();
    let caps = element(&Arc::default()).static_pad("sink").unwrap().pad_template_caps();
    let formats = caps.structure(0).unwrap().get::<gst::List>("format").unwrap();
    formats.iter().map(|format| VideoFormat::from_string(format.get().unwrap())).collect()
}

/// Empty here, full there, soft elsewhere.
fn patchy(width: usize, height: usize, dice: &mut Dice) -> Vec<u8> {
    (0..width * height)
        .map(|i| match (i % width * 5 / width, dice.next() % 8) {
            (0 | 3, 1..) => 0,
            (1, 1..) => 255,
            _ => dice.next() as u8,
        })
        .collect()
}

/// `sent` as it leaves the element.
fn harmonized(sent: &Frame, caps: &gst::Caps, mask: &[u8]) -> Frame {
    let (width, height) = sent.size();
    let stride = width.next_multiple_of(4);
    let mut samples = vec![0; stride * height];
    for (line, row) in samples.chunks_mut(stride).zip(mask.chunks(width)) {
        line[..width].copy_from_slice(row);
    }
    let element = element(&Arc::default());
    element.set_property_from_str("mask-range", "full");
    let mask = Stream::new(
        &format!("video/x-raw,format=GRAY8,width={width},height={height},framerate=50/1"),
        [buffer(0, 20_000_000, &samples)],
    );
    let (out, messages) = run(&element, Stream::new(&caps.to_string(), [sent.buffer()]), Some(mask));
    assert_eq!(out.len(), 1, "{caps}: {messages:?}");
    sent.of(&out[0])
}

fn check(caps: &gst::Caps, colour: Colorimetry, dice: &mut Dice) {
    let sent = Frame::random(caps, dice);
    let (width, height) = sent.size();
    let mask = patchy(width, height, dice);
    let out = harmonized(&sent, caps, &mask);
    let (before, after) = (sent.codes(), out.codes());
    let format = sent.info.format_info();
    let transfer = transfer();
    let reference = Reference { frame: &sent, codes: &before, colour, mask: &mask, transfer: &transfer };
    let mut moved = 0;
    for (i, (was, got)) in before.iter().zip(&after).enumerate() {
        let (x, y) = (i % width, i / width);
        for k in 0..(format.n_components() as usize).min(3) {
            let expected = reference.expected(x, y, k);
            let off = (f64::from(got[k]) - expected.unwrap_or(f64::from(was[k]))).abs();
            // Rounding, and what f32 and, of few bits, the way through eight leave.
            let least = if expected.is_none() {
                0.0
            } else if format.depth()[k] < 8 {
                0.7
            } else {
                0.6
            };
            assert!(
                off <= least,
                "{caps}: component {k} at {x}, {y} was {}, is {}, should be {expected:?}",
                was[k],
                got[k]
            );
            moved += usize::from(got[k] != was[k]);
        }
        assert_eq!(got[3], was[3], "{caps}: alpha at {x}, {y}");
    }
    assert!(moved > 0 || mask.iter().all(|&m| m == 0), "{caps}: nothing changed");
    // A bit that changed has to be some foreground sample's.
    let mut probe = sent.clone();
    for (i, (a, b)) in sent.data.iter().zip(&out.data).enumerate().filter(|(_, (a, b))| a != b) {
        for bit in (0..8).map(|bit| 1u8 << bit).filter(|bit| (a ^ b) & bit != 0) {
            probe.data[i] ^= bit;
            let codes = probe.codes();
            probe.data[i] ^= bit;
            let mut pixels = before.iter().zip(&codes).enumerate().filter(|(_, (a, b))| a != b);
            assert!(pixels.any(|(pixel, (a, b))| mask[pixel] > 0 && a[3] == b[3]), "{caps}: bit {bit:#x} of byte {i}");
        }
    }
}

fn caps(format: VideoFormat, (width, height): (u32, u32), turn: usize) -> (gst::Caps, Colorimetry) {
    let info = VideoFormatInfo::from_format(format);
    let (colorimetry, (kr, kb), full) = match () {
        // Of fewer bits than eight the nominal range isn't whole codes.
        () if info.is_rgb() && info.depth()[0] < 8 => RGB[0],
        () if info.is_rgb() => RGB[turn % 4],
        () => YUV[turn % 4],
    };
    let (site, sited) = SITES[turn / 2 % 4];
    let caps = gst_video::VideoCapsBuilder::new().format(format).width(width as i32).framerate((25, 1).into());
    let caps = caps.field("colorimetry", colorimetry);
    let caps = if info.is_yuv() { caps.field("chroma-site", site) } else { caps };
    let (lines, mode, feature) = match turn % 3 {
        0 => (height, "progressive", "memory:SystemMemory"),
        1 => (height, "interleaved", "memory:SystemMemory"),
        _ => (2 * height - 1, "alternate", "format:Interlaced"),
    };
    let caps = caps.height(lines as i32).field("interlace-mode", mode).features([feature]).build();
    (caps, Colorimetry { kr, kb, full, sited })
}

/// Each format once, and what caps say in turn.
fn check_all(size: (u32, u32), first: usize) {
    let mut dice = Dice(first as u64);
    for (i, format) in formats().into_iter().enumerate() {
        let (caps, colour) = caps(format, size, first + i);
        check(&caps, colour, &mut dice);
    }
}

#[test]
fn every_format_follows_the_definition_at_odd_sizes() {
    check_all((13, 9), 0);
}

#[test]
fn every_format_follows_the_definition_as_every_kind_of_video() {
    for turn in 1..12 {
        check_all((8, 8), 5 * turn);
    }
}

#[test]
fn every_format_follows_the_definition_at_one_pixel() {
    check_all((1, 1), 3);
}
