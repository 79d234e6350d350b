//! What the port asks of a snapshot.

use bytes::Bytes;
use stanchion_actors::{
    ids::{EntityId, Name, Position, Timestamp, Version},
    store::{
        DedupRecord, Due, Effect, FeedFilter, FeedPage, HistoryPage, InboxItem, ListQuery, Listed, Loaded,
        OutMessage, StoreError, Table, Timer, key, parse_feed, unframe_shared,
    },
};

use super::{
    memtable::version_of,
    pack::keeps,
    tables::{after_prefix, corrupt, decode_row, name},
    view::Snapshot,
};

/// Rows read at once while a listing looks for what it wants.
const PAGE: usize = 256;
/// Rows of the feed looked at for one answer, whether or not the filter lets them through.
const FEED_LOOK_MAX: usize = 16 * PAGE;

impl Snapshot {
    /// The number of a name.
    pub(crate) fn resolve(&self, name: &Name) -> Result<Option<EntityId>, StoreError> {
        let key = key::name(name);
        self.get(Table::Name, &key)?.map(|row| decode_row(Table::Name, &key, &row)).transpose()
    }

    /// Timers set.
    pub(crate) fn timers(&self, entity: EntityId) -> Result<Vec<Timer>, StoreError> {
        let rows = self.prefix(Table::Entity, &key::timer(entity, ""))?;
        rows.iter().map(|(key, row)| decode_row(Table::Entity, key, row)).collect()
    }

    /// The name carried by a command that waits for an entity without entries.
    pub(crate) fn waiting_name(&self, entity: EntityId) -> Result<Option<Name>, StoreError> {
        let mut prefix = key::entity(entity);
        prefix.push(key::INBOX);
        let rows = self.range(Table::Work, prefix.clone(), after_prefix(&prefix), 1)?;
        let item =
            rows.first().map(|(key, row)| decode_row::<InboxItem>(Table::Work, key, row)).transpose()?;
        Ok(item.map(|item| item.to))
    }

    /// All that an activation reads.
    pub(crate) fn load(&self, entity: EntityId) -> Result<Option<Loaded>, StoreError> {
        let checkpoint = self.checkpoint(entity)?;
        let after = version_of(checkpoint.as_ref().map(|c| &c.head)).next();
        let tail = self.history(entity, after, usize::MAX, |_| true)?;
        let tail = tail.iter().map(|item| item.entry(entity)).collect::<Result<Vec<_>, _>>()?;
        let mut loaded = Loaded { checkpoint, tail, ..Loaded::default() };
        self.load_rows(entity, &mut loaded)?;
        self.load_work(entity, &mut loaded)?;
        Ok((loaded != Loaded::default()).then_some(loaded))
    }

    fn load_rows(&self, entity: EntityId, loaded: &mut Loaded) -> Result<(), StoreError> {
        let mut from = key::entity(entity);
        let to = after_prefix(&from);
        from.push(key::ORIGIN);
        for (row_key, row) in self.range(Table::Entity, from, to, usize::MAX)? {
            match row_key.get(8) {
                Some(&key::ORIGIN) => loaded.origins.push(decode_row(Table::Entity, &row_key, &row)?),
                Some(&key::ANSWER) => {
                    loaded.answers.push(decode_row::<DedupRecord>(Table::Entity, &row_key, &row)?);
                }
                Some(&key::TIMER) => loaded.timers.push(decode_row(Table::Entity, &row_key, &row)?),
                // For people to look at; an activation does not need them.
                Some(&key::PARKED) => {}
                _ => return Err(corrupt(name(Table::Entity), &row_key, "the tag is not known")),
            }
        }
        Ok(())
    }

    fn load_work(&self, entity: EntityId, loaded: &mut Loaded) -> Result<(), StoreError> {
        for (row_key, row) in self.prefix(Table::Work, &key::entity(entity))? {
            match row_key.get(8) {
                Some(&key::MESSAGE) => {
                    loaded.messages.push(decode_row::<OutMessage>(Table::Work, &row_key, &row)?);
                }
                Some(&key::INBOX) => {
                    let position = row_key.get(9..).and_then(|rest| rest.try_into().ok());
                    let position = position
                        .ok_or_else(|| corrupt(name(Table::Work), &row_key, "the position is missing"))?;
                    let item = decode_row::<InboxItem>(Table::Work, &row_key, &row)?;
                    loaded.inbox.push((Position(u64::from_be_bytes(position)), item));
                }
                Some(&key::EFFECT) => loaded.effects.push(decode_row::<Effect>(Table::Work, &row_key, &row)?),
                _ => return Err(corrupt(name(Table::Work), &row_key, "the tag is not known")),
            }
        }
        Ok(())
    }

