//! A store so simple that it is right at sight: the list of what applied, and lookups that walk all of it.

mod reference;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::reference::{Applied, Found, Model};
use super::{
    fixtures::{EntryParts, chain, command, inbox_item, name, state_entry},
    rig::{Check, Owned, Rig, holds, record, same},
};
use crate::{
    ids::{EntityId, Name, Position, Version},
    store::{Due, Entry, FeedFilter, Head, History, HistoryPage, ListQuery, Loaded, Outcome, Record, Token},
};

/// Entities that a sequence works on.
const KEYS: usize = 4;

/// One operation of a random sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Chains of full states, submitted without waiting.
    States(usize, u8),
    /// A chain of events, with a snapshot or not.
    Events(usize, u8),
    /// A chain under an older right.
    Stale(usize),
    /// A chain on a version that is not there.
    Gap(usize),
    /// An atomic record of two entities.
    Atomic(usize, usize, u8),
    /// A command enqueued.
    Inbox(usize),
    /// A message settled.
    Done(usize),
    /// A new activation.
    Activate(usize),
    /// A right given back.
    Release(usize),
    /// A removal.
    Purge(usize),
    /// A definition.
    Definition(u8),
    /// A crash.
    Reopen,
    /// A comparison of everything.
    Compare,
}

impl Op {
    /// The operation that a number stands for; small numbers stand for simple ones.
    #[must_use]
    pub fn from_draw(draw: u64) -> Self {
        let [kind, key, other, parts, ..] = draw.to_le_bytes();
        let (key, other) = (usize::from(key) % KEYS, usize::from(other) % KEYS);
        match kind % 32 {
            0..=9 => Self::States(key, parts),
            10..=15 => Self::Events(key, parts),
            16 => Self::Stale(key),
            17 => Self::Gap(key),
            18..=20 if key != other => Self::Atomic(key, other, parts),
            18..=22 => Self::Inbox(key),
            23 => Self::Done(key),
            24 => Self::Activate(key),
            25 => Self::Release(key),
            26 => Self::Purge(key),
            27 => Self::Definition(parts),
            28 => Self::Reopen,
            _ => Self::Compare,
        }
    }
}

/// Numbers that follow from `seed` alone.
///
/// # Source
/// splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
pub fn draws(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Performs the operations on the store and on the model, and compares all that can be read.
///
/// # Errors
/// The first difference, with the operation before it.
pub async fn agrees(rig: &mut Rig, ops: &[Op]) -> Check {
    let mut run =
        Run { rig, model: Model::default(), owned: BTreeMap::new(), stale: None, purged: Vec::new() };
    for (i, op) in ops.iter().chain(&[Op::Compare, Op::Reopen, Op::Compare]).enumerate() {
        run.perform(*op).await.map_err(|e| format!("operation {i} ({op:?}): {e}"))?;
    }
    Ok(())
}

struct Run<'a> {
    rig: &'a mut Rig,
    model: Model,
    owned: BTreeMap<usize, Owned>,
    stale: Option<Token>,
    purged: Vec<EntityId>,
}

