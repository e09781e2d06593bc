use super::*;

/// The map at (u, v), 0..1 across and down what the grid lies over.
pub(super) fn map_at(t: &Transfer, (u, v): (f64, f64)) -> [f64; 12] {
    let axis = |u: f64, n: usize| {
        let at = (u * n as f64 - 0.5).clamp(0.0, n as f64 - 1.0);
        let first = at.floor() as usize;
        (first, (first + 1).min(n - 1), at - at.floor())
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (axis(u, t.cols), axis(v, t.rows));
    std::array::from_fn(|i| {
        let m = |x: usize, y: usize| f64::from(t.maps[y * t.cols + x][i]);
        (m(x0, y0) * (1.0 - fx) + m(x1, y0) * fx) * (1.0 - fy) + (m(x0, y1) * (1.0 - fx) + m(x1, y1) * fx) * fy
    })
}

/// C + strength m (T(C) - C) in code values, unrounded, held in the nominal range or where C was.
fn harmonize(o: &Owned, c: [f64; 3], map: [f64; 12], k: usize, amount: f64) -> f64 {
    let x = rgb(o.format, o.colour, c);
    let y = [0, 4, 8].map(|i| map[i] * x[0] + map[i + 1] * x[1] + map[i + 2] * x[2] + map[i + 3]);
    let limited = o.format.is_yuv() && !o.colour.full_range;
    let (low, high) = if !limited { (0.0, 255.0) } else { (16.0, if k == 0 { 235.0 } else { 240.0 }) };
    (c[k] + amount * (codes(o.format, o.colour, y)[k] - c[k])).clamp(f64::min(low, c[k]), f64::max(high, c[k]))
}

/// Every byte of `before` as the definition has it, and whether it may change at all.
fn expected(before: &Owned, mask: &Mask, t: &Transfer, strength: f64) -> [Vec<(f64, bool)>; 4] {
    let mut out = before.planes.clone().map(|p| p.into_iter().map(|b| (f64::from(b), false)).collect::<Vec<_>>());
    let (w, h) = (before.width, before.height);
    let m = |x: usize, y: usize| f64::from(mask.data[y * w + x]) / 255.0;
    let region = t.region.unwrap_or(Region::whole(w, h));
    let place =
        |x: f64, y: f64| ((x - region.x as f64) / region.width as f64, (y - region.y as f64) / region.height as f64);
    for y in 0..h {
        for x in 0..w {
            let c = [0, 1, 2].map(|k| before.sample(x, y, k));
            let map = map_at(t, place(x as f64 + 0.5, y as f64 + 0.5));
            for k in 0..if is_420(before.format) || before.format == Format::Gray8 { 1 } else { 3 } {
                let (plane, byte) = before.place(x, y, k);
                out[plane][byte] = (harmonize(before, c, map, k, strength * m(x, y)), m(x, y) > 0.0);
            }
            if !is_420(before.format) || x % 2 == 1 || y % 2 == 1 {
                continue;
            }
            let site: Vec<_> =
                [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)].into_iter().filter(|&(x, y)| x < w && y < h).collect();
            let mean =
                |f: &dyn Fn(usize, usize) -> f64| site.iter().map(|&(x, y)| f(x, y)).sum::<f64>() / site.len() as f64;
            let (m, c) = (mean(&m), [mean(&|x, y| before.sample(x, y, 0)), c[1], c[2]]);
            let map = map_at(t, place((x + 1) as f64, (y + 1) as f64));
            for k in 1..3 {
                let (plane, byte) = before.place(x, y, k);
                out[plane][byte] = (harmonize(before, c, map, k, strength * m), m > 0.0);
            }
        }
    }
    out
}

fn compare(before: &Owned, mask: &Mask, t: &Transfer, strength: f32) {
    let mut after = before.clone();
    apply(&mut after.picture_mut(), mask, t, strength);
    let expected = expected(before, mask, t, f64::from(strength));
    let name = format!("{:?} {:?} {}x{}", before.format, before.colour, before.width, before.height);
    for (plane, expected) in expected.iter().enumerate() {
        for (byte, &(value, inside)) in expected.iter().enumerate() {
            let (got, was) = (after.planes[plane][byte], before.planes[plane][byte]);
            if inside {
                let off = (f64::from(got) - value).abs();
                assert!(off < 0.51, "{name}: plane {plane} byte {byte} is {got}, should be {value:.3} (was {was})");
            } else {
                assert_eq!(got, was, "{name}: plane {plane} byte {byte} is not foreground's");
            }
        }
    }
}

#[test]
fn every_format_follows_the_definition() {
    let mut dice = Dice(1);
    for format in FORMATS {
        for (i, size) in SIZES.into_iter().enumerate() {
            let before = Owned::random(format, COLOURS[i % COLOURS.len()], size, i % 4 * 5, &mut dice);
            for (cols, rows) in [(1, 1), (2, 3), (16, 9), (64, 36)] {
                let mut t = varied(cols, rows, &mut dice);
                compare(&before, &patchy(size.0, size.1, &mut dice), &t, 1.0);
                let (x, y) = (dice.next() as usize % size.0, dice.next() as usize % size.1);
                t.region = Some(Region { x, y, width: size.0.div_ceil(3), height: size.1.div_ceil(2) });
                compare(&before, &patchy(size.0, size.1, &mut dice), &t, 1.0);
                compare(&before, &patchy(size.0, size.1, &mut dice), &t, 0.37);
                compare(&before, &uniform(size.0, size.1, 255), &t, 1.0);
            }
        }
    }
}

