//! A hasher for maps that are asked millions of times a second: a multiplication for each eight bytes.
//!
//! Names and capabilities come from the programs of one cluster, entity numbers from the store itself; the seed of the
//! process keeps others from choosing keys that collide.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::OnceLock,
};

/// A map with this hasher.
pub type FastMap<K, V> = HashMap<K, V, FastState>;

/// Odd, with bits spread evenly.
///
/// # Source
/// rustc-hash 2 (MIT OR Apache-2.0): the multiplier and the rotation at the end.
const MULTIPLIER: u64 = 0xf135_7aea_2e62_a9c5;

/// Makes hashers with the seed of this process.
#[derive(Clone, Copy, Debug)]
pub struct FastState(u64);

impl Default for FastState {
    fn default() -> Self {
        static SEED: OnceLock<u64> = OnceLock::new();
        Self(*SEED.get_or_init(|| RandomState::new().hash_one(MULTIPLIER)))
    }
}

impl BuildHasher for FastState {
    type Hasher = FastHasher;
    fn build_hasher(&self) -> FastHasher {
        FastHasher(self.0)
    }
}

/// A hasher at work.
#[derive(Clone, Copy, Debug)]
pub struct FastHasher(u64);

impl FastHasher {
    fn add(&mut self, word: u64) {
        // The high half folded onto the low one: bits of the end of a key reach all of the hash.
        let mixed = u128::from(self.0 ^ word) * u128::from(MULTIPLIER);
        self.0 = (mixed as u64) ^ ((mixed >> 64) as u64);
    }
}

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(<[u8; 8]>::try_from(word).map_or(0, u64::from_le_bytes));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.add(u64::from_le_bytes(last) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_that_differ_in_one_place_spread_over_all_buckets() {
        let state = FastState::default();
        for form in ["agent-{}", "{}-of-a-long-name-that-fills-several-words", "x{}"] {
            let hash = |number: u32| state.hash_one(form.replace("{}", &number.to_string()).as_str());
            let hashes: Vec<u64> = (0..4_096).map(hash).collect();
            assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), 4_096, "no two alike");
            // The map goes by the low bits, and by the seven highest.
            let buckets = hashes.iter().map(|hash| hash & 1_023).collect::<BTreeSet<_>>();
            assert!(buckets.len() > 900, "{form}: {} of 1024", buckets.len());
            assert_eq!(hashes.iter().map(|hash| hash >> 57).collect::<BTreeSet<_>>().len(), 128);
        }
    }

    #[test]
    fn dense_numbers_spread_over_both_ends_of_the_hash() {
        let hash = |number: u64| FastState::default().hash_one(number);
        let ends = [|hash: u64| hash & 0xFFFF, |hash: u64| hash >> 48];
        for end in ends {
            let found: BTreeSet<u64> = (0..4_096).map(|number| end(hash(number))).collect();
            assert!(found.len() > 3_700, "{} of 4096", found.len());
        }
    }
}
