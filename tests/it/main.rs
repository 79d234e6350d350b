//! The one integration test target.

#[cfg(feature = "documents")]
mod documents;
