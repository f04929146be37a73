//! Eigenvalues and eigenvectors of a symmetric matrix.
//!
//! Householder's reduction to a tridiagonal matrix, then the QL algorithm with implicit shifts: the `tred2` and
//! `tql2` of EISPACK (Bowdler, Martin, Reinsch, Wilkinson, *Numerische Mathematik* 11, 1968), in the arrangement of
//! JAMA, which is in the public domain. Cubic in the order with a small constant, where Jacobi's rotations would
//! take tens of times longer at 500 columns; only `+ − × ÷ √` and `libm`, so the bytes are the same everywhere.

/// Eigenvalues in descending order with their unit eigenvectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    /// λ, largest first.
    pub values: Vec<f64>,
    /// `vectors[k]` belongs to `values[k]`; its component of largest magnitude is positive (the first such).
    pub vectors: Vec<Vec<f64>>,
}

/// The decomposition of the symmetric `matrix`, given row by row.
pub fn decompose(order: usize, matrix: &[f64]) -> Eigen {
    let mut work = Work {
        v: matrix.chunks_exact(order.max(1)).map(<[f64]>::to_vec).collect(),
        d: vec![0.0; order],
        e: vec![0.0; order],
    };
    if order > 0 {
        work.reduce_to_tridiagonal();
        work.accumulate_reflections();
        work.iterate();
    }
    sorted(work)
}

/// Transposed against the textbook: `v[j][i]` is row i of column j, so that inner loops run along memory.
struct Work {
    v: Vec<Vec<f64>>,
    d: Vec<f64>,
    e: Vec<f64>,
}

impl Work {
    fn reduce_to_tridiagonal(&mut self) {
        let Self { v, d, e } = self;
        let n = d.len();
        for j in 0..n {
            d[j] = v[j][n - 1];
        }
        for i in (1..n).rev() {
            // Scaled, so that no square under- or overflows.
            let scale: f64 = d[..i].iter().map(|x| x.abs()).sum();
            let mut h = 0.0;
            if scale == 0.0 {
                e[i] = d[i - 1];
                for j in 0..i {
                    d[j] = v[j][i - 1];
                    v[j][i] = 0.0;
                    v[i][j] = 0.0;
                }
            } else {
                for x in &mut d[..i] {
                    *x /= scale;
                    h += *x * *x;
                }
                let f = d[i - 1];
                let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
                e[i] = scale * g;
                h -= f * g;
                d[i - 1] = f - g;
                e[..i].fill(0.0);
                for j in 0..i {
                    let f = d[j];
                    v[i][j] = f;
                    let mut g = e[j] + v[j][j] * f;
                    for k in j + 1..i {
                        g += v[j][k] * d[k];
                        e[k] += v[j][k] * f;
                    }
                    e[j] = g;
                }
                let mut f = 0.0;
                for j in 0..i {
                    e[j] /= h;
                    f += e[j] * d[j];
                }
                let hh = f / (h + h);
                for j in 0..i {
                    e[j] -= hh * d[j];
                }
                for j in 0..i {
                    let (f, g) = (d[j], e[j]);
                    for k in j..i {
                        v[j][k] -= f * e[k] + g * d[k];
                    }
                    d[j] = v[j][i - 1];
                    v[j][i] = 0.0;
                }
            }
            d[i] = h;
        }
    }

    fn accumulate_reflections(&mut self) {
        let Self { v, d, e } = self;
        let n = d.len();
        for i in 0..n - 1 {
            v[i][n - 1] = v[i][i];
            v[i][i] = 1.0;
            let h = d[i + 1];
            if h != 0.0 {
                for k in 0..=i {
                    d[k] = v[i + 1][k] / h;
                }
                for j in 0..=i {
                    let g = (0..=i).fold(0.0, |g, k| g + v[i + 1][k] * v[j][k]);
                    for k in 0..=i {
                        v[j][k] -= g * d[k];
                    }
                }
            }
            v[i + 1][..=i].fill(0.0);
        }
        for j in 0..n {
            d[j] = v[j][n - 1];
            v[j][n - 1] = 0.0;
        }
        v[n - 1][n - 1] = 1.0;
        e[0] = 0.0;
    }

    fn iterate(&mut self) {
        let n = self.d.len();
        self.e.rotate_left(1);
        self.e[n - 1] = 0.0;
        let mut shift = 0.0;
        let mut largest = 0.0f64;
        for l in 0..n {
            largest = largest.max(self.d[l].abs() + self.e[l].abs());
            let m = (l..n).find(|m| self.e[*m].abs() <= f64::EPSILON * largest).unwrap_or(n - 1);
            // QL converges in about 1.7 sweeps an eigenvalue; the bound only makes the end evident.
            for _ in 0..64 {
                if m == l || self.e[l].abs() <= f64::EPSILON * largest {
                    break;
                }
                shift += self.sweep(l, m);
            }
            self.d[l] += shift;
            self.e[l] = 0.0;
        }
    }

