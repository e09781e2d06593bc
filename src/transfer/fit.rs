//! Least-squares fit of the local affine maps that take a proxy's foreground to its harmonized colours.
//!
//! `apply` adds M (A - 1) [C; 1], of which a proxy pixel sees m (A - 1) [X; 1]. So the map of proxy pixel p is
//!
//!   A_p = argmin sum_q |m_q (A - 1) [X_q; 1] - (Y_q - X_q)|^2 + ridge |A - A_0|^2
//!
//! over its neighbourhood q, and A_0 is the same fit over the whole foreground, itself drawn towards the identity. Where
//! colours are too few or too alike to tell a map, or the foreground is a speck, the prior decides; where there is none
//! nearby, the map is A_0.

use super::{ColourMap, Transfer};
use crate::frame::Proxy;
use crate::frame::colour::Affine;

/// The neighbourhood reaches this many proxy pixels to each side.
const RADIUS: usize = 1;
/// Weights of the priors, in fully covered proxy pixels: of A_0 in each neighbourhood, of the identity in A_0.
const RIDGE: f64 = 0.05;
const GLOBAL_RIDGE: f64 = 0.05;

/// Sums over proxy pixels, with u = m (r, g, b, 1) and v = m X + (Y - X): u u^T by its lower triangle, then v_r u, v_g
/// u, v_b u.
type Moments = [f64; 22];

/// Where the sum of m^2 is.
const WEIGHT: usize = 9;

/// What the maps of a fit rest on, so that maps of several frames can be fitted at once: for each cell the sums over its
/// neighbourhood, and A_0, towards which a map is drawn.
#[derive(Debug, Default, PartialEq)]
pub struct NormalEquations {
    sums: Vec<[f32; 22]>,
    prior: ColourMap,
}

impl Clone for NormalEquations {
    fn clone(&self) -> Self {
        Self { sums: self.sums.clone(), prior: self.prior }
    }

    /// In the memory of the sums that it has.
    fn clone_from(&mut self, other: &Self) {
        self.sums.clone_from(&other.sums);
        self.prior = other.prior;
    }
}

impl NormalEquations {
    pub fn clear(&mut self) {
        self.sums.clear();
    }

    /// How many cells it is of.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Adds `part` of `other`'s, which is of as many cells.
    pub fn add(&mut self, part: f32, other: &Self) {
        // Most cells of most frames have nothing near them.
        for (sums, more) in self.sums.iter_mut().zip(&other.sums).filter(|(_, more)| more[WEIGHT] != 0.0) {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += part * more);
        }
        self.prior.iter_mut().zip(&*other.prior).for_each(|(sum, more)| *sum += part * more);
    }

    pub fn scale(&mut self, by: f32) {
        let sums = self.sums.iter_mut().filter(|sums| sums[WEIGHT] != 0.0);
        sums.flatten().chain(&mut *self.prior).for_each(|sum| *sum *= by);
    }

    /// The maps of the fit to it.
    pub fn fit(&self, maps: &mut Vec<ColourMap>) {
        let prior = self.prior.rows();
        maps.clear();
        maps.extend(self.sums.iter().map(|sums| {
            if sums[WEIGHT] == 0.0 {
                return self.prior;
            }
            ColourMap::of_rows(&solve(&sums.map(f64::from), RIDGE, &prior))
        }));
    }
}

/// `Fit::fit` into a new transfer.
pub fn fit(proxy: &Proxy, harmonized: &[f32], cell: usize) -> Transfer {
    let mut transfer = Transfer::default();
    Fit::default().fit(proxy, harmonized, cell, &mut transfer);
    transfer
}

/// The memory of a fit, which is kept from one to the next.
#[derive(Default)]
pub struct Fit {
    /// Means of cells of proxy pixels.
    cells: Proxy,
    harmonized: Vec<f32>,
    moments: Vec<Moments>,
    columns: Vec<Moments>,
}

