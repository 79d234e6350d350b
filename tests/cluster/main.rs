//! Several gateways, over real sockets of loopback: what they promise each other, and what they refuse.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests fail loudly")]

mod calls;
mod kit;
mod load;
mod nodes;
mod proxy;
mod refusals;
mod streams;
mod twins;
