use super::*;
use crate::frame::{Colorimetry, Format, Mask, Matrix, PictureMut, PlaneMut, Region};
use crate::transfer::apply;

const WARM: ColourMap = ColourMap([0.8, 0.1, -0.05, 0.08, 0.02, 0.7, 0.05, 0.05, 0.0, -0.1, 0.6, 0.2]);
const BRIGHT: ColourMap = ColourMap([1.6, 0.0, 0.0, 0.1, 0.0, 1.5, 0.0, 0.0, 0.0, 0.3, 1.4, -0.2]);

fn uniform(map: ColourMap) -> Transfer {
    Transfer { maps: vec![map], ..Transfer::identity() }
}

fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1 << 24) as f32
}

/// A proxy of scattered colours.
fn scattered(width: usize, height: usize, mask: impl Fn(usize) -> f32) -> Proxy {
    let (n, mut state) = (width * height, 1);
    let rgb = (0..3 * n).map(|_| random(&mut state)).collect();
    Proxy { width, height, region: None, rgb, mask: (0..n).map(mask).collect() }
}

/// Two rows of pixels of these colours.
fn row(colours: &[[f32; 3]], mask: &[f32]) -> Proxy {
    let rgb = (0..3).flat_map(|c| [colours, colours].concat().into_iter().map(move |colour| colour[c])).collect();
    Proxy { width: colours.len(), height: 2, region: None, rgb, mask: [mask, mask].concat() }
}

/// The table of a .cube file: red, then green, then blue.
fn parse(text: &str) -> Vec<[f64; 3]> {
    let numbers = |line: &str| line.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<f64>>().try_into().unwrap();
    let is_data = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
    text.lines().filter(is_data).map(numbers).collect()
}

fn close(a: [f32; 3], b: [f32; 3], tolerance: f32) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

#[test]
fn one_affine_change_is_reproduced() {
    let proxy = scattered(16, 9, |i| (i % 5) as f32 / 4.0);
    for (map, strength) in [(WARM, 1.0), (BRIGHT, 1.0), (WARM, 0.5), (WARM, 0.0)] {
        let look = Look::new(&proxy, &uniform(map), strength).unwrap();
        assert_eq!(look.table.len(), 33 * 33 * 33);
        for (i, entry) in look.table.iter().enumerate() {
            let c = [i % 33, i / 33 % 33, i / 1089].map(|c| c as f32 / 32.0);
            let full = [0, 4, 8].map(|j| map[j] * c[0] + map[j + 1] * c[1] + map[j + 2] * c[2] + map[j + 3]);
            let expected: [f32; 3] = std::array::from_fn(|k| (c[k] + strength * (full[k] - c[k])).clamp(0.0, 1.0));
            assert!(close(*entry, expected, 1e-4), "{c:?}: {entry:?}, not {expected:?}");
        }
        let Residual { rms, maximum, untouched } = look.residual();
        if map == WARM {
            assert!(rms < 0.01 && maximum < 0.05, "{strength}: {}", look.residual());
        }
        assert_eq!(untouched > 5.0, strength > 0.0, "{strength}: {}", look.residual());
    }
}

#[test]
fn each_colour_takes_the_change_of_its_own_places() {
    let (skin, cloth, other) = ([0.7, 0.5, 0.4], [0.1, 0.2, 0.6], [0.1, 0.9, 0.1]);
    let wide = |colour| std::iter::repeat_n(colour, 16);
    let colours: Vec<_> = wide(skin).chain(wide(cloth)).collect();
    let proxy = row(&colours, &[1.0; 32]);
    let maps = (0..64).map(|i| if i % 32 < 16 { WARM } else { BRIGHT }).collect();
    let look = Look::new(&proxy, &Transfer { cols: 32, rows: 2, maps, ..Transfer::identity() }, 1.0).unwrap();
    let at = |colour| interpolated(&look.table, colour);
    // The mean of both has the weight of one pixel, beside 32 of the colour's own.
    let own = |map: &ColourMap, colour| close(at(colour), mapped(map, colour), 3.0 / 255.0);
    assert!(own(&WARM, skin) && own(&BRIGHT, cloth), "{:?} {:?}", at(skin), at(cloth));
    let mean = ColourMap(std::array::from_fn(|i| (WARM[i] + BRIGHT[i]) / 2.0));
    assert!(close(at(other), mapped(&mean, other), 0.5 / 255.0), "{:?}", at(other));
    let Residual { rms, untouched, .. } = look.residual();
    assert!(rms < 2.0 && untouched > 20.0, "{}", look.residual());
}

