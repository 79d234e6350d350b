//! Several gateways, over real sockets of loopback: what they promise each other, and what they refuse.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail loudly"
)]

mod calls;
mod kit;
#[cfg(target_os = "linux")]
mod listener;
mod load;
mod nodes;
mod placing;
mod processes;
mod proxy;
mod refusals;
#[cfg(unix)]
mod stopped;
mod streams;
mod twins;
