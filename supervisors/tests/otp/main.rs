//! The 46 behaviours of OTP's supervisor, each observed on Erlang/OTP 25.2.3, one test per scenario id.
//!
//! Where Erlang's words have no literal counterpart, the Rust reading stands beside the test. S64 is tested beside
//! `ChildSpec`. `giveup` and `auto` are events of ours that say why a supervisor ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod a_restart_types;
mod b_strategies;
mod c_intensity;
mod d_starting;
mod e_stopping;
mod f_administration;
mod g_significant;
