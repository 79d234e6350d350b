//! Removal of an entity.

use super::prelude::*;

async fn full(rig: &Rig, key: &str) -> Result<Owned, String> {
    let mut own = rig.own(key).await?;
    let entry = own
        .state(b"x")
        .with_row(b"k", b"v")
        .with_message(1, &name("other"))
        .with_timer("t", 5)
        .with_effect("e")
        .with_answer(command(1, 1), b"r")
        .with_origin(command(1, 1).origin, 1);
    rig.put(&own, entry).await?;
    let item = inbox_item(&own.name, 1, b"p");
    rig.apply(Record::Inbox { entity: own.entity(), item }).await?;
    Ok(own)
}

async fn purge(rig: &Rig, own: &Owned) -> Check {
    rig.apply(Record::Purge { token: own.token }).await.map(|_| ())
}

pub(super) async fn a_purge_removes_everything_of_the_entity(rig: &mut Rig) -> Check {
    let a = full(rig, "a").await?;
    rig.settle().await?;
    purge(rig, &a).await?;
    for _ in ROUNDS {
        let e = a.entity();
        same("loaded", &rig.load(e).await?, &None)?;
        same("rows", &rig.rows(e, b"", b"", 10).await?, &vec![])?;
        same("history", &rig.history(e, 1, 10).await?, &HistoryPage::Entries(vec![]))?;
        same("due", &rig.due(i64::MAX, None, 10).await?, &vec![])?;
        same("work", &rig.work(None, 10).await?, &vec![])?;
        same("resolved", &rig.store()?.resolve(&a.name).await.map_err(said)?, &None)?;
        same("listed", &rig.store()?.list(ListQuery::default(), 10).await.map_err(said)?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_purge_leaves_the_others(rig: &mut Rig) -> Check {
    let (b, a, c) = (full(rig, "b").await?, full(rig, "a").await?, full(rig, "c").await?);
    purge(rig, &a).await?;
    for _ in ROUNDS {
        for own in [&b, &c] {
            let loaded = rig.loaded(own.entity()).await?;
            holds(loaded.inbox.len() == 1 && loaded.messages.len() == 1, "its pending work is there")?;
            holds(loaded.timers.len() == 1 && loaded.effects.len() == 1, "its timers are there")?;
            same("rows", &rig.rows(own.entity(), b"", b"", 10).await?.len(), &1)?;
            same("history", &rig.kept(own.entity()).await?.1.len(), &1)?;
        }
        same("due", &rig.due(i64::MAX, None, 10).await?.len(), &2)?;
        same("work", &rig.work(None, 10).await?.len(), &2)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_purge_under_a_stale_token_is_fenced(rig: &mut Rig) -> Check {
    let a = full(rig, "a").await?;
    let now = rig.activate(a.entity()).await?;
    let outcome = rig.outcome(Record::Purge { token: a.token }).await?;
    same("outcome", &outcome, &Outcome::Fenced { activation: now.activation })?;
    for _ in ROUNDS {
        same("version", &rig.version(a.entity()).await?, &1)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_chain_after_the_purge_is_fenced(rig: &mut Rig) -> Check {
    let mut a = full(rig, "a").await?;
    let gone = rig.start(Record::Purge { token: a.token })?;
    let entry = a.state(b"late");
    let late = rig.start(record(&a, vec![entry])?)?;
    a.version = 0;
    let entry = a.state(b"later");
    let later = rig.start(record(&a, vec![entry])?)?;
    applied(outcome_of(gone).await?)?;
    for outcome in [late, later] {
        let outcome = outcome_of(outcome).await?.map_err(said)?;
        holds(matches!(outcome, Outcome::Fenced { .. }), "the right went with the entity")?;
    }
    for _ in ROUNDS {
        same("loaded", &rig.load(a.entity()).await?, &None)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_purged_entity_cannot_be_activated(rig: &mut Rig) -> Check {
    let a = full(rig, "a").await?;
    purge(rig, &a).await?;
    for _ in ROUNDS {
        let answer = rig.store()?.activate(a.entity(), rig.me).await.map_err(said)?;
        same("answer", &answer, &Activated::Missing)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_purged_name_begins_again_under_another_number(rig: &mut Rig) -> Check {
    let a = full(rig, "a").await?;
    purge(rig, &a).await?;
    let mut again = rig.own("a").await?;
    holds(again.entity() != a.entity(), "the number is another one")?;
    let entry = again.state(b"again");
    rig.put(&again, entry).await?;
    for _ in ROUNDS {
        same("state", &rig.state(again.entity()).await?, &Bytes::from_static(b"again"))?;
        same("rows", &rig.rows(again.entity(), b"", b"", 10).await?, &vec![])?;
        same("number", &rig.create(&name("a")).await?, &again.entity())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_purged_number_is_not_given_again_after_reopening(rig: &mut Rig) -> Check {
    let a = full(rig, "a").await?;
    purge(rig, &a).await?;
    rig.settle().await?;
    rig.reopen().await?;
    for key in ["a", "b"] {
        holds(rig.create(&name(key)).await? != a.entity(), "the number is not given again")?;
    }
    Ok(())
}

pub(super) async fn a_number_purged_before_its_first_entry_is_not_given_again(rig: &mut Rig) -> Check {
    let a = rig.own("a").await?;
    purge(rig, &a).await?;
    for _ in ROUNDS {
        holds(rig.create(&name("b")).await? != a.entity(), "the number is not given again")?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_purge_keeps_messages_sent_to_the_entity(rig: &mut Rig) -> Check {
    let a = full(rig, "a").await?;
    let mut b = rig.own("b").await?;
    let entry = b.state(b"x").with_message(1, &a.name);
    rig.put(&b, entry).await?;
    purge(rig, &a).await?;
    for _ in ROUNDS {
        same("messages", &rig.loaded(b.entity()).await?.messages.len(), &1)?;
        rig.reopen().await?;
    }
    Ok(())
}
