//! Chains: versions, order, all or nothing.

use super::prelude::*;

pub(super) async fn the_first_entry_is_version_one(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("version", &rig.version(a.entity()).await?, &1)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_gap_is_a_conflict(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    a.version = 5;
    let entry = a.state(b"x");
    let outcome = rig.outcome(record(&a, vec![entry])?).await?;
    same("outcome", &outcome, &Outcome::Conflict { found: Version(0) })?;
    for _ in ROUNDS {
        same("loaded", &rig.load(a.entity()).await?, &None)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_version_written_twice_is_a_conflict(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"first");
    rig.put(&a, entry).await?;
    a.version = 0;
    let entry = a.state(b"second").with_row(b"k", b"v").with_timer("t", 1);
    let outcome = rig.outcome(record(&a, vec![entry])?).await?;
    same("outcome", &outcome, &Outcome::Conflict { found: Version(1) })?;
    for _ in ROUNDS {
        same("state", &rig.state(a.entity()).await?, &Bytes::from_static(b"first"))?;
        same("rows", &rig.rows(a.entity(), b"", b"", 10).await?, &vec![])?;
        same("due", &rig.due(i64::MAX, None, 10).await?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_chain_of_256_entries_applies_whole(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entries: Vec<Entry> = (0..=255_u8).map(|i| a.state(&[i]).with_row(&[i], &[i])).collect();
    let position = rig.put_all(&a, entries).await?;
    same("position", &position, &Position(256))?;
    for _ in ROUNDS {
        same("version", &rig.version(a.entity()).await?, &256)?;
        same("state", &rig.state(a.entity()).await?, &Bytes::from_static(&[255]))?;
        same("rows", &rig.rows(a.entity(), b"", b"", 1000).await?.len(), &256)?;
        same("kept", &rig.kept(a.entity()).await?.1.len(), &256)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_chain_in_conflict_applies_none_of_its_entries(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"1");
    rig.put(&a, entry).await?;
    a.version = 0;
    let entries: Vec<Entry> = (0..5_u8).map(|i| a.state(&[i]).with_row(&[i], &[i])).collect();
    let outcome = rig.outcome(record(&a, entries)?).await?;
    same("outcome", &outcome, &Outcome::Conflict { found: Version(1) })?;
    for _ in ROUNDS {
        same("version", &rig.version(a.entity()).await?, &1)?;
        same("rows", &rig.rows(a.entity(), b"", b"", 10).await?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn chains_submitted_without_waiting_apply_in_order(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut pending = Vec::new();
    for i in 0..200_u8 {
        let entry = a.state(&[i]);
        pending.push(rig.start(record(&a, vec![entry])?)?);
    }
    let mut last = Position(0);
    for outcome in pending {
        let position = applied(outcome_of(outcome).await?)?;
        holds(position > last, "positions rise with the order of submission")?;
        last = position;
    }
    for _ in ROUNDS {
        same("state", &rig.state(a.entity()).await?, &Bytes::from_static(&[199]))?;
        let versions: Vec<u64> = rig.kept(a.entity()).await?.1.iter().map(|e| e.head.version.0).collect();
        same("versions", &versions, &(1..=200).collect())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn after_a_conflict_the_right_chain_applies(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let (first, second) = (a.state(b"1"), a.state(b"2"));
    let early = rig.start(record(&a, vec![second.clone()])?)?;
    let right = rig.start(record(&a, vec![first])?)?;
    let again = rig.start(record(&a, vec![second])?)?;
    same("early", &outcome_of(early).await?, &Ok(Outcome::Conflict { found: Version(0) }))?;
    applied(outcome_of(right).await?)?;
    applied(outcome_of(again).await?)?;
    same("state", &rig.state(a.entity()).await?, &Bytes::from_static(b"2"))
}

pub(super) async fn a_chain_without_entries_is_not_applied(rig: &mut Rig) -> Check {
    let a = rig.own("a").await?;
    let outcome = rig.submit(Record::Chain(Chain::new(a.token, Version(0)))).await?;
    holds(matches!(outcome, Err(StoreError::NotApplied(_))), "an empty chain is answered NotApplied")?;
    same("position", &rig.store()?.position(), &Position(0))
}

pub(super) async fn a_state_of_the_greatest_size_comes_back(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let state: Vec<u8> = (0..STATE_MAX_BYTES).map(|i| (i % 251) as u8).collect();
    let entry = a.state(&state);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        holds(rig.state(a.entity()).await? == state, "the state is the one written")?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_entry_larger_than_a_chain_applies_alone(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let row = vec![7; ROW_MAX_BYTES];
    let entry = a.state(b"x").with_row(b"k1", &row).with_row(b"k2", &row);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let rows = rig.rows(a.entity(), b"", b"", 10).await?;
        holds(rows.iter().all(|(_, value)| *value == row) && rows.len() == 2, "both rows come back")?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn entities_do_not_disturb_each_other(rig: &mut Rig) -> Check {
    let mut owned = Vec::new();
    for i in 0..8 {
        owned.push(rig.own(&format!("e{i}")).await?);
    }
    let mut pending = Vec::new();
    for round in 0..25_u8 {
        for own in &mut owned {
            let entry = own.state(&[round, own.entity().0 as u8]).with_row(&[round], b"v");
            pending.push(rig.start(record(own, vec![entry])?)?);
        }
    }
    for outcome in pending {
        applied(outcome_of(outcome).await?)?;
    }
    for _ in ROUNDS {
        for own in &owned {
            let expected = Bytes::copy_from_slice(&[24, own.entity().0 as u8]);
            same("state", &rig.state(own.entity()).await?, &expected)?;
            same("rows", &rig.rows(own.entity(), b"", b"", 100).await?.len(), &25)?;
        }
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn the_head_comes_back_whole(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut entry = a.state(b"x").with_status("open").keeping(History::Last(9)).at(-5);
    entry.head.schema = 513;
    entry.head.next_message = 77;
    entry.head.next_effect = 1 << 40;
    let head = entry.head.clone();
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("head", &rig.loaded(a.entity()).await?.head().cloned(), &Some(head.clone()))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn writing_goes_on_after_reopening(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    for i in 0..5_u8 {
        let entry = a.state(&[i]);
        rig.put(&a, entry).await?;
        rig.reopen().await?;
        rig.own_again(&mut a).await?;
        same("version", &rig.version(a.entity()).await?, &a.version)?;
    }
    Ok(())
}
