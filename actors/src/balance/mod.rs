//! Balancing: which of several instances gets the next piece of work.
//!
//! A [`Balancer`] chooses among [`Candidate`]s by its [`Strategy`] and learns from what became of the work. It owns
//! turns, loads and sticky assignments; it refuses to know clocks, randomness, sockets and where candidates come
//! from ([`crate::discovery`] finds them). An instance that is not [`Readiness::Ready`] gets nothing, and a choice
//! that finds nobody says of every candidate why not.
//!
//! ```
//! use std::time::Duration;
//! use stanchion_actors::{balance::{Balancer, Candidate, Outcome, Request, Strategy}, ids::Timestamp};
//!
//! let mut balancer = Balancer::new(Strategy::PowerOfTwoChoices);
//! let candidates = [Candidate::ready("a"), Candidate::ready("b")];
//! let (now, random) = (Timestamp(0), 0x9e37_79b9_7f4a_7c15);
//! let chosen = balancer.choose(&candidates, Request::default(), now, random)?;
//! balancer.started(&chosen, now);
//! balancer.finished(&chosen, Duration::from_millis(12), Outcome::Done, now.after(Duration::from_millis(12)));
//! # Ok::<(), stanchion_actors::balance::ChooseError>(())
//! ```
//!
//! # Source
//! Strategies and their names as in Envoy ("Supported load balancers") and tower (`tower::balance`, `tower::load`).

mod balancer;
mod error;
mod hash;
mod instance;
mod load;
mod options;
mod sticky;
mod strategy;
mod turns;

#[cfg(test)]
mod tests;

pub use balancer::Balancer;
pub use error::{BalanceOptionsError, ChooseError, NoSuitableInstance, Unsuitable, WeightError};
pub use instance::{Candidate, InstanceId, Readiness, Weight};
pub use load::{LoadStats, Outcome};
pub use options::BalanceOptions;
pub use strategy::{Request, Strategy};