    /// One implicit QL sweep over rows l..=m; returns the shift that was taken off the remaining eigenvalues.
    fn sweep(&mut self, l: usize, m: usize) -> f64 {
        let Self { v, d, e } = self;
        let g = d[l];
        let mut p = (d[l + 1] - g) / (2.0 * e[l]);
        let r = if p < 0.0 { -libm::hypot(p, 1.0) } else { libm::hypot(p, 1.0) };
        d[l] = e[l] / (p + r);
        d[l + 1] = e[l] * (p + r);
        let next = d[l + 1];
        let shift = g - d[l];
        for x in &mut d[l + 2..] {
            *x -= shift;
        }
        p = d[m];
        let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
        let (mut s, mut s2) = (0.0, 0.0);
        let subdiagonal = e[l + 1];
        for i in (l..m).rev() {
            c3 = c2;
            c2 = c;
            s2 = s;
            let g = c * e[i];
            let h = c * p;
            let r = libm::hypot(p, e[i]);
            e[i + 1] = s * r;
            s = e[i] / r;
            c = p / r;
            p = c * d[i] - s * g;
            d[i + 1] = h + s * (c * g + s * d[i]);
            let (left, right) = v.split_at_mut(i + 1);
            for (a, b) in left[i].iter_mut().zip(&mut right[0]) {
                let h = *b;
                *b = s * *a + c * h;
                *a = c * *a - s * h;
            }
        }
        p = -s * s2 * c3 * subdiagonal * e[l] / next;
        e[l] = s * p;
        d[l] = c * p;
        shift
    }
}

fn sorted(work: Work) -> Eigen {
    let mut pairs: Vec<(f64, Vec<f64>)> = work.d.into_iter().zip(work.v).collect();
    // Stable, so equal eigenvalues keep the order they were found in.
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, vector) in &mut pairs {
        let largest = vector.iter().fold(0.0f64, |best, x| if x.abs() > best.abs() { *x } else { best });
        if largest < 0.0 {
            vector.iter_mut().for_each(|x| *x = -*x);
        }
    }
    let (values, vectors) = pairs.into_iter().unzip();
    Eigen { values, vectors }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(order: usize, matrix: &[f64]) -> Eigen {
        let eigen = decompose(order, matrix);
        let norm = matrix.iter().fold(0.0f64, |n, x| n.max(x.abs()));
        for i in 0..order {
            for j in 0..order {
                let rebuilt: f64 =
                    (0..order).map(|k| eigen.values[k] * eigen.vectors[k][i] * eigen.vectors[k][j]).sum();
                let inner: f64 = (0..order).map(|k| eigen.vectors[i][k] * eigen.vectors[j][k]).sum();
                assert!((rebuilt - matrix[i * order + j]).abs() <= 1e-13 * norm * order as f64, "{i} {j}");
                assert!((inner - f64::from(u8::from(i == j))).abs() < 1e-13, "{i} {j}");
            }
        }
        eigen
    }

    #[test]
    fn two_by_two_by_hand() {
        let eigen = check(2, &[2.0, 1.0, 1.0, 2.0]);
        assert!((eigen.values[0] - 3.0).abs() < 1e-15 && (eigen.values[1] - 1.0).abs() < 1e-15);
        assert!(eigen.vectors[0].iter().all(|x| (x - 0.5f64.sqrt()).abs() < 1e-15));
    }

    #[test]
    fn odd_shapes() {
        check(0, &[]);
        check(1, &[4.0]);
        check(3, &[0.0; 9]);
        check(3, &[5.0, 0.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 6.0]);
        let ones = check(6, &[1.0; 36]);
        assert!((ones.values[0] - 6.0).abs() < 1e-14 && ones.values[1..].iter().all(|v| v.abs() < 1e-14));
    }

    #[test]
    fn a_dense_matrix_is_rebuilt() {
        let order = 40;
        let mut matrix = vec![0.0; order * order];
        for i in 0..order {
            for j in 0..=i {
                let value = libm::sin((i * 7 + j * 3) as f64) * 1e-4;
                matrix[i * order + j] = value;
                matrix[j * order + i] = value;
            }
        }
        let eigen = check(order, &matrix);
        assert!(eigen.values.windows(2).all(|w| w[0] >= w[1]));
    }
}
