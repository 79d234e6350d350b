//! Durable names, listed, shown and given free.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stanchion_actors::{
    agent::Agent,
    error::{Coded, Family},
    ids::Name,
    names::{DurableName, DurableNames, DurableNamesError, NameKey, NameRef, NameState, Namespace, Respawn},
    store::{ListQuery, decode},
};

use super::{
    desk::{Desk, PAGE, Sink, Stop, put},
    problem::Problem,
};

/// One name of `name ls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// Its namespace.
    pub namespace: String,
    /// The name within it.
    pub name: String,
    /// `live`, or `recovering` when its owner has ended and is to be started anew.
    pub state: String,
    /// Who has it, or had it last.
    pub owner: String,
    /// Which owning it is.
    pub epoch: u64,
    /// What the owner is.
    pub kind: String,
    /// When the owner is started anew: `permanent`, `transient` or `temporary`.
    pub respawn: String,
    /// By what it is found.
    pub metadata: BTreeMap<String, String>,
    /// Since when it is in this state, in Unix microseconds.
    pub since_us: i64,
}

/// A name that was given free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameFreedRow {
    /// Its namespace.
    pub namespace: String,
    /// The name within it.
    pub name: String,
    /// `free`.
    pub state: String,
}

/// Lists the names that somebody has, of one namespace or of all, by namespace and name.
pub(super) async fn list(desk: &Desk, namespace: Option<String>, sink: &mut impl Sink) -> Result<(), Stop> {
    if let Some(namespace) = &namespace {
        Namespace::new(namespace.as_str()).map_err(|error| {
            Problem::rejected(
                error.code(),
                error.to_string(),
                "--namespace",
                "give a namespace, such as shop",
            )
        })?;
    }
    each(desk, namespace.as_deref(), |_| true, sink).await.map(drop)
}

/// Shows one name.
pub(super) async fn show(desk: &Desk, name: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let key = parsed(name)?;
    let space = key.namespace().as_str();
    match each(desk, Some(space), |found| *found == key, sink).await? {
        0 => Err(unknown(&key).into()),
        _ => Ok(()),
    }
}

/// Gives a name free, whoever has it. Its owner is not stopped: references to it are refused from here on.
pub(super) async fn free(desk: &Desk, name: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let key = parsed(name)?;
    let names = DurableNames::new(desk.env()?.clone());
    let record = names.record(&key).await.map_err(|error| problem(&error, &key))?;
    if *record.state() == NameState::Gone {
        return Err(unknown(&key).into());
    }
    let reference = NameRef { key: key.clone(), epoch: record.epoch() };
    let freed = names.unregister(key.namespace(), &reference).await;
    freed.map_err(|error| problem(&error, &key))?;
    let (namespace, name) = (key.namespace().to_string(), key.name().to_owned());
    put(sink, &NameFreedRow { namespace, name, state: "free".to_owned() }).await
}

/// Puts every name that somebody has and that is wanted; how many.
async fn each(
    desk: &Desk,
    namespace: Option<&str>,
    wanted: impl Fn(&NameKey) -> bool,
    sink: &mut impl Sink,
) -> Result<usize, Stop> {
    // With no process at work, every owner has ended with the one before.
    let (life, now) = desk.env().map_or_else(|_| (0, None), |env| (env.incarnation().0, Some(env.now())));
    let prefix = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let kind = DurableName::KIND;
    let begin = || Name { kind: kind.into(), key: prefix.as_str().into() };
    let mut after = (!prefix.is_empty()).then(begin);
    let mut count = 0;
    loop {
        let store = desk.store();
        let query = ListQuery { kind: Some(kind.to_owned()), status: None, after };
        let page = store.list(query, PAGE).await?;
        for listed in &page {
            if !listed.head.name.key.starts_with(&prefix) {
                return Ok(count);
            }
            let loaded = store.load(listed.entity).await?;
            let Some(checkpoint) = loaded.and_then(|loaded| loaded.checkpoint) else { continue };
            let stored = decode::<DurableName>(&checkpoint.state).map_err(|error| {
                let place = format!("name {:?}", listed.head.name.key);
                Problem::fatal("name.unreadable", error.to_string(), place, "use the program that wrote it")
            })?;
            let Some(key) = stored.key().filter(|key| wanted(key)) else { continue };
            let record = stored.seen_in(life, now.unwrap_or(listed.head.updated));
            if let Some(row) = row(key, &record) {
                put(sink, &row).await?;
                count += 1;
            }
        }
        after = page.last().map(|listed| listed.head.name.clone());
        if page.len() < PAGE {
            return Ok(count);
        }
    }
}

fn row(key: &NameKey, record: &stanchion_actors::names::NameRecord) -> Option<NameRow> {
    let (state, owner, since) = match record.state() {
        NameState::Live { owner, since } => ("live", owner, since),
        NameState::Recovering { owner, since } => ("recovering", owner, since),
        NameState::Gone => return None,
    };
    let spec = record.spec();
    let respawn = match spec.respawn {
        Respawn::Permanent => "permanent",
        Respawn::Transient => "transient",
        Respawn::Temporary => "temporary",
    };
    let metadata = spec.metadata.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    Some(NameRow {
        namespace: key.namespace().to_string(),
        name: key.name().to_owned(),
        state: state.to_owned(),
        owner: owner.to_string(),
        epoch: record.epoch(),
        kind: spec.kind.to_string(),
        respawn: respawn.to_owned(),
        metadata: metadata.collect(),
        since_us: since.0,
    })
}

fn parsed(text: &str) -> Result<NameKey, Problem> {
    let hint = "give namespace and name, such as shop/till-1";
    let wrong = |what: &str| Problem::rejected("names.invalid_name", what, "NAME", hint);
    let (namespace, name) =
        text.split_once('/').ok_or_else(|| wrong(&format!("{text:?} has no namespace")))?;
    let namespace = Namespace::new(namespace).map_err(|error| wrong(&error.to_string()))?;
    NameKey::new(namespace, name).map_err(|error| wrong(&error.to_string()))
}

fn unknown(key: &NameKey) -> Problem {
    let hint = "see \"stanchion name ls\"";
    Problem::rejected("names.not_registered", "nobody has this name", format!("name {key}"), hint)
}

fn problem(error: &DurableNamesError, key: &NameKey) -> Problem {
    let hint = match error.family() {
        Family::Unavailable => "nothing was changed: try again",
        Family::Unknown => "it may be free: look with \"stanchion name show\"",
        Family::Rejected | Family::Fatal => "see \"stanchion name ls\"",
    };
    let problem = Problem::rejected(error.code(), error.to_string(), format!("name {key}"), hint);
    Problem { family: error.family(), ..problem }
}
