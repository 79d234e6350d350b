//! A full disk under a process, and files that were damaged while nobody had them open.

use std::{collections::BTreeMap, path::Path, time::Duration};

use redb::TableDefinition;
use stanchion::{
    ids::Name,
    port::{ListQuery, Loaded, Store},
    store::{RedbStore, StoreOptions, verify},
};

use crate::{
    history::{Draw, campaign, seed},
    life::{Case, End, runtime},
};

#[test]
fn a_disk_that_fills_up_under_load_loses_nothing() {
    let seed = seed();
    let mut case = Case::new(seed);
    case.live(End::Kill(Duration::from_millis(300)));
    case.limit_files(Some(1536 << 10));
    case.live_to_the_limit();
    case.limit_files(None);
    case.live(End::Kill(Duration::from_millis(300)));
    case.check();
}

/// Everything that a store holds, by name.
type Content = BTreeMap<Name, Loaded>;

/// What became of reading a store that may be damaged.
#[derive(Debug, PartialEq)]
enum Found {
    /// It does not open, and says why.
    Refused(String),
    /// It opens; an entity cannot be read, and says why.
    Quarantined(String),
    Content(Content),
}

async fn content(path: &Path) -> Found {
    let store = match RedbStore::open(path, StoreOptions::default()) {
        Ok(store) => store,
        Err(error) => return Found::Refused(error.to_string()),
    };
    let mut content = Content::new();
    let mut query = ListQuery::default();
    loop {
        let page = match store.list(query.clone(), 100).await {
            Ok(page) => page,
            Err(error) => return Found::Quarantined(error.to_string()),
        };
        let Some(last) = page.last() else { break };
        query.after = Some(last.head.name.clone());
        for listed in page {
            match store.load(listed.entity).await {
                Ok(loaded) => drop(content.insert(listed.head.name, loaded.unwrap_or_default())),
                Err(error) => return Found::Quarantined(error.to_string()),
            }
        }
    }
    Found::Content(content)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["app.redb", "app.redb-log"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// What a killed store holds, and what it held one commit before.
struct Truth {
    whole: Content,
    undone: Content,
}

/// Reads a copy of the store after `damage`; a fault when the damage changed something and nobody says so.
fn read_damaged(from: &Path, truth: &Truth, damage: impl FnOnce(&Path)) -> Result<&'static str, String> {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("copy");
    copy(from, &to);
    damage(&to);
    let path = to.join("app.redb");
    // A database library may give up on a damaged page by a panic: that is no silence.
    let read = std::panic::catch_unwind(|| runtime().block_on(content(&path)));
    match read {
        Err(_) => Ok("panicked"),
        Ok(Found::Refused(_)) => Ok("refused"),
        Ok(Found::Quarantined(_)) => Ok("quarantined"),
        Ok(Found::Content(found)) if found == truth.whole => Ok("whole"),
        // Damage to the pages of the very last commit looks like a commit that was torn: it is undone, whole.
        Ok(Found::Content(found)) if found == truth.undone => Ok("undone"),
        Ok(Found::Content(found)) => {
            // The readers do not check every page; `verify` does.
            let checked = std::panic::catch_unwind(|| verify(&path, &StoreOptions::default()));
            match checked {
                Ok(Ok(report)) if report.faults.is_empty() => {
                    let lost: Vec<_> = truth
                        .whole
                        .iter()
                        .filter(|(name, loaded)| found.get(*name) != Some(*loaded))
                        .collect();
                    let lost: Vec<String> = lost.iter().map(|(name, _)| name.to_string()).collect();
                    Err(format!("silently changed: {lost:?}"))
                }
                _ => Ok("found by verify"),
            }
        }
    }
}

/// Content of a copy of the files at `from`, after `change`.
fn copied(from: &Path, change: impl FnOnce(&Path)) -> Content {
    let dir = tempfile::tempdir().unwrap();
    copy(from, dir.path());
    change(dir.path());
    let found = runtime().block_on(content(&dir.path().join("app.redb")));
    let Found::Content(content) = found else { panic!("a killed store is whole: {found:?}") };
    content
}

/// Takes the last chunk out of the log, as if its commit had not been.
fn undo_last(dir: &Path) {
    const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
    let log = redb::Database::open(dir.join("app.redb-log")).unwrap();
    let txn = log.begin_write().unwrap();
    txn.open_table(LOG).unwrap().pop_last().unwrap().unwrap();
    txn.commit().unwrap();
}

/// Lives after which a store holds enough, on any machine.
const LIVES_MAX: u32 = 20;

/// A store after some kills, and what it holds.
fn killed_store(seed: u64) -> (Case, Truth) {
    let mut case = Case::new(seed);
    for life in 1..=LIVES_MAX {
        case.live(End::Kill(Duration::from_millis(400)));
        if life == 1 {
            continue;
        }
        let truth = Truth { whole: copied(case.dir(), |_| ()), undone: copied(case.dir(), undo_last) };
        if truth.whole.len() > 20 {
            assert_ne!(truth.whole, truth.undone);
            return (case, truth);
        }
    }
    panic!("few entities after {LIVES_MAX} lives")
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing_or_is_found_by_verify() {
    let seed = seed();
    let mut draw = Draw(seed);
    let (case, truth) = killed_store(seed);
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..if campaign() { 500 } else { 24 } {
        let file = if number % 2 == 0 { "app.redb" } else { "app.redb-log" };
        let outcome = read_damaged(case.dir(), &truth, |dir| {
            let mut bytes = std::fs::read(dir.join(file)).unwrap();
            // Where something was written.
            let at = loop {
                let at = draw.below(bytes.len() as u64) as usize;
                if bytes[at] != 0 {
                    break at;
                }
            };
            bytes[at] ^= 1 << draw.below(8);
            std::fs::write(dir.join(file), bytes).unwrap();
        });
        let outcome =
            outcome.unwrap_or_else(|fault| panic!("STANCHION_SEED={seed}, flip {number} in {file}: {fault}"));
        *outcomes.entry(format!("{file} {outcome}")).or_default() += 1;
    }
    println!("seed {seed}: {outcomes:?}");
}

#[test]
fn a_torn_tail_of_the_log_is_refused_or_loses_nothing() {
    let seed = seed();
    let mut draw = Draw(seed);
    let (case, truth) = killed_store(seed);
    let mut outcomes: BTreeMap<&str, u32> = BTreeMap::new();
    for number in 0..if campaign() { 200 } else { 12 } {
        let outcome = read_damaged(case.dir(), &truth, |dir| {
            let path = dir.join("app.redb-log");
            let mut bytes = std::fs::read(&path).unwrap();
            let from = bytes.len() - 1 - draw.below(bytes.len() as u64 - 1) as usize;
            if number % 2 == 0 {
                bytes.truncate(from);
            } else {
                let end = bytes.len().min(from + 4_096);
                bytes[from..end].fill(0xA5);
            }
            std::fs::write(&path, bytes).unwrap();
        });
        let outcome = outcome.unwrap_or_else(|fault| panic!("STANCHION_SEED={seed}, tear {number}: {fault}"));
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("seed {seed}: {outcomes:?}");
}

#[test]
fn a_store_that_lost_an_entity_is_not_taken_for_whole() {
    // Negative control: the comparison sees what is missing.
    let (case, mut truth) = killed_store(3);
    truth.whole.insert(Name::new("account", "never").unwrap(), Loaded::default());
    let fault = read_damaged(case.dir(), &truth, |_| ()).unwrap_err();
    assert!(fault.contains("account/never"), "{fault}");
}
