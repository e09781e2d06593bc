//! How steady a film is: figures against hand and numpy, with exact flow; and OpenCV's flow.

use crate::shared;
use crate::tools;
use gstharmonize::lab::eval::baselines::Baseline;
use gstharmonize::lab::eval::temporal::correction::{self, Corrected};
use gstharmonize::lab::eval::temporal::cut::{self, Recovery};
use gstharmonize::lab::eval::temporal::flow::{Flow, visible};
use gstharmonize::lab::eval::temporal::opencv::Dis;
use gstharmonize::lab::eval::temporal::{Frame, Made, Measuring, Motion, VideoMetrics, VideoRow, mean, warp};
use gstharmonize::lab::eval::{self, Background, Size, dataset};
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::path::Path;

const WIDTH: u32 = 24;
const HEIGHT: u32 = 18;

/// Textures that alias, so that a wrong neighbour shows; another one for each `k`.
fn picture(k: u32) -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        Rgb([(x * 7 + y * 3 + 20 * k) % 256, (x * y + 11 * x + 5 * k) % 251, (x * x + y * 6 + 9 * k) % 241]
            .map(|v| v as u8))
    })
}

/// An ellipse of uneven grey that moves to the right with `k`.
fn mask(k: i32) -> GrayImage {
    GrayImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let (dx, dy) = (x as i32 - 10 - k, y as i32 - 9);
        Luma([if dx * dx * 4 + dy * dy * 9 < 36 * 9 { 255 - (x * 5 % 100) as u8 } else { 0 }])
    })
}

fn flow(vector: impl Fn(f32, f32) -> [f32; 2]) -> Flow {
    let vectors = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| [x as f32, y as f32])).map(|[x, y]| vector(x, y));
    Flow::new(WIDTH as usize, HEIGHT as usize, vectors.collect()).unwrap()
}

fn moved(picture: &RgbImage, dx: u32, dy: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    // What comes in from beyond the border is new.
    RgbImage::from_fn(width, height, |x, y| match (x.checked_sub(dx), y.checked_sub(dy)) {
        (Some(x), Some(y)) => *picture.get_pixel(x, y),
        _ => Rgb([255, 0, 255]),
    })
}

fn brighter(picture: &RgbImage, codes: u8) -> RgbImage {
    let mut picture = picture.clone();
    picture.iter_mut().for_each(|v| *v = v.checked_add(codes).unwrap());
    picture
}

fn weights(visible: &[bool]) -> Vec<f32> {
    visible.iter().map(|&visible| if visible { 1.0 } else { 0.0 }).collect()
}

fn assert_close(measured: Option<f64>, expected: f64, tolerance: f64) {
    let measured = measured.expect("no figure");
    assert!((measured - expected).abs() <= tolerance, "{measured} instead of {expected}");
}

/// Dark enough to be made brighter.
fn dark() -> RgbImage {
    let mut picture = picture(0);
    picture.iter_mut().for_each(|v| *v /= 2);
    picture
}

#[test]
fn a_translation_leaves_no_warp_error_and_a_flicker_its_square() {
    let (before, forward) = (dark(), flow(|_, _| [3.0, 2.0]));
    let after = moved(&before, 3, 2);
    let seen = visible(&forward, &flow(|_, _| [-3.0, -2.0])).unwrap();
    // Those that leave the frame are not compared.
    assert_eq!(seen.iter().filter(|&&seen| seen).count() as u32, (WIDTH - 3) * (HEIGHT - 2));
    let error = |after: &RgbImage| warp::error(&before, after, &forward, &weights(&seen));
    assert_eq!(error(&after), Some(0.0));
    assert_close(error(&moved(&brighter(&before, 10), 3, 2)), (10.0f64 / 255.0).powi(2), 1e-9);
    assert!(error(&moved(&before, 2, 2)).unwrap() > 1e-3);
    assert_eq!(warp::error(&before, &after, &forward, &vec![0.0; seen.len()]), None);
}

