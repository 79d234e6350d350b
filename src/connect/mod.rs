//! Connections to the outside world.
//!
//! It owns what is open to whom, how much may be open at once and who waits for it; it refuses to know what is said.

#[cfg(feature = "testing")]
pub mod cassette;
pub mod http;
pub mod pool;
