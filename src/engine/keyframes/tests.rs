use super::*;
use crate::frame::descriptor::tests::plain;

const MS: i64 = 1_000_000;
const SIZE: [usize; 2] = [160, 90];
const FRAME: i64 = 40 * MS;

fn every(interval_ms: u64, smoothing: f64) -> Temporal {
    Temporal { interval: interval_ms * MS as u64, smoothing, detection: true }
}

/// What the model finds in a frame of that stream time: something else in each.
fn inferred(time: i64) -> Arc<Transfer> {
    let mut transfer = Transfer::identity();
    transfer.maps[0][3] = (time as f64 / 1e9 * 37.0).sin() as f32;
    Arc::new(transfer)
}

/// A stream of frames at `times` with that background's grey, from end to end: stream time, whether it was a keyframe, and lift of
/// each frame in the order they left; and the most frames that ever waited.
fn run(times: &[i64], grey: &dyn Fn(i64) -> f32, temporal: Temporal) -> (Vec<(i64, bool, f32)>, usize) {
    let mut keyframes = Keyframes::<i64>::default();
    let (mut waiting, mut out, mut most) = (VecDeque::new(), Vec::new(), 0);
    let mut leave = |keyframes: &mut Keyframes<i64>, waiting: &mut VecDeque<FramePosition>, end: bool| {
        while let Some(&place) = waiting.front() {
            if !(end || keyframes.is_settled(place, &temporal)) {
                break;
            }
            while let Some((key, time)) = keyframes.wanted(place, &temporal) {
                keyframes.found(key, Some(inferred(time)));
            }
            let transfer = keyframes.transfer(place, &temporal, SIZE).unwrap();
            out.push((place.time, place.is_keyframe, transfer.maps[0][3]));
            waiting.pop_front();
        }
    };
    for &time in times {
        let background = plain(grey(time));
        let moment = Moment { time, background: background.clone(), begins: false };
        let place = keyframes.enter(&moment, &temporal);
        if place.is_keyframe {
            keyframes.ask(place, background, time);
        }
        waiting.push_back(place);
        leave(&mut keyframes, &mut waiting, false);
        most = most.max(waiting.len());
    }
    leave(&mut keyframes, &mut waiting, true);
    assert_eq!(out.len(), times.len());
    (out, most)
}

fn times(frames: std::ops::Range<i64>) -> Vec<i64> {
    frames.map(|frame| frame * FRAME).collect()
}

fn still(_: i64) -> f32 {
    0.4
}

#[test]
fn without_smoothing_every_frame_leaves_at_once_with_its_own() {
    let (out, most) = run(&times(0..20), &still, every(0, 0.0));
    assert_eq!(most, 0);
    for (time, is_keyframe, lift) in out {
        assert!(is_keyframe);
        assert_eq!(lift, inferred(time).maps[0][3]);
    }
}

#[test]
fn frames_between_two_keyframes_are_interpolated_by_their_time() {
    let (out, _) = run(&times(0..22), &still, every(200, 0.0));
    for (time, is_keyframe, lift) in out {
        let before = time.div_euclid(5 * FRAME) * 5 * FRAME;
        assert_eq!(is_keyframe, time == before);
        let part = (time - before) as f32 / (5 * FRAME) as f32;
        let [a, b] = [before, before + 5 * FRAME].map(|time| inferred(time).maps[0][3]);
        // Beyond the last keyframe it is held.
        let expected = if before == 20 * FRAME { a } else { a + part * (b - a) };
        assert!((lift - expected).abs() < 1e-6, "{time}: {lift} {expected}");
    }
}

#[test]
fn a_mean_reaches_as_far_as_the_window_on_both_sides() {
    let (out, most) = run(&times(0..60), &still, every(0, 0.9));
    let expected = |time: i64| {
        let window = (0..60).map(|frame| frame * FRAME).filter(|other| (other - time).abs() <= 400 * MS);
        let weighed = window.map(|other| {
            let weight = 0.9f64.powf((other - time).abs() as f64 / FRAME as f64);
            (weight, weight * f64::from(inferred(other).maps[0][3]))
        });
        let (weights, sum) = weighed.fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        sum / weights
    };
    for (time, _, lift) in out {
        assert!((f64::from(lift) - expected(time)).abs() < 1e-5, "{time}: {lift} {}", expected(time));
    }
    assert_eq!(most, 11, "ten frames ahead, and the one after them is on its way in");
}

