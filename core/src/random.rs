//! Numbers drawn at random where nobody has to be kept from guessing them: picks, pauses, intervals.
//!
//! Must never be used for what has to be secret. Source: Steele et al. 2014, `SplitMix64`, for which any seed will do.

/// A sequence of numbers; equal seeds, equal sequences.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `below`; 0 when that is 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of a 128-bit product: even enough, and no division.
        (u128::from(z).wrapping_mul(u128::from(below)) >> 64) as u64
    }
}
