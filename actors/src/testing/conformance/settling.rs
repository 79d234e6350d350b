//! Completions, positions, counters, the end.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::prelude::*;

pub(super) async fn every_record_is_answered_exactly_once(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let calls = Arc::new(AtomicUsize::new(0));
    for i in 0..500 {
        if i % 10 == 0 {
            a.version += u64::from(i % 20 == 0);
        }
        let entry = a.state(b"x");
        let calls = Arc::clone(&calls);
        let done = Box::new(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
        });
        rig.store()?.submit(record(&a, vec![entry])?, done).map_err(|r| format!("{:?}", r.why))?;
    }
    rig.activate(a.entity()).await?;
    within(rig.store()?.close()).await?.map_err(said)?;
    same("calls", &calls.load(Ordering::SeqCst), &500)
}

pub(super) async fn completions_come_in_the_order_of_submission(rig: &mut Rig) -> Check {
    let mut owned = [rig.own("a").await?, rig.own("b").await?];
    let seen = Arc::new(Mutex::new(Vec::new()));
    for i in 0..300 {
        for (which, own) in owned.iter_mut().enumerate() {
            let entry = own.state(b"x");
            let seen = Arc::clone(&seen);
            let done = Box::new(move |_| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((which, i));
            });
            rig.store()?.submit(record(own, vec![entry])?, done).map_err(|r| format!("{:?}", r.why))?;
        }
    }
    for own in &owned {
        rig.activate(own.entity()).await?;
    }
    within(rig.store()?.close()).await?.map_err(said)?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for which in 0..2 {
        let order: Vec<i32> = seen.iter().filter(|(w, _)| *w == which).map(|(_, i)| *i).collect();
        same("order", &order, &(0..300).collect())?;
    }
    Ok(())
}

pub(super) async fn what_is_answered_can_be_read(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    for i in 0..100_u8 {
        let entry = a.state(&[i]).with_row(b"k", &[i]);
        rig.put(&a, entry).await?;
        let value = Bytes::copy_from_slice(&[i]);
        same("state", &rig.state(a.entity()).await?, &value)?;
        same("row", &rig.rows(a.entity(), b"", b"", 1).await?, &vec![(Bytes::from_static(b"k"), value)])?;
    }
    Ok(())
}

pub(super) async fn positions_are_dense_from_one(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    same("before", &rig.store()?.position(), &Position(0))?;
    let mut last = 0;
    for count in [1, 3, 256, 2] {
        let entries = (0..count).map(|_| a.state(b"x")).collect();
        last += count;
        same("position", &rig.put_all(&a, entries).await?, &Position(last))?;
    }
    let item = inbox_item(&a.name, 1, b"p");
    let others = [
        Record::Inbox { entity: a.entity(), item },
        Record::Done { sender: a.entity(), seq: 5 },
        Record::Definition { hash: [1; 32], bytes: Bytes::from_static(b"d") },
        Record::Purge { token: a.token },
    ];
    for record in others {
        last += 1;
        same("position", &rig.apply(record).await?, &Position(last))?;
        same("of the store", &rig.store()?.position(), &Position(last))?;
    }
    Ok(())
}

pub(super) async fn what_does_not_apply_takes_no_position(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry.clone()).await?;
    rig.outcome(record(&a, vec![entry])?).await?;
    let stale = a.clone();
    rig.own_again(&mut a).await?;
    let entry = a.state(b"y");
    rig.outcome(record(&stale, vec![entry.clone()])?).await?;
    same("position", &rig.put(&a, entry).await?, &Position(2))
}

pub(super) async fn positions_go_on_after_reopening(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    for expected in 1..=5 {
        let entry = a.state(b"x");
        same("position", &rig.put(&a, entry).await?, &Position(expected))?;
        rig.settle().await?;
        rig.reopen().await?;
        same("of the store", &rig.store()?.position(), &Position(expected))?;
        rig.own_again(&mut a).await?;
    }
    Ok(())
}

pub(super) async fn the_counters_add_up(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entries = (0..4).map(|_| a.state(b"x")).collect();
    rig.put_all(&a, entries).await?;
    rig.put(&a, state_entry(&a.name, 5, b"y")).await?;
    rig.outcome(record(&a, vec![state_entry(&a.name, 9, b"gap")])?).await?;
    let stale = a.clone();
    rig.own_again(&mut a).await?;
    for _ in 0..2 {
        rig.outcome(record(&stale, vec![state_entry(&a.name, 6, b"z")])?).await?;
    }
    rig.submit(Record::Atomic(Vec::new())).await?.err().ok_or("an empty atomic record applied")?;
    let stats = rig.store()?.stats();
    same("applied", &stats.applied, &2)?;
    same("entries", &stats.entries, &5)?;
    same("conflicts", &stats.conflicts, &1)?;
    same("fenced", &stats.fenced, &2)?;
    same("failed", &stats.failed, &1)?;
    same("refused", &stats.refused, &0)?;
    holds(stats.commits >= 1 && stats.bytes > 0, "commits and bytes are counted")
}

