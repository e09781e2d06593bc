//! Whether a network that answers patch by patch lets its patches be seen.

/// What a picture is made from patch by patch: planar samples, 3 channels of `width` x `height`, and where they count.
pub struct Change<'a> {
    pub samples: &'a [f32],
    pub inside: &'a [bool],
    pub width: usize,
    pub height: usize,
}

/// Mean absolute step of a change from one pixel to the next across the borders of cells of `cell` pixels, over that within cells:
/// 1 without a grid, 2 where steps at borders are twice as large. Both pixels of a step lie inside. Not a number where one
/// of the two kinds has no step at all.
pub fn visibility(changes: &[Change], cell: f64) -> f64 {
    let mut sums = [(0.0, 0u64); 2];
    for Change { samples, inside, width, height } in changes {
        let (width, height) = (*width, *height);
        let area = width * height;
        let of = |i: usize| (i as f64 / cell) as usize;
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let here = y * width + x;
            let right = (x + 1 < width).then_some((here + 1, of(x + 1) != of(x)));
            let below = (y + 1 < height).then_some((here + width, of(y + 1) != of(y)));
            for (there, is_border) in [right, below].into_iter().flatten() {
                if inside[here] && inside[there] {
                    let step = |c: usize| f64::from((samples[c * area + there] - samples[c * area + here]).abs());
                    let (sum, count) = &mut sums[usize::from(is_border)];
                    *sum += (0..3).map(step).sum::<f64>();
                    *count += 3;
                }
            }
        }
    }
    let [within, across] = sums.map(|(sum, count)| sum / count as f64);
    across / within
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(of: impl Fn(usize, usize) -> f32) -> f64 {
        let samples: Vec<f32> = (0..3 * 1024).map(|i| of(i % 32, i % 1024 / 32)).collect();
        visibility(&[Change { samples: &samples, inside: &[true; 1024], width: 32, height: 32 }], 8.0)
    }

    #[test]
    fn steps_at_borders_show_and_steps_everywhere_do_not() {
        assert!((visible(|x, y| (x + y) as f32) - 1.0).abs() < 1e-6);
        // Slopes that begin a little higher in each patch.
        assert!((visible(|x, y| (x + y + x / 8 + y / 8) as f32) - 2.0).abs() < 1e-6);
        assert!((visible(|x, y| ((x * 5 + y * 3) % 4) as f32) - 1.0).abs() < 0.4);
    }

    #[test]
    fn the_background_does_not_count() {
        let samples: Vec<f32> = (0..3 * 256).map(|i| if i % 16 < 8 { (i % 16) as f32 } else { 100.0 }).collect();
        let inside: Vec<bool> = (0..256).map(|i| i % 16 < 7).collect();
        let change = Change { samples: &samples, inside: &inside, width: 16, height: 16 };
        assert!((visibility(&[change], 4.0) - 1.0).abs() < 0.8);
    }
}
