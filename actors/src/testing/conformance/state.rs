//! States, events, snapshots.

use super::prelude::*;

fn tail_versions(loaded: &Loaded) -> Vec<u64> {
    loaded.tail.iter().map(|entry| entry.head.version.0).collect()
}

fn snapshot_version(loaded: &Loaded) -> Option<u64> {
    loaded.checkpoint.as_ref().map(|checkpoint| checkpoint.head.version.0)
}

pub(super) async fn the_last_state_is_the_checkpoint(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    for state in [b"one".as_slice(), b"two", b"three"] {
        let entry = a.state(state);
        rig.put(&a, entry).await?;
    }
    for _ in ROUNDS {
        let loaded = rig.loaded(a.entity()).await?;
        same("state", &rig.state(a.entity()).await?, &Bytes::from_static(b"three"))?;
        same("checkpoint", &snapshot_version(&loaded), &Some(3))?;
        same("tail", &loaded.tail, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn events_without_a_snapshot_come_back_as_the_tail(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut written = Vec::new();
    for i in 0..30_u8 {
        let entry = a.events(&[&[i], &[i, i]], None);
        written.push(entry.clone());
        rig.put(&a, entry).await?;
    }
    for _ in ROUNDS {
        let loaded = rig.loaded(a.entity()).await?;
        same("checkpoint", &loaded.checkpoint, &None)?;
        same("tail", &loaded.tail, &written)?;
        same("version", &rig.version(a.entity()).await?, &30)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_snapshot_cuts_the_tail(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    for i in 1..=25_u8 {
        let snapshot = [i];
        let entry = a.events(&[&[i]], (i % 10 == 0).then_some(snapshot.as_slice()));
        rig.put(&a, entry).await?;
    }
    for _ in ROUNDS {
        let loaded = rig.loaded(a.entity()).await?;
        same("checkpoint", &snapshot_version(&loaded), &Some(20))?;
        same("state", &rig.state(a.entity()).await?, &Bytes::from_static(&[20]))?;
        same("tail", &tail_versions(&loaded), &(21..=25).collect())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_snapshot_may_lie_within_a_chain(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entries: Vec<Entry> =
        (1..=9_u8).map(|i| a.events(&[&[i]], (i == 4).then_some(b"four".as_slice()))).collect();
    rig.put_all(&a, entries).await?;
    for _ in ROUNDS {
        let loaded = rig.loaded(a.entity()).await?;
        same("checkpoint", &snapshot_version(&loaded), &Some(4))?;
        same("tail", &tail_versions(&loaded), &(5..=9).collect())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_snapshot_at_the_last_entry_leaves_no_tail(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entries = vec![a.events(&[b"1"], None), a.events(&[b"2"], Some(b"s"))];
    rig.put_all(&a, entries).await?;
    for _ in ROUNDS {
        let loaded = rig.loaded(a.entity()).await?;
        same("tail", &loaded.tail, &vec![])?;
        same("version", &loaded.head().map(|h| h.version), &Some(Version(2)))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_entry_without_events_counts_as_a_version(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entries = vec![a.events(&[], None).with_row(b"k", b"v"), a.events(&[], None).with_timer("t", 5)];
    rig.put_all(&a, entries).await?;
    for _ in ROUNDS {
        same("version", &rig.version(a.entity()).await?, &2)?;
        same("rows", &rig.rows(a.entity(), b"", b"", 9).await?.len(), &1)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_empty_state_is_a_state(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("state", &rig.state(a.entity()).await?, &Bytes::new())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_unknown_entity_loads_nothing(rig: &mut Rig) -> Check {
    same("loaded", &rig.load(EntityId(1 << 40)).await?, &None)
}

pub(super) async fn an_entity_without_entries_loads_nothing(rig: &mut Rig) -> Check {
    let a = rig.own("a").await?;
    same("loaded", &rig.load(a.entity()).await?, &None)
}

pub(super) async fn a_large_snapshot_comes_back(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let snapshot = vec![3; ROW_MAX_BYTES];
    let entries = vec![a.events(&[b"1"], Some(&snapshot))];
    rig.put_all(&a, entries).await?;
    let entry = a.events(&[b"2"], None);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        holds(rig.state(a.entity()).await? == snapshot, "the snapshot is the one written")?;
        same("tail", &tail_versions(&rig.loaded(a.entity()).await?), &vec![2])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn what_an_entry_carries_comes_back_in_the_tail(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut entry = a.events(&[b"1"], None).with_row(b"k", b"v").with_message(1, &name("b")).with_effect("e");
    entry.cause = Cause {
        traceparent: Some("00-11-22-01".into()),
        correlation: Some("order 7".into()),
        causation: Some("cmd 8".into()),
    };
    rig.put(&a, entry.clone()).await?;
    for _ in ROUNDS {
        same("tail", &rig.loaded(a.entity()).await?.tail, &vec![entry.clone()])?;
        rig.reopen().await?;
    }
    Ok(())
}
