//! Losses over a batch of query–code pairs. B = batch, D = embedding.

use burn::tensor::{Tensor, activation::log_softmax, backend::Backend};

/// Softmax cross-entropy with in-batch negatives (InfoNCE; van den Oord et al. 2018, eq. 4), with
/// cosine scores `s = scale · q cᵀ` of unit vectors `q, c: [B, D]`:
///
/// `L = −mean_i log softmax_j(s_ij)[i]`, and if `symmetric` the mean of that over rows and columns.
pub fn softmax_cross_entropy<B: Backend>(query: Tensor<B, 2>, code: Tensor<B, 2>, scale: Tensor<B, 1>, symmetric: bool) -> Tensor<B, 1> {
    let [batch, _] = query.dims();
    let scores = query.matmul(code.transpose()) * scale.unsqueeze::<2>();
    let diagonal = Tensor::<B, 2>::eye(batch, &scores.device());
    let own = |scores: Tensor<B, 2>| (log_softmax(scores, 1) * diagonal.clone()).sum() / -(batch as f64);
    if symmetric { (own(scores.clone()) + own(scores.transpose())) / 2.0 } else { own(scores) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::TensorData;

    type B = Autodiff<Flex>;

    /// The formula in f64.
    fn reference(q: &[[f64; 3]; 2], c: &[[f64; 3]; 2], scale: f64, symmetric: bool) -> f64 {
        let score = |i: usize, j: usize| scale * (0..3).map(|d| q[i][d] * c[j][d]).sum::<f64>();
        let rows = -(0..2).map(|i| score(i, i) - (score(i, 0).exp() + score(i, 1).exp()).ln()).sum::<f64>() / 2.0;
        let columns = -(0..2).map(|i| score(i, i) - (score(0, i).exp() + score(1, i).exp()).ln()).sum::<f64>() / 2.0;
        if symmetric { (rows + columns) / 2.0 } else { rows }
    }

    #[test]
    fn value_and_gradient_agree_with_finite_differences_in_f64() {
        let device = Default::default();
        let q = [[0.6, 0.8, 0.0], [0.0, -0.6, 0.8]];
        let c = [[0.8, 0.6, 0.0], [0.6, 0.0, 0.8]];
        for symmetric in [false, true] {
            let flat = |m: &[[f64; 3]; 2]| TensorData::new(m.iter().flatten().map(|&x| x as f32).collect::<Vec<f32>>(), [2, 3]);
            let query = Tensor::<B, 2>::from_data(flat(&q), &device).require_grad();
            let code = Tensor::<B, 2>::from_data(flat(&c), &device);
            let loss = softmax_cross_entropy(query.clone(), code, Tensor::from_floats([5.0], &device), symmetric);
            let value = f64::from(loss.clone().into_scalar());
            assert!((value - reference(&q, &c, 5.0, symmetric)).abs() < 1e-6, "{value}");
            let gradient: Vec<f32> = query.grad(&loss.backward()).unwrap().into_data().to_vec().unwrap();
            for i in 0..2 {
                for d in 0..3 {
                    let (mut up, mut down) = (q, q);
                    up[i][d] += 1e-5;
                    down[i][d] -= 1e-5;
                    let slope = (reference(&up, &c, 5.0, symmetric) - reference(&down, &c, 5.0, symmetric)) / 2e-5;
                    assert!((f64::from(gradient[i * 3 + d]) - slope).abs() < 1e-5);
                }
            }
        }
    }
}
