//! How far means over pictures would move with other pictures of the same kind: percentile bootstrap intervals (Efron 1979).
//!
//! Whole pictures are drawn, so what is computed from several columns of one draw is paired. The draws depend on nothing but how
//! many pictures there are.

use crate::diffusion::Philox;

pub const RESAMPLES: u32 = 2000;
/// Of the intervals.
const CONFIDENCE: f64 = 0.95;
const SEED: u64 = 0x1979;

/// The means of every column over each draw.
pub struct Resamples(Vec<Vec<f64>>);

impl Resamples {
    /// Of `pictures`, at least one, which all have the same columns.
    pub fn of(pictures: &[Vec<f64>]) -> Self {
        Self((0..RESAMPLES).map(|draw| means(pictures, draw)).collect())
    }

    /// Where 95 % of the draws have what `of` says of their columns' means: lower and upper end.
    pub fn interval(&self, of: impl Fn(&[f64]) -> f64) -> [f64; 2] {
        let mut values: Vec<f64> = self.0.iter().map(|means| of(means)).collect();
        values.sort_by(f64::total_cmp);
        [0.5 - CONFIDENCE / 2.0, 0.5 + CONFIDENCE / 2.0].map(|share| quantile(&values, share))
    }
}

/// Each column's mean over as many pictures as there are, drawn with replacement.
fn means(pictures: &[Vec<f64>], draw: u32) -> Vec<f64> {
    let philox = Philox::new(SEED);
    let mut sums = vec![0.0; pictures[0].len()];
    let mut words = [0; 4];
    for turn in 0..pictures.len() {
        if turn % 4 == 0 {
            words = philox.words([(turn / 4) as u32, draw, 0, 0]);
        }
        // The high half of the product is uniform in 0..pictures.len().
        let index = (u64::from(words[turn % 4]) * pictures.len() as u64) >> 32;
        for (sum, value) in sums.iter_mut().zip(&pictures[index as usize]) {
            *sum += value;
        }
    }
    sums.iter().map(|sum| sum / pictures.len() as f64).collect()
}

/// Of sorted `values`, linear between neighbours.
fn quantile(values: &[f64], share: f64) -> f64 {
    let place = share * (values.len() - 1) as f64;
    let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
    // Infinities of the same sign have no difference.
    if below == above { below } else { below + (above - below) * place.fract() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns (v, 2 v + 1) of pictures whose v goes evenly through 0..100 in some order.
    fn pictures(n: usize) -> Vec<Vec<f64>> {
        (0..n).map(|i| (i * 7919 % n) as f64 * 100.0 / n as f64).map(|v| vec![v, 2.0 * v + 1.0]).collect()
    }

    fn width([low, high]: [f64; 2]) -> f64 {
        high - low
    }

    #[test]
    fn an_interval_is_that_of_the_normal_distribution_where_there_are_many() {
        let pictures = pictures(400);
        let mean = pictures.iter().map(|p| p[0]).sum::<f64>() / 400.0;
        let variance = pictures.iter().map(|p| (p[0] - mean).powi(2)).sum::<f64>() / 400.0;
        let reach = 1.96 * (variance / 400.0).sqrt();
        let [low, high] = Resamples::of(&pictures).interval(|means| means[0]);
        assert!(low < mean && mean < high);
        assert!(
            (low - (mean - reach)).abs() < 0.1 * reach && (high - (mean + reach)).abs() < 0.1 * reach,
            "{low} {high}"
        );
    }

    #[test]
    fn it_is_the_same_again_and_shrinks_with_more_pictures() {
        let interval = |n| Resamples::of(&pictures(n)).interval(|means| means[0]);
        assert_eq!(interval(50), interval(50));
        let ratio = width(interval(25)) / width(interval(400));
        assert!((3.5..4.5).contains(&ratio), "16 times the pictures and {ratio} times as wide");
        assert_eq!(Resamples::of(&[vec![3.0]]).interval(|means| means[0]), [3.0, 3.0]);
    }

    #[test]
    fn columns_are_drawn_in_pairs() {
        let resamples = Resamples::of(&pictures(30));
        let difference = resamples.interval(|means| means[1] - 2.0 * means[0]);
        assert!(difference.iter().all(|end| (end - 1.0).abs() < 1e-9), "{difference:?}");
        let [own, twice] = [0, 1].map(|column| width(resamples.interval(|means| means[column])));
        assert!((twice - 2.0 * own).abs() < 1e-9 && own > 1.0);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let values: Vec<f64> = (0..=10).map(f64::from).collect();
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| quantile(&values, share)), [0.0, 2.5, 5.0, 10.0]);
    }
}
