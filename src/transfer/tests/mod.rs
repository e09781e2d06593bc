mod apply;
mod digest;

use super::*;
use crate::frame::{Colorimetry, Format, Mask, Matrix, Picture, PictureMut, Plane, PlaneMut, Proxy, View, proxy};
use std::io::Write;
use std::path::{Path, PathBuf};

fn t(map: &ColourMap, x: [f32; 3]) -> [f32; 3] {
    [0, 4, 8].map(|i| map[i] * x[0] + map[i + 1] * x[1] + map[i + 2] * x[2] + map[i + 3])
}

/// A proxy of scattered colours.
fn scattered(width: usize, height: usize, mask: impl Fn(usize, usize) -> f32) -> Proxy {
    let n = width * height;
    let mut state = 1u64;
    let rgb = (0..3 * n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        })
        .collect();
    Proxy { width, height, region: None, rgb, mask: (0..n).map(|i| mask(i % width, i / width)).collect() }
}

fn pixel(p: &Proxy, rgb: &[f32], i: usize) -> [f32; 3] {
    [0, 1, 2].map(|c| rgb[c * p.width * p.height + i])
}

/// X + m (T(X) - X), what applying `map` to the frame makes of its proxy.
fn harmonized(p: &Proxy, map: impl Fn(usize, usize) -> ColourMap) -> Vec<f32> {
    let n = p.width * p.height;
    let mut y = p.rgb.clone();
    for i in 0..n {
        let x = pixel(p, &p.rgb, i);
        let target = t(&map(i % p.width, i / p.width), x);
        for c in 0..3 {
            y[c * n + i] += p.mask[i] * (target[c] - x[c]);
        }
    }
    y
}

fn close(a: &[f32], b: &[f32], tolerance: f32) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

const WARM: ColourMap = ColourMap([1.2, 0.1, -0.05, 0.03, 0.02, 0.9, 0.05, -0.02, 0.0, -0.1, 0.7, 0.06]);

#[test]
fn one_affine_change_is_recovered_under_hard_and_soft_masks() {
    let soft = |x: usize, y: usize| (x * 7 + y * 3) as f32 % 10.0 / 10.0;
    for mask in [&|_: usize, _: usize| 1.0, &soft as &dyn Fn(usize, usize) -> f32] {
        let p = scattered(20, 12, mask);
        let transfer = fit(&p, &harmonized(&p, |_, _| WARM), 1);
        assert_eq!((transfer.cols, transfer.rows, transfer.maps.len()), (20, 12, 240));
        assert!(transfer.maps.iter().all(|m| close(&m.0, &WARM.0, 0.01)), "{:?}", transfer.maps[0]);
    }
}

#[test]
fn a_change_that_varies_over_the_frame_is_followed() {
    let p = scattered(32, 18, |_, _| 1.0);
    let light = |x: usize, y: usize| {
        let gain = 0.6 + 0.8 * x as f32 / 31.0 + 0.1 * (y as f32 / 3.0).sin();
        ColourMap([gain, 0.0, 0.0, 0.0, 0.0, gain, 0.0, 0.0, 0.0, 0.0, gain * 0.9, 0.02])
    };
    let y = harmonized(&p, light);
    let transfer = fit(&p, &y, 1);
    let global = fit(&Proxy { width: 576, height: 1, ..p.clone() }, &y, 1).maps[288];
    let error = |map: &dyn Fn(usize) -> ColourMap| {
        let squares = (0..576).flat_map(|i| {
            let (got, want) = (t(&map(i), pixel(&p, &p.rgb, i)), pixel(&p, &y, i));
            [0, 1, 2].map(|c| (got[c] - want[c]).powi(2))
        });
        (squares.sum::<f32>() / 1728.0).sqrt()
    };
    let (local, global) = (error(&|i| transfer.maps[i]), error(&|_| global));
    assert!(local < 0.02 && local < 0.2 * global, "{local} against {global}");
}

#[test]
fn nothing_to_fit_is_the_identity() {
    let p = scattered(8, 8, |_, _| 0.0);
    assert_eq!(fit(&p, &vec![0.3; 192], 1), Transfer::identity());
    let p = scattered(8, 8, |_, _| 1.0);
    assert_eq!(fit(&p, &[0.3; 5], 1), Transfer::identity());
    assert_eq!(fit(&p, &[f32::NAN; 192], 1), Transfer::identity());
    let transfer = fit(&p, &p.rgb, 1);
    assert!(transfer.maps.iter().all(|m| close(&m.0, &ColourMap::IDENTITY.0, 1e-5)));
}

#[test]
fn far_from_the_foreground_the_map_is_the_global_one() {
    let p = scattered(24, 24, |x, y| if x < 6 && y < 6 { 1.0 } else { 0.0 });
    let transfer = fit(&p, &harmonized(&p, |_, _| WARM), 1);
    assert!(close(&transfer.maps[24 * 24 - 1].0, &WARM.0, 0.02), "{:?}", transfer.maps[575]);
}

#[test]
fn a_flat_foreground_gets_its_colour_and_a_sane_map() {
    let mut p = scattered(16, 9, |x, _| if x > 4 { 1.0 } else { 0.0 });
    let n = 144;
    let (from, to) = ([0.5, 0.4, 0.3], [0.7, 0.4, 0.2]);
    let mut y = p.rgb.clone();
    for i in 0..n {
        for c in 0..3 {
            p.rgb[c * n + i] = from[c];
            y[c * n + i] = to[c];
        }
    }
    for map in fit(&p, &y, 1).maps {
        assert!(close(&t(&map, from), &to, 0.005), "{map:?}");
        assert!(map.iter().all(|a| a.abs() < 1.5), "{map:?}");
    }
}

