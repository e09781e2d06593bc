//! Least-squares fit of the local affine maps that take a proxy's foreground to its harmonized colours.
//!
//! A_p = argmin sum_q W_q |A [X_q; 1] - Y_q|^2 + ridge |A - A_0|^2 over the neighbourhood q of each proxy pixel p, with
//! W = mask^2 and A_0 the same fit over the whole foreground, itself drawn towards the identity. Where colours are too
//! few or too alike to tell a map, the prior decides; where there is no foreground nearby, the map is A_0.

use super::Transfer;
use crate::frame::Proxy;

/// The neighbourhood reaches this many proxy pixels to each side.
const RADIUS: usize = 2;
/// Weights of the priors, in fully covered proxy pixels: of A_0 in each neighbourhood, of the identity in A_0.
const RIDGE: f64 = 0.05;
const GLOBAL_RIDGE: f64 = 0.05;

/// Weighted sums over proxy pixels, x = (r, g, b, 1): x x^T by its lower triangle, then y_r x, y_g x, y_b x.
type Moments = [f64; 22];

const IDENTITY: [[f64; 4]; 3] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];

/// `harmonized` is 3 x height x width like `proxy.rgb`. One map per proxy pixel neighbourhood, drawn towards the global map;
/// the identity when there is no foreground. Pixels with a value that is not finite count for nothing.
pub fn fit(proxy: &Proxy, harmonized: &[f32]) -> Transfer {
    let (cols, rows) = (proxy.width, proxy.height);
    let n = cols * rows;
    if n == 0 || [proxy.rgb.len(), harmonized.len()] != [3 * n; 2] || proxy.mask.len() != n {
        return Transfer::identity();
    }
    let moments: Vec<Moments> = (0..n).map(|i| moments_of(proxy, harmonized, i)).collect();
    let mut total = [0.0; 22];
    moments.iter().for_each(|m| add(&mut total, m));
    if total[9] == 0.0 {
        return Transfer::identity();
    }
    let prior = solve(&total, GLOBAL_RIDGE, &IDENTITY);

    // The box is separable: sums of columns first, then of their neighbours.
    let mut columns = vec![[0.0; 22]; cols];
    let mut maps = Vec::with_capacity(n);
    for y in 0..rows {
        columns.fill([0.0; 22]);
        for line in y.saturating_sub(RADIUS)..(y + RADIUS + 1).min(rows) {
            columns.iter_mut().zip(&moments[line * cols..][..cols]).for_each(|(c, m)| add(c, m));
        }
        for x in 0..cols {
            let mut sum = [0.0; 22];
            columns[x.saturating_sub(RADIUS)..(x + RADIUS + 1).min(cols)].iter().for_each(|m| add(&mut sum, m));
            let map = if sum[9] == 0.0 { prior } else { solve(&sum, RIDGE, &prior) };
            maps.push(std::array::from_fn(|i| map[i / 4][i % 4] as f32));
        }
    }
    Transfer { cols, rows, maps }
}

fn add(sum: &mut Moments, more: &Moments) {
    sum.iter_mut().zip(more).for_each(|(s, m)| *s += m);
}

fn moments_of(proxy: &Proxy, harmonized: &[f32], i: usize) -> Moments {
    let mut moments = [0.0; 22];
    let n = proxy.mask.len();
    let pixel = |rgb: &[f32]| [0, 1, 2].map(|c| f64::from(rgb[c * n + i]));
    let ([r, g, b], y, m) = (pixel(&proxy.rgb), pixel(harmonized), f64::from(proxy.mask[i]));
    let finite = [r, g, b, m].iter().chain(&y).all(|v| v.is_finite());
    if m <= 0.0 || !finite {
        return moments;
    }
    let x = [r, g, b, 1.0];
    let mut next = 0;
    for row in 0..4 {
        for col in 0..=row {
            moments[next] = m * m * x[row] * x[col];
            next += 1;
        }
    }
    for y in y {
        for x in x {
            moments[next] = m * m * y * x;
            next += 1;
        }
    }
    moments
}

/// The map A of (G + ridge I) A^T = R + ridge A_0^T, by Cholesky's L L^T.
fn solve(moments: &Moments, ridge: f64, prior: &[[f64; 4]; 3]) -> [[f64; 4]; 3] {
    let g = |row: usize, col: usize| moments[row * (row + 1) / 2 + col] + if row == col { ridge } else { 0.0 };
    let mut l = [[0.0; 4]; 4];
    for row in 0..4 {
        for col in 0..=row {
            let rest = g(row, col) - (0..col).map(|k| l[row][k] * l[col][k]).sum::<f64>();
            // A ridge bounds the pivots from below; what rounding takes off them is far less.
            l[row][col] = if row == col { rest.max(0.5 * ridge).sqrt() } else { rest / l[col][col] };
        }
    }
    let mut map = [[0.0; 4]; 3];
    for (c, a) in map.iter_mut().enumerate() {
        let mut z = [0.0; 4];
        for i in 0..4 {
            let r = moments[10 + 4 * c + i] + ridge * prior[c][i];
            z[i] = (r - (0..i).map(|k| l[i][k] * z[k]).sum::<f64>()) / l[i][i];
        }
        for i in (0..4).rev() {
            a[i] = (z[i] - (i + 1..4).map(|k| l[k][i] * a[k]).sum::<f64>()) / l[i][i];
        }
    }
    map
}
