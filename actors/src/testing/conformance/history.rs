//! Entries read back, and how long they are kept.

use super::prelude::*;

/// Entries that may stay beyond the asked number, as trimming is done in passing.
const SLACK: u64 = 1024;

async fn states(rig: &Rig, count: u64, history: History) -> Result<Owned, String> {
    let mut a = rig.own("a").await?;
    for _ in 0..count.div_ceil(100) {
        let left = (count - a.version).min(100);
        let entries = (0..left).map(|_| {
            let entry = a.state(b"some state of some size");
            let version = i64::try_from(a.version).unwrap_or(i64::MAX);
            entry.keeping(history).at(version * 1000)
        });
        let entries = entries.collect();
        rig.put_all(&a, entries).await?;
    }
    Ok(a)
}

fn versions(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.head.version.0).collect()
}

fn page(page: HistoryPage) -> Result<Vec<u64>, String> {
    match page {
        HistoryPage::Entries(entries) => Ok(versions(&entries)),
        HistoryPage::Truncated { first } => Err(format!("truncated to {first}")),
    }
}

pub(super) async fn forever_keeps_every_entry(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let written: Vec<Entry> = (0..250_u8).map(|i| a.state(&[i]).with_row(&[i], b"v")).collect();
    rig.put_all(&a, written.clone()).await?;
    for _ in ROUNDS {
        rig.settle().await?;
        same("kept", &rig.kept(a.entity()).await?, &(1, written.clone()))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn history_starts_at_the_asked_version(rig: &mut Rig) -> Check {
    let a = states(rig, 20, History::Forever).await?;
    for _ in ROUNDS {
        same("from 15", &page(rig.history(a.entity(), 15, 100).await?)?, &(15..=20).collect())?;
        same("from 20", &page(rig.history(a.entity(), 20, 100).await?)?, &vec![20])?;
        same("from 0", &page(rig.history(a.entity(), 0, 2).await?)?, &vec![1, 2])?;
        rig.settle().await?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn at_most_the_asked_number_of_entries_comes(rig: &mut Rig) -> Check {
    let a = states(rig, 20, History::Forever).await?;
    for _ in ROUNDS {
        let read = page(rig.history(a.entity(), 3, 5).await?)?;
        holds(!read.is_empty() && read.len() <= 5, "between one and five entries come")?;
        same("first", &read.first(), &Some(&3))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn beyond_the_last_entry_there_is_nothing(rig: &mut Rig) -> Check {
    let a = states(rig, 3, History::Forever).await?;
    for _ in ROUNDS {
        same("beyond", &page(rig.history(a.entity(), 4, 10).await?)?, &vec![])?;
        same("far beyond", &page(rig.history(a.entity(), u64::MAX, 10).await?)?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_unknown_entity_has_no_history(rig: &mut Rig) -> Check {
    same("history", &page(rig.history(EntityId(1 << 40), 1, 10).await?)?, &vec![])
}

pub(super) async fn history_of_neighbours_is_apart(rig: &mut Rig) -> Check {
    let mut owned = Vec::new();
    for key in ["a", "b", "c"] {
        let mut own = rig.own(key).await?;
        let entries = (0..5).map(|_| own.state(key.as_bytes())).collect();
        rig.put_all(&own, entries).await?;
        owned.push(own);
    }
    for _ in ROUNDS {
        for own in &owned {
            let (_, kept) = rig.kept(own.entity()).await?;
            same("versions", &versions(&kept), &(1..=5).collect())?;
            holds(kept.iter().all(|e| e.head.name == own.name), "the entries are its own")?;
        }
        rig.settle().await?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn none_keeps_no_entry_with_a_state(rig: &mut Rig) -> Check {
    let a = states(rig, 300, History::None).await?;
    for _ in ROUNDS {
        let first = HistoryPage::Truncated { first: Version(301) };
        same("history", &rig.history(a.entity(), 1, 10).await?, &first)?;
        same("beyond", &page(rig.history(a.entity(), 301, 10).await?)?, &vec![])?;
        same("version", &rig.version(a.entity()).await?, &300)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn none_keeps_the_events_that_recovery_needs(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entries =
        (1..=8_u8).map(|i| a.events(&[&[i]], (i == 5).then_some(b"five".as_slice())).keeping(History::None));
    let entries = entries.collect();
    rig.put_all(&a, entries).await?;
    for _ in ROUNDS {
        rig.settle().await?;
        same("tail", &versions(&rig.loaded(a.entity()).await?.tail), &vec![6, 7, 8])?;
        rig.reopen().await?;
    }
    Ok(())
}

async fn keeps_last(rig: &mut Rig, count: u64, kept_min: u64, history: History) -> Check {
    let a = states(rig, count, history).await?;
    for _ in ROUNDS {
        let (first, kept) = rig.kept(a.entity()).await?;
        holds(first <= count + 1 - kept_min, "enough entries are kept")?;
        same("kept", &versions(&kept), &(first..=count).collect())?;
        rig.settle().await?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn last_keeps_at_least_the_asked_number(rig: &mut Rig) -> Check {
    keeps_last(rig, 500, 10, History::Last(10)).await
}

pub(super) async fn last_keeps_all_while_there_are_fewer(rig: &mut Rig) -> Check {
    keeps_last(rig, 9, 9, History::Last(10)).await
}

pub(super) async fn a_duration_keeps_what_is_younger(rig: &mut Rig) -> Check {
    keeps_last(rig, 500, 20, History::ForMicros(20_000)).await
}

async fn trims(rig: &mut Rig, history: History) -> Check {
    let a = states(rig, 3 * SLACK, history).await?;
    rig.settle().await?;
    for _ in ROUNDS {
        let (first, kept) = rig.kept(a.entity()).await?;
        holds(kept.len() as u64 <= 10 + SLACK, "older entries are trimmed")?;
        holds(first > 1, "the first kept version says so")?;
        same("version", &rig.version(a.entity()).await?, &(3 * SLACK))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn last_trims_older_entries(rig: &mut Rig) -> Check {
    trims(rig, History::Last(10)).await
}

pub(super) async fn a_duration_trims_older_entries(rig: &mut Rig) -> Check {
    trims(rig, History::ForMicros(10_000)).await
}

pub(super) async fn trimming_never_cuts_the_tail_that_recovery_needs(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.events(&[b"0"], Some(b"s")).keeping(History::Last(2));
    rig.put(&a, entry).await?;
    let entries = (0..200).map(|_| a.events(&[b"e"], None).keeping(History::Last(2))).collect();
    rig.put_all(&a, entries).await?;
    for _ in ROUNDS {
        rig.settle().await?;
        same("tail", &versions(&rig.loaded(a.entity()).await?.tail), &(2..=201).collect())?;
        rig.reopen().await?;
    }
    Ok(())
}
