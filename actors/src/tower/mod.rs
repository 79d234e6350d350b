//! Policies as layers of `tower`, and an address as a `tower` service.
//!
//! Each layer is one policy of [`resilience`](crate::resilience); share the policy among layers, its state is its own.
//! A policy is asked when the request is called, not in `poll_ready`: a clone that is ready holds no place.
//! [`ProtectedLayer`] is all of them in their order.

mod address;
mod error;
mod policies;
mod protected;
mod retry;
mod service;

#[cfg(test)]
mod tests;

pub use self::{
    error::PolicyError,
    policies::{BreakerLayer, BulkheadLayer, LimiterLayer, TimeoutLayer},
    protected::{ProtectedLayer, ProtectedService},
    retry::{RetryLayer, RetryService},
    service::{Policy, PolicyService},
};