    /// Private rows with `from <= key < to`.
    pub(crate) fn private_rows(
        &self,
        entity: EntityId,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let low = key::row(entity, from);
        let high =
            if to.is_empty() { after_prefix(&key::row(entity, &[])) } else { Some(key::row(entity, to)) };
        let rows = self.range(Table::Entity, low, high, limit)?;
        rows.into_iter()
            .map(|(row_key, row)| {
                let (_, value) =
                    unframe_shared(&row_key, &row).map_err(|e| corrupt(name(Table::Entity), &row_key, e))?;
                Ok((Bytes::from(row_key).slice(9..), value))
            })
            .collect()
    }

    /// Entries from `from` on.
    pub(crate) fn history_page(
        &self,
        entity: EntityId,
        from: Version,
        limit: usize,
    ) -> Result<HistoryPage, StoreError> {
        let from = from.max(Version(1));
        let Some(head) = self.head(entity)?.filter(|head| head.version >= from) else {
            return Ok(HistoryPage::Entries(Vec::new()));
        };
        let checkpoint = version_of(self.checkpoint(entity)?.map(|c| c.head).as_ref());
        let keep = |item: &super::pack::Item| keeps(&head, checkpoint, item.version, item.at);
        let items = self.history(entity, from, limit.max(1), keep)?;
        match items.first() {
            Some(item) if item.version == from => {}
            later => {
                let first = later.map_or(head.version.next(), |item| item.version);
                let oldest = self.history(entity, Version(1), 1, keep)?;
                // An entry whose state is stored and that is not kept leaves a gap that is no end.
                if oldest.first().is_none_or(|item| item.version >= from) {
                    return Ok(HistoryPage::Truncated { first });
                }
            }
        }
        let entries = items.iter().take(limit).map(|item| item.entry(entity));
        Ok(HistoryPage::Entries(entries.collect::<Result<_, _>>()?))
    }

    /// Places of the feed after `after`. `known`: everything up to there was committed before the snapshot was taken.
    pub(crate) fn feed(
        &self,
        after: Position,
        filter: &FeedFilter,
        limit: usize,
        known: Position,
    ) -> Result<FeedPage, StoreError> {
        let mut page = FeedPage { items: Vec::new(), until: after };
        let mut looked_at = 0;
        while page.items.len() < limit && looked_at < FEED_LOOK_MAX {
            let rows = self.range(Table::Feed, key::feed(page.until.next()), None, PAGE)?;
            for (row_key, row) in &rows {
                let item = parse_feed(row_key, row).map_err(|e| corrupt(name(Table::Feed), row_key, e))?;
                page.until = item.position;
                if filter.admits(&item) {
                    page.items.push(item);
                }
                if page.items.len() == limit {
                    return Ok(page);
                }
            }
            if rows.len() < PAGE {
                page.until = page.until.max(known);
                break;
            }
            looked_at += rows.len();
        }
        Ok(page)
    }

    /// Entities by name. `indexed`: the index holds every entity.
    pub(crate) fn list(
        &self,
        query: &ListQuery,
        limit: usize,
        indexed: bool,
    ) -> Result<Vec<Listed>, StoreError> {
        match query.status.as_deref().filter(|status| indexed && !status.is_empty()) {
            Some(status) => self.list_indexed(query, status, limit),
            None => self.list_named(query, limit),
        }
    }

    /// Entities by status: kind after kind, each through its part of the index.
    fn list_indexed(&self, query: &ListQuery, status: &str, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        if let Some(kind) = &query.kind {
            self.list_kind(kind, query, status, limit, &mut listed)?;
            return Ok(listed);
        }
        let after = query.after.as_ref().map(|after| after.kind.as_bytes().to_vec());
        let mut from = after.unwrap_or_default();
        while listed.len() < limit {
            let rows = self.range(Table::Name, from, None, 1)?;
            let Some((name_key, _)) = rows.first() else { break };
            let kind = name_key.split(|byte| *byte == 0).next().unwrap_or_default();
            let kind = std::str::from_utf8(kind)
                .map_err(|_| corrupt(name(Table::Name), name_key, "the kind is not text"))?;
            self.list_kind(kind, query, status, limit, &mut listed)?;
            from = [kind.as_bytes(), &[1]].concat();
        }
        Ok(listed)
    }