#[test]
fn a_part_of_a_stream_has_the_transfers_of_the_whole_bit_for_bit() {
    // Frames that come and go at odd times, and a cut.
    let all: Vec<_> = (0..300).map(|n| n * FRAME + n * n % 17 * MS).collect();
    let grey = |time| if time < 150 * FRAME { 0.2 } else { 0.8 };
    for temporal in [every(0, 0.95), every(200, 0.0), every(200, 0.95), every(330, 0.7), every(0, 0.0), every(90, 1.0)]
    {
        let (whole, _) = run(&all, &grey, temporal);
        let margin = temporal.margin() as i64;
        for (from, to) in [(37, 60), (100, 200), (149, 151), (150, 152), (155, 170), (280, 300), (0, 300)] {
            let part: Vec<_> =
                all.iter().copied().filter(|&t| t >= all[from] - margin && t <= all[to - 1] + margin).collect();
            let (part, _) = run(&part, &grey, temporal);
            let wanted = |out: &[(i64, bool, f32)]| -> Vec<_> {
                out.iter().filter(|frame| (all[from]..=all[to - 1]).contains(&frame.0)).map(|f| (f.0, f.2)).collect()
            };
            assert_eq!(wanted(&part), wanted(&whole), "{temporal:?} {from}..{to}");
        }
    }
}

#[test]
fn frames_that_wait_are_free_once_the_stream_has_passed_what_they_could_depend_on() {
    for (temporal, most) in [(every(0, 0.95), 11), (every(200, 0.0), 11), (every(200, 0.95), 11)] {
        let mut keyframes = Keyframes::<i64>::default();
        let places: Vec<_> = times(0..3)
            .into_iter()
            .map(|time| {
                let moment = Moment { time, background: plain(0.4), begins: false };
                let place = keyframes.enter(&moment, &temporal);
                if place.is_keyframe {
                    keyframes.ask(place, moment.background, time);
                }
                place
            })
            .collect();
        // Then the foreground is gone.
        let passed = (3..30).take_while(|n| {
            keyframes.pass(n * FRAME);
            !keyframes.is_settled(places[2], &temporal)
        });
        assert_eq!(passed.count(), most - 1, "{temporal:?}");
    }
}

#[test]
fn a_part_of_a_stream_with_holes_has_the_transfers_of_the_whole_bit_for_bit() {
    let holes = |n: i64| (20..23).contains(&n) || (60..66).contains(&n) || (100..180).contains(&n);
    let all: Vec<_> = (0..250).filter(|n| !holes(*n)).map(|n| n * FRAME).collect();
    for temporal in [every(0, 0.95), every(200, 0.95), every(330, 0.0), every(1000, 1.0)] {
        let (whole, _) = run(&all, &still, temporal);
        let margin = temporal.margin() as i64;
        for (from, to) in [(10, 30), (15, 25), (50, 95), (90, 100), (95, 190), (185, 200)] {
            let is_in = |time: i64, margin: i64| (from * FRAME - margin..to * FRAME + margin).contains(&time);
            let part: Vec<_> = all.iter().copied().filter(|&time| is_in(time, margin)).collect();
            let wanted = |out: &[(i64, bool, f32)]| -> Vec<_> {
                out.iter().filter(|frame| is_in(frame.0, 0)).map(|frame| (frame.0, frame.2)).collect()
            };
            assert_eq!(wanted(&run(&part, &still, temporal).0), wanted(&whole), "{temporal:?} {from}..{to}");
        }
    }
}

#[test]
fn a_keyframe_too_far_away_to_wait_for_is_not_mixed_towards_at_last() {
    let (out, most) = run(&times(0..2000), &still, every(30_000, 0.0));
    assert_eq!(most as u64, MAX_AHEAD);
    let held = &out[..750];
    assert!(held.iter().all(|frame| frame.2 == held[0].2), "the whole cell is held");
    assert_ne!(out[750].2, held[0].2);
}

#[test]
fn without_its_margin_a_part_is_another() {
    let temporal = every(200, 0.95);
    let (whole, _) = run(&times(0..100), &still, temporal);
    let (part, _) = run(&times(53..100), &still, temporal);
    assert_ne!(whole[53].2, part[0].2, "or the test above could not fail");
}

#[test]
fn backwards_frames_have_the_transfers_of_forwards() {
    let (forwards, _) = run(&times(0..50), &still, every(0, 0.95));
    let mut back = times(0..50);
    back.reverse();
    let (mut backwards, most) = run(&back, &still, every(0, 0.95));
    backwards.reverse();
    assert_eq!(most, 11);
    for (a, b) in forwards.iter().zip(&backwards) {
        // Summed in another order.
        assert!((a.2 - b.2).abs() < 1e-6, "{a:?} {b:?}");
    }
}

