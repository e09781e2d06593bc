use super::*;
use MaskChannel as Channel;
use MaskRange as Range;

fn gray(width: usize, height: usize, data: Vec<u8>) -> Owned {
    let planes = [data, vec![], vec![], vec![]];
    Owned { format: Format::GRAY8, colour: COLOURS[2], width, height, interlaced: false, strides: [width; 4], planes }
}

fn read(o: &Owned, channel: Channel, range: Range, invert: bool) -> Vec<u8> {
    Mask::from_picture(&o.picture(), MaskSettings { channel, range, invert }, o.width, o.height).data
}

fn auto(data: &[u8]) -> Vec<u8> {
    read(&gray(data.len(), 1, data.to_vec()), Channel::Auto, Range::Auto, false)
}

fn stretched(v: u8) -> u8 {
    ((f64::from(v) - 16.0) * 255.0 / 219.0).round().clamp(0.0, 255.0) as u8
}

#[test]
fn ranges_are_read_and_inverted_after() {
    let all: Vec<u8> = (0..=255).collect();
    let o = gray(256, 1, all.clone());
    assert_eq!(read(&o, Channel::Luma, Range::Full, false), all);
    assert_eq!(read(&o, Channel::Luma, Range::Limited, false), all.iter().map(|&v| stretched(v)).collect::<Vec<_>>());
    assert_eq!(
        read(&o, Channel::Luma, Range::Limited, true),
        all.iter().map(|&v| 255 - stretched(v)).collect::<Vec<_>>()
    );
    assert_eq!(read(&o, Channel::Luma, Range::Full, true), all.iter().map(|&v| 255 - v).collect::<Vec<_>>());
}

#[test]
fn a_grey_mask_tells_its_own_range() {
    for (mask, want) in [
        (vec![0; 9], vec![0; 9]),
        (vec![16; 9], vec![0; 9]),
        (vec![235; 9], vec![255; 9]),
        (vec![255; 9], vec![255; 9]),
        (vec![128; 9], vec![128; 9]),
        (vec![0, 0, 0, 16, 128, 235, 255], vec![0, 0, 0, 16, 128, 235, 255]),
        (vec![16, 16, 16, 126, 235], vec![0, 0, 0, 128, 255]),
        // Compositing an AYUV key on black: 16 and 255.
        (vec![16, 16, 255], vec![0, 0, 255]),
        // Lossy coding rings around both ends, and beyond them.
        (vec![16, 16, 16, 15, 17, 7, 4, 126, 240, 235, 234, 255], vec![0, 0, 0, 0, 1, 0, 0, 128, 255, 255, 254, 255]),
        (vec![0, 0, 0, 1, 3, 14, 15, 128, 240, 255, 254], vec![0, 0, 0, 1, 3, 14, 15, 128, 240, 255, 254]),
    ] {
        assert_eq!(auto(&mask), want, "{mask:?}");
    }
    // A ramp over everything and a soft matte on black are full, whatever they pass through.
    let ramp: Vec<u8> = (0..=255).collect();
    assert_eq!(auto(&ramp), ramp);
    let soft: Vec<u8> = (0..600).map(|i: i32| (255 - (i - 300).abs()).max(0) as u8).collect();
    assert_eq!(auto(&soft), soft);
}

#[test]
fn what_the_colour_says_decides_for_other_formats() {
    let mut dice = Dice(6);
    for colour in [COLOURS[1], COLOURS[2]] {
        let mut o = Owned::random(Format::I420, colour, (2, 1), 0, &mut dice);
        o.planes[0] = vec![16, 235];
        let want = if colour.full_range { [16, 235] } else { [0, 255] };
        assert_eq!(read(&o, Channel::Auto, Range::Auto, false), want);
        // Alpha is 0..255 whatever the colour is.
        let mut o = Owned::random(A420, colour, (2, 1), 0, &mut dice);
        (o.planes[0], o.planes[3]) = (vec![90, 91], vec![16, 235]);
        assert_eq!(read(&o, Channel::Auto, Range::Auto, false), [16, 235]);
    }
}

#[test]
fn channels_are_found_in_every_format() {
    let mut dice = Dice(7);
    for format in FORMATS {
        let o = Owned::random(format, COLOURS[2], (5, 3), 3, &mut dice);
        let scale = 255.0 / f64::from((1u32 << format.depth) - 1);
        let at = |f: &dyn Fn(usize, usize) -> f64| -> Vec<u8> {
            (0..15).map(|i| (f(i % 5, i / 5) * scale).round() as u8).collect()
        };
        let luma = at(&|x, y| {
            let c = [0, 1, 2].map(|k| o.sample(x, y, k));
            if format.is_yuv() { c[0] } else { 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2] }
        });
        let got = read(&o, Channel::Luma, Range::Full, false);
        assert!(got.iter().zip(&luma).all(|(a, b)| a.abs_diff(*b) <= u8::from(!format.is_yuv())), "{format:?}");
        for (k, channel) in [Channel::Red, Channel::Green, Channel::Blue].into_iter().enumerate() {
            let settings = MaskSettings { channel, ..Default::default() };
            assert_eq!(settings.check(format).is_ok(), !format.is_yuv());
            if !format.is_yuv() {
                assert_eq!(read(&o, channel, Range::Full, false), at(&|x, y| o.sample(x, y, k)), "{format:?}");
            }
        }
        let settings = MaskSettings { channel: Channel::Alpha, ..Default::default() };
        assert_eq!(settings.check(format).is_ok(), format.has_alpha());
        if format.has_alpha() {
            let alpha = at(&|x, y| f64::from(o.code(x, y, 3)));
            assert_eq!(read(&o, Channel::Alpha, Range::Auto, false), alpha, "{format:?}");
            assert_eq!(read(&o, Channel::Auto, Range::Auto, false), alpha, "{format:?}");
        }
    }
}

