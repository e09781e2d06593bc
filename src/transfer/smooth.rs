//! Transfers averaged over time: neighbours weigh less the further off they are and the less their background is the same, and
//! none beyond `REACH`. What a mean depends on is therefore bounded, and a cut empties it by itself.
//!
//! Means and mixes of equal transfers are those transfers, bit for bit.

use super::{ColourMap, Transfer};
use crate::frame::Region;
use std::time::Duration;

/// How far the window reaches to either side of a keyframe, in stream time.
pub const REACH: Duration = Duration::from_millis(400);
/// The distance at which a neighbour weighs `smoothing`: a frame of film.
const UNIT: Duration = Duration::from_millis(40);
/// Standard deviation of what backgrounds of one scene are apart (`Descriptor::distance`).
const SIGMA: f64 = 0.1;

/// What a transfer weighs in the mean around another one that is `apart` nanoseconds away, by backgrounds of that `distance`:
/// smoothing^(apart / 40 ms) exp(-distance^2 / 2 sigma^2), 0 beyond the reach. `smoothing` is 0 (nothing but itself) to 1.
pub fn weight(smoothing: f64, apart: u64, distance: f32) -> f32 {
    if u128::from(apart) > REACH.as_nanos() {
        return 0.0;
    }
    let likeness = (-f64::from(distance).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
    (smoothing.powf(apart as f64 / UNIT.as_nanos() as f64) * likeness) as f32
}

impl Transfer {
    /// Makes it the mean of `own`, which weighs 1, and `others`, which weigh what stands beside them: one fit to the foregrounds
    /// of all of them where they know what theirs were and share a grid, so that a map counts for as much as there was under it.
    /// Else the maps' own mean, for which a grid of another shape or region than `own`'s is read at the centres of that one's
    /// cells. `size` is the frame's.
    pub fn mean<'a>(
        &mut self,
        own: &Transfer,
        others: impl Iterator<Item = (f32, &'a Transfer)> + Clone,
        size: [usize; 2],
    ) {
        let others = others.filter(|(weight, _)| *weight > 0.0);
        if others.clone().all(|(_, other)| other == own) {
            return self.clone_from(own);
        }
        let all = 1.0 + others.clone().map(|(weight, _)| weight).sum::<f32>();
        let grid = |t: &Transfer| (t.cols, t.rows, t.region, t.equations.len());
        if own.equations.is_empty() || others.clone().any(|(_, other)| grid(other) != grid(own)) {
            self.take_maps(own);
            return others.for_each(|(weight, other)| self.add(weight / all, own, other, size));
        }
        self.clone_from(own);
        others.for_each(|(weight, other)| self.equations.add(weight, &other.equations));
        self.equations.scale(1.0 / all);
        self.equations.fit(&mut self.maps);
    }

    /// Makes it the mix of `a` and `b`, of which it has `part`.
    pub fn mix(&mut self, a: &Transfer, b: &Transfer, part: f32, size: [usize; 2]) {
        self.take_maps(a);
        self.add(part, a, b, size);
    }

    fn take_maps(&mut self, other: &Transfer) {
        (self.cols, self.rows, self.region) = (other.cols, other.rows, other.region);
        self.maps.clone_from(&other.maps);
        self.equations.clear();
    }

    /// Adds `part` of what `other` is more than `own`, whose grid it has.
    fn add(&mut self, part: f32, own: &Transfer, other: &Transfer, size: [usize; 2]) {
        let add = |sum: &mut ColourMap, own: &ColourMap, other: &ColourMap| {
            for ((sum, own), other) in sum.iter_mut().zip(&**own).zip(&**other) {
                *sum += part * (other - own);
            }
        };
        if (own.cols, own.rows, own.region) == (other.cols, other.rows, other.region) {
            let maps = self.maps.iter_mut().zip(own.maps.iter().zip(&other.maps));
            return maps.for_each(|(sum, (own, other))| add(sum, own, other));
        }
        if !(own.is_complete() && other.is_complete()) {
            return;
        }
        let [here, there] = [own, other].map(|t| t.region.unwrap_or(Region::whole(size[0].max(1), size[1].max(1))));
        for (i, (sum, own_map)) in self.maps.iter_mut().zip(&own.maps).enumerate() {
            let centre = |cell: usize, cells: usize| (cell as f64 + 0.5) / cells as f64;
            let (u, v) = (centre(i % own.cols, own.cols), centre(i / own.cols, own.rows));
            let x = here.x as f64 + u * here.width as f64 - there.x as f64;
            let y = here.y as f64 + v * here.height as f64 - there.y as f64;
            add(sum, own_map, &other.at(x / there.width as f64, y / there.height as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Proxy;
    use crate::transfer::fit;

    const SIZE: [usize; 2] = [160, 90];
    const MS: u64 = 1_000_000;

    /// Lifts by `lift`, and by as much again for each of its columns.
    fn lifts(lift: f32, cols: usize, rows: usize, region: Option<Region>) -> Transfer {
        let map = |i: usize| {
            let lift = lift * (1 + i % cols) as f32;
            ColourMap([1.0, 0.0, 0.0, lift, 0.0, 1.0, 0.0, lift, 0.0, 0.0, 1.0, lift])
        };
        Transfer { cols, rows, region, maps: (0..cols * rows).map(map).collect(), ..Transfer::identity() }
    }

    #[test]
    fn weights_fall_with_time_and_likeness_and_end_at_the_reach() {
        assert_eq!(weight(0.8, 0, 0.0), 1.0);
        assert!((weight(0.8, 40 * MS, 0.0) - 0.8).abs() < 1e-6);
        assert!((weight(0.8, 120 * MS, 0.0) - 0.512).abs() < 1e-6);
        assert!((weight(1.0, 400 * MS, 0.1) - (-0.5f32).exp()).abs() < 1e-6);
        assert_eq!(weight(1.0, 400 * MS + 1, 0.0), 0.0);
        assert!(weight(1.0, 0, 0.4) < 1e-3, "backgrounds of two scenes");
        assert_eq!(weight(0.0, 40 * MS, 0.0), 0.0);
    }

    #[test]
    fn a_mean_is_weighted_and_one_of_equals_is_the_same_bits() {
        let [a, b, c] = [0.1, 0.2, 0.4].map(|lift| lifts(lift, 3, 2, None));
        let mut mean = Transfer::default();
        mean.mean(&a, [(0.5, &b), (0.25, &c), (0.0, &c)].into_iter(), SIZE);
        let expected = (0.1 + 0.5 * 0.2 + 0.25 * 0.4) / 1.75;
        assert!((mean.maps[0][3] - expected).abs() < 1e-6, "{} {expected}", mean.maps[0][3]);
        assert!((mean.maps[5][11] - 3.0 * expected).abs() < 1e-6);
        mean.mean(&a, std::iter::repeat_n((0.37, &a), 9), SIZE);
        assert_eq!(mean, a);
        mean.mix(&a, &a, 0.3, SIZE);
        assert_eq!(mean, a);
        mean.mix(&a, &b, 0.75, SIZE);
        assert!((mean.maps[0][3] - 0.175).abs() < 1e-6);
    }

    /// A foreground on the left or right half of a grey ramp, and its fit to a lift.
    fn fitted(left: bool, lift: f32) -> Transfer {
        let (width, height) = (16, 8);
        let n = width * height;
        let under = |i: usize| if (i % width < width / 2) == left { 1.0 } else { 0.0 };
        let rgb: Vec<f32> = (0..3 * n).map(|i| 0.2 + (i * 37 % 101) as f32 / 300.0).collect();
        let mask: Vec<f32> = (0..n).map(under).collect();
        let harmonized: Vec<_> = rgb.iter().enumerate().map(|(i, v)| v + lift * mask[i % n]).collect();
        fit(&Proxy { width, height, region: None, rgb, mask }, &harmonized, 1)
    }

    #[test]
    fn a_map_counts_for_as_much_as_there_was_under_it() {
        let (left, right) = (fitted(true, 0.1), fitted(false, 0.3));
        let mut mean = Transfer::default();
        mean.mean(&left, [(1.0, &right)].into_iter(), SIZE);
        let lift = |t: &Transfer, i: usize| {
            let map = &t.maps[i];
            0.4 * (map[0] + map[1] + map[2] - 1.0) + map[3]
        };
        // Column 2 and 13 of the middle row.
        let [at_left, at_right] = [66, 77].map(|i| lift(&mean, i));
        assert!((at_left - 0.1).abs() < 0.01 && (at_right - 0.3).abs() < 0.01, "{at_left} {at_right}");
        let mut maps_alone = [&left, &right].map(Transfer::clone);
        maps_alone.iter_mut().for_each(|t| t.equations.clear());
        mean.mean(&maps_alone[0], [(1.0, &maps_alone[1])].into_iter(), SIZE);
        assert!((lift(&mean, 66) - 0.2).abs() < 0.01, "or the test shows nothing");
    }

    #[test]
    fn one_fit_to_frames_that_are_the_same_is_their_own_bit_for_bit() {
        let own = fitted(true, 0.1);
        let mut mean = Transfer::default();
        mean.mean(&own, std::iter::repeat_n((0.3, &own), 20), SIZE);
        assert_eq!(mean, own);
    }

    #[test]
    fn another_grid_is_read_at_the_places_of_the_own_one_s_cells() {
        // The right half of the frame in two columns; the frame in four lies under it with its third and fourth.
        let half = Region { x: 80, y: 0, width: 80, height: 90 };
        let (crop, whole) = (lifts(0.0, 2, 1, Some(half)), lifts(0.1, 4, 3, None));
        let mut mix = Transfer::default();
        mix.mix(&crop, &whole, 0.5, SIZE);
        assert_eq!((mix.cols, mix.rows, mix.region), (2, 1, Some(half)));
        let lifts: Vec<_> = mix.maps.iter().map(|map| map[3]).collect();
        assert!((lifts[0] - 0.15).abs() < 1e-6 && (lifts[1] - 0.2).abs() < 1e-6, "{lifts:?}");
        mix.mix(&whole, &crop, 1.0, SIZE);
        assert!(mix.maps.iter().all(|map| map[3].abs() < 1e-6), "held beyond its border");
    }
}