#[test]
fn a_cut_has_nothing_of_the_scene_before_and_lets_that_one_go() {
    let grey = |time| if time < 30 * FRAME { 0.2 } else { 0.8 };
    for temporal in [every(0, 0.95), every(200, 0.95), every(0, 1.0)] {
        let (whole, _) = run(&times(0..60), &grey, temporal);
        assert!(whole[30].1, "the first frame of a scene is a keyframe");
        let (second, _) = run(&times(30..60), &grey, temporal);
        assert_eq!(whole[30..].iter().map(|f| f.2).collect::<Vec<_>>(), second.iter().map(|f| f.2).collect::<Vec<_>>());
        let (first, _) = run(&times(0..30), &grey, temporal);
        assert_eq!(whole[..30].iter().map(|f| f.2).collect::<Vec<_>>(), first.iter().map(|f| f.2).collect::<Vec<_>>());
    }
    let blind = Temporal { detection: false, ..every(0, 1.0) };
    let (unseen, _) = run(&times(0..60), &grey, blind);
    let (second, _) = run(&times(30..60), &grey, blind);
    assert!((unseen[30].2 - second[0].2).abs() < 1e-2, "the window is empty without detection too");
}

#[test]
fn a_scene_may_be_begun_by_force_and_time_that_turns_begins_one() {
    let mut keyframes = Keyframes::<i64>::default();
    let mut enter = |time: i64, begins| {
        keyframes.enter(&Moment { time, background: plain(0.5), begins }, &every(1000, 0.9)).is_keyframe
    };
    assert!(enter(0, false));
    assert!(!enter(FRAME, false));
    assert!(enter(2 * FRAME, true));
    assert!(!enter(3 * FRAME, false));
    assert!(enter(FRAME, false));
    assert!(!enter(0, false), "backwards it goes on");
}

#[test]
fn a_scene_that_is_begun_by_force_is_averaged_with_none_before_a_like_background() {
    let temporal = every(0, 1.0);
    let mut keyframes = Keyframes::<i64>::default();
    let places: Vec<_> = times(0..12)
        .into_iter()
        .map(|time| {
            let moment = Moment { time, background: plain(0.5), begins: time == 6 * FRAME };
            let place = keyframes.enter(&moment, &temporal);
            keyframes.ask(place, moment.background, time);
            place
        })
        .collect();
    for place in [places[5], places[6]] {
        while let Some((key, time)) = keyframes.wanted(place, &temporal) {
            keyframes.found(key, Some(inferred(time)));
        }
    }
    for (place, scene) in [(places[5], 0..6), (places[6], 6..12)] {
        let mean = keyframes.transfer(place, &temporal, SIZE).unwrap().maps[0][3];
        let expected = scene.map(|n| inferred(n * FRAME).maps[0][3]).sum::<f32>() / 6.0;
        assert!((mean - expected).abs() < 1e-6, "{mean} {expected}");
    }
}

#[test]
fn a_failed_inference_is_left_out_and_its_own_frame_has_none() {
    let temporal = every(0, 1.0);
    let mut keyframes = Keyframes::<i64>::default();
    let places: Vec<_> = (0..5)
        .map(|n| {
            let moment = Moment { time: n * FRAME, background: plain(0.5), begins: false };
            let place = keyframes.enter(&moment, &temporal);
            keyframes.ask(place, moment.background, n);
            place
        })
        .collect();
    while let Some((place, n)) = keyframes.wanted(places[0], &temporal) {
        keyframes.found(place, (n != 2).then(|| inferred(n)));
    }
    assert!(keyframes.transfer(places[2], &temporal, SIZE).is_none());
    let mean = keyframes.transfer(places[1], &temporal, SIZE).unwrap().maps[0][3];
    let expected = [0, 1, 3, 4].map(|n| inferred(n).maps[0][3]).iter().sum::<f32>() / 4.0;
    assert!((mean - expected).abs() < 1e-6, "{mean} {expected}");
}

#[test]
fn a_stream_whose_time_stands_still_holds_back_no_more_than_the_most() {
    let (_, most) = run(&vec![0; 2000], &still, every(0, 0.9));
    assert_eq!(most as u64, MAX_AHEAD);
}

#[test]
fn what_is_behind_is_forgotten() {
    let temporal = every(0, 0.9);
    let mut keyframes = Keyframes::<i64>::default();
    for n in 0..500 {
        let moment = Moment { time: n * FRAME, background: plain(0.5), begins: false };
        let place = keyframes.enter(&moment, &temporal);
        keyframes.ask(place, moment.background, n);
        while let Some((place, n)) = keyframes.wanted(place, &temporal) {
            keyframes.found(place, Some(inferred(n)));
        }
        keyframes.transfer(place, &temporal, SIZE).unwrap();
        assert!(keyframes.keyframes.len() <= 12, "{}", keyframes.keyframes.len());
    }
}