impl Run<'_> {
    async fn perform(&mut self, op: Op) -> Check {
        match op {
            Op::States(key, parts) => self.states(key, parts).await,
            Op::Events(key, parts) => self.events(key, parts).await,
            Op::Stale(key) => self.stale(key).await,
            Op::Gap(key) => self.gap(key).await,
            Op::Atomic(key, other, parts) => self.atomic(key, other, parts).await,
            Op::Inbox(key) => self.inbox(key).await,
            Op::Done(key) => self.done(key).await,
            Op::Activate(key) => {
                let own = self.own(key).await?;
                self.stale = Some(own.token);
                self.owned.remove(&key);
                self.own(key).await.map(|_| ())
            }
            Op::Release(key) => {
                let own = self.own(key).await?;
                self.owned.remove(&key);
                self.rig.release(own.token).await
            }
            Op::Purge(key) => self.purge(key).await,
            Op::Definition(n) => {
                let (hash, bytes) = ([n; 32], Bytes::copy_from_slice(&[n]));
                self.model.applied.push(Applied::Definition(hash, bytes.clone()));
                self.applies(Record::Definition { hash, bytes }).await
            }
            Op::Reopen => {
                self.stale = self.owned.pop_first().map(|(_, own)| own.token);
                self.owned.clear();
                self.rig.reopen().await
            }
            Op::Compare => self.compare().await,
        }
    }

    /// The entity, activated if it is not.
    async fn own(&mut self, key: usize) -> Result<Owned, String> {
        if let Some(own) = self.owned.get(&key) {
            return Ok(own.clone());
        }
        let mut own = self.rig.own(&format!("k{key}")).await?;
        holds(!self.purged.contains(&own.entity()), "a purged number is not given again")?;
        own.version = self.model.find(own.entity()).version();
        self.owned.insert(key, own.clone());
        Ok(own)
    }

    fn wrote(&mut self, key: usize, own: Owned, entries: Vec<Entry>) {
        let entity = own.entity();
        self.owned.insert(key, own);
        let applied = entries.into_iter().map(|entry| Applied::Entry(entity, Box::new(entry)));
        self.model.applied.extend(applied);
    }

    async fn applies(&self, record: Record) -> Check {
        same("position", &self.rig.apply(record).await?, &self.model.position())
    }

    async fn states(&mut self, key: usize, parts: u8) -> Check {
        let mut own = self.own(key).await?;
        let mut pending = Vec::new();
        for i in 0..1 + usize::from(parts % 3) {
            let plain = own.state(&[parts, i as u8]);
            let entry = self.dress(key, &own, plain, parts);
            pending.push(self.rig.start(record(&own, vec![entry.clone()])?)?);
            self.wrote(key, own.clone(), vec![entry]);
        }
        for outcome in pending {
            super::rig::applied(super::rig::outcome_of(outcome).await?)?;
        }
        same("position", &self.rig.store()?.position(), &self.model.position())
    }

    async fn events(&mut self, key: usize, parts: u8) -> Check {
        let mut own = self.own(key).await?;
        let snapshot = [parts];
        let plain = own.events(&[&[parts], b"e"], (parts.is_multiple_of(5)).then_some(snapshot.as_slice()));
        let first = self.dress(key, &own, plain, parts);
        let plain = own.events(&[b"second"], None);
        let second = keeping(key, plain).with_row(&[parts % 7], b"second");
        let second = second.with_status_after(&first.head.status, &first.head.status);
        let record = record(&own, vec![first.clone(), second.clone()])?;
        self.wrote(key, own, vec![first, second]);
        self.applies(record).await
    }

    /// Adds parts that fit what is there.
    fn dress(&self, key: usize, own: &Owned, entry: Entry, parts: u8) -> Entry {
        let found = self.model.find(own.entity()).loaded;
        let before = found.head().map_or("", |head| head.status.as_str());
        let status = ["", "open", "shut"].into_iter().cycle().nth(parts.into()).unwrap_or("");
        let entry = keeping(key, entry).with_status_after(before, status);
        let entry = if key % 2 == 0 { entry.fed() } else { entry };
        let entry = match parts % 4 {
            0 => entry.with_row(&[parts % 7], &[parts]),
            1 => entry.without_row(&[parts % 7]),
            _ => entry,
        };
        let (due, id) = (i64::from(parts), format!("t{}", parts % 3));
        let entry = match found.timers.iter().find(|timer| timer.id == id) {
            Some(timer) if parts.is_multiple_of(2) => {
                entry.without_timer(&id, timer.due.0).with_timer(&id, due)
            }
            Some(timer) => entry.without_timer(&id, timer.due.0),
            None => entry.with_timer(&id, due),
        };
        let id = format!("e{}", parts % 3);
        let entry = if found.effects.iter().any(|effect| effect.id == id) {
            entry.without_effect(&id)
        } else {
            entry.with_effect(&id)
        };
        let id = command(u128::from(parts % 2), u64::from(parts % 5));
        let entry = match parts % 6 {
            0 | 1 => entry.with_answer(id, &[parts]),
            2 => entry.without_answer(id),
            3 => entry.with_origin(id.origin, u64::from(parts)),
            4 => entry.without_origin(id.origin),
            _ => entry,
        };
        self.dress_messages(own, entry, parts)
    }

    fn same_status(&self, own: &Owned, entry: Entry) -> Entry {
        let found = self.model.find(own.entity()).loaded;
        let status = found.head().map_or("", |head| head.status.as_str());
        entry.with_status_after(status, status)
    }

    fn dress_messages(&self, own: &Owned, mut entry: Entry, parts: u8) -> Entry {
        entry = entry.with_message(own.version, &name(&format!("k{}", usize::from(parts) % KEYS)));
        let mine = self.model.find(own.entity()).loaded;
        if let Some((position, _)) = mine.inbox.first() {
            entry = entry.consuming_inbox(*position);
        }
        for other in self.owned.values().filter(|_| parts.is_multiple_of(3)) {
            if let Some(message) = self.model.find(other.entity()).loaded.messages.first() {
                entry = entry.consuming(other.entity(), message.seq);
            }
        }
        entry
    }

    async fn stale(&mut self, key: usize) -> Check {
        let Some(token) = self.stale else { return Ok(()) };
        let own = self.own(key).await?;
        let stale = Owned { token: Token { entity: own.entity(), ..token }, ..own.clone() };
        if stale.token == own.token {
            return Ok(());
        }
        let entry = state_entry(&own.name, own.version + 1, b"stale").with_row(b"stale", b"v");
        let outcome = self.rig.outcome(record(&stale, vec![entry])?).await?;
        same("outcome", &outcome, &Outcome::Fenced { activation: own.token.activation })
    }

    async fn gap(&mut self, key: usize) -> Check {
        let own = self.own(key).await?;
        let entry = state_entry(&own.name, own.version + 2, b"gap").with_row(b"gap", b"v");
        let outcome = self.rig.outcome(record(&own, vec![entry])?).await?;
        same("outcome", &outcome, &Outcome::Conflict { found: Version(own.version) })
    }

    async fn atomic(&mut self, key: usize, other: usize, parts: u8) -> Check {
        let (mut a, mut b) = (self.own(key).await?, self.own(other).await?);
        let (first, second) = (a.state(&[parts]), b.state(&[parts]));
        let (first, second) = (self.same_status(&a, first), self.same_status(&b, second));
        let (first, second) = (keeping(key, first), keeping(other, second));
        let wrong = u64::from(parts.is_multiple_of(4));
        let (first, second) = (first.with_row(b"atomic", &[parts]), second.with_row(b"atomic", &[parts]));
        if wrong == 1 {
            let gap = state_entry(&b.name, b.version + 1, b"gap");
            let chains =
                vec![chain(a.token, a.version - 1, vec![first])?, chain(b.token, b.version, vec![gap])?];
            let outcome = self.rig.outcome(Record::Atomic(chains)).await?;
            return same("outcome", &outcome, &Outcome::Conflict { found: Version(b.version - 1) });
        }
        let chains = vec![
            chain(a.token, a.version - 1, vec![first.clone()])?,
            chain(b.token, b.version - 1, vec![second.clone()])?,
        ];
        self.wrote(key, a, vec![first]);
        self.wrote(other, b, vec![second]);
        self.applies(Record::Atomic(chains)).await
    }

    async fn inbox(&mut self, key: usize) -> Check {
        let own = self.own(key).await?;
        let item = inbox_item(&own.name, self.model.position().0, b"payload");
        self.model.applied.push(Applied::Inbox(own.entity(), item.clone()));
        self.applies(Record::Inbox { entity: own.entity(), item }).await
    }

    async fn done(&mut self, key: usize) -> Check {
        let own = self.own(key).await?;
        let found = self.model.find(own.entity()).loaded;
        let seq = found.messages.last().map_or(99, |message| message.seq);
        self.model.applied.push(Applied::Done(own.entity(), seq));
        self.applies(Record::Done { sender: own.entity(), seq }).await
    }

    async fn purge(&mut self, key: usize) -> Check {
        let own = self.own(key).await?;
        self.owned.remove(&key);
        self.purged.push(own.entity());
        self.model.applied.push(Applied::Purge(own.entity()));
        self.applies(Record::Purge { token: own.token }).await
    }

    async fn compare(&mut self) -> Check {
        same("position", &self.rig.store()?.position(), &self.model.position())?;
        let (mut due, mut work, mut heads) = (Vec::new(), Vec::new(), BTreeMap::new());
        for key in 0..KEYS {
            let own = self.own(key).await?;
            let found = self.model.find(own.entity());
            let timers = found.loaded.timers.iter();
            due.extend(timers.map(|t| Due { due: t.due, entity: own.entity(), timer: t.id.clone() }));
            let Loaded { messages, inbox, effects, .. } = &found.loaded;
            if !messages.is_empty() || !inbox.is_empty() || !effects.is_empty() {
                work.push(own.entity());
            }
            if let Some(head) = found.loaded.head() {
                heads.insert(own.name.clone(), (own.entity(), head.clone()));
            }
            self.compare_entity(own.entity(), found).await.map_err(|e| format!("{}: {e}", own.name))?;
        }
        due.sort_unstable();
        work.sort_unstable();
        same("due", &self.rig.due(i64::MAX, None, 1000).await?, &due)?;
        same("work", &self.rig.work(None, 1000).await?, &work)?;
        let listed = self.rig.store()?.list(ListQuery::default(), 1000).await.map_err(|e| e.to_string())?;
        let listed: Vec<_> = listed.into_iter().map(|listed| (listed.entity, listed.head)).collect();
        same("list", &listed, &heads.values().cloned().collect())?;
        self.compare_derived(&heads).await?;
        for (hash, bytes) in self.model.definitions() {
            let found = self.rig.store()?.definition(hash).await.map_err(|e| e.to_string())?;
            same("definition", &found, &Some(bytes))?;
        }
        for entity in &self.purged {
            same("purged", &self.rig.load(*entity).await?, &None)?;
        }
        Ok(())
    }

    /// The index by status, and the feed.
    async fn compare_derived(&self, heads: &BTreeMap<Name, (EntityId, Head)>) -> Check {
        let store = self.rig.store()?;
        for status in ["open", "shut"] {
            let query = ListQuery { status: Some(status.into()), ..ListQuery::default() };
            let listed = store.list(query, 1000).await.map_err(|e| e.to_string())?;
            let listed: Vec<_> = listed.into_iter().map(|listed| (listed.entity, listed.head)).collect();
            let expected = heads.values().filter(|(_, head)| head.status == status).cloned().collect();
            same(status, &listed, &expected)?;
        }
        let page = store.feed(Position(0), FeedFilter::default(), 10_000).await.map_err(|e| e.to_string())?;
        let found: Vec<_> = page.items.iter().map(|i| (i.position, i.entity, i.version)).collect();
        same("feed", &found, &self.model.feed())?;
        same("end of the feed", &page.until, &self.model.position())
    }

    async fn compare_entity(&self, entity: EntityId, found: Found) -> Check {
        let first_kept = found.first_kept();
        let loaded = self.rig.load(entity).await?.map(sorted);
        let nothing = found.loaded == Loaded::default();
        same("loaded", &loaded, &(!nothing).then(|| sorted(found.loaded)))?;
        let rows = self.rig.rows(entity, b"", b"", 1000).await?;
        same("rows", &rows, &found.rows.into_iter().collect())?;
        if found.entries.is_empty() {
            let page = self.rig.history(entity, 1, 10).await?;
            return same("history", &page, &HistoryPage::Entries(Vec::new()));
        }
        let (first, kept) = self.rig.kept(entity).await?;
        holds(first <= first_kept, "what must be kept is kept")?;
        let skipped = usize::try_from(first - 1).map_err(|e| e.to_string())?;
        same("history", &kept, &found.entries.into_iter().skip(skipped).collect())
    }
}

/// Each entity keeps its entries in its own way.
fn keeping(key: usize, entry: Entry) -> Entry {
    let version = i64::try_from(entry.head.version.0).unwrap_or(i64::MAX);
    entry.at(version * 1000).keeping(match key {
        0 => History::Forever,
        1 => History::None,
        2 => History::Last(3),
        _ => History::ForMicros(4000),
    })
}

/// What has no order of its own, ordered.
fn sorted(mut loaded: Loaded) -> Loaded {
    loaded.answers.sort_by_key(|answer| answer.id);
    loaded.origins.sort_by_key(|(origin, _)| *origin);
    loaded.timers.sort_by(|a, b| a.id.cmp(&b.id));
    loaded.effects.sort_by(|a, b| a.id.cmp(&b.id));
    loaded.messages.sort_by_key(|message| message.seq);
    loaded
}
