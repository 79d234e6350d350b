//! Atomic records: all chains or none.

use super::prelude::*;

async fn three(rig: &Rig) -> Result<Vec<Owned>, String> {
    let mut owned = Vec::new();
    for key in ["a", "b", "c"] {
        owned.push(rig.own(key).await?);
    }
    Ok(owned)
}

fn atomic(owned: &mut [Owned], state: &[u8]) -> Result<Record, String> {
    let chains = owned.iter_mut().map(|own| {
        let (expect, entry) = (own.version, own.state(state).with_row(state, state));
        chain(own.token, expect, vec![entry])
    });
    Ok(Record::Atomic(chains.collect::<Result<_, _>>()?))
}

async fn all_at(rig: &Rig, owned: &[Owned], version: u64, rows: usize) -> Check {
    for own in owned {
        same("version", &rig.version(own.entity()).await?, &version)?;
        same("rows", &rig.rows(own.entity(), b"", b"", 10).await?.len(), &rows)?;
    }
    Ok(())
}

pub(super) async fn an_atomic_record_applies_all_its_chains(rig: &mut Rig) -> Check {
    let mut owned = three(rig).await?;
    rig.apply(atomic(&mut owned, b"1")?).await?;
    rig.apply(atomic(&mut owned, b"2")?).await?;
    for _ in ROUNDS {
        all_at(rig, &owned, 2, 2).await?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn one_fenced_chain_fences_the_atomic_record(rig: &mut Rig) -> Check {
    for stale in 0..3 {
        let mut owned = three(rig).await?;
        let now = rig.activate(owned.get(stale).ok_or("three")?.entity()).await?;
        let outcome = rig.outcome(atomic(&mut owned, b"1")?).await?;
        same("outcome", &outcome, &Outcome::Fenced { activation: now.activation })?;
        all_at(rig, &owned, 0, 0).await?;
    }
    rig.reopen().await?;
    let owned = three(rig).await?;
    all_at(rig, &owned, 0, 0).await
}

pub(super) async fn one_chain_in_conflict_stops_the_atomic_record(rig: &mut Rig) -> Check {
    for wrong in 0..3 {
        let mut owned = three(rig).await?;
        owned.get_mut(wrong).ok_or("three")?.version = 4;
        let outcome = rig.outcome(atomic(&mut owned, b"1")?).await?;
        same("outcome", &outcome, &Outcome::Conflict { found: Version(0) })?;
        all_at(rig, &owned, 0, 0).await?;
    }
    rig.reopen().await?;
    let owned = three(rig).await?;
    all_at(rig, &owned, 0, 0).await
}

pub(super) async fn an_atomic_record_takes_a_position_for_each_entry(rig: &mut Rig) -> Check {
    let mut owned = three(rig).await?;
    same("position", &rig.apply(atomic(&mut owned, b"1")?).await?, &Position(3))?;
    same("position", &rig.apply(atomic(&mut owned, b"2")?).await?, &Position(6))?;
    same("position", &rig.store()?.position(), &Position(6))
}

pub(super) async fn two_chains_of_one_entity_are_not_atomic(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let one = chain(a.token, 0, vec![a.state(b"1")])?;
    let two = chain(a.token, 1, vec![a.state(b"2")])?;
    let outcome = rig.submit(Record::Atomic(vec![one, two])).await?;
    holds(matches!(outcome, Err(StoreError::NotApplied(_))), "it is answered NotApplied")?;
    same("version", &rig.version(a.entity()).await?, &0)
}

pub(super) async fn an_atomic_record_without_chains_is_not_applied(rig: &mut Rig) -> Check {
    let outcome = rig.submit(Record::Atomic(Vec::new())).await?;
    holds(matches!(outcome, Err(StoreError::NotApplied(_))), "it is answered NotApplied")
}

pub(super) async fn an_atomic_record_of_many_entities_applies(rig: &mut Rig) -> Check {
    let mut owned = Vec::new();
    for i in 0..64 {
        owned.push(rig.own(&format!("e{i}")).await?);
    }
    rig.apply(atomic(&mut owned, b"1")?).await?;
    for _ in ROUNDS {
        all_at(rig, &owned, 1, 1).await?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn atomic_records_keep_their_place_between_chains(rig: &mut Rig) -> Check {
    let mut owned = three(rig).await?;
    let mut pending = Vec::new();
    for i in 0..20_u8 {
        pending.push(rig.start(atomic(&mut owned, &[i])?)?);
        let own = owned.get_mut(usize::from(i) % 3).ok_or("three")?;
        let (expect, entry) = (own.version, own.state(&[i]));
        pending.push(rig.start(Record::Chain(chain(own.token, expect, vec![entry])?))?);
    }
    for outcome in pending {
        applied(outcome_of(outcome).await?)?;
    }
    for own in &owned {
        same("version", &rig.version(own.entity()).await?, &own.version)?;
    }
    Ok(())
}

pub(super) async fn a_message_moves_atomically_between_entities(rig: &mut Rig) -> Check {
    let (mut a, mut b) = (rig.own("a").await?, rig.own("b").await?);
    let entry = a.state(b"1").with_message(1, &b.name);
    rig.put(&a, entry).await?;
    let back = chain(b.token, 0, vec![b.state(b"1").consuming(a.entity(), 1).with_message(1, &a.name)])?;
    let on = chain(a.token, 1, vec![a.state(b"2").with_message(2, &b.name)])?;
    rig.apply(Record::Atomic(vec![back, on])).await?;
    for _ in ROUNDS {
        let pending = |loaded: Loaded| loaded.messages.iter().map(|m| m.seq).collect::<Vec<_>>();
        same("of a", &pending(rig.loaded(a.entity()).await?), &vec![2])?;
        same("of b", &pending(rig.loaded(b.entity()).await?), &vec![1])?;
        rig.reopen().await?;
    }
    Ok(())
}