#[test]
fn a_speck_does_not_amplify_what_it_holds() {
    let p = scattered(16, 9, |x, y| if (x, y) == (3, 3) { 0.01 } else { 0.0 });
    let mut y = p.rgb.clone();
    y[3 * 16 + 3] += 0.05;
    for map in fit(&p, &y, 1).maps {
        assert!(close(&map.0, &ColourMap::IDENTITY.0, 0.02), "{map:?}");
    }
}

fn shared() -> PathBuf {
    std::env::var_os("HARMONIZE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

/// With the true colours at 64 px, the frame comes out as close to the truth as local affine maps can bring it.
#[test]
fn a_perfect_proxy_lifts_to_a_nearly_perfect_frame() {
    let set = shared().join("data/val/HVal");
    let Ok(list) = std::fs::read_to_string(set.join("HVal_test.txt")) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no data set at {}", set.display());
        return;
    };
    let (mut psnr, mut fpsnr, mut n) = (0.0, 0.0, 0.0);
    for name in list.split_whitespace().map(|l| l.rsplit('/').next().unwrap().trim_end_matches(".jpg")) {
        let ids: Vec<_> = name.split('_').collect();
        let open = |path: String| image::open(set.join(path)).unwrap();
        let composite = open(format!("composite_images/{name}.jpg")).to_rgb8();
        let real = open(format!("real_images/{}.jpg", ids[0])).to_rgb8();
        let mask = open(format!("masks/{}_{}.png", ids[0], ids[1])).to_luma8();
        let (w, h) = (composite.width() as usize, composite.height() as usize);
        let mask = Mask { width: w, height: h, data: mask.iter().map(|&m| if m > 127 { 255 } else { 0 }).collect() };
        let out = lift(composite.as_raw(), real.as_raw(), &mask);
        let score = |samples: &mut dyn Iterator<Item = usize>| {
            let (sum, n) = samples.fold((0.0, 0.0), |(sum, n), i| {
                (sum + (f64::from(out[i]) - f64::from(real.as_raw()[i])).powi(2), n + 1.0)
            });
            10.0 * (255.0 * 255.0 * n / sum).log10()
        };
        psnr += score(&mut (0..out.len()));
        fpsnr += score(&mut (0..out.len()).filter(|i| mask.data[i / 3] > 0));
        n += 1.0;
    }
    eprintln!(
        "true colours at 64 px, lifted: PSNR {:.2} dB, in the foreground {:.2} dB over {n} frames",
        psnr / n,
        fpsnr / n
    );
    assert!(psnr / n > 42.5 && fpsnr / n > 31.9);
}

/// Packed RGB `composite` with the transfer that its 64 px proxy and that of `real` make.
fn lift(composite: &[u8], real: &[u8], mask: &Mask) -> Vec<u8> {
    let (width, height, stride) = (mask.width, mask.height, 3 * mask.width);
    let (format, colour) = (Format::RGB, Colorimetry::new(Matrix::Bt709, true));
    let of = |data| {
        let mut planes = [Plane::default(); 4];
        planes[0] = Plane { data, stride };
        let picture = Picture { format, colour, width, height, interlaced: false, planes };
        let long = width.max(height);
        proxy(&picture, mask, View::whole((64 * width).div_ceil(long), (64 * height).div_ceil(long)))
    };
    let transfer = fit(&of(composite), &of(real).rgb, 1);
    let mut out = composite.to_vec();
    let mut planes: [PlaneMut; 4] = Default::default();
    planes[0] = PlaneMut { data: &mut out, stride };
    apply(&mut PictureMut { format, colour, width, height, interlaced: false, planes }, mask, &transfer, 1.0);
    out
}

#[test]
fn cells_average_out_what_errs_from_pixel_to_pixel() {
    let (cols, rows) = (37, 21);
    let n = cols * rows;
    let ramp = |i: usize| 0.2 + 0.5 * (i % cols) as f32 / cols as f32;
    let p = Proxy {
        width: cols,
        height: rows,
        region: None,
        rgb: (0..3 * n).map(|i| ramp(i % n)).collect(),
        mask: vec![1.0; n],
    };
    let truth = harmonized(&p, |_, _| WARM);
    // Columns that err by turns: every cell of an even width is right on average.
    let erring: Vec<f32> = truth.iter().enumerate().map(|(i, y)| y + [0.1, -0.1][i % n % cols % 2]).collect();
    // How far off the map in the middle of the picture takes the colour there.
    let off = |transfer: &Transfer| {
        let (x, y) = (18 * transfer.cols / cols, 10 * transfer.rows / rows);
        let (map, c) = (transfer.maps[y * transfer.cols + x], ramp(18));
        (0..3)
            .map(|k| {
                map[4 * k..][..4]
                    .iter()
                    .zip(&WARM[4 * k..])
                    .map(|(a, b)| a - b)
                    .zip([c, c, c, 1.0])
                    .map(|(d, v)| d * v)
                    .sum::<f32>()
                    .abs()
            })
            .fold(0.0, f32::max)
    };
    let by_cells = fit(&p, &erring, 4);
    assert_eq!((by_cells.cols, by_cells.rows, by_cells.maps.len()), (10, 6, 60));
    assert!(off(&by_cells) < 0.01, "{}", off(&by_cells));
    assert!(off(&fit(&p, &erring, 1)) > 0.02, "{}", off(&fit(&p, &erring, 1)));
}
