//! Functions of symmetric 3 x 3 matrices, by Jacobi's rotations.

pub type Matrix = [[f64; 3]; 3];

/// More than any 3 x 3 matrix takes to be diagonal to the last bit: each sweep squares what is left.
const SWEEPS: usize = 12;

/// The matrix with the same eigenvectors and `f` of each eigenvalue.
pub fn function(matrix: &Matrix, f: impl Fn(f64) -> f64) -> Matrix {
    let (values, vectors) = eigen(*matrix);
    let values = values.map(f);
    let entry = |i: usize, j: usize| (0..3).map(|k| vectors[i][k] * values[k] * vectors[j][k]).sum();
    std::array::from_fn(|i| std::array::from_fn(|j| entry(i, j)))
}

pub fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// Eigenvalues, and as columns their eigenvectors.
fn eigen(mut a: Matrix) -> ([f64; 3], Matrix) {
    let mut vectors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for (p, q) in [(0, 1), (0, 2), (1, 2)].into_iter().cycle().take(3 * SWEEPS) {
        if a[p][q] == 0.0 {
            continue;
        }
        // The smaller angle that makes a[p][q] zero.
        let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
        let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
        let cosine = 1.0 / tangent.hypot(1.0);
        let sine = tangent * cosine;
        let rotate = |x: f64, y: f64| (cosine * x - sine * y, sine * x + cosine * y);
        for row in a.iter_mut().chain(&mut vectors) {
            (row[p], row[q]) = rotate(row[p], row[q]);
        }
        let rows = [0, 1, 2].map(|k| rotate(a[p][k], a[q][k]));
        a[p] = rows.map(|(first, _)| first);
        a[q] = rows.map(|(_, second)| second);
    }
    ([0, 1, 2].map(|k| a[k][k]), vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: &Matrix, expected: &Matrix) {
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
        }
    }

    #[test]
    fn eigenvalues_are_known() {
        // 2 - sqrt(2), 2 and 2 + sqrt(2): the string of three beads.
        let (mut values, _) = eigen([[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]]);
        values.sort_by(f64::total_cmp);
        for (found, expected) in values.into_iter().zip([2.0 - 2f64.sqrt(), 2.0, 2.0 + 2f64.sqrt()]) {
            assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
        }
    }

    #[test]
    fn a_root_squared_is_the_matrix() {
        for matrix in [
            [[900.0, 850.0, 700.0], [850.0, 880.0, 720.0], [700.0, 720.0, 640.0]],
            [[4.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.25]],
            // Of rank one, and with a double eigenvalue.
            [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
        ] {
            let root = function(&matrix, |value| value.max(0.0).sqrt());
            assert_close(&product(&root, &root), &matrix);
        }
    }
}
