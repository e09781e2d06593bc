use super::*;

/// A mask that is full on `width` x `height` pixels from (x, y) on.
pub(crate) fn boxed((width, height): (usize, usize), bounds: Region) -> Mask {
    let mut mask = uniform(width, height, 0);
    for row in mask.data.chunks_exact_mut(width).skip(bounds.y).take(bounds.height) {
        row[bounds.x..bounds.x + bounds.width].fill(255);
    }
    mask
}

pub(crate) fn region(x: usize, y: usize, width: usize, height: usize) -> Region {
    Region { x, y, width, height }
}

const HD: (usize, usize) = (1920, 1080);

#[test]
fn small_foregrounds_get_a_crop_and_others_the_frame() {
    let whole = None;
    for (size, bounds, least, want) in [
        // The middle of the frame, by size of the foreground.
        (HD, region(910, 490, 100, 100), 0, Some(region(720, 408, 480, 270))),
        (HD, region(910, 490, 67, 67), 0, Some(region(810, 464, 240, 135))),
        (HD, region(900, 500, 120, 67), 0, Some(region(840, 464, 240, 135))),
        (HD, region(900, 480, 240, 135), 0, Some(region(780, 408, 480, 270))),
        (HD, region(840, 480, 241, 135), 0, Some(region(480, 272, 960, 540))),
        (HD, region(720, 400, 480, 270), 0, Some(region(480, 272, 960, 540))),
        (HD, region(720, 400, 481, 270), 0, whole),
        (HD, region(720, 400, 480, 271), 0, whole),
        (HD, region(0, 0, 1920, 1080), 0, whole),
        // No smaller than the proxy.
        (HD, region(910, 490, 60, 60), 240, Some(region(810, 448, 240, 135))),
        (HD, region(910, 490, 60, 60), 241, Some(region(720, 374, 480, 270))),
        (HD, region(910, 490, 60, 60), 512, Some(region(480, 272, 960, 540))),
        (HD, region(910, 490, 60, 60), 961, whole),
        // Corners and edges.
        (HD, region(0, 0, 1, 1), 512, Some(region(0, 0, 960, 540))),
        (HD, region(1919, 0, 1, 1), 512, Some(region(960, 0, 960, 540))),
        (HD, region(0, 1079, 1, 1), 0, Some(region(0, 945, 240, 135))),
        (HD, region(1919, 1079, 1, 1), 0, Some(region(1680, 945, 240, 135))),
        // Portrait, odd and tiny frames.
        ((1080, 1920), region(500, 900, 60, 60), 512, Some(region(272, 480, 540, 960))),
        ((1921, 1081), region(1900, 1070, 21, 11), 512, Some(region(960, 540, 961, 541))),
        ((9, 7), region(4, 3, 1, 1), 0, Some(region(4, 2, 3, 2))),
        ((1, 1), region(0, 0, 1, 1), 0, whole),
    ] {
        assert_eq!(Region::around(&boxed(size, bounds), least), want, "{size:?} {bounds} {least}");
    }
    assert_eq!(Region::around(&uniform(64, 36, 0), 0), None);
    assert_eq!(Region::around(&Mask { width: 3, height: 3, data: vec![255; 8] }, 0), None);
    assert_eq!(Region::around(&Mask::default(), 0), None);
}

#[test]
fn separate_foregrounds_share_one_crop_and_noise_of_coding_has_no_say() {
    let mut mask = boxed(HD, region(800, 500, 40, 40));
    let one = Region::around(&mask, 512);
    assert_eq!(one, Some(region(360, 272, 960, 540)));
    mask.data.iter_mut().step_by(7).for_each(|m| *m = (*m).max(31));
    assert_eq!(Region::around(&mask, 512), one);
    mask.data[1919] = 32;
    assert_eq!(Region::around(&mask, 512), None, "a second foreground, in a corner");
    let mut pair = boxed(HD, region(800, 500, 40, 40));
    pair.data[700 * 1920 + 1200] = 32;
    assert_eq!(pair.bounds(), Some(region(800, 500, 401, 201)));
    assert_eq!(Region::around(&pair, 512), Some(region(480, 340, 960, 540)));
}

#[test]
fn a_crop_holds_its_foreground_with_room_around_it_and_is_the_smallest_that_does() {
    let mut dice = Dice(12);
    for _ in 0..400 {
        let mut below = |n: usize| dice.next() as usize % n;
        let size @ (w, h) = (1 + below(400), 1 + below(300));
        let (width, height) = (1 + below(w) / 2, 1 + below(h) / 2);
        let bounds = region(below(w - width + 1), below(h - height + 1), width, height);
        let least = below(200);
        let crops = [1, 2, 4, 8].map(|n| (w.div_ceil(n), h.div_ceil(n)));
        let allowed = |&(cw, ch): &(usize, usize)| 2 * width <= cw && 2 * height <= ch && cw.max(ch) >= least;
        let smallest = crops[1..].iter().copied().rfind(allowed);
        let crop = Region::around(&boxed(size, bounds), least);
        assert_eq!(crop.map(|c| (c.width, c.height)), smallest, "{size:?} {bounds} {least}");
        let Some(crop) = crop else { continue };
        assert!(crop.is_within(w, h), "{size:?} {bounds}: {crop}");
        for (from, length, start, side, all) in
            [(bounds.x, width, crop.x, crop.width, w), (bounds.y, height, crop.y, crop.height, h)]
        {
            let room = if side < 16 { 0 } else { side / 8 };
            assert!(start == 0 || start + room <= from, "{size:?} {bounds}: {crop}");
            assert!(start + side == all || from + length + room <= start + side, "{size:?} {bounds}: {crop}");
            assert!(start % 2 == 0 || start + side == all, "{size:?} {bounds}: {crop}");
        }
    }
}

#[test]
fn a_moving_foreground_s_crop_stands_still_between_steps_of_an_eighth() {
    let crop = |x| Region::around(&boxed(HD, region(x, 500, 60, 60)), 512).unwrap();
    let places: Vec<_> = (0..=1860).map(|x| crop(x).x).collect();
    let jumps: Vec<_> = places.windows(2).filter(|p| p[0] != p[1]).map(|p| p[1] - p[0]).collect();
    assert_eq!(jumps, [120; 8], "over a whole pan");
}

#[test]
fn a_region_outside_of_the_picture_shows_no_foreground() {
    let o = Owned::random(NV12, COLOURS[0], (9, 7), 2, &mut Dice(13));
    for region in [region(9, 0, 1, 1), region(4, 0, 6, 7), region(0, usize::MAX, 1, 2), region(0, 0, 0, 7)] {
        let proxy = proxy(&o.picture(), &uniform(9, 7, 255), View { region: Some(region), cols: 4, rows: 4 });
        assert!(proxy.mask.iter().all(|&m| m == 0.0), "{region}");
    }
}
