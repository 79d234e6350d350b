//! Entities of any kind, those included that this program does not know.

use bytes::Bytes;
use serde_json::Value;
use stanchion_actors::{
    error::{Coded, Family},
    ids::{EntityId, Name, Version},
    store::{Change, Head, HistoryPage, ListQuery, Loaded, Store},
    workflow::RUN_KIND,
};

use super::{
    desk::{Desk, PAGE, Sink, Stop, put},
    msgpack::to_json,
    problem::Problem,
    rows::{EntityRow, EntityShow, PurgedRow, RunShow},
};

/// Entries of history read at a time.
const ENTRIES: usize = 1_000;

pub(super) async fn list(desk: &Desk, kind: Option<String>, sink: &mut impl Sink) -> Result<(), Stop> {
    let mut after: Option<Name> = None;
    loop {
        let query = ListQuery { kind: kind.clone(), status: None, after };
        let page = desk.store().list(query, PAGE).await?;
        for listed in &page {
            let Head { name, version, status, updated, .. } = &listed.head;
            let row = EntityRow {
                kind: name.kind.to_string(),
                key: name.key.to_string(),
                version: version.0,
                status: Some(status.clone()).filter(|status| !status.is_empty()),
                updated_us: updated.0,
            };
            put(sink, &row).await?;
        }
        after = page.last().map(|listed| listed.head.name.clone());
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

pub(super) async fn show(
    desk: &Desk,
    kind: &str,
    key: &str,
    at: Option<u64>,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let place = format!("{kind}/{key}");
    let name = Name::new(kind, key).map_err(|e| {
        Problem::rejected("entity.bad_name", e.to_string(), place.as_str(), "name it KIND/KEY")
    })?;
    let store = desk.store();
    let unknown = || {
        Problem::rejected(
            "entity.unknown",
            "there is no such entity",
            place.as_str(),
            "see \"stanchion entity ls\"",
        )
    };
    let entity = store.resolve(&name).await?.ok_or_else(unknown)?;
    let loaded = store.load(entity).await?.ok_or_else(unknown)?;
    let head = loaded.head().cloned().ok_or_else(unknown)?;
    let at = at.map(Version).filter(|at| *at != head.version);
    if let Some(at) = at.filter(|at| *at > head.version || at.0 == 0) {
        let hint = format!("use 1 to {}", head.version.0);
        let what = format!("there is no version {}", at.0);
        return Err(Problem::rejected("entity.no_version", what, place, hint).into());
    }
    let line = if kind == RUN_KIND {
        show_run(desk, key, at).await?
    } else {
        match at {
            None => show_last(&loaded, head),
            Some(at) => show_at(store.as_ref(), entity, at, &place).await?,
        }
    };
    put(sink, &line).await
}

pub(super) async fn purge(desk: &Desk, kind: &str, key: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let place = format!("{kind}/{key}");
    let name = Name::new(kind, key).map_err(|e| {
        Problem::rejected("entity.bad_name", e.to_string(), place.as_str(), "name it KIND/KEY")
    })?;
    let removed = stanchion_actors::entity::purge(desk.env()?, &name).await.map_err(|error| {
        let hint = match error.family() {
            Family::Rejected => "let it end first",
            Family::Unavailable => "nothing was changed: try again",
            Family::Unknown | Family::Fatal => "it may be removed: try again",
        };
        let problem = Problem::rejected(error.code(), error.to_string(), place.as_str(), hint);
        Problem { family: error.family(), ..problem }
    })?;
    if !removed {
        let hint = "see \"stanchion entity ls\"";
        return Err(Problem::rejected("entity.unknown", "there is no such entity", place, hint).into());
    }
    put(sink, &PurgedRow { kind: kind.to_owned(), key: key.to_owned(), purged: true }).await
}

async fn show_run(desk: &Desk, id: &str, at: Option<Version>) -> Result<EntityShow, Stop> {
    let run = desk.run(id).await?;
    let shown = match at {
        None => RunShow::of(&run),
        Some(at) => {
            let state = run.at(desk.store().as_ref(), at).await.map_err(|e| Problem::of_read(&e, id))?;
            let state = state.ok_or_else(|| no_longer_kept(at, None, &format!("{RUN_KIND}/{id}")))?;
            RunShow::at(&run.head, &run.definition, &state)
        }
    };
    let state = serde_json::to_value(shown).unwrap_or(Value::Null);
    let version = at.unwrap_or(run.head.version);
    Ok(entity_show(&run.head, version, state, Vec::new()))
}

fn entity_show(head: &Head, version: Version, state: Value, events: Vec<Value>) -> EntityShow {
    EntityShow {
        kind: head.name.kind.to_string(),
        key: head.name.key.to_string(),
        version: version.0,
        updated_us: head.updated.0,
        state,
        events,
    }
}

fn show_last(loaded: &Loaded, head: Head) -> EntityShow {
    let state = loaded.checkpoint.as_ref().map_or(Value::Null, |stored| json(&stored.state));
    let events = loaded.tail.iter().flat_map(|entry| events(&entry.change)).collect();
    entity_show(&head, head.version, state, events)
}

/// The last full state up to the version, and the events after it.
async fn show_at(store: &dyn Store, entity: EntityId, at: Version, place: &str) -> Result<EntityShow, Stop> {
    let mut from = Version(1);
    let (mut state, mut after, mut head) = (Value::Null, Vec::new(), None);
    'pages: loop {
        let entries = match store.history(entity, from, ENTRIES).await? {
            HistoryPage::Entries(entries) => entries,
            HistoryPage::Truncated { first } if first <= at => {
                from = first;
                continue;
            }
            HistoryPage::Truncated { first } => return Err(no_longer_kept(at, Some(first), place).into()),
            _ => return Err(no_longer_kept(at, None, place).into()),
        };
        let Some(last) = entries.last().map(|entry| entry.head.version) else { break };
        for entry in entries {
            if entry.head.version > at {
                break 'pages;
            }
            match &entry.change {
                Change::State(bytes) | Change::Events { snapshot: Some(bytes), .. } => {
                    state = json(bytes);
                    after.clear();
                }
                change @ Change::Events { snapshot: None, .. } => after.extend(events(change)),
            }
            head = Some(entry.head);
        }
        from = last.next();
    }
    match head {
        Some(head) if head.version == at => Ok(entity_show(&head, at, state, after)),
        _ => Err(no_longer_kept(at, None, place).into()),
    }
}

fn events(change: &Change) -> Vec<Value> {
    match change {
        Change::State(_) => Vec::new(),
        Change::Events { events, .. } => events.iter().map(json).collect(),
    }
}

/// What this program cannot read is told as bytes.
fn json(bytes: &Bytes) -> Value {
    to_json(bytes).unwrap_or_else(|| Value::String(format!("{} bytes that are no MessagePack", bytes.len())))
}

fn no_longer_kept(at: Version, first: Option<Version>, place: &str) -> Problem {
    let hint = match first {
        Some(first) => format!("the first one kept is {}", first.0),
        None => "leave out --at for the last one".to_owned(),
    };
    Problem::rejected("entity.version_not_kept", format!("version {} is not kept", at.0), place, hint)
}