#[test]
fn the_mask_weighs() {
    let grey = [0.5; 3];
    let lift = |by: f32| ColourMap([1.0, 0.0, 0.0, by, 0.0, 1.0, 0.0, by, 0.0, 0.0, 1.0, by]);
    let maps = [lift(0.2), lift(-0.2), lift(0.4)].repeat(2);
    let transfer = Transfer { cols: 3, rows: 2, maps, ..Transfer::identity() };
    let look = Look::new(&row(&[grey; 3], &[1.0, 0.25, 0.0]), &transfer, 1.0).unwrap();
    let expected = (0.2 - 0.25 * 0.2) / 1.25;
    assert!(close(interpolated(&look.table, grey), [0.5 + expected; 3], 1e-4), "{:?}", look.table[0]);
    // 0.08 and 0.32 off, the latter at a quarter.
    let codes = |x: f64| 255.0 * x;
    let Residual { rms, maximum, untouched } = look.residual();
    let near = |a: f64, b: f64| (a - b).abs() < 0.02;
    assert!(near(rms, codes(((0.08f64.powi(2) + 0.25 * 0.32f64.powi(2)) / 1.25).sqrt())), "{rms}");
    assert!(near(maximum, codes(0.08)) && near(untouched, codes(0.2)), "{maximum} {untouched}");
}

#[test]
fn what_makes_no_look_is_an_error() {
    let refused = |proxy: &Proxy, transfer: &Transfer| Look::new(proxy, transfer, 1.0).unwrap_err().to_string();
    let (empty, full) = (scattered(4, 4, |_| 0.0), scattered(4, 4, |_| 1.0));
    assert!(refused(&empty, &uniform(WARM)).contains("no foreground"));
    let elsewhere = Transfer { region: Some(Region { x: 1, y: 1, width: 8, height: 8 }), ..uniform(WARM) };
    assert!(refused(&full, &elsewhere).contains("not that of the proxy"));
    assert!(refused(&full, &Transfer { rows: 2, ..uniform(WARM) }).contains("not that of the proxy"));
    assert!(refused(&full, &uniform(ColourMap([f32::NAN; 12]))).contains("not finite"));
    assert!(refused(&Proxy { height: 5, ..full }, &uniform(WARM)).contains("not whole"));
}

#[test]
fn a_place_has_the_map_that_apply_takes_there() {
    // A grid that does not divide the picture, and a crop of it.
    let (width, height) = (37, 23);
    let mut state = 3;
    let mut maps = Vec::new();
    for _ in 0..5 * 4 {
        let [a, b] = [0.5 + random(&mut state) / 2.0, random(&mut state) / 4.0];
        maps.push(ColourMap([a, 0.1, 0.0, b, 0.0, a, 0.1, b, 0.1, 0.0, a, b]));
    }
    for region in [None, Some(Region { x: 6, y: 4, width: 20, height: 14 })] {
        let transfer = Transfer { cols: 5, rows: 4, region, maps: maps.clone(), ..Transfer::identity() };
        let before: Vec<u8> = (0..3 * width * height).map(|i| (i * 37 % 150) as u8).collect();
        let mut after = before.clone();
        let mut planes: [PlaneMut; 4] = Default::default();
        planes[0] = PlaneMut { data: &mut after, stride: 3 * width };
        let colour = Colorimetry::new(Matrix::Bt709, true);
        let mut picture = PictureMut { format: Format::RGB, colour, width, height, interlaced: false, planes };
        apply(&mut picture, &Mask { width, height, data: vec![255; width * height] }, &transfer, 1.0);
        let Region { x, y, width: w, height: h } = region.unwrap_or(Region::whole(width, height));
        for (i, (before, after)) in before.chunks_exact(3).zip(after.chunks_exact(3)).enumerate() {
            let place = |at: usize, first: usize, length: usize| (at as f64 + 0.5 - first as f64) / length as f64;
            let map = transfer.at(place(i % width, x, w), place(i / width, y, h));
            let expected = mapped(&map, [0, 1, 2].map(|c| f32::from(before[c]) / 255.0));
            let got = [0, 1, 2].map(|c| f32::from(after[c]) / 255.0);
            assert!(close(got, expected, 0.51 / 255.0), "{region:?} {i}: {got:?}, not {expected:?}");
        }
    }
}

