//! Connections to the outside, against a real server on this machine.

#[cfg(feature = "activities")]
mod activity;
mod adapter;
#[cfg(feature = "testing")]
mod cassette;
mod http;
#[cfg(feature = "testing")]
mod replies;
mod server;
mod tls;
