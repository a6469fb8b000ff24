//! Losses over the cosines of a batch: [`loss`] selects and evaluates them; each family has a file.

pub mod approx_ndcg;
pub mod lambda;
pub mod loss;
pub mod margin;
pub mod row;
pub mod softmax;

#[cfg(test)]
mod tests;