#[test]
fn tl_puts_the_weight_inside_the_square_and_sums_channels() {
    let (before, back) = (dark(), flow(|_, _| [0.0, 0.0]));
    for (m, weight) in [(255, 1.0), (51, 0.2)] {
        let mask = GrayImage::from_pixel(WIDTH, HEIGHT, Luma([m]));
        let weights = warp::tl_weights(&before, &before, &mask, &back);
        assert_close(warp::tl(&before, &brighter(&before, 10), &back, &weights), weight * 3.0 * 100.0, 1e-3);
        assert_close(warp::tl(&before, &before, &back, &weights), 0.0, 0.0);
    }
    // Where the real frames differ by 255 codes a pixel counts exp(-1).
    let [black, white] = [0, 255].map(|v| RgbImage::from_pixel(WIDTH, HEIGHT, Rgb([v; 3])));
    let weights = warp::tl_weights(&black, &white, &GrayImage::from_pixel(WIDTH, HEIGHT, Luma([255])), &back);
    assert!(weights.iter().all(|w| (w - (-1.0f32).exp()).abs() < 1e-6));
}

#[test]
fn pixels_whose_motion_disagrees_or_breaks_are_not_compared() {
    let count =
        |forward: &Flow, backward: &Flow| visible(forward, backward).unwrap().into_iter().filter(|v| *v).count();
    let whole = ((WIDTH - 1) * HEIGHT) as usize;
    // |f + b|^2 against 0.01 (|f|^2 + |b|^2) + 0.5: 0.4900 and 0.5109, 0.5184 and 0.5108.
    assert_eq!(count(&flow(|_, _| [1.0, 0.0]), &flow(|_, _| [-0.3, 0.0])), whole);
    assert_eq!(count(&flow(|_, _| [1.0, 0.0]), &flow(|_, _| [-0.28, 0.0])), 0);
    // The left half moves towards the right half: its last column breaks, the rest agrees with a flow back that is split as well.
    let split = |left: f32| flow(move |x, _| [if x < 12.0 { left } else { 0.0 }, 0.0]);
    let seen = visible(&split(-1.0), &split(1.0)).unwrap();
    for (index, seen) in seen.into_iter().enumerate() {
        let x = index as u32 % WIDTH;
        assert_eq!(seen, x != 0 && x != 11, "column {x}");
    }
}

#[test]
fn a_pair_agrees_with_numpy() {
    let forward = flow(|x, y| [0.75 + 0.02 * x, -0.5 + 0.01 * y]);
    let backward = flow(|x, y| [-0.7 - 0.02 * x, 0.4 + 0.03 * y]);
    let seen = visible(&forward, &backward).unwrap();
    assert_eq!(seen.iter().filter(|&&seen| seen).count(), 374);
    let error = warp::error(&picture(0), &picture(1), &forward, &weights(&seen));
    assert_close(error, 0.039770534010643184, 1e-7);

    let weights = warp::tl_weights(&picture(2), &picture(3), &mask(0), &backward);
    assert_close(warp::tl(&picture(0), &picture(1), &backward, &weights), 3384.4274646471467, 1e-2);

    let (pictures, composites, masks) = ([picture(0), picture(1)], [picture(2), picture(3)], [mask(0), mask(1)]);
    let [before, after] =
        [0, 1].map(|k| Corrected { picture: &pictures[k], composite: &composites[k], mask: &masks[k] });
    assert_close(correction::change(before, after), 6.789956623289957, 1e-9);
    let mean = correction::mean(before).unwrap();
    for (measured, expected) in mean.into_iter().zip([-40.0, -5.41816229, -8.24022089]) {
        assert_close(Some(measured), expected, 1e-7);
    }

    let mut measuring = Measuring::new(1);
    let motion = Motion { forward, backward, square_back: None };
    for k in 0..2 {
        let frame = Frame { composite: composites[k].clone(), mask: masks[k].clone(), real: None };
        measuring.push(frame, vec![pictures[k].clone().into()], (k > 0).then_some(&motion)).unwrap();
    }
    let course = &measuring.finish()[0];
    assert_close(course.e_warp[0], 0.039770534010643184, 1e-7);
    assert_close(course.e_warp_foreground[0], 0.036918234154099595, 1e-7);
    assert_close(course.change[0], 6.789956623289957, 1e-9);
    assert_eq!((course.tl[0], course.fmse[0], course.psnr[1]), (None, None, None));
}

