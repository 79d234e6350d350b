//! The loom models of the concurrency cores, each with its negative control.
//!
//! ```sh
//! CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg stanchion_loom" cargo test -p stanchion-sync --release
//! ```
#![cfg(stanchion_loom)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a panic fails the model")]

#[path = "loom/bucket.rs"]
mod bucket;
#[path = "loom/check.rs"]
mod check;
#[path = "loom/doorbell.rs"]
mod doorbell;
#[path = "loom/fences.rs"]
mod fences;
#[path = "loom/gate.rs"]
mod gate;
#[path = "loom/hand_off.rs"]
mod hand_off;
#[path = "loom/lanes.rs"]
mod lanes;
#[path = "loom/owner_slot.rs"]
mod owner_slot;
#[path = "loom/probes.rs"]
mod probes;
#[path = "loom/release_order.rs"]
mod release_order;
#[path = "loom/shelf.rs"]
mod shelf;
#[path = "loom/single_flight.rs"]
mod single_flight;
#[path = "loom/turnstile.rs"]
mod turnstile;
