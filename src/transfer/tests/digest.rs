use super::*;
use crate::frame::tests::*;
use crate::frame::*;
use crate::simd::tests::at_every_level;
use crate::simd::{self, Level};

/// FNV-1a.
fn digest(hash: &mut u64, bytes: impl IntoIterator<Item = u8>) {
    for byte in bytes {
        *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

/// What proxy, fit and apply make of pictures of every format.
fn bits() -> u64 {
    let (mut dice, mut hash) = (Dice(11), 0xcbf2_9ce4_8422_2325);
    for format in FORMATS {
        for (i, size @ (w, h)) in SIZES.into_iter().enumerate() {
            let mut picture = Owned::random(format, COLOURS[i % COLOURS.len()], size, i % 3 * 5, &mut dice);
            let mask = patchy(w, h, &mut dice);
            for (cols, rows) in [(1, 1), (5, 3), (16, 9), (2 * w + 1, h + 1)] {
                let proxy = proxy(&picture.picture(), &mask, View::whole(cols, rows));
                let warmer: Vec<f32> = proxy.rgb.iter().map(|v| 0.1 + 0.8 * v).collect();
                let transfer = fit(&proxy, &warmer, 1);
                apply(&mut picture.picture_mut(), &mask, &transfer, 0.9);
                let floats = proxy.rgb.iter().chain(&proxy.mask).chain(transfer.maps.iter().flat_map(|map| &map.0));
                digest(&mut hash, floats.flat_map(|f| f.to_le_bytes()));
                digest(&mut hash, picture.planes.iter().flatten().copied());
            }
        }
    }
    hash
}

#[test]
fn bits_are_the_same_on_every_machine_that_multiplies_and_adds_at_once() {
    at_every_level(|level| {
        let is_fused = level > Level::Portable || simd::PORTABLE_FUSES;
        let expected = if is_fused { 0xebb2_45a8_90e1_3e8c } else { 0x09f5_0b8d_4f45_032d };
        assert_eq!(bits(), expected, "{level}");
    });
}