impl Fit {
    /// `harmonized` is 3 x height x width like `proxy.rgb`. One map for each cell of `cell` x `cell` proxy pixels (the last ones
    /// may be smaller), which are averaged first, drawn towards the global map; the identity when there is no foreground. Pixels
    /// with a value that is not finite count for nothing. The maps take the place of those that `transfer` has.
    pub fn fit(&mut self, proxy: &Proxy, harmonized: &[f32], cell: usize, transfer: &mut Transfer) {
        let n = proxy.width * proxy.height;
        if n == 0 || [proxy.rgb.len(), harmonized.len()] != [3 * n; 2] || proxy.mask.len() != n {
            return transfer.clear();
        }
        if cell <= 1 {
            return self.fit_pixels(proxy, harmonized, transfer);
        }
        let mut small = std::mem::take(&mut self.cells);
        let mut small_harmonized = std::mem::take(&mut self.harmonized);
        (small.width, small.height) = (proxy.width.div_ceil(cell), proxy.height.div_ceil(cell));
        small.region = proxy.region;
        for (from, to) in
            [(&proxy.rgb[..], &mut small.rgb), (&proxy.mask, &mut small.mask), (harmonized, &mut small_harmonized)]
        {
            to.clear();
            from.chunks_exact(n).for_each(|plane| averages(plane, proxy.width, cell, to));
        }
        self.fit_pixels(&small, &small_harmonized, transfer);
        (self.cells, self.harmonized) = (small, small_harmonized);
    }

    fn fit_pixels(&mut self, proxy: &Proxy, harmonized: &[f32], transfer: &mut Transfer) {
        let (cols, rows) = (proxy.width, proxy.height);
        let n = cols * rows;
        let Self { moments, columns, .. } = self;
        moments.clear();
        moments.extend((0..n).map(|i| moments_of(proxy, harmonized, i)));
        let mut total = [0.0; 22];
        moments.iter().for_each(|m| add(&mut total, m));
        if total[WEIGHT] == 0.0 {
            return transfer.clear();
        }
        let prior = solve(&total, GLOBAL_RIDGE, &ColourMap::IDENTITY.rows());

        // The box is separable: sums of columns first, then of their neighbours.
        columns.resize(cols, [0.0; 22]);
        let Transfer { maps, equations, .. } = transfer;
        maps.clear();
        equations.clear();
        equations.prior = ColourMap::of_rows(&prior);
        for y in 0..rows {
            columns.fill([0.0; 22]);
            for line in y.saturating_sub(RADIUS)..(y + RADIUS + 1).min(rows) {
                columns.iter_mut().zip(&moments[line * cols..][..cols]).for_each(|(c, m)| add(c, m));
            }
            for x in 0..cols {
                let mut sum = [0.0; 22];
                columns[x.saturating_sub(RADIUS)..(x + RADIUS + 1).min(cols)].iter().for_each(|m| add(&mut sum, m));
                let map = if sum[WEIGHT] == 0.0 { prior } else { solve(&sum, RIDGE, &prior) };
                maps.push(ColourMap::of_rows(&map));
                equations.sums.push(sum.map(|s| s as f32));
            }
        }
        (transfer.cols, transfer.rows, transfer.region) = (cols, rows, proxy.region);
    }
}

/// Appends the mean of each cell of a plane of rows of `width`.
fn averages(plane: &[f32], width: usize, cell: usize, means: &mut Vec<f32>) {
    let cols = width.div_ceil(cell);
    for rows in plane.chunks(cell * width) {
        let start = means.len();
        means.resize(start + cols, 0.0);
        let sums = &mut means[start..];
        for row in rows.chunks_exact(width) {
            sums.iter_mut().zip(row.chunks(cell)).for_each(|(sum, pixels)| *sum += pixels.iter().sum::<f32>());
        }
        let height = rows.len() / width;
        for (col, sum) in sums.iter_mut().enumerate() {
            *sum /= (height * (width - col * cell).min(cell)) as f32;
        }
    }
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
    let x = [r, g, b];
    let (u, v) = ([m * r, m * g, m * b, m], [0, 1, 2].map(|c| m * x[c] + (y[c] - x[c])));
    let triangle = (0..4).flat_map(|row| (0..=row).map(move |col| u[row] * u[col]));
    let products = triangle.chain(v.iter().flat_map(|v| u.map(|u| v * u)));
    moments.iter_mut().zip(products).for_each(|(moment, product)| *moment = product);
    moments
}

/// The map A of (G + ridge I) A^T = R + ridge A_0^T, by Cholesky's L L^T.
fn solve(moments: &Moments, ridge: f64, prior: &Affine) -> Affine {
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
