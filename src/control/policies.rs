//! Breakers and limiters: those in use, and what is stored of others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stanchion_actors::{
    agent::Agent,
    error::{CallError, Coded},
    ids::{Name, Timestamp},
    policies::{
        BreakerOrder, DurableBreakers, DurableLimiters, PolicyError, PolicyName, PolicyState, SavedPolicy,
    },
    resilience::{
        breaker::{BreakerState, BreakerStats},
        limiter::{LimitStrategy, LimiterStats, Pressure},
    },
    store::{ListQuery, decode},
};

use super::{
    desk::{Desk, PAGE, Sink, Stop, put},
    problem::Problem,
};

/// One breaker of `breaker ls`. Counts are of the life that uses it, or else of the last one that did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerRow {
    /// Its name.
    pub name: String,
    /// `closed`, `open`, `half_open`, `forced_open` or `disabled`.
    pub state: String,
    /// When an open one takes its first probe, in Unix microseconds.
    pub until_us: Option<i64>,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls refused.
    pub rejected: u64,
    /// Calls let through.
    pub allowed: u64,
    /// Calls that run.
    pub in_flight: u64,
    /// Calls that took too long.
    pub slow_calls: u64,
    /// Calls in the window.
    pub window_calls: u32,
    /// Part of them that failed; null below the minimum.
    pub failure_rate: Option<f64>,
    /// Whether a process uses it.
    pub live: bool,
    /// When it was stored last, in Unix microseconds; null: not yet.
    pub stored_us: Option<i64>,
}

/// One limiter of `limiter ls`. Counts are of the life that uses it, or else of the last one that did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimiterRow {
    /// Its name.
    pub name: String,
    /// How it counts.
    pub strategy: LimitStrategy,
    /// Keys known.
    pub keys: usize,
    /// Calls allowed.
    pub allowed: u64,
    /// Calls refused.
    pub denied: u64,
    /// Allowed calls that were not counted.
    pub unchecked: u64,
    /// Callers that wait.
    pub waiting: usize,
    /// `normal` or `degraded`.
    pub pressure: Pressure,
    /// Since when too many calls are refused, in Unix microseconds.
    pub alert_since_us: Option<i64>,
    /// Whether a process uses it.
    pub live: bool,
    /// When it was stored last, in Unix microseconds; null: not yet.
    pub stored_us: Option<i64>,
}

impl BreakerRow {
    fn of(name: &str, stats: &BreakerStats, live: bool, stored_us: Option<i64>) -> Self {
        Self {
            name: name.to_owned(),
            state: stats.state.name().to_string(),
            until_us: match stats.state {
                BreakerState::Open { until } => Some(until.0),
                BreakerState::Closed
                | BreakerState::HalfOpen { .. }
                | BreakerState::ForcedOpen
                | BreakerState::Disabled => None,
            },
            failures: stats.failures.total(),
            successes: stats.successes,
            rejected: stats.rejected,
            allowed: stats.allowed,
            in_flight: stats.in_flight,
            slow_calls: stats.slow_calls,
            window_calls: stats.window_calls,
            failure_rate: stats.failure_rate,
            live,
            stored_us,
        }
    }
}

impl LimiterRow {
    fn of(
        name: &str,
        strategy: LimitStrategy,
        stats: &LimiterStats,
        live: bool,
        stored_us: Option<i64>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            strategy,
            keys: stats.keys,
            allowed: stats.allowed_total,
            denied: stats.denied_total,
            unchecked: stats.unchecked_total,
            waiting: stats.waiting,
            pressure: stats.pressure,
            alert_since_us: stats.alert_since.map(|at| at.0),
            live,
            stored_us,
        }
    }
}

/// Lists breakers by name.
pub(super) async fn breakers(desk: &Desk, sink: &mut impl Sink) -> Result<(), Stop> {
    for row in breaker_rows(desk).await?.values() {
        put(sink, row).await?;
    }
    Ok(())
}

