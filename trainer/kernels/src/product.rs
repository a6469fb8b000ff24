//! Matrix products over strided views, computed by the gemm crate.

/// A matrix in a slice, with strides: transposed, sliced and overlapping matrices need no copy.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// The matrix that a product is written to.
pub struct Target<'a> {
    data: &'a mut [f32],
    row_stride: usize,
}

impl<'a> View<'a> {
    /// Rows of `columns` numbers, `row_stride` apart.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len(), "a view ends outside its data");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

impl<'a> Target<'a> {
    pub fn new(data: &'a mut [f32], row_stride: usize) -> Self {
        Self { data, row_stride }
    }
}

/// `out = scale · a·b`, or with `accumulate` `out += scale · a·b`.
///
/// # Panics
/// The sizes do not match, or the target is too small.
pub fn product(out: Target<'_>, accumulate: bool, a: View<'_>, b: View<'_>, scale: f32) {
    let (rows, columns, depth) = (a.rows, b.columns, a.columns);
    assert_eq!(depth, b.rows, "the inner sizes of a matrix product differ");
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(out.row_stride >= columns && (rows - 1) * out.row_stride + columns <= out.data.len(), "a product ends outside its target");
    // SAFETY: `View::new` checked sizes and strides of `a` and `b` against their slices, and the line above those of the target. The target
    // is borrowed mutably, so that it overlaps neither.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
        (0..m * n).map(|position| (0..k).map(|d| a[position / n * k + d] * b[d * n + position % n]).sum()).collect()
    }

    #[test]
    fn strides_transposition_scale_and_accumulation() {
        for (m, k, n) in [(1, 1, 1), (5, 3, 7), (17, 33, 20), (64, 128, 48)] {
            let a: Vec<f32> = (0..m * k).map(|i| (i % 13) as f32 - 6.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i % 7) as f32 - 3.0).collect();
            let truth = reference(&a, &b, m, k, n);
            let mut out = vec![1.0; m * (n + 2)];
            product(Target::new(&mut out, n + 2), true, View::new(&a, m, k, k), View::new(&b, k, n, n), 2.0);
            for i in 0..m {
                for j in 0..n {
                    assert_eq!(out[i * (n + 2) + j], 1.0 + 2.0 * truth[i * n + j]);
                }
            }
            // aᵀ stored, bᵀ stored.
            let transposed_copy = |x: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns).map(|position| x[position % rows * columns + position / rows]).collect()
            };
            let (at, bt) = (transposed_copy(&a, m, k), transposed_copy(&b, k, n));
            let mut out = vec![9.0; m * n];
            product(Target::new(&mut out, n), false, View::new(&at, k, m, m).transposed(), View::new(&bt, n, k, k).transposed(), 1.0);
            assert_eq!(out, truth);
        }
    }

    #[test]
    fn overlapping_rows_are_a_sliding_window() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0];
        let mut out = vec![0.0; 3];
        product(Target::new(&mut out, 1), false, View::new(&x, 3, 3, 1), View::new(&[1.0, 1.0, 1.0], 3, 1, 1), 1.0);
        assert_eq!(out, [6.0, 9.0, 12.0]);
    }

    #[test]
    #[should_panic(expected = "a view ends outside its data")]
    fn a_view_outside_its_data_is_refused() {
        View::new(&[0.0; 5], 2, 3, 3);
    }

    #[test]
    #[should_panic(expected = "a product ends outside its target")]
    fn a_target_that_is_too_small_is_refused() {
        let x = [0.0; 6];
        product(Target::new(&mut [0.0; 4], 3), false, View::new(&x, 2, 3, 3), View::new(&x, 3, 2, 2), 1.0);
    }
}
