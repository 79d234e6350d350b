//! Bytes from the outside, damaged in the ways that break readers: what every reader is fed.

/// Values at which lengths, counts and signs go wrong.
const ODD: [u8; 10] = [0x00, 0x01, 0x7f, 0x80, 0xc0, 0xc1, 0xdd, 0xdf, 0xfe, 0xff];
/// Longest piece that is put in, taken out or repeated.
const PIECE_MAX: usize = 64;

/// Cases of one reader: 10^5 with `STANCHION_CAMPAIGN=1`, else `small`.
#[must_use]
pub fn cases(small: u32) -> u32 {
    if std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1") { 100_000 } else { small }
}

/// Numbers drawn one after the other from a seed.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when there is none.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        let place = self.below(ODD.len() * 2);
        ODD.get(place).copied().unwrap_or(self.next().to_le_bytes()[0])
    }

    /// A piece of `len` bytes, by its ends.
    fn piece(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len);
        let to = from.saturating_add(1 + self.below(PIECE_MAX)).min(len);
        from..to
    }
}

/// `valid` after one to four damages drawn from `seed`: bits flipped, bytes replaced, put in, taken out, repeated,
/// numbers made huge, the end cut off. The same seed gives the same bytes.
#[must_use]
pub fn damaged(valid: &[u8], seed: u64) -> Vec<u8> {
    let mut draws = Draws(seed);
    let mut bytes = valid.to_vec();
    for _ in 0..=draws.below(4) {
        damage(&mut bytes, &mut draws);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, draws: &mut Draws) {
    let at = draws.below(bytes.len());
    let piece = draws.piece(bytes.len());
    match draws.below(8) {
        0 => change(bytes, at, |byte| byte ^ (1 << draws.below(8))),
        1 | 2 => change(bytes, at, |_| draws.byte()),
        3 => drop(bytes.drain(piece)),
        4 => {
            let again = bytes.get(piece).unwrap_or_default().to_vec();
            drop(bytes.splice(at..at, again));
        }
        5 => {
            let new: Vec<u8> = (0..=draws.below(PIECE_MAX)).map(|_| draws.byte()).collect();
            drop(bytes.splice(at..at, new));
        }
        6 => {
            for place in at..at.saturating_add(4) {
                change(bytes, place, |_| 0xff);
            }
        }
        _ => bytes.truncate(at),
    }
}

fn change(bytes: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_damages_alike_and_nearly_every_seed_damages() {
        let valid: Vec<u8> = (0..200).collect();
        let other = (0..1_000).filter(|seed| damaged(&valid, *seed) != valid).count();
        assert!(other > 950, "{other} of 1 000 are damaged");
        assert!((0..100).all(|seed| damaged(&valid, seed) == damaged(&valid, seed)));
        assert!(
            (0..100).all(|seed| damaged(&[], seed).len() <= 4 * PIECE_MAX),
            "nothing can be damaged, too"
        );
    }
}