#[test]
fn change_counts_what_is_foreground_in_both_frames() {
    // Three pixels: foreground in both (weight 100, the smaller), in the first alone, in the second alone.
    let row = |v: [u8; 3]| RgbImage::from_fn(3, 1, |x, _| Rgb([v[x as usize]; 3]));
    let masks = [[200, 255, 0], [100, 0, 255]].map(|m| GrayImage::from_raw(3, 1, m.to_vec()).unwrap());
    let (composite, pictures) = (row([10, 10, 10]), [row([13, 90, 90]), row([11, 10, 10])]);
    let [before, after] = [0, 1].map(|k| Corrected { picture: &pictures[k], composite: &composite, mask: &masks[k] });
    assert_eq!(correction::change(before, after), Some(2.0));
    // The mean goes by the mask: (200 * 3 + 255 * 80) / 455.
    let mean = correction::mean(before).unwrap()[0];
    assert_close(Some(mean), (200.0 * 3.0 + 255.0 * 80.0) / 455.0, 1e-12);
    let black = GrayImage::new(3, 1);
    assert_eq!(correction::change(before, Corrected { mask: &black, ..after }), None);
}

#[test]
fn a_drift_does_not_flicker_and_an_alternation_does() {
    let colours = |l: fn(usize) -> f64| (0..9).map(|t| Some([l(t), 2.0 * t as f64, -3.0])).collect::<Vec<_>>();
    assert_close(correction::flicker(&colours(|t| 50.0 + 0.5 * t as f64)), 0.0, 1e-12);
    // -1, 1, -1: second differences of 4 each.
    assert_close(correction::flicker(&colours(|t| if t % 2 == 0 { 49.0 } else { 51.0 })), 4.0, 1e-12);
    assert_eq!(correction::flicker(&[Some([0.0; 3]), None, Some([0.0; 3])]), None);
}

#[test]
fn a_mapping_that_stays_counts_nothing_however_the_foreground_moves_under_it() {
    let mut measuring = Measuring::new(3);
    for k in 0..4u8 {
        let mut composite = picture(u32::from(k));
        composite.iter_mut().for_each(|v| *v /= 2);
        let made =
            |codes, before| Made { picture: brighter(&composite, codes), again: Some(brighter(&composite, before)) };
        let made = vec![made(10, 10), made(10 + k, 9 + k), picture(0).into()];
        measuring.push(Frame { composite, mask: mask(i32::from(k)), real: None }, made, None).unwrap();
    }
    let courses = measuring.finish();
    assert_eq!(courses[0].mapping, [Some(0.0); 3], "by ten codes each time");
    assert_eq!(courses[1].mapping, [Some(1.0); 3], "by one code more each time");
    assert_eq!(courses[2].mapping, [None; 3], "who can't tell has no figure");
    assert!(courses[0].change.iter().all(|change| *change == Some(0.0)));
}

/// The course of a correction by so many codes in each frame of a still film.
fn still_film(codes: &[u8]) -> VideoMetrics {
    let (composite, mask) = (dark(), mask(0));
    let motion = Motion {
        forward: flow(|_, _| [0.0, 0.0]),
        backward: flow(|_, _| [0.0, 0.0]),
        square_back: Some(Flow::uniform(256, 256, [0.0, 0.0]).unwrap()),
    };
    let mut measuring = Measuring::new(2);
    for (index, &codes) in codes.iter().enumerate() {
        let real = Some(brighter(&composite, 5));
        let frame = Frame { composite: composite.clone(), mask: mask.clone(), real };
        let pictures = vec![composite.clone().into(), brighter(&composite, codes).into()];
        measuring.push(frame, pictures, (index > 0).then_some(&motion)).unwrap();
    }
    measuring.finish().pop().unwrap()
}