    fn list_kind(
        &self,
        kind: &str,
        query: &ListQuery,
        status: &str,
        limit: usize,
        listed: &mut Vec<Listed>,
    ) -> Result<(), StoreError> {
        let prefix = key::indexed(kind, key::STATUS, status);
        let to = after_prefix(&prefix);
        let mut from = match &query.after {
            Some(after) if *after.kind > *kind => return Ok(()),
            Some(after) if *after.kind == *kind => {
                [key::index(after, key::STATUS, status).as_slice(), &[0]].concat()
            }
            _ => prefix,
        };
        while listed.len() < limit {
            let rows = self.range(Table::Index, from, to.clone(), PAGE.min(limit - listed.len()))?;
            let Some((last, _)) = rows.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (row_key, row) in &rows {
                let entity: EntityId = decode_row(Table::Index, row_key, row)?;
                // It may have changed between the two looks: then the entry that did so speaks.
                if let Some(head) = self.head(entity)?.filter(|head| head.status == status) {
                    listed.push(Listed { entity, head });
                }
            }
        }
        Ok(())
    }

    fn list_named(&self, query: &ListQuery, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let prefix = query.kind.as_ref().map(|kind| [kind.as_bytes(), &[0]].concat()).unwrap_or_default();
        let to = after_prefix(&prefix);
        let mut from = prefix;
        if let Some(after) = &query.after {
            from = from.max([key::name(after).as_slice(), &[0]].concat());
        }
        let mut listed = Vec::new();
        loop {
            let rows = self.range(Table::Name, from, to.clone(), PAGE)?;
            for (key, row) in &rows {
                if listed.len() >= limit {
                    return Ok(listed);
                }
                let entity: EntityId = decode_row(Table::Name, key, row)?;
                let Some(head) = self.head(entity)? else { continue };
                if query.status.as_ref().is_none_or(|status| *status == head.status) {
                    listed.push(Listed { entity, head });
                }
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE => from = [last.as_slice(), &[0]].concat(),
                _ => return Ok(listed),
            }
        }
    }

    /// Timers due up to `until`.
    pub(crate) fn due(
        &self,
        until: Timestamp,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<Vec<Due>, StoreError> {
        let from = after.map_or_else(Vec::new, |due| {
            [key::due(due.due, due.entity, &due.timer).as_slice(), &[0]].concat()
        });
        let to = until.0.checked_add(1).map(|end| key::due(Timestamp(end), EntityId(0), ""));
        let rows = self.range(Table::Due, from, to, limit)?;
        rows.iter().map(|(key, _)| parse_due(key)).collect()
    }

    /// Entities with something pending.
    pub(crate) fn work(&self, after: Option<EntityId>, limit: usize) -> Result<Vec<EntityId>, StoreError> {
        let mut found = Vec::new();
        let mut from = match after {
            None => Vec::new(),
            Some(after) => match after_prefix(&key::entity(after)) {
                None => return Ok(found),
                Some(from) => from,
            },
        };
        while found.len() < limit {
            let rows = self.range(Table::Work, from, None, 1)?;
            let Some((row_key, _)) = rows.first() else { break };
            let Some(number) = row_key.first_chunk::<8>() else {
                return Err(corrupt(name(Table::Work), row_key, "the key is short"));
            };
            let entity = EntityId(u64::from_be_bytes(*number));
            found.push(entity);
            let Some(next) = after_prefix(&key::entity(entity)) else { break };
            from = next;
        }
        Ok(found)
    }

    /// A definition.
    pub(crate) fn definition(&self, hash: &[u8; 32]) -> Result<Option<Bytes>, StoreError> {
        let row = self.get(Table::Definition, hash)?;
        row.map(|row| unframe_shared(hash, &row).map(|(_, bytes)| bytes))
            .transpose()
            .map_err(|e| corrupt(name(Table::Definition), hash, e))
    }
}

/// A due row's key, read back.
pub(crate) fn parse_due(row_key: &[u8]) -> Result<Due, StoreError> {
    let damage = |cause: &str| corrupt(name(Table::Due), row_key, cause);
    let (time, rest) = row_key.split_first_chunk::<8>().ok_or_else(|| damage("the key is short"))?;
    let (entity, timer) = rest.split_first_chunk::<8>().ok_or_else(|| damage("the key is short"))?;
    Ok(Due {
        due: Timestamp((u64::from_be_bytes(*time) ^ (1 << 63)) as i64),
        entity: EntityId(u64::from_be_bytes(*entity)),
        timer: String::from_utf8(timer.to_vec()).map_err(|_| damage("the timer is not text"))?,
    })
}
