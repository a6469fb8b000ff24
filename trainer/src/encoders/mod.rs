//! Encoders: token ids to one vector for each token, one file for each architecture, and poolers: one vector for each sequence.

pub mod albert;
pub mod architecture;
pub mod bert;
pub mod birnn;
pub mod conv1d;
pub mod conv_attention;
pub mod encoder;
pub mod nbow;
pub mod pooler;
pub mod pretrained;

#[cfg(test)]
mod tests;
