//! [`Padded`]: a value on cache lines of its own.

/// Keeps a value away from its neighbours: threads that write to different ones do not slow each other down. Two
/// lines of 64 bytes, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// So many of them; at least one.
pub(crate) fn padded<T>(count: usize, make: impl Fn() -> T) -> Box<[Padded<T>]> {
    (0..count.max(1)).map(|_| Padded(make())).collect()
}

/// The one for this index, whatever it is.
pub(crate) fn of<T>(all: &[Padded<T>], index: usize) -> Option<&T> {
    all.get(index % all.len().max(1)).map(|one| &one.0)
}
