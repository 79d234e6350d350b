//! Activation, release, fencing.

use super::prelude::*;

pub(super) async fn activation_of_an_unknown_number_is_missing(rig: &mut Rig) -> Check {
    let answer = rig.store()?.activate(EntityId(1 << 40), rig.me).await.map_err(said)?;
    same("answer", &answer, &Activated::Missing)
}

pub(super) async fn a_token_names_its_entity_and_this_boot(rig: &mut Rig) -> Check {
    let entity = rig.create(&name("a")).await?;
    let token = rig.activate(entity).await?;
    same("entity", &token.entity, &entity)?;
    same("boot", &token.boot, &rig.store()?.caps().boot)
}

pub(super) async fn each_activation_raises_the_number(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    let (entity, mut last) = (a.entity(), a.token.activation);
    for i in 0..10 {
        let token = rig.activate(entity).await?;
        holds(token.activation > last, "the activation number rises")?;
        last = token.activation;
        if i % 2 == 0 {
            rig.release(token).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_chain_under_an_older_activation_is_fenced(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let (stale, now) = (a.clone(), rig.activate(a.entity()).await?);
    let entry = a.state(b"stale");
    let outcome = rig.outcome(record(&stale, vec![entry.clone()])?).await?;
    same("outcome", &outcome, &Outcome::Fenced { activation: now.activation })?;
    same("version", &rig.version(a.entity()).await?, &0)?;
    a.token = now;
    rig.put(&a, entry).await?;
    same("version", &rig.version(a.entity()).await?, &1)
}

pub(super) async fn a_fenced_chain_of_a_wrong_version_is_fenced(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let stale = a.clone();
    rig.own_again(&mut a).await?;
    a.version = 7;
    let entry = a.state(b"x");
    let outcome = rig.outcome(record(&stale, vec![entry])?).await?;
    same("outcome", &outcome, &Outcome::Fenced { activation: a.token.activation })
}

pub(super) async fn a_released_token_is_fenced(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    rig.release(a.token).await?;
    let entry = a.state(b"x");
    let outcome = rig.outcome(record(&a, vec![entry])?).await?;
    holds(matches!(outcome, Outcome::Fenced { .. }), "a chain after the release is fenced")?;
    same("version", &rig.version(a.entity()).await?, &0)
}

pub(super) async fn a_released_entity_may_be_activated_by_another_life(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    rig.release(a.token).await?;
    rig.me = Incarnation(2);
    rig.own_again(&mut a).await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await.map(|_| ())
}

pub(super) async fn a_release_lets_earlier_chains_apply(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut pending = Vec::new();
    for _ in 0..20 {
        let entry = a.state(b"x");
        pending.push(rig.start(record(&a, vec![entry])?)?);
    }
    rig.release(a.token).await?;
    for outcome in pending {
        applied(outcome_of(outcome).await?)?;
    }
    same("version", &rig.version(a.entity()).await?, &20)
}

pub(super) async fn an_activation_answers_after_earlier_chains_are_settled(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut pending = Vec::new();
    for _ in 0..50 {
        let entry = a.state(b"x");
        pending.push(rig.start(record(&a, vec![entry])?)?);
    }
    rig.activate(a.entity()).await?;
    let mut applied_before = 0;
    for mut outcome in pending {
        match outcome.try_recv() {
            Ok(Ok(Outcome::Applied { .. })) => applied_before += 1,
            Ok(Ok(Outcome::Fenced { .. })) => {}
            other => return Err(format!("a chain before the activation is not settled: {other:?}")),
        }
    }
    same("version", &rig.version(a.entity()).await?, &applied_before)
}

pub(super) async fn a_token_of_an_older_boot_is_fenced(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    let stale = a.clone();
    rig.reopen().await?;
    let entry = a.state(b"y");
    let outcome = rig.outcome(record(&stale, vec![entry.clone()])?).await?;
    holds(matches!(outcome, Outcome::Fenced { .. }), "a token of the boot before is fenced")?;
    rig.own_again(&mut a).await?;
    holds(a.token.boot > stale.token.boot, "the boot number rises")?;
    let outcome = rig.outcome(record(&stale, vec![entry.clone()])?).await?;
    holds(matches!(outcome, Outcome::Fenced { .. }), "and stays fenced")?;
    rig.put(&a, entry).await.map(|_| ())
}

pub(super) async fn at_most_one_of_two_lives_may_write(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let answer = rig.store()?.activate(a.entity(), Incarnation(2)).await.map_err(said)?;
    let entry = a.state(b"x");
    let outcome = rig.outcome(record(&a, vec![entry])?).await?;
    match answer {
        Activated::Held { owner } => {
            same("owner", &owner, &rig.me)?;
            holds(matches!(outcome, Outcome::Applied { .. }), "the owner may write")
        }
        Activated::Granted(token) => {
            same("outcome", &outcome, &Outcome::Fenced { activation: token.activation })
        }
        Activated::Missing => Err("the entity was created".into()),
    }
}

pub(super) async fn releasing_a_stale_token_takes_nothing_back(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let stale = a.token;
    rig.own_again(&mut a).await?;
    rig.release(stale).await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await.map(|_| ())
}

pub(super) async fn releasing_twice_does_no_harm(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    rig.release(a.token).await?;
    rig.release(a.token).await?;
    rig.own_again(&mut a).await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await.map(|_| ())
}

pub(super) async fn an_invented_token_is_fenced(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    for activation in [0, a.token.activation + 1, u64::MAX] {
        let forged = Owned { token: Token { activation, ..a.token }, ..a.clone() };
        let outcome = rig.outcome(record(&forged, vec![entry.clone()])?).await?;
        same("outcome", &outcome, &Outcome::Fenced { activation: a.token.activation })?;
    }
    let unowned = rig.create(&name("b")).await?;
    let forged = Token { entity: unowned, boot: a.token.boot, activation: 0 };
    let chain = chain(forged, 0, vec![state_entry(&name("b"), 1, b"x")])?;
    let outcome = rig.outcome(Record::Chain(chain)).await?;
    holds(matches!(outcome, Outcome::Fenced { .. }), "who was never activated is fenced")
}

pub(super) async fn activating_one_entity_leaves_the_others(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    for i in 0..20 {
        rig.own(&format!("b{i}")).await?;
    }
    let entry = a.state(b"x");
    rig.put(&a, entry).await.map(|_| ())
}

pub(super) async fn the_boot_rises_with_each_opening(rig: &mut Rig) -> Check {
    let mut last = 0;
    for _ in 0..4 {
        let boot = rig.store()?.caps().boot;
        holds(boot > last, "the boot number rises")?;
        last = boot;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_activation_reads_what_the_last_owner_wrote(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    for i in 0..20_u8 {
        let entry = a.state(&[i]);
        let pending = rig.start(record(&a, vec![entry])?)?;
        rig.release(a.token).await?;
        rig.own_again(&mut a).await?;
        same("state", &rig.state(a.entity()).await?, &Bytes::copy_from_slice(&[i]))?;
        applied(outcome_of(pending).await?)?;
    }
    Ok(())
}