#[test]
fn a_frozen_film_is_perfectly_still() {
    let frozen = still_film(&[7, 7, 7, 7]);
    assert_eq!(frozen.change, [Some(0.0); 3]);
    assert_eq!(frozen.flicker(), Some(0.0));
    assert_eq!((frozen.e_warp, frozen.e_warp_foreground), (vec![Some(0.0); 3], vec![Some(0.0); 3]));
    assert_eq!(frozen.tl, [Some(0.0); 3]);
    assert_eq!(frozen.fmse, [Some(4.0); 4]);

    let flickering = still_film(&[7, 10, 7, 10]);
    assert_eq!(flickering.change, [Some(3.0); 3]);
    assert!(flickering.flicker().unwrap() > 1.0);
    assert_close(mean(&flickering.e_warp), (3.0f64 / 255.0).powi(2), 1e-9);
    assert_close(mean(&flickering.fmse), (4.0 + 25.0) / 2.0, 1e-12);
    assert!(mean(&flickering.tl).unwrap() > 10.0);
}

#[test]
fn a_row_compares_its_flicker_with_the_composites() {
    let flickering = |by: f64| VideoMetrics {
        colour: (0..6).map(|t| Some([50.0 + by * (t % 2) as f64, 0.0, 0.0])).collect(),
        ..Default::default()
    };
    let rows = VideoRow::all([("composite", flickering(2.0)), ("half", flickering(1.0))].into_iter(), &[]);
    assert_eq!((rows[0].flicker_ratio, rows[1].flicker_ratio), (Some(1.0), Some(0.5)));
    let rows = VideoRow::all([("composite", flickering(0.0)), ("some", flickering(1.0))].into_iter(), &[]);
    assert_eq!((rows[0].flicker_ratio, rows[1].flicker_ratio), (None, None));
}

#[test]
fn a_cut_is_recovered_from_by_the_share_of_the_new_correction() {
    let scene = |first: [f64; 3], steady: [f64; 3]| [vec![Some(first)], vec![Some(steady); 5]].concat();
    let only = |corrections: &[Option<[f64; 3]>]| {
        let [recovery] = cut::recoveries(corrections, &[6])[..] else { panic!("one cut, one recovery") };
        recovery
    };
    let (old, new) = ([10.0, 0.0, 0.0], [0.0, 8.0, 0.0]);
    let before = scene(old, old);
    let at_once = only(&[before.clone(), scene(new, new)].concat());
    assert_eq!(at_once, Recovery { frame: 6, recovery: Some(1.0), old_part: Some(0.0) });
    let late = only(&[before.clone(), scene(old, new)].concat());
    assert_eq!(late, Recovery { frame: 6, recovery: Some(0.0), old_part: Some(1.0) });

    // A quarter of the old one, which shares a direction with the new: (0.75 * 4 + 0.25 * 2) / 4 of it.
    let (old, new) = ([6.0, 2.0, 0.0], [0.0, 4.0, 0.0]);
    let blend = [0, 1, 2].map(|c| 0.25 * old[c] + 0.75 * new[c]);
    let blended = only(&[scene(old, old), scene(blend, new)].concat());
    assert_eq!(blended, Recovery { frame: 6, recovery: Some(0.875), old_part: Some(0.25) });

    // What was twelve frames ago and more, or comes so long after, is not what it is steady at.
    let long = [vec![Some([90.0; 3]); 3], vec![Some(old); 12], vec![Some(new); 13], vec![Some([90.0; 3]); 3]].concat();
    let [recovery] = cut::recoveries(&long, &[15])[..] else { panic!("one cut, one recovery") };
    assert_eq!((recovery.recovery, recovery.old_part), (Some(1.0), Some(0.0)));

    // Nothing to recover to; nothing of the old one's own.
    assert_eq!(only(&[before.clone(), scene(new, [0.1; 3])].concat()).recovery, None);
    assert_eq!(only(&[before.clone(), before].concat()).old_part, None);
    assert_eq!(cut::recoveries(&[None; 12], &[6]), [Recovery { frame: 6, recovery: None, old_part: None }]);
}

