//! Rendezvous hashing: the same answer in every process.

use super::Candidate;

/// FNV-1a, 64 bits: stable across processes and versions, which the standard library's hasher is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of splitmix64: spreads what FNV leaves alike.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The candidate that wins the key.
///
/// # Source
/// Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998); weights by the logarithmic
/// method (Schindelhauer and Schomaker, 2005): the score is `-weight / ln(u)`, `u` uniform in (0, 1).
pub(super) fn winner<'a>(candidates: &[&'a Candidate], key: &str) -> Option<&'a Candidate> {
    let key = mix(fnv1a(key.as_bytes()));
    let score = |candidate: &Candidate| {
        let word = mix(key ^ mix(fnv1a(candidate.id.as_str().as_bytes())));
        // 53 bits, in the middle of their cell: never 0, never 1.
        let uniform = ((word >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -candidate.weight.as_f64() / uniform.ln()
    };
    let scored = candidates.iter().map(|candidate| (score(candidate), *candidate));
    let best = scored.max_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| y.id.cmp(&x.id)));
    best.map(|(_, candidate)| candidate)
}
