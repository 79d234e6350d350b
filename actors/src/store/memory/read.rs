//! Reads of the rows.

use std::{collections::BTreeSet, ops::Bound};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::disk::Disk;
use crate::{
    ids::{EntityId, Position, Timestamp, Version},
    store::{
        CodecError, Due, Entry, FeedFilter, FeedPage, HistoryPage, ListQuery, Listed, Loaded, StoreError,
        Table, decode, key, parse_feed, unframe, unframe_shared,
    },
};

impl Disk {
    /// What an activation reads.
    pub(super) fn load(&self, entity: EntityId) -> Result<Option<Loaded>, StoreError> {
        let checkpoint = self.checkpoints.get(&entity).cloned();
        let after = checkpoint.as_ref().map_or(Version(0), |c| c.head.version);
        let (rows, work) = (Table::Entity, Table::Work);
        let loaded = Loaded {
            checkpoint,
            tail: self.entries(entity, after.next(), usize::MAX)?,
            answers: self.values(rows, entity, key::ANSWER)?,
            origins: self.values(rows, entity, key::ORIGIN)?,
            messages: self.values(work, entity, key::MESSAGE)?,
            inbox: self.inbox(entity)?,
            timers: self.values(rows, entity, key::TIMER)?,
            effects: self.values(work, entity, key::EFFECT)?,
        };
        Ok((loaded != Loaded::default()).then_some(loaded))
    }

    fn values<T: DeserializeOwned>(
        &self,
        table: Table,
        entity: EntityId,
        tag: u8,
    ) -> Result<Vec<T>, StoreError> {
        let prefix = tagged(entity, tag);
        let rows = self.table(table).range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        rows.map(|(key, value)| value_of(table, key, value)).collect()
    }

    fn inbox(&self, entity: EntityId) -> Result<Vec<(Position, crate::store::InboxItem)>, StoreError> {
        let prefix = tagged(entity, key::INBOX);
        let rows =
            self.table(Table::Work).range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        rows.map(|(key, value)| Ok((Position(number_at(key, 9)), value_of(Table::Work, key, value)?)))
            .collect()
    }

    fn entries(&self, entity: EntityId, from: Version, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let kept = self.history.range((entity, from)..=(entity, Version(u64::MAX)));
        let decoded = kept.take(limit).map(|(&(entity, version), (_, encoded))| {
            decode(encoded).map_err(|e| corrupt(Table::History, &key::history(entity, version), &e))
        });
        decoded.collect()
    }

    /// Private rows of a range.
    pub(super) fn rows(
        &self,
        entity: EntityId,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let prefix = tagged(entity, key::ROW);
        let in_range = |key: &[u8]| to.is_empty() || key < to;
        let rows = self.table(Table::Entity).range(key::row(entity, from)..);
        let rows = rows.map_while(|(key, value)| Some((key, key.strip_prefix(prefix.as_slice())?, value)));
        let rows = rows.take_while(|(_, user_key, _)| in_range(user_key)).take(limit);
        rows.map(|(key, user_key, value)| {
            let (_, body) = unframe_shared(key, value).map_err(|e| corrupt(Table::Entity, key, &e))?;
            Ok((Bytes::copy_from_slice(user_key), body))
        })
        .collect()
    }

    /// Entries from a version on.
    pub(super) fn history_page(
        &self,
        entity: EntityId,
        from: Version,
        limit: usize,
    ) -> Result<HistoryPage, StoreError> {
        let from = from.max(Version(1));
        let end = self.version(entity).next();
        let mut kept = self.history.range((entity, Version(0))..=(entity, Version(u64::MAX)));
        let first = kept.next().map_or(end, |(&(_, version), _)| version);
        if from < first {
            return Ok(HistoryPage::Truncated { first });
        }
        Ok(HistoryPage::Entries(self.entries(entity, from, limit)?))
    }

    /// Places of the feed.
    pub(super) fn feed(
        &self,
        after: Position,
        filter: &FeedFilter,
        limit: usize,
    ) -> Result<FeedPage, StoreError> {
        let mut page = FeedPage { items: Vec::new(), until: self.position.max(after) };
        for (key, value) in self.table(Table::Feed).range(key::feed(after.next())..) {
            let item = parse_feed(key, value).map_err(|e| corrupt(Table::Feed, key, &e))?;
            if page.items.len() >= limit {
                page.until = Position(item.position.0.saturating_sub(1)).max(after);
                return Ok(page);
            }
            if filter.admits(&item) {
                page.items.push(item);
            }
        }
        Ok(page)
    }

    /// Entities by name.
    pub(super) fn list(&self, query: &ListQuery, limit: usize) -> Result<Vec<Listed>, StoreError> {
        match query.status.as_deref() {
            None | Some("") => self.list_named(query, limit),
            Some(status) => self.list_indexed(query, status, limit),
        }
    }