/// Opens, closes or resets a breaker, and shows it.
pub(super) async fn order(
    desk: &Desk,
    breaker: &str,
    order: BreakerOrder,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let breakers = DurableBreakers::new(desk.env()?.clone());
    breakers.order(breaker, order).await.map_err(|error| problem(&error, breaker))?;
    match breaker_rows(desk).await?.get(breaker) {
        Some(row) => put(sink, row).await,
        None => Ok(()),
    }
}

/// Lists limiters by name.
pub(super) async fn limiters(desk: &Desk, sink: &mut impl Sink) -> Result<(), Stop> {
    let mut rows: BTreeMap<String, LimiterRow> = BTreeMap::new();
    for (name, state) in stored(desk).await? {
        if let (PolicyName::Limiter(name), Some(SavedPolicy::Limiter(saved))) = (name, state.saved()) {
            let row = LimiterRow::of(&name, saved.strategy, &saved.stats, false, us(&state));
            rows.insert(name, row);
        }
    }
    if let Ok(env) = desk.env() {
        for limiter in DurableLimiters::new(env.clone()).list() {
            let name = limiter.name().to_string();
            let stored_us = rows.get(&name).and_then(|row| row.stored_us);
            let strategy = limiter.options().strategy;
            let row = LimiterRow::of(&name, strategy, &limiter.stats(), true, stored_us);
            rows.insert(name, row);
        }
    }
    for row in rows.values() {
        put(sink, row).await?;
    }
    Ok(())
}

async fn breaker_rows(desk: &Desk) -> Result<BTreeMap<String, BreakerRow>, Stop> {
    let mut rows: BTreeMap<String, BreakerRow> = BTreeMap::new();
    for (name, state) in stored(desk).await? {
        if let (PolicyName::Breaker(name), Some(SavedPolicy::Breaker(saved))) = (name, state.saved()) {
            let row = BreakerRow::of(&name, &saved.stats, false, us(&state));
            rows.insert(name, row);
        }
    }
    if let Ok(env) = desk.env() {
        for breaker in DurableBreakers::new(env.clone()).list() {
            let name = breaker.name().to_string();
            let stored_us = rows.get(&name).and_then(|row| row.stored_us);
            let row = BreakerRow::of(&name, &breaker.stats(env.now()), true, stored_us);
            rows.insert(name, row);
        }
    }
    Ok(rows)
}

fn us(state: &PolicyState) -> Option<i64> {
    let Timestamp(us) = state.at();
    Some(us)
}

/// What is stored of policies.
async fn stored(desk: &Desk) -> Result<Vec<(PolicyName, PolicyState)>, Stop> {
    let (mut found, mut after) = (Vec::new(), None::<Name>);
    loop {
        let query = ListQuery { kind: Some(PolicyState::KIND.to_owned()), status: None, after };
        let store = desk.store();
        let page = store.list(query, PAGE).await?;
        for listed in &page {
            let loaded = store.load(listed.entity).await?;
            let Some(checkpoint) = loaded.and_then(|loaded| loaded.checkpoint) else { continue };
            let key = &listed.head.name.key;
            let state = decode::<PolicyState>(&checkpoint.state).map_err(|error| {
                let place = format!("policy {key:?}");
                Problem::fatal("policy.unreadable", error.to_string(), place, "use the program that wrote it")
            })?;
            found.extend(PolicyName::of_key(key).map(|name| (name, state)));
        }
        after = page.last().map(|listed| listed.head.name.clone());
        if page.len() < PAGE {
            return Ok(found);
        }
    }
}

fn problem(error: &PolicyError, breaker: &str) -> Problem {
    let hint = match error {
        PolicyError::NotStored(_) => "it obeys, and a restart may forget that: free or repair the store",
        PolicyError::Call(CallError::Unavailable(_)) => "nothing was changed: try again",
        PolicyError::Call(CallError::Unknown(_)) => {
            "it may have been told: look with \"stanchion breaker ls\""
        }
        _ => "see \"stanchion breaker ls\"",
    };
    let problem = Problem::rejected(error.code(), error.to_string(), format!("breaker {breaker:?}"), hint);
    Problem { family: error.family(), ..problem }
}
