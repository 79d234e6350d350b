//! stanchion
