//! Hashing of entity numbers: dense numbers that this store gives itself need no defence against their sender.

use std::hash::{BuildHasherDefault, Hasher};

/// Hasher of maps keyed by an entity number.
pub(crate) type ByNumber = BuildHasherDefault<NumberHasher>;

const MIX: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;

/// Multiplies and folds: every bit of the number moves every bit of the hash.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number).wrapping_mul(MIX);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, hash::BuildHasher};

    #[test]
    fn dense_numbers_spread_over_both_ends_of_the_hash() {
        let hash = |number: u64| ByNumber::default().hash_one(number);
        let low: HashSet<u64> = (0..4_096).map(|number| hash(number) & 0xFFFF).collect();
        let high: HashSet<u64> = (0..4_096).map(|number| hash(number) >> 48).collect();
        assert!(low.len() > 3_700 && high.len() > 3_700, "{} and {}", low.len(), high.len());
    }
}
