use super::*;

/// Mean of `f` over a rectangle in continuous coordinates, where pixel (x, y) covers x..x+1, y..y+1.
fn area(f: &dyn Fn(usize, usize) -> f64, [x0, x1, y0, y1]: [f64; 4]) -> f64 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for y in y0.floor() as usize..(y1 - 1e-9).ceil() as usize {
        for x in x0.floor() as usize..(x1 - 1e-9).ceil() as usize {
            let w = (x1.min(x as f64 + 1.0) - x0.max(x as f64)) * (y1.min(y as f64 + 1.0) - y0.max(y as f64));
            sum += w * f(x, y);
            weight += w;
        }
    }
    sum / weight
}

#[test]
fn cells_are_means_by_area_in_every_format() {
    let mut dice = Dice(5);
    for format in FORMATS {
        for (i, size @ (w, h)) in SIZES.into_iter().enumerate() {
            let o = Owned::random(format, COLOURS[i % COLOURS.len()], size, i % 3 * 7, &mut dice);
            let mask = patchy(w, h, &mut dice);
            for (cols, rows) in [(1, 1), (5, 3), (16, 9), (w, h), (2 * w + 1, h + 1)] {
                // The whole picture, or any part of it: odd ones cut through chroma.
                let (x, y) = (dice.next() as usize % w, dice.next() as usize % h);
                let (width, height) = (1 + dice.next() as usize % (w - x), 1 + dice.next() as usize % (h - y));
                let region = (i + cols) % 3 > 0;
                let region = region.then_some(Region { x, y, width, height });
                let got = super::super::proxy(&o.picture(), &mask, View { region, cols, rows });
                assert_eq!(got.region, region);
                let Region { x, y, width, height } = region.unwrap_or(Region::whole(w, h));
                for cy in 0..rows {
                    for cx in 0..cols {
                        let [x0, x1] = [cx, cx + 1].map(|cx| x as f64 + (cx * width) as f64 / cols as f64);
                        let [y0, y1] = [cy, cy + 1].map(|cy| y as f64 + (cy * height) as f64 / rows as f64);
                        // 4:2:0 chroma covers each of its pixels alike, so the mean over pixels is the mean over sites.
                        let c = [0, 1, 2].map(|k| area(&|x, y| o.sample(x, y, k), [x0, x1, y0, y1]));
                        let i = cy * cols + cx;
                        let m = area(&|x, y| f64::from(mask.data[y * w + x]) / 255.0, [x0, x1, y0, y1]);
                        assert!((f64::from(got.mask[i]) - m).abs() < 1e-5, "{format:?} {size:?} {cols}x{rows}");
                        for (k, want) in rgb(format, o.colour, c).into_iter().enumerate() {
                            let got = f64::from(got.rgb[k * cols * rows + i]);
                            assert!(
                                (got - want.clamp(0.0, 1.0)).abs() < 1e-5,
                                "{format:?} {size:?} {cols}x{rows}: {got} {want}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn many_rows_of_white_stay_white() {
    let white = Owned {
        format: Format::GRAY8,
        colour: COLOURS[2],
        width: 3,
        height: 1500,
        interlaced: false,
        strides: [3; 4],
        planes: [vec![255; 4500], vec![], vec![], vec![]],
    };
    let small = super::super::proxy(&white.picture(), &uniform(3, 1500, 255), View::whole(1, 2));
    assert!(small.rgb.iter().chain(&small.mask).all(|&v| (v - 1.0).abs() < 1e-5), "{small:?}");
}

#[test]
fn a_region_s_proxy_is_the_proxy_of_the_picture_cut_out() {
    let mut dice = Dice(14);
    for format in FORMATS {
        for (i, size @ (w, h)) in SIZES.into_iter().enumerate() {
            let o = Owned::random(format, COLOURS[i % COLOURS.len()], size, i % 3 * 7, &mut dice);
            let mask = patchy(w, h, &mut dice);
            for region in even_regions(w, h) {
                let (part, part_mask) = (o.crop(region), crop_mask(&mask, region));
                for (cols, rows) in [(1, 1), (5, 3), (16, 9), (w, h)] {
                    let got = super::super::proxy(&o.picture(), &mask, View { region: Some(region), cols, rows });
                    let want = super::super::proxy(&part.picture(), &part_mask, View::whole(cols, rows));
                    assert!((got.rgb, got.mask) == (want.rgb, want.mask), "{format:?} {size:?} {region} {cols}x{rows}");
                }
            }
        }
    }
}