#[test]
fn more_bits_are_read_in_the_range_they_are_in() {
    let read = |format: Format, range, codes: [u16; 5]| {
        let mut o = Owned::random(format, COLOURS[0], (5, 1), 0, &mut Dice(17));
        (0..5).for_each(|x| o.set_code(x, 0, 0, codes[x]));
        read(&o, Channel::Auto, range, false)
    };
    assert_eq!(read(P010, Range::Auto, [0, 64, 502, 940, 1023]), [0, 0, 128, 255, 255]);
    assert_eq!(read(P010, Range::Full, [0, 2, 3, 512, 1023]), [0, 0, 1, 128, 255]);
    assert_eq!(read(GRAY16_BE, Range::Full, [0, 128, 129, 32896, 65535]), [0, 0, 1, 128, 255]);
    assert_eq!(read(GRAY16_BE, Range::Auto, [4096, 4096, 32128, 60160, 60160]), [0, 0, 128, 255, 255]);
    assert_eq!(read(GRAY16_BE, Range::Auto, [0, 0, 32896, 65535, 65535]), [0, 0, 128, 255, 255]);
}

#[test]
fn grey_in_rgb_keeps_its_value() {
    let mut o = Owned::random(Format::RGB, COLOURS[1], (256, 1), 0, &mut Dice(8));
    o.planes[0] = (0..=255).flat_map(|v| [v; 3]).collect();
    assert_eq!(read(&o, Channel::Auto, Range::Auto, false), (0..=255).collect::<Vec<u8>>());
}

#[test]
fn scaling_averages_down_interpolates_up_and_keeps_flat_parts() {
    let full = MaskSettings { range: Range::Full, ..Default::default() };
    let scaled = |o: &Owned, w, h| Mask::from_picture(&o.picture(), full, w, h).data;
    assert_eq!(scaled(&gray(4, 1, vec![0, 100, 200, 255]), 2, 1), [50, 228]);
    assert_eq!(scaled(&gray(3, 1, vec![30, 60, 90]), 2, 1), [40, 80]);
    assert_eq!(scaled(&gray(2, 1, vec![0, 100]), 4, 1), [0, 25, 75, 100]);
    assert_eq!(scaled(&gray(1, 2, vec![0, 100]), 1, 4), [0, 25, 75, 100]);
    for (w, h) in [(1, 1), (3, 5), (40, 30), (64, 48), (77, 91)] {
        for v in [0, 1, 77, 255] {
            assert!(scaled(&gray(40, 30, vec![v; 1200]), w, h).iter().all(|&m| m == v), "{v} at {w}x{h}");
        }
        // Left half background, right half foreground: away from the edge both stay exact.
        let halves = gray(40, 30, (0..1200).map(|i| if i % 40 < 20 { 0 } else { 255 }).collect());
        for (i, m) in scaled(&halves, w, h).into_iter().enumerate() {
            let x = ((i % w) as f64 + 0.5) / w as f64;
            let reach = 1.0 / w.min(40) as f64;
            assert!((x - 0.5).abs() <= reach || m == if x < 0.5 { 0 } else { 255 }, "{w}x{h} at {x}: {m}");
        }
    }
}

#[test]
fn a_mask_is_read_into_the_memory_it_has() {
    let o = gray(4, 2, vec![9; 8]);
    let mut mask = uniform(4, 2, 200);
    let memory = mask.data.as_ptr();
    mask.read(&o.picture(), MaskSettings { range: Range::Full, ..Default::default() }, 4, 2);
    assert_eq!((mask.data.as_ptr(), &mask.data[..]), (memory, &[9; 8][..]));
}

#[test]
fn a_mask_read_into_used_memory_is_that_of_new_memory() {
    let settings = MaskSettings { channel: Channel::Auto, range: Range::Full, invert: false };
    let pictures = [gray(7, 5, (0..35).collect()), gray(3, 2, vec![9; 6]), gray(20, 9, vec![0; 180])];
    for o in &pictures {
        for (width, height) in [(7, 5), (3, 3), (16, 11)] {
            let mut used = Mask::from_picture(&gray(19, 17, vec![255; 323]).picture(), settings, 19, 17);
            used.read(&o.picture(), settings, width, height);
            assert_eq!(used.data, Mask::from_picture(&o.picture(), settings, width, height).data);
        }
    }
    let mut used = Mask::from_picture(&pictures[0].picture(), settings, 7, 5);
    let mut short = gray(7, 5, vec![200; 35]);
    short.planes[0].truncate(20);
    used.read(&short.picture(), settings, 7, 5);
    assert!(used.is_empty());
}
