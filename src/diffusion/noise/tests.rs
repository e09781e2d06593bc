use super::*;

#[test]
fn philox_known_answers() {
    // The Random123 distribution's test vectors.
    assert_eq!(Philox::new(0).words([0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(Philox::new(u64::MAX).words([u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    let pi = Philox::new(0x299f_31d0_a409_3822);
    assert_eq!(
        pi.words([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

const SIDE: usize = 256;
/// Of a mean over a field of this side. A deviation beyond 4.5 of them has a chance of 7e-6 under the hypothesis; the seeds are
/// fixed, so a test that passes goes on passing.
const STANDARD_ERROR: f64 = 1.0 / SIDE as f64;
const SIGNIFICANT: f64 = 4.5 * STANDARD_ERROR;

fn product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / a.len().min(b.len()) as f64
}

/// A mask that is full on one pixel of a frame of 100 x 100.
fn spot(x: usize, y: usize) -> Vec<f32> {
    let mut mask = vec![0.0; 100 * 100];
    mask[y * 100 + x] = 1.0;
    mask
}

fn field(seed: u64, mode: NoiseMode, mask: &[f32]) -> Vec<f32> {
    Noise::new(seed, mode, mask, 100).field(1, SIDE, SIDE)
}

#[test]
fn every_mode_is_standard_normal_and_white() {
    const PERIOD: u64 = 1_000_000_000;
    let drift = |time| NoiseMode::Drift { time, period: PERIOD };
    let modes = [0, 250_000_000, 500_000_000, 999_999_999, 7_300_000_000, -200_000_000].map(drift);
    for mode in modes.into_iter().chain([NoiseMode::Fixed, NoiseMode::Object]) {
        let field = field(7, mode, &spot(31, 64));
        let mean = product(&field, &vec![1.0; field.len()]);
        assert!(mean.abs() < SIGNIFICANT, "{mode:?}: mean {mean}");
        let variance = product(&field, &field);
        assert!((variance - 1.0).abs() < SIGNIFICANT * 2f64.sqrt(), "{mode:?}: variance {variance}");
        // The fourth moment of a normal is 3, that of its estimate has a variance of 96.
        let kurtosis = field.iter().map(|&v| f64::from(v).powi(4)).sum::<f64>() / field.len() as f64;
        assert!((kurtosis - 3.0).abs() < SIGNIFICANT * 96f64.sqrt(), "{mode:?}: fourth moment {kurtosis}");
        for lag in [1, 2, 3, SIDE - 1, SIDE, SIDE + 1, 2 * SIDE] {
            let correlation = product(&field, &field[lag..]);
            assert!(correlation.abs() < SIGNIFICANT, "{mode:?}: correlation {correlation} at lag {lag}");
        }
    }
}

#[test]
fn drift_turns_steadily_and_without_a_jump_from_one_noise_to_the_next() {
    const PERIOD: u64 = 800_000_000;
    let at = |time| field(3, NoiseMode::Drift { time, period: PERIOD }, &[]);
    let first = at(0);
    for (time, angle) in [(200_000_000, 22.5f64), (400_000_000, 45.0), (600_000_000, 67.5), (800_000_000, 90.0)] {
        let correlation = product(&first, &at(time));
        assert!((correlation - angle.to_radians().cos()).abs() < SIGNIFICANT, "{correlation} at {angle} degrees");
    }
    let (before, after) = (at(799_999_999), at(800_000_000));
    let jump = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(jump < 1e-6, "a jump of {jump} where one period follows the other");
    assert_eq!(
        first,
        field(3, NoiseMode::Drift { time: 0, period: 1 }, &[]),
        "the first key is the same for every period"
    );
    assert_eq!(at(-800_000_000).len(), first.len());
    assert!(product(&at(-800_000_000), &first).abs() < SIGNIFICANT);
}

#[test]
fn the_noise_of_an_object_goes_along_with_it() {
    // One pixel of the mask is 2.56 cells of the noise, which moves in quarters of a cell.
    let still = field(5, NoiseMode::Object, &spot(20, 20));
    assert_eq!(still, field(5, NoiseMode::Object, &spot(20, 20)));
    let moved = field(5, NoiseMode::Object, &spot(45, 20));
    let rows = || still.chunks(SIDE).zip(moved.chunks(SIDE));
    assert!(rows().all(|(still, moved)| still[..SIDE - 64] == moved[64..]), "a quarter of the frame is 64 cells");

    // A part of a cell: what overlaps stays, as (1 - |dx|)(1 - |dy|).
    let at = |share: f64| Noise { philox: Philox::new(5), motion: Motion::Object { centroid: [share; 2] } };
    let field = |cells: f64| at((32.0 + cells) / SIDE as f64).field(1, SIDE, SIDE);
    for cells in [0.25, 0.5, 0.75, 1.0] {
        let (correlation, overlap) = (product(&field(0.0), &field(cells)), (1.0 - cells) * (1.0 - cells));
        assert!((correlation - overlap).abs() < SIGNIFICANT, "{correlation} at {cells} cells, not {overlap}");
    }
}

#[test]
fn a_centroid_is_weighted_and_an_empty_mask_s_is_the_centre() {
    assert_eq!(centroid(&[0.0; 6], 3), [0.5; 2]);
    assert_eq!(centroid(&[], 0), [0.5; 2]);
    assert_eq!(centroid(&[0.0, 0.0, 1.0, 0.0], 2), [0.25, 0.75]);
    assert_eq!(centroid(&[0.25, 0.75], 2), [0.625, 0.5]);
}

#[test]
fn fresh_draws_are_independent_in_every_mode() {
    for mode in [NoiseMode::Fixed, NoiseMode::Drift { time: 123, period: 1000 }, NoiseMode::Object] {
        let noise = Noise::new(1, mode, &spot(3, 3), 100);
        let [first, second, third] = [0, 1, 2].map(|index| noise.draw(index).field(1, SIDE, SIDE));
        for (a, b) in [(&first, &second), (&second, &third), (&first, &third)] {
            assert!(product(a, b).abs() < SIGNIFICANT, "{mode:?}: {}", product(a, b));
        }
    }
}

#[test]
fn value_depends_on_its_place_and_seed_alone() {
    let small = Noise::fixed(3).field(2, 8, 8);
    let large = Noise::fixed(3).field(2, 16, 32);
    assert_eq!(small[0], large[0]);
    assert_eq!(small[8 * 8 + 8 * 5 + 7], large[16 * 32 + 32 * 5 + 7]);
    assert_ne!(small, Noise::fixed(4).field(2, 8, 8));
}
