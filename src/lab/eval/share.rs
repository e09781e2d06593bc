//! How much of the untouched composites' error a way of harmonizing leaves.

use super::intervals::Resamples;
use serde::Serialize;

/// Of the pictures of a group, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Mean fMSE over that of the untouched composites: 1 changes nothing, 0 is perfect.
    pub fmse_ratio: f64,
    /// Where 95 % of it lie when pictures are drawn anew: lower and upper end.
    #[serde(rename = "fmse_ratio_interval")]
    pub interval: [f64; 2],
    /// Of the pictures' own ratios: a few pictures with a large error don't decide it.
    #[serde(rename = "fmse_ratio_median")]
    pub median: f64,
    /// Pictures that are further off than untouched.
    pub worse: usize,
}

impl Share {
    /// `pairs` are a picture's fMSE and that of its untouched composite; `None` where there are none.
    pub fn of(pairs: impl IntoIterator<Item = [f64; 2]>) -> Option<Self> {
        let pairs: Vec<Vec<f64>> = pairs.into_iter().map(Vec::from).collect();
        if pairs.is_empty() {
            return None;
        }
        let sum = |column: usize| pairs.iter().map(|pair| pair[column]).sum::<f64>();
        let mut ratios: Vec<f64> = pairs.iter().map(|pair| pair[0] / pair[1]).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        Some(Self {
            fmse_ratio: sum(0) / sum(1),
            interval: Resamples::of(&pairs).interval(|means| means[0] / means[1]),
            median: (ratios[middle] + ratios[(ratios.len() - 1) / 2]) / 2.0,
            worse: pairs.iter().filter(|pair| pair[0] > pair[1]).count(),
        })
    }

    /// The ratio and its interval; nothing can be said of composites without error.
    pub(super) fn left(&self) -> Option<String> {
        let [low, high] = self.interval;
        self.fmse_ratio.is_finite().then(|| format!("{:.3} [{low:.3}, {high:.3}]", self.fmse_ratio))
    }

    /// The same with the median picture and the pictures made worse.
    pub(super) fn told(&self) -> Option<String> {
        Some(format!("{}; {:.3}; {}", self.left()?, self.median, self.worse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_median_and_harm() {
        let share = Share::of([[10.0, 100.0], [20.0, 100.0], [600.0, 300.0]]).unwrap();
        assert_eq!((share.fmse_ratio, share.median, share.worse), (1.26, 0.2, 1));
        assert!(share.interval[0] < 1.26 && share.interval[1] > 1.26);
        assert_eq!(Share::of([[1.0, 4.0], [3.0, 4.0]]).unwrap().median, 0.5);
        assert_eq!(Share::of([[4.0, 4.0]]).unwrap().worse, 0);
        assert!(Share::of([]).is_none());
        assert!(Share::of([[4.0, 0.0]]).unwrap().left().is_none());
    }
}