#[test]
fn the_file_holds_the_table_and_its_error_is_that_of_the_table() {
    let (width, height) = (24, 14);
    let proxy = scattered(width, height, |i| ((i * 7) % 11) as f32 / 10.0);
    // A map for each pixel: grids between pixels are for `a_place_has_the_map_that_apply_takes_there`.
    let maps: Vec<_> = (0..width * height).map(|i| WARM.mix(&BRIGHT, (i % width) as f32 / width as f32)).collect();
    let transfer = Transfer { cols: width, rows: height, maps: maps.clone(), ..Transfer::identity() };
    let look = Look::new(&proxy, &transfer, 1.0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("look.cube");
    look.save(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.len() <= 250));
    assert!(text.contains(&format!("# {}\n", look.residual())));
    for line in ["LUT_3D_SIZE 33", "DOMAIN_MIN 0 0 0", "DOMAIN_MAX 1 1 1"] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
    let table = parse(&text);
    assert_eq!(table.len(), 33 * 33 * 33);
    for (read, entry) in table.iter().zip(&look.table) {
        assert!((0..3).all(|c| (read[c] - f64::from(entry[c])).abs() < 1e-6), "{read:?}, not {entry:?}");
    }

    let (n, mut squares, mut untouched, mut weights, mut maximum) = (width * height, 0.0, 0.0, 0.0, 0.0f64);
    for (i, map) in maps.iter().enumerate() {
        let (m, x) = (f64::from(proxy.mask[i]), [0, 1, 2].map(|c| f64::from(proxy.rgb[c * n + i])));
        for c in 0..3 {
            let row = &map[4 * c..];
            let truth = (0..3).map(|j| f64::from(row[j]) * x[j]).sum::<f64>() + f64::from(row[3]);
            let truth = truth.clamp(0.0, 1.0);
            // All entries by their hat functions.
            let mut read = 0.0;
            for (j, entry) in table.iter().enumerate() {
                let hat = |place: usize, x: f64| (1.0 - (32.0 * x - place as f64).abs()).max(0.0);
                read += hat(j % 33, x[0]) * hat(j / 33 % 33, x[1]) * hat(j / 1089, x[2]) * entry[c];
            }
            squares += m * (read - truth).powi(2);
            untouched += m * (x[c] - truth).powi(2);
            maximum = maximum.max(m * (read - truth).abs());
            weights += m;
        }
    }
    let Residual { rms, maximum: largest, untouched: distance } = look.residual();
    let near = |a: f64, b: f64| (a - 255.0 * b).abs() < 1e-3 && a > 1.0;
    assert!(near(rms, (squares / weights).sqrt()), "{rms}");
    assert!(near(distance, (untouched / weights).sqrt()) && near(largest, maximum), "{distance} {largest}");
}

#[test]
fn a_file_that_can_not_be_written_is_named() {
    let look = Look::new(&scattered(4, 4, |_| 1.0), &uniform(WARM), 1.0).unwrap();
    let error = format!("{:#}", look.save(Path::new("/nowhere/look.cube")).unwrap_err());
    assert!(error.contains("/nowhere/look.cube: No such file"), "{error}");
}
