//! Integration tests, a module per area.

mod entities;
