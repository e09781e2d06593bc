//! Which of many pictures are worth looking at.

/// The places of the `each` smallest of `values`, of those in the middle and of the largest, all in rising order; fewer where
/// they would overlap, and with less than three values all are among the smallest. What is not a finite number has no place.
pub fn extremes(values: &[f64], each: usize) -> [Vec<usize>; 3] {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| values[i].is_finite()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let n = order.len();
    if n < 3 {
        return [order, vec![], vec![]];
    }
    let each = each.min(n / 3);
    let middle = (n - each) / 2;
    [&order[..each], &order[middle..middle + each], &order[n - each..]].map(<[usize]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_the_middle_and_the_largest() {
        let values: Vec<f64> = (0..11).map(|i| f64::from(i * 7 % 11)).collect();
        let found = extremes(&values, 3).map(|places| places.into_iter().map(|i| values[i]).collect::<Vec<_>>());
        assert_eq!(found, [[0.0, 1.0, 2.0], [4.0, 5.0, 6.0], [8.0, 9.0, 10.0]]);
        assert_eq!(extremes(&[3.0, 1.0, 2.0], 1), [[1], [2], [0]]);
    }

    #[test]
    fn no_picture_comes_twice() {
        for n in 0..12 {
            let values: Vec<f64> = (0..n).map(f64::from).collect();
            let places = extremes(&values, 3).concat();
            let mut once = places.clone();
            once.dedup();
            assert_eq!(places, once);
            assert_eq!(places.len(), if n < 3 { n as usize } else { 3 * (n as usize / 3).min(3) });
        }
    }

    #[test]
    fn what_is_no_number_has_no_place() {
        assert_eq!(extremes(&[f64::NAN, 2.0, f64::INFINITY, 1.0], 3), [vec![3, 1], vec![], vec![]]);
    }
}
