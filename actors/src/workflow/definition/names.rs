//! Which names and ids are allowed, and the nearest one to a misspelt name.

use std::collections::HashMap;

/// Longest name or id in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 1_024;

/// Why a name or id cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// Over 1 024 bytes.
    #[error("is longer than 1024 bytes")]
    TooLong,
    /// A character nobody can see.
    #[error("holds the invisible character U+{0:04X}")]
    Invisible(u32),
    /// Nothing but spaces.
    #[error("holds nothing but spaces")]
    Blank,
}

/// Checks a name or id: 1..=1024 bytes, only visible characters and spaces, not spaces alone.
///
/// # Errors
/// [`NameFault`]: which rule is broken; the caller should rename.
pub fn check_name(name: &str) -> Result<(), NameFault> {
    if name.is_empty() {
        return Err(NameFault::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameFault::TooLong);
    }
    if let Some(c) = name.chars().find(|&c| is_invisible(c)) {
        return Err(NameFault::Invisible(u32::from(c)));
    }
    if name.chars().all(|c| c == ' ') {
        return Err(NameFault::Blank);
    }
    Ok(())
}

/// Control characters, white space other than the plain space, and the format characters of Unicode that
/// show nothing or turn the direction of the text.
pub(crate) fn is_invisible(c: char) -> bool {
    let formatting = matches!(u32::from(c),
        0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
        | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB
        | 0xE0000..=0xE0FFF);
    c.is_control() || (c.is_whitespace() && c != ' ') || formatting
}

/// Shortens an id for an error message and makes it visible.
pub(crate) fn shown(id: &str) -> String {
    let mut text: String =
        id.chars().take(80).map(|c| if is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if id.chars().nth(80).is_some() {
        text.push('…');
    }
    text
}

/// The known id nearest to a wrong one, when one is near enough to be meant.
///
/// At most the first 2 000 ids are compared, and of long names only the first 64 characters.
pub(crate) fn nearest<'a>(
    wrong: &str,
    known: &'a HashMap<&str, u32>,
    in_order: &[&'a str],
) -> Option<&'a str> {
    if let Some((&id, _)) = known.get_key_value(wrong.trim()) {
        return in_order.iter().copied().find(|k| *k == id);
    }
    let length = wrong.chars().take(64).count();
    let budget = 1 + length / 3;
    let near = |id: &&'a str| (distance(wrong, id), *id);
    in_order
        .iter()
        .take(2_000)
        .filter(|id| id.chars().take(64).count().abs_diff(length) <= budget)
        .map(near)
        .filter(|(d, _)| *d <= budget)
        .min_by_key(|(d, _)| *d)
        .map(|(_, id)| id)
}

/// Levenshtein distance over the first 64 characters, case ignored.
fn distance(a: &str, b: &str) -> usize {
    let lower = |s: &str| s.chars().take(64).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (lower(a), lower(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cb, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = *cell;
            left = substituted.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("pack", "pack"), 0);
        assert_eq!(distance("pack", "package"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn names_hold_visible_characters_only() {
        assert_eq!(check_name("pack the box"), Ok(()));
        assert_eq!(check_name("größe:1/2"), Ok(()));
        assert_eq!(check_name(""), Err(NameFault::Empty));
        assert_eq!(check_name("a\u{200B}b"), Err(NameFault::Invisible(0x200B)));
        assert_eq!(check_name("a\nb"), Err(NameFault::Invisible(10)));
        assert_eq!((check_name(" a "), check_name("  ")), (Ok(()), Err(NameFault::Blank)));
        assert_eq!(check_name(&"x".repeat(1_025)), Err(NameFault::TooLong));
    }
}
