//! Connections to the outside, against a real server on this machine.

mod http;
mod server;
