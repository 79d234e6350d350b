//! [`check_routes`]: no service falls back to itself, by however many others.

use std::{collections::BTreeSet, sync::Arc};

use super::FallbackLoop;

/// Checks which service falls back to which: `(service, the other one)` for each [`Fallback::service`].
///
/// # Errors
/// [`FallbackLoop`], with one way round.
///
/// [`Fallback::service`]: super::Fallback::service
pub fn check_routes<'a>(routes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), FallbackLoop> {
    let mut left: BTreeSet<(&str, &str)> = routes.into_iter().collect();
    // A route to where nothing leads on from is no part of a way round; nor is one that then leads nowhere.
    loop {
        let from: BTreeSet<&str> = left.iter().map(|(from, _)| *from).collect();
        let before = left.len();
        left.retain(|(_, to)| from.contains(to));
        if left.len() == before {
            break;
        }
    }
    // Every route that is left leads on to another one: following them goes round sooner or later.
    let Some((mut at, _)) = left.first().copied() else { return Ok(()) };
    let mut path = Vec::new();
    while !path.contains(&at) {
        path.push(at);
        at = left.iter().find(|(from, _)| *from == at).map_or(at, |(_, to)| *to);
    }
    let round = path.iter().skip_while(|name| **name != at).chain([&at]);
    Err(FallbackLoop { path: round.map(|name| Arc::from(*name)).collect() })
}
