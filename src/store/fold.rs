//! The fold thread: writes a frozen generation into the data file, in sorted slices.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use redb::{Database, ReadableTable};
use stanchion_actors::{
    ids::{EntityId, Position, Version},
    store::{Checkpoint, Head, History, Table, encode, frame, key},
};

use super::{
    crash::CrashPoint,
    memtable::{Mem, Patch, Row},
    pack::{Item, PACK_REFILL_BYTES, first_version, keeps, pack, unpack},
    shared::{FoldState, Job, Shared, count},
    slices::{FoldStop, Room, Slices},
    tables::{DataMeta, GONE, decode_row, owned, put_meta, rows},
    upkeep::Upkeep,
    view::{Generations, read_mem},
};

/// Quiet after which the last commit of the log gets one behind it: damage to its pages is then found.
const SEAL_AFTER: Duration = Duration::from_millis(50);

/// Least wait between two slices of upkeep.
const UPKEEP_WAIT: Duration = Duration::from_millis(20);

/// What the fold thread does next.
enum Next {
    Fold,
    Upkeep,
    End,
}

/// Folds generation after generation until told to stop; answers the last meta row written. `last`: the last position
/// when the store was opened.
pub(crate) fn run(shared: &Shared, data: &Arc<Database>, mut meta: DataMeta, last: Position) -> DataMeta {
    let mut upkeep = Upkeep::new(&meta, last);
    loop {
        let due = upkeep.is_due(shared, &meta);
        shared.fold(|fold| fold.upkeep = due);
        let done = match await_next(shared, due) {
            Next::End => return meta,
            Next::Fold => {
                let Some(mem) = shared.view.change(|gens| gens.folding.clone()) else { return meta };
                catch_unwind(AssertUnwindSafe(|| fold(shared, data, &read_mem(&mem), &mut meta)))
                    .map(|done| done.map(|()| folded(shared, &upkeep, &meta)))
            }
            Next::Upkeep => catch_unwind(AssertUnwindSafe(|| upkeep.step(shared, data, &mut meta))),
        };
        let why = match done {
            Ok(Ok(())) => continue,
            Ok(Err(FoldStop::Stopped)) => return meta,
            Ok(Err(FoldStop::Failed(error))) => format!("the data file was not written: {error}"),
            Ok(Err(FoldStop::Corrupt(error))) => format!("the data file cannot be folded into: {error}"),
            Err(_) => "the fold thread panicked".to_owned(),
        };
        shared.poison(why);
        return meta;
    }
}

/// The folding generation is in the data file.
fn folded(shared: &Shared, upkeep: &Upkeep, meta: &DataMeta) {
    shared.folded.store(meta.folded.0, Ordering::Release);
    shared.view.change(Generations::folded);
    count(&shared.counters.folds, 1);
    let due = upkeep.is_due(shared, meta);
    shared.fold(|fold| {
        (fold.busy, fold.upkeep) = (false, due);
        (fold.frozen_bytes, fold.done_bytes) = (0, 0);
    });
}

/// Waits for a frozen generation or the end; with upkeep `due`, only for a moment. Meanwhile seals the log when it is
/// quiet.
fn await_next(shared: &Shared, due: bool) -> Next {
    loop {
        let seen = shared.position.load(Ordering::Acquire);
        let unsealed = shared.fold_state().unsealed;
        let limit = if due { Some(UPKEEP_WAIT) } else { unsealed.then_some(SEAL_AFTER) };
        let idle = |fold: &FoldState| !fold.busy && !fold.stop;
        let mut state = shared.await_fold(limit, |fold| {
            idle(fold) && if due { !fold.urgent } else { fold.unsealed == unsealed }
        });
        if !idle(&state) {
            return if state.stop { Next::End } else { Next::Fold };
        }
        if unsealed && shared.position.load(Ordering::Acquire) == seen {
            state.unsealed = false;
            drop(state);
            // Nobody waits for it; a queue that is closed has nothing to seal.
            let (answer, _) = tokio::sync::oneshot::channel();
            let _ = shared.queue.push_control(Job::Seal { answer });
        }
        if due {
            return Next::Upkeep;
        }
    }
}

/// Folds one generation; `folded` moves in the commit of the last slice.
fn fold(shared: &Shared, data: &Arc<Database>, mem: &Mem, meta: &mut DataMeta) -> Result<(), FoldStop> {
    let mut slices = Slices::new(shared, data, work_of(mem));
    fold_purged(&mut slices, mem)?;
    let mut ids: Vec<EntityId> = mem.entities.keys().copied().collect();
    ids.sort_unstable();
    fold_entities(&mut slices, mem, &ids)?;
    fold_history(&mut slices, mem, &ids)?;
    for table in [Table::Due, Table::Work, Table::Name, Table::Index, Table::Definition, Table::Feed] {
        let all = mem.rows(table).iter().map(|(key, value)| (key.as_slice(), Source::Row(value.as_ref())));
        fold_rows(&mut slices, table, all)?;
    }
    debug_assert!(slices.is_complete(), "the work of a generation is what was counted before");
    meta.folded = meta.folded.max(mem.last);
    meta.next_entity = meta.next_entity.max(mem.next_entity);
    meta.boot = shared.boot;
    slices.write(|txn, _| Ok(put_meta(txn, meta)?))?;
    shared.options.crash.reach(CrashPoint::BeforeFolded);
    slices.commit()
}

