//! [`CacheKey`]: what values are found by.

use std::{hash::Hash, sync::Arc};

use uuid::Uuid;

/// What values are found by. An empty key is refused: it is a caller's mistake that would make strangers share a
/// value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no key of a cache",
    note = "strings, integers, UUIDs and pairs of them are; implement `CacheKey` for your own type"
)]
pub trait CacheKey: Clone + Eq + Hash + Send + Sync + 'static {
    /// Whether the key says nothing.
    fn is_empty(&self) -> bool {
        false
    }
}

impl CacheKey for String {
    fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl CacheKey for Arc<str> {
    fn is_empty(&self) -> bool {
        self.as_ref().is_empty()
    }
}

impl CacheKey for &'static str {
    fn is_empty(&self) -> bool {
        str::is_empty(self)
    }
}

impl CacheKey for Vec<u8> {
    fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

macro_rules! never_empty {
    ($($key:ty),*) => {
        $(impl CacheKey for $key {})*
    };
}

// The key of what there is only one of is `()`.
never_empty!((), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, Uuid);

/// Empty when either part is.
impl<A: CacheKey, B: CacheKey> CacheKey for (A, B) {
    fn is_empty(&self) -> bool {
        self.0.is_empty() || self.1.is_empty()
    }
}
