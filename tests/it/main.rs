//! Tests of the whole library.

mod store_redb;