/// Work of a row beside its bytes: nearly every row lies in a page that no other row touches.
const ROW_WORK: usize = 2_048;

fn work_of_state(checkpoint: &Checkpoint) -> usize {
    ROW_WORK + checkpoint.state.len()
}

fn work_of_history(patch: &Patch) -> usize {
    // What is stored last is read and written with it.
    2 * ROW_WORK + patch.history.iter().map(|item| item.encoded.len()).sum::<usize>()
}

/// Work in a generation, as it is counted while it is folded. Not bytes written: those depend on what is stored.
fn work_of(mem: &Mem) -> usize {
    let patches = mem.entities.values().map(|patch| {
        let history = if patch.history.is_empty() { 0 } else { work_of_history(patch) };
        patch.checkpoint.as_ref().map_or(0, work_of_state) + history
    });
    let tables =
        [Table::Entity, Table::Due, Table::Work, Table::Name, Table::Index, Table::Definition, Table::Feed];
    let rows = mem.purged.len() + tables.iter().map(|table| mem.rows(*table).len()).sum::<usize>();
    patches.sum::<usize>() + rows * ROW_WORK
}

/// Notes who is gone; the rows are removed between folds, however many there are.
fn fold_purged(slices: &mut Slices<'_>, mem: &Mem) -> Result<(), FoldStop> {
    let mut purged = mem.purged.iter().peekable();
    while purged.peek().is_some() {
        slices.write(|txn, room| {
            let mut gone = txn.open_table(GONE)?;
            while !room.is_full()
                && let Some(entity) = purged.next()
            {
                let nothing: &[u8] = &[];
                gone.insert(key::entity(*entity).as_slice(), nothing)?;
                room.took(64);
                room.did(ROW_WORK);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Where a row of table `e` comes from.
enum Source<'a> {
    Row(Option<&'a Row>),
    Checkpoint(&'a Checkpoint),
}

fn fold_entities(slices: &mut Slices<'_>, mem: &Mem, ids: &[EntityId]) -> Result<(), FoldStop> {
    let states: Vec<(Vec<u8>, &Checkpoint)> = ids
        .iter()
        .filter_map(|id| Some((key::checkpoint(*id), mem.entities.get(id)?.checkpoint.as_ref()?)))
        .collect();
    let mut all: Vec<(&[u8], Source<'_>)> =
        states.iter().map(|(key, state)| (key.as_slice(), Source::Checkpoint(state))).collect();
    all.extend(mem.rows(Table::Entity).iter().map(|(key, row)| (key.as_slice(), Source::Row(row.as_ref()))));
    all.sort_by(|a, b| a.0.cmp(b.0));
    fold_rows(slices, Table::Entity, all.into_iter())
}

fn fold_rows<'m>(
    slices: &mut Slices<'_>,
    table: Table,
    all: impl Iterator<Item = (&'m [u8], Source<'m>)>,
) -> Result<(), FoldStop> {
    let mut all = all.peekable();
    while all.peek().is_some() {
        slices.write(|txn, room| {
            let mut stored = txn.open_table(rows(table))?;
            while !room.is_full()
                && let Some((key, source)) = all.next()
            {
                room.did(match &source {
                    Source::Row(_) => ROW_WORK,
                    Source::Checkpoint(checkpoint) => work_of_state(checkpoint),
                });
                match source {
                    Source::Row(Some(row)) => {
                        let value = row.stored(key).map_err(|e| redb::Error::Corrupted(e.to_string()))?;
                        stored.insert(key, value.as_ref())?;
                        room.took(key.len() + value.len() + 64);
                    }
                    Source::Row(None) => {
                        stored.remove(key)?;
                        room.took(key.len() + 64);
                    }
                    Source::Checkpoint(checkpoint) => {
                        let value = checkpoint_row(key, checkpoint)?;
                        stored.insert(key, value.as_slice())?;
                        room.took(value.len() + 64);
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn checkpoint_row(key: &[u8], checkpoint: &Checkpoint) -> Result<Vec<u8>, FoldStop> {
    let body = encode(checkpoint).map_err(|e| redb::Error::Corrupted(e.to_string()))?;
    Ok(frame(key, checkpoint.head.schema, &body))
}

fn fold_history(slices: &mut Slices<'_>, mem: &Mem, ids: &[EntityId]) -> Result<(), FoldStop> {
    let with = |id: &EntityId| Some((*id, mem.entities.get(id)?));
    let mut all = ids.iter().filter_map(with).filter(|(_, patch)| !patch.history.is_empty()).peekable();
    while all.peek().is_some() {
        slices.write(|txn, room| {
            let mut stored = txn.open_table(rows(Table::History))?;
            while !room.is_full()
                && let Some((entity, patch)) = all.next()
            {
                let checkpoint = match &patch.checkpoint {
                    Some(checkpoint) => checkpoint.head.version,
                    None => stored_version(txn, entity)?,
                };
                fold_one_history(&mut stored, entity, patch, checkpoint, room)?;
                room.did(work_of_history(patch));
            }
            Ok(())
        })?;
    }
    Ok(())
}

type HistoryTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// Version of the stored state, written before the histories of the same generation.
fn stored_version(txn: &redb::WriteTransaction, entity: EntityId) -> Result<Version, FoldStop> {
    let table = txn.open_table(rows(Table::Entity))?;
    let key = key::checkpoint(entity);
    let Some(row) = table.get(key.as_slice())? else { return Ok(Version(0)) };
    let checkpoint: Checkpoint = decode_row(Table::Entity, &key, row.value()).map_err(FoldStop::Corrupt)?;
    Ok(checkpoint.head.version)
}

/// Appends to a stored history. What is stored at or after the first new version comes from a fold of the same
/// entries that a crash cut short: it is replaced, so rows never overlap.
fn fold_one_history(
    stored: &mut HistoryTable<'_>,
    entity: EntityId,
    patch: &Patch,
    checkpoint: Version,
    room: &mut Room,
) -> Result<(), FoldStop> {
    let (Some(head), Some(first)) = (patch.head(), patch.history.first()) else { return Ok(()) };
    let keep = |item: &Item| keeps(head, checkpoint, item.version, item.at);
    let mut items = take_tail(stored, entity, first.version)?;
    items.retain(keep);
    items.extend(patch.history.iter().filter(|item| keep(item)).cloned());
    for (key, value) in pack(entity, &items) {
        stored.insert(key.as_slice(), value.as_slice())?;
        room.took(value.len() + 64);
    }
    let last_new = patch.history.len() as u64;
    if trim_is_due(head, last_new) {
        trim(stored, entity, keep)?;
    }
    Ok(())
}

/// Takes out the rows from `first` on, and what is before `first` in a row that is open to more.
fn take_tail(stored: &mut HistoryTable<'_>, entity: EntityId, first: Version) -> Result<Vec<Item>, FoldStop> {
    let (low, high) = (key::history(entity, Version(0)), key::history(entity, Version(u64::MAX)));
    loop {
        let Some(last) = stored.range(low.as_slice()..=high.as_slice())?.next_back() else {
            return Ok(Vec::new());
        };
        let (row_key, items, size) = {
            let (key, value) = last?;
            let items = unpack(key.value(), &owned(value.value())).map_err(FoldStop::Corrupt)?;
            (key.value().to_vec(), items, value.value().len())
        };
        let replaced = first_version(&row_key).is_none_or(|version| version >= first);
        let reaches = items.last().is_some_and(|item| item.version >= first);
        if replaced {
            stored.remove(row_key.as_slice())?;
            continue;
        }
        if !reaches && size >= PACK_REFILL_BYTES {
            return Ok(Vec::new());
        }
        stored.remove(row_key.as_slice())?;
        return Ok(items.into_iter().filter(|item| item.version < first).collect());
    }
}

/// A bounded history is trimmed each time it grew by an eighth; one bounded by time or not kept, each time.
fn trim_is_due(head: &Head, new: u64) -> bool {
    match head.history {
        History::Forever => false,
        History::Last(n) => {
            let step = (n / 8).max(1);
            let before = head.version.0.saturating_sub(new);
            head.version.0 > n && head.version.0 / step != before / step
        }
        _ => true,
    }
}

/// Removes rows of which nothing is kept, from the oldest on.
fn trim(
    stored: &mut HistoryTable<'_>,
    entity: EntityId,
    keep: impl Fn(&Item) -> bool,
) -> Result<(), FoldStop> {
    let (low, high) = (key::history(entity, Version(0)), key::history(entity, Version(u64::MAX)));
    let mut gone = Vec::new();
    for row in stored.range(low.as_slice()..=high.as_slice())? {
        let (key, value) = row?;
        let items = unpack(key.value(), &owned(value.value())).map_err(FoldStop::Corrupt)?;
        if items.iter().any(&keep) {
            break;
        }
        gone.push(key.value().to_vec());
    }
    for key in gone {
        stored.remove(key.as_slice())?;
    }
    Ok(())
}
