//! Dropout factors that depend on seed and position only.

/// Inverted dropout (Srivastava et al. 2014): numbers are set to 0 with a probability p, the others are multiplied by 1 / (1 − p).
///
/// The choice is a function of seed and position alone. The fused and the composed operations therefore drop the same numbers, and so does
/// a resumed training.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// p, below 1.
    pub probability: f32,
    /// Seed of the layer: two layers of a step need two seeds.
    pub seed: u64,
}

impl Dropout {
    /// The number that hashed positions are compared with: positions below it are dropped.
    pub fn threshold(&self) -> u32 {
        (f64::from(self.probability) * f64::from(u32::MAX)) as u32
    }

    /// 1 / (1 − p)
    pub fn scale(&self) -> f32 {
        1.0 / (1.0 - self.probability)
    }

    /// The factor of the number at a position: 0 or the scale.
    #[inline(always)]
    pub fn factor(threshold: u32, scale: f32, key: u32, position: u32) -> f32 {
        if hash_bits(position ^ key) >= threshold { scale } else { 0.0 }
    }

    /// The seed folded to the 32 bits that positions are combined with.
    pub fn key(&self) -> u32 {
        hash_bits(self.seed as u32) ^ hash_bits((self.seed >> 32) as u32 ^ 0x9e37_79b9)
    }

    /// Position of the first attention weight of a token (its number in the batch) in a head.
    #[inline(always)]
    pub fn attention_row(head: usize, token: usize) -> u32 {
        (head as u32).wrapping_mul(0x85eb_ca6b) ^ (token as u32).wrapping_mul(0xc2b2_ae35)
    }
}

/// A bijection of 32 bits that removes visible patterns (lowbias32 of Wellons' hash-prospector).
#[inline(always)]
pub fn hash_bits(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