#[test]
fn each_cut_is_measured_against_the_scene_before_it() {
    let scenes = [[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]];
    let corrections: Vec<_> = scenes.iter().flat_map(|k| [Some(*k); 4]).collect();
    let recoveries = cut::recoveries(&corrections, &[4, 8]);
    assert_eq!(recoveries, [4, 8].map(|frame| Recovery { frame, recovery: Some(1.0), old_part: Some(0.0) }));
}

#[test]
fn frames_of_another_size_are_refused() {
    let frame = |real: Option<RgbImage>| Frame { composite: picture(0), mask: mask(0), real };
    let small = RgbImage::new(4, 4);
    assert!(Measuring::new(1).push(frame(None), vec![small.clone().into()], None).is_err());
    assert!(Measuring::new(1).push(frame(Some(small)), vec![picture(0).into()], None).is_err());
    assert!(Measuring::new(2).push(frame(None), vec![picture(0).into()], None).is_err());
    assert!(Flow::new(3, 2, vec![[0.0; 2]; 5]).is_err());
    assert!(Flow::uniform(3, 2, [f32::NAN, 0.0]).is_err());
}

#[test]
fn opencv_finds_a_translation_and_the_same_again() {
    let Some(python) = tools::python("cv2") else { return };
    let texture = RgbImage::from_fn(160, 120, |x, y| {
        let (x, y) = (x as f32, y as f32);
        let v = 128.0
            + 40.0 * (x / 7.0 + y / 11.0).sin()
            + 40.0 * (y / 6.0 - x / 13.0).cos()
            + 20.0 * (x * y / 300.0).sin();
        Rgb([v as u8; 3])
    });
    let shifted = moved(&texture, 3, 2);
    let flows = || {
        let mut dis = Dis::start(&python, 160, 120).unwrap();
        assert!(!dis.version().is_empty());
        assert_eq!(dis.next(&texture).unwrap(), None);
        let flows = dis.next(&shifted).unwrap().unwrap();
        assert!(dis.next(&picture(0)).is_err());
        flows
    };
    let [forward, backward] = flows();
    assert_eq!([forward.clone(), backward.clone()], flows());
    let seen = visible(&forward, &backward).unwrap();
    assert!(seen.iter().filter(|&&seen| seen).count() > 160 * 120 * 8 / 10);
    let error = |flow: &Flow| warp::error(&texture, &shifted, flow, &weights(&seen)).unwrap();
    let still = error(&Flow::uniform(160, 120, [0.0, 0.0]).unwrap());
    assert!(error(&forward) < 0.02 * still, "{} of {still}", error(&forward));
}

#[test]
fn a_python_that_can_not_measure_motion_is_named_with_what_to_do() {
    for (python, cause) in [("/nonexistent/python", "No such file"), ("false", "it said nothing")] {
        let sentence = format!("{:#}", Dis::start(Path::new(python), 64, 48).unwrap_err());
        assert!(sentence.starts_with(&format!("can't run {python}")) || sentence.starts_with(python), "{sentence}");
        assert!(sentence.contains(cause) && sentence.contains("--no-flow"), "{sentence}");
    }
}

#[test]
fn reinhard_is_as_far_from_the_truth_as_known() {
    let Some(folder) = shared::folder("data/val/HVal") else { return };
    let subsets = dataset::subsets(&folder).unwrap();
    let reinhard = [Baseline::Reinhard.into()];
    let measured = eval::evaluate(&subsets, &reinhard, Size::Square256, &[Background::Real], 2, || ()).unwrap();
    let fmse: Vec<f64> = measured[0].iter().flatten().map(|m| m.rows[1][0].fmse).collect();
    // The data's own figure, of another program.
    assert_close(Some(fmse.iter().sum::<f64>() / fmse.len() as f64), 3108.46, 31.0);
}
