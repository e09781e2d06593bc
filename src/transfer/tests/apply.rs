use super::*;
use crate::frame::tests::region::{boxed, region};
use crate::frame::tests::*;
use crate::frame::*;
use crate::simd::tests::at_every_level;

/// The map at (u, v), 0..1 across and down what the grid lies over.
fn map_at(t: &Transfer, (u, v): (f64, f64)) -> [f64; 12] {
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
    let scale = f64::from(1u32 << (o.format.depth - 8));
    let (low, high) = match (o.colour.full_range, o.format.is_yuv() && k > 0) {
        (true, _) => (0.0, f64::from((1u32 << o.format.depth) - 1)),
        (false, false) => (16.0 * scale, 235.0 * scale),
        (false, true) => (16.0 * scale, 240.0 * scale),
    };
    (c[k] + amount * (codes(o.format, o.colour, y)[k] - c[k])).clamp(f64::min(low, c[k]), f64::max(high, c[k]))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What sample (x, line) of component `k` is to become; `None` where its mask is zero.
fn expected(before: &Owned, mask: &Mask, t: &Transfer, strength: f64, [x, line, k]: [usize; 3]) -> Option<f64> {
    let (w, h) = (before.width, before.height);
    let m = |x: usize, y: usize| f64::from(mask.data[y * w + x]) / 255.0;
    let region = t.region.unwrap_or(Region::whole(w, h));
    let map = |x: f64, y: f64| {
        map_at(t, ((x - region.x as f64) / region.width as f64, (y - region.y as f64) / region.height as f64))
    };
    let colours = |x: usize, y: usize| [0, 1, 2].map(|c| before.sample(x, y, c));
    let [across, down] = before.format.rate(k).map(|rate| 1usize << rate);
    if k == 0 || (across, down) == (1, 1) {
        let amount = strength * m(x, line);
        let map = map(x as f64 + 0.5, line as f64 + 0.5);
        return (amount > 0.0).then(|| harmonize(before, colours(x, line), map, k, amount));
    }
    // The pixels of the sample: with interlace, rows of one field.
    let (first, pitch) =
        if before.interlaced && down > 1 { (line / 2 * 2 * down + line % 2, 2) } else { (line * down, 1) };
    let columns: Vec<_> = (x * across..(x + 1) * across).filter(|&x| x < w).collect();
    let rows: Vec<_> = (0..down).map(|i| first + i * pitch).filter(|&y| y < h).collect();
    let amount = mean(&rows.iter().flat_map(|&y| columns.iter().map(move |&x| m(x, y))).collect::<Vec<_>>());
    if amount == 0.0 {
        return None;
    }
    let siting = before.colour.siting;
    let luma_of = |y: usize| {
        let luma = |x: usize| before.sample(x, y, 0);
        if siting.across && across == 2 {
            let (left, right) = (columns[0].saturating_sub(1), *columns.last().unwrap());
            return 0.25 * luma(left) + 0.5 * luma(columns[0]) + 0.25 * luma(right);
        }
        mean(&columns.iter().map(|&x| luma(x)).collect::<Vec<_>>())
    };
    let lit = if siting.down { &rows[..1] } else { &rows };
    let [_, u, v] = colours(columns[0], rows[0]);
    let c = [mean(&lit.iter().map(|&y| luma_of(y)).collect::<Vec<_>>()), u, v];
    let centre = |first: usize, pixels: usize, pitch: usize, sited: bool| {
        first as f64 + 0.5 + if sited { 0.0 } else { (pixels - 1) as f64 * pitch as f64 / 2.0 }
    };
    let map = map(centre(columns[0], across, 1, siting.across), centre(first, down, pitch, siting.down));
    Some(harmonize(before, c, map, k, strength * amount))
}

fn compare(before: &Owned, mask: &Mask, t: &Transfer, strength: f32) {
    let mut after = before.clone();
    apply(&mut after.picture_mut(), mask, t, strength);
    let name = format!("{} {:?} {}x{}", before.format, before.colour, before.width, before.height);
    for k in (0..3).filter(|&k| before.format.places[k].is_some()) {
        let [across, down] = before.format.size(k, before.width, before.height);
        for (line, x) in (0..down).flat_map(|line| (0..across).map(move |x| (line, x))) {
            let (got, was) = (after.code(x, line, k), before.code(x, line, k));
            match expected(before, mask, t, f64::from(strength), [x, line, k]) {
                Some(value) => {
                    // Beyond rounding, what f32 leaves of 16 bits.
                    let off = (f64::from(got) - value).abs();
                    let least = if before.format.depth > 12 { 0.6 } else { 0.51 };
                    assert!(
                        off < least,
                        "{name}: component {k} at {x}, {line} is {got}, should be {value:.3} (was {was})"
                    );
                }
                None => assert_eq!(got, was, "{name}: component {k} at {x}, {line} is not foreground's"),
            }
            after.set_code(x, line, k, was);
        }
    }
    assert!(after.planes == before.planes, "{name}: a bit changed that is no colour's");
}

#[test]
fn every_format_follows_the_definition_at_every_level_of_simd() {
    at_every_level(|_| {
        let mut dice = Dice(1);
        for format in FORMATS {
            for (i, size) in SIZES.into_iter().enumerate() {
                let mut before = Owned::random(format, COLOURS[i % COLOURS.len()], size, i % 4 * 5, &mut dice);
                for (cols, rows) in [(1, 1), (2, 3), (16, 9), (64, 36)] {
                    before.interlaced = !before.interlaced;
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
    });
}

/// Large enough to be cut into bands for several threads, and into blocks whose borders share chroma's filter.
#[test]
fn pictures_of_many_bands_and_blocks_follow_the_definition() {
    let mut dice = Dice(18);
    for (format, interlaced) in [
        (Format::I420, false),
        (Format::I420, true),
        (P010, false),
        (Format::RGBA, false),
        (packed_422([0, 1, 3]), false),
        (planar(YUV, [2, 2], [0, 1, 2], None), true),
    ] {
        for (size, colour) in [((601, 139), COLOURS[1]), ((540, 203), COLOURS[2])] {
            let mut before = Owned::random(format, colour, size, 3, &mut dice);
            before.interlaced = interlaced;
            let t = varied(21, 12, &mut dice);
            compare(&before, &patchy(size.0, size.1, &mut dice), &t, 1.0);
            compare(&before, &uniform(size.0, size.1, 255), &t, 1.0);
        }
    }
}

#[test]
fn a_plan_kept_from_frame_to_frame_does_what_a_new_one_does() {
    let (mut dice, mut plan) = (Dice(19), Plan::default());
    let (mut formats, mut t) = (FORMATS.into_iter().cycle(), varied(5, 4, &mut dice));
    let mut format = Format::RGB;
    let (mut size, mut colour, mut strength) = ((33, 18), COLOURS[0], 1.0);
    for i in 0..60 {
        match i % 6 {
            0 => format = formats.next().unwrap(),
            1 => size = SIZES[i % SIZES.len()],
            2 => colour = COLOURS[i % COLOURS.len()],
            3 => strength = dice.real() as f32,
            4 => t = varied(1 + i % 7, 1 + i % 3, &mut dice),
            _ => t.region = Some(Region { x: i % 5, y: 0, width: 9, height: 8 }),
        }
        let (before, mask) = (Owned::random(format, colour, size, 1, &mut dice), patchy(size.0, size.1, &mut dice));
        let [mut kept, mut new] = [before.clone(), before];
        plan.apply(&mut kept.picture_mut(), &mask, &t, strength);
        apply(&mut new.picture_mut(), &mask, &t, strength);
        assert!(kept.planes == new.planes, "change {i}");
    }
}

#[test]
fn nothing_changes_without_a_mask_a_strength_or_a_difference() {
    let mut dice = Dice(2);
    for format in FORMATS {
        for (i, size) in SIZES.into_iter().enumerate() {
            let before = Owned::random(format, COLOURS[i % COLOURS.len()], size, 3, &mut dice);
            let (t, full) = (varied(4, 3, &mut dice), uniform(size.0, size.1, 255));
            let unfit = Transfer {
                maps: vec![ColourMap([f32::NAN; 12]), ColourMap([3e38; 12])],
                cols: 2,
                rows: 1,
                ..Transfer::identity()
            };
            let nowhere = Transfer { region: Some(Region::whole(0, 5)), ..t.clone() };
            let same = Transfer { maps: vec![ColourMap::IDENTITY; 6], cols: 3, rows: 2, ..Transfer::identity() };
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
                assert!(proxy(&bad.picture(), &uniform(9, 7, 255), View::whole(4, 4)).mask.iter().all(|&m| m == 0.0));
            }
        }
    }
    let empty = Picture {
        format: Format::I420,
        colour: COLOURS[0],
        width: 0,
        height: 0,
        interlaced: false,
        planes: Default::default(),
    };
    assert!(empty.check().unwrap_err().to_string().contains("0x0"));
    let huge = Picture { width: 1, height: 3, planes: [Plane { data: &[0; 9], stride: usize::MAX }; 4], ..empty };
    assert!(huge.check().is_err());
}

#[test]
fn a_mask_of_another_size_changes_nothing() {
    let mut dice = Dice(4);
    let mut picture = Owned::random(Format::RGBA, COLOURS[0], (8, 8), 0, &mut dice);
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
            // Chroma in the middle of its pixels looks at none beyond the cut.
            let before = Owned::random(format, COLOURS[i % 2 * 2], size, i % 3 * 7, &mut dice);
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

/// Maps that differ from cell to cell and drive some colours out of range.
pub(super) fn varied(cols: usize, rows: usize, dice: &mut Dice) -> Transfer {
    let maps = (0..cols * rows)
        .map(|_| {
            ColourMap(std::array::from_fn(|i| (if i % 5 == 0 { 1.0 } else { 0.0 } + 0.8 * (dice.real() - 0.5)) as f32))
        })
        .collect();
    Transfer { cols, rows, region: None, maps, ..Transfer::identity() }
}

/// Waves of other lengths in each sample: colours that vary over a foreground, as a real one's do.
fn waves(format: Format, (width, height): (usize, usize)) -> Owned {
    let mut o = Owned::random(format, COLOURS[1], (width, height), 0, &mut Dice(16));
    for k in 0..3 {
        let [rate, _] = format.rate(k);
        let [across, down] = format.size(k, width, height);
        for (line, x) in (0..down).flat_map(|line| (0..across).map(move |x| (line, x))) {
            let (x_at, y_at, k_at) = ((x << rate) as f64, (line << rate) as f64, k as f64);
            let wave = (x_at / (5.0 + k_at) + k_at).sin() * (y_at / (6.0 - k_at)).cos();
            o.set_code(x, line, k, (120.0 + 30.0 * wave) as u16);
        }
    }
    o
}

/// A crop's harmonized proxy is all there is to tell the change; it comes out at full size as if it had been known.
#[test]
fn a_known_change_seen_in_a_crop_is_lifted_to_the_full_size() {
    let (size @ (w, h), bounds) = ((640, 360), region(430, 190, 70, 80));
    let gains = [[0.8, 0.9, 0.7], [0.7, 1.0, 0.8], [0.9, 0.8, 0.9]].as_flattened().to_vec();
    let map = |g: &f32| ColourMap([*g, 0.1, 0.0, 0.03, 0.05, *g, 0.0, -0.02, 0.0, -0.1, g + 0.1, 0.05]);
    let maps = gains.iter().map(map);
    // A light that falls off across the frame.
    let change = Transfer { cols: 3, rows: 3, region: None, maps: maps.collect(), ..Transfer::identity() };
    for format in [Format::RGB, Format::I420] {
        let (before, mut mask) = (waves(format, size), boxed(size, bounds));
        // A soft border, and a corner cut off.
        for (i, m) in mask.data.iter_mut().enumerate() {
            let (x, y) = (i % w, i / w);
            *m = if x + y > 740 {
                0
            } else if x < 436 {
                *m / 2
            } else {
                *m
            };
        }
        let region = Region::around(&mask, 64).unwrap();
        assert_eq!(region, Region { x: 320, y: 132, width: 320, height: 180 });
        let view = View { region: Some(region), cols: 64, rows: 36 };
        let small = proxy(&before.picture(), &mask, view);
        let mut harmonized = small.rgb.clone();
        for i in 0..64 * 36 {
            let at = |cell: usize, pitch: f64| (cell as f64 + 0.5) * pitch;
            let (x, y) = (320.0 + at(i % 64, 5.0), 132.0 + at(i / 64, 5.0));
            let map = map_at(&change, (x / w as f64, y / h as f64));
            let x = [0, 1, 2].map(|c| f64::from(small.rgb[c * 64 * 36 + i]));
            for (c, row) in map.chunks(4).enumerate() {
                let target = row[0] * x[0] + row[1] * x[1] + row[2] * x[2] + row[3];
                harmonized[c * 64 * 36 + i] += small.mask[i] * (target - x[c]) as f32;
            }
        }
        let (mut lifted, mut truth) = (before.clone(), before.clone());
        apply(&mut lifted.picture_mut(), &mask, &fit(&small, &harmonized, 1), 1.0);
        apply(&mut truth.picture_mut(), &mask, &change, 1.0);
        let bytes = |o: &Owned| o.planes.iter().flatten().copied().collect::<Vec<u8>>();
        let [before, lifted, truth] = [&before, &lifted, &truth].map(bytes);
        let off = lifted.iter().zip(&truth).map(|(a, b)| a.abs_diff(*b)).max();
        let moved: Vec<u8> = truth.iter().zip(&before).filter(|(a, b)| a != b).map(|(a, b)| a.abs_diff(*b)).collect();
        assert!(off <= Some(1), "{format:?}: {off:?} codes off");
        assert!(moved.iter().filter(|&&by| by > 3).count() > 70 * 80 / 2, "{format:?}: hardly anything changes");
    }
}
