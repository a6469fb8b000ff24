//! Columns of token ids to batches: [`samples`] stores the pairs of a split on disk, [`plan`] orders them, [`batches`] packs them ahead of
//! the training steps. [`vocabulary`] reads what training needs of `tokenizer.json`.

pub mod batches;
pub mod plan;
pub mod samples;
pub mod vocabulary;