pub(super) async fn every_submission_is_counted_once(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let (mut pending, mut handed_back) = (Vec::new(), 0);
    for i in 0..400_u64 {
        a.version += u64::from(i % 50 == 49);
        let entry = a.state(b"x");
        match rig.start(record(&a, vec![entry])?) {
            Ok(outcome) => pending.push(outcome),
            Err(_) => handed_back += 1,
        }
    }
    for outcome in pending {
        // Applied or in conflict: here only that it is counted matters.
        drop(outcome_of(outcome).await?);
    }
    let stats = rig.store()?.stats();
    same("refused", &stats.refused, &handed_back)?;
    let sum = stats.applied + stats.fenced + stats.conflicts + stats.failed + stats.refused;
    same("sum", &sum, &400)
}

pub(super) async fn close_settles_what_was_handed_over(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut pending = Vec::new();
    for i in 0..100_u8 {
        let entry = a.state(&[i]);
        pending.push(rig.start(record(&a, vec![entry])?)?);
    }
    within(rig.store()?.close()).await?.map_err(said)?;
    for mut outcome in pending {
        applied(outcome.try_recv().map_err(|_| "close answered before a record did")?)?;
    }
    rig.reopen().await?;
    same("version", &rig.version(a.entity()).await?, &100)?;
    same("state", &rig.state(a.entity()).await?, &Bytes::from_static(&[99]))
}

pub(super) async fn after_close_records_are_handed_back(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    within(rig.store()?.close()).await?.map_err(said)?;
    let entry = a.state(b"x");
    let refused = rig.store()?.submit(record(&a, vec![entry])?, Box::new(|_| ()));
    let refused = refused.err().ok_or("the store took a record after close")?;
    same("why", &refused.why, &RefusedWhy::Closed)?;
    holds(matches!(refused.record, Record::Chain(_)), "the record itself comes back")?;
    holds(rig.store()?.poisoned().is_some(), "the store says why")
}

pub(super) async fn closing_twice_is_closing_once(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    for _ in 0..2 {
        within(rig.store()?.close()).await?.map_err(said)?;
    }
    rig.reopen().await?;
    same("version", &rig.version(a.entity()).await?, &1)
}

pub(super) async fn a_sound_store_is_not_poisoned(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry.clone()).await?;
    rig.outcome(record(&a, vec![entry])?).await?;
    same("poisoned", &rig.store()?.poisoned(), &None)
}

pub(super) async fn several_threads_submit_at_once(rig: &mut Rig) -> Check {
    let mut owned = Vec::new();
    for i in 0..4 {
        owned.push(rig.own(&format!("e{i}")).await?);
    }
    let this = &*rig;
    let pending = std::thread::scope(|scope| {
        let submit = |own: &mut Owned| -> Result<Vec<Pending>, String> {
            (0..100)
                .map(|_| {
                    let entry = own.state(b"x");
                    this.start(record(own, vec![entry])?)
                })
                .collect()
        };
        let threads: Vec<_> = owned.iter_mut().map(|own| scope.spawn(move || submit(own))).collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(|_| "a thread panicked".to_owned())?)
            .collect::<Result<Vec<_>, _>>()
    })?;
    let mut positions = std::collections::BTreeSet::new();
    for outcome in pending.into_iter().flatten() {
        positions.insert(applied(outcome_of(outcome).await?)?);
    }
    same("positions", &positions, &(1..=400).map(Position).collect())?;
    for _ in ROUNDS {
        for own in &owned {
            same("version", &rig.version(own.entity()).await?, &100)?;
        }
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn what_was_answered_survives_a_crash_amid_writing(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut acked = 0;
    for _ in 0..5 {
        let mut pending = Vec::new();
        for _ in 0..100 {
            let entry = a.state(b"x").with_row(&a.version.to_be_bytes(), b"v");
            pending.push(rig.start(record(&a, vec![entry])?)?);
        }
        for outcome in pending.drain(..50) {
            applied(outcome_of(outcome).await?)?;
            acked += 1;
        }
        rig.reopen().await?;
        for outcome in pending {
            acked += u64::from(matches!(outcome.await, Ok(Ok(Outcome::Applied { .. }))));
        }
        let found = rig.version(a.entity()).await?;
        holds(found >= acked && found <= a.version, "nothing acknowledged is lost, nothing is invented")?;
        let rows = rig.rows(a.entity(), b"", b"", 10_000).await?;
        same("rows", &(rows.len() as u64), &found)?;
        same("kept", &(rig.kept(a.entity()).await?.1.len() as u64), &found)?;
        rig.own_again(&mut a).await?;
        (a.version, acked) = (found, found);
    }
    Ok(())
}