#[test]
fn nothing_changes_without_a_mask_a_strength_or_a_difference() {
    let mut dice = Dice(2);
    for format in FORMATS {
        for (i, size) in SIZES.into_iter().enumerate() {
            let before = Owned::random(format, COLOURS[i % COLOURS.len()], size, 3, &mut dice);
            let (t, full) = (varied(4, 3, &mut dice), uniform(size.0, size.1, 255));
            let unfit = Transfer { maps: vec![[f32::NAN; 12], [3e38; 12]], cols: 2, rows: 1, region: None };
            let nowhere = Transfer { region: Some(Region::whole(0, 5)), ..t.clone() };
            let same = Transfer { maps: vec![Transfer::identity().maps[0]; 6], cols: 3, rows: 2, region: None };
            for (mask, t, strength) in [
                (&uniform(size.0, size.1, 0), &t, 1.0),
                (&full, &t, 0.0),
                (&full, &Transfer::identity(), 1.0),
                (&full, &same, 0.5),
                (&full, &unfit, 1.0),
                (&full, &nowhere, 1.0),
            ] {
                let mut after = before.clone();
                apply(&mut after.picture_mut(), mask, t, strength);
                assert!(after.planes == before.planes, "{format:?} {size:?}");
            }
        }
    }
}

#[test]
fn pictures_that_do_not_hold_their_samples_are_named_and_left_alone() {
    let mut dice = Dice(3);
    for format in FORMATS {
        let whole = Owned::random(format, COLOURS[0], (9, 7), 2, &mut dice);
        assert!(whole.picture().check().is_ok());
        let planes = format.plane_sizes(9, 7).iter().filter(|p| p.1 > 0).count();
        for plane in 0..planes {
            for narrow in [false, true] {
                let mut bad = whole.clone();
                if narrow {
                    bad.strides[plane] = format.plane_sizes(9, 7)[plane].0 - 1;
                } else {
                    bad.planes[plane].pop();
                }
                let error = bad.picture().check().unwrap_err().to_string();
                assert!(error.contains(&format!("plane {plane}")) && error.contains("9x7"), "{error}");
                let before = bad.clone();
                apply(&mut bad.picture_mut(), &uniform(9, 7, 255), &varied(2, 2, &mut dice), 1.0);
                assert!(bad.planes == before.planes);
                assert!(Mask::from_picture(&bad.picture(), MaskSettings::default(), 9, 7).is_empty());
                assert!(
                    super::super::proxy(&bad.picture(), &uniform(9, 7, 255), View::whole(4, 4))
                        .mask
                        .iter()
                        .all(|&m| m == 0.0)
                );
            }
        }
    }
    let empty = Picture { format: Format::I420, colour: COLOURS[0], width: 0, height: 0, planes: Default::default() };
    assert!(empty.check().unwrap_err().to_string().contains("0x0"));
    let huge = Picture { width: 1, height: 3, planes: [Plane { data: &[0; 9], stride: usize::MAX }; 4], ..empty };
    assert!(huge.check().is_err());
}

#[test]
fn a_mask_of_another_size_changes_nothing() {
    let mut dice = Dice(4);
    let mut picture = Owned::random(Format::Rgba, COLOURS[0], (8, 8), 0, &mut dice);
    let before = picture.clone();
    apply(&mut picture.picture_mut(), &uniform(8, 7, 255), &varied(1, 1, &mut dice), 1.0);
    apply(
        &mut picture.picture_mut(),
        &Mask { width: 8, height: 8, data: vec![255; 63] },
        &varied(1, 1, &mut dice),
        1.0,
    );
    assert!(picture.planes == before.planes);
}

/// As in the picture cut out; around it the maps of the region's edge go on.
#[test]
fn a_region_s_transfer_does_what_it_does_to_the_picture_cut_out() {
    let mut dice = Dice(15);
    for format in FORMATS {
        for (i, size @ (w, h)) in SIZES.into_iter().enumerate() {
            let before = Owned::random(format, COLOURS[i % COLOURS.len()], size, i % 3 * 7, &mut dice);
            let mask = patchy(w, h, &mut dice);
            for region in even_regions(w, h) {
                let t = varied(16, 9, &mut dice);
                let (mut after, mut part) = (before.clone(), before.crop(region));
                apply(&mut after.picture_mut(), &mask, &Transfer { region: Some(region), ..t.clone() }, 0.8);
                apply(&mut part.picture_mut(), &crop_mask(&mask, region), &t, 0.8);
                assert!(after.crop(region).planes == part.planes, "{format:?} {size:?} {region}");
            }
        }
    }
}