    /// Entities by status: kind after kind, each through its part of the index.
    fn list_indexed(&self, query: &ListQuery, status: &str, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let kinds: BTreeSet<&str> = match &query.kind {
            Some(kind) => BTreeSet::from([kind.as_str()]),
            None => self.heads.values().map(|head| head.name.kind.as_ref()).collect(),
        };
        let mut listed = Vec::new();
        for kind in kinds {
            let prefix = key::indexed(kind, key::STATUS, status);
            let from = match &query.after {
                Some(after) if *after.kind > *kind => continue,
                Some(after) if *after.kind == *kind => {
                    Bound::Excluded(key::index(after, key::STATUS, status))
                }
                _ => Bound::Included(prefix.clone()),
            };
            let rows = self.table(Table::Index).range((from, Bound::Unbounded));
            // A longer value that goes on after a 00.
            let longer = |key: &[u8]| key.get(prefix.len()) == Some(&0xff);
            let rows = rows.take_while(|(key, _)| key.starts_with(&prefix));
            for (key, value) in rows.filter(|(key, _)| !longer(key)) {
                if listed.len() >= limit {
                    return Ok(listed);
                }
                let entity: EntityId = value_of(Table::Index, key, value)?;
                let Some(head) = self.heads.get(&entity) else { continue };
                listed.push(Listed { entity, head: head.clone() });
            }
        }
        Ok(listed)
    }

    fn list_named(&self, query: &ListQuery, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let after = query.after.as_ref().map_or(Bound::Unbounded, |name| Bound::Excluded(key::name(name)));
        let mut listed = Vec::new();
        for (key, value) in self.table(Table::Name).range((after, Bound::Unbounded)) {
            if listed.len() >= limit {
                break;
            }
            let entity: EntityId = value_of(Table::Name, key, value)?;
            let Some(head) = self.heads.get(&entity) else { continue };
            let kind = query.kind.as_deref().is_none_or(|kind| *head.name.kind == *kind);
            let status = query.status.as_ref().is_none_or(|status| head.status == *status);
            if kind && status {
                listed.push(Listed { entity, head: head.clone() });
            }
        }
        Ok(listed)
    }

    /// Timers in order of time.
    pub(super) fn due(&self, until: Timestamp, after: Option<&Due>, limit: usize) -> Vec<Due> {
        let after = after.map_or(Bound::Unbounded, |d| Bound::Excluded(key::due(d.due, d.entity, &d.timer)));
        let rows = self.table(Table::Due).range((after, Bound::Unbounded));
        let due = rows.map(|(key, _)| Due {
            due: Timestamp((number_at(key, 0) ^ (1 << 63)) as i64),
            entity: EntityId(number_at(key, 8)),
            timer: String::from_utf8_lossy(key.get(16..).unwrap_or_default()).into_owned(),
        });
        due.take_while(|due| due.due <= until).take(limit).collect()
    }

    /// Entities with something pending.
    pub(super) fn work(&self, after: Option<EntityId>, limit: usize) -> Vec<EntityId> {
        let mut from = after.map_or(EntityId(0), EntityId::next);
        let mut found = Vec::new();
        while found.len() < limit {
            let Some((key, _)) = self.table(Table::Work).range(key::entity(from)..).next() else { break };
            let entity = EntityId(number_at(key, 0));
            found.push(entity);
            from = entity.next();
        }
        found
    }

    /// A definition by its content hash.
    pub(super) fn definition(&self, hash: [u8; 32]) -> Result<Option<Bytes>, StoreError> {
        let Some(value) = self.table(Table::Definition).get(hash.as_slice()) else { return Ok(None) };
        let (_, body) = unframe_shared(&hash, value).map_err(|e| corrupt(Table::Definition, &hash, &e))?;
        Ok(Some(body))
    }
}

fn tagged(entity: EntityId, tag: u8) -> Vec<u8> {
    let mut prefix = key::entity(entity);
    prefix.push(tag);
    prefix
}

fn number_at(key: &[u8], at: usize) -> u64 {
    key.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn value_of<T: DeserializeOwned>(table: Table, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    let (_, body) = unframe(key, value).map_err(|e| corrupt(table, key, &e))?;
    decode(body).map_err(|e| corrupt(table, key, &e))
}

fn corrupt(table: Table, key: &[u8], cause: &CodecError) -> StoreError {
    let table = match table {
        Table::Name => "name",
        Table::Entity => "entity",
        Table::History => "history",
        Table::Due => "due",
        Table::Work => "work",
        Table::Definition => "definition",
        Table::Index => "index",
        Table::Feed => "feed",
    };
    let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    StoreError::Corrupt { table, key, cause: cause.to_string() }
}
