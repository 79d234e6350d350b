//! Effects, and what must wake at start.

use super::prelude::*;
use crate::discovery::Requirement;

fn effects(loaded: &Loaded) -> Vec<&str> {
    loaded.effects.iter().map(|effect| effect.id.as_str()).collect()
}

pub(super) async fn an_effect_is_loaded_until_it_ends(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_effect("e1").with_effect("e2");
    rig.put(&a, entry).await?;
    let entry = a.state(b"y").without_effect("e1");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("effects", &effects(&rig.loaded(a.entity()).await?), &vec!["e2"])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_effect_comes_back_whole(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let started = Effect {
        id: "e".into(),
        activity: "ship".into(),
        attempt: 4,
        input: Bytes::from(vec![1; 50_000]),
        timeout_ms: 5,
        requires: vec![Requirement::new("gpu").version(">=1.2").label("zone", "eu").resource("memory", 1)],
        cause: Cause { causation: Some("c".into()), ..Cause::default() },
    };
    let mut entry = a.state(b"x");
    entry.effects.push(EffectOp::Start(started.clone()));
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("effects", &rig.loaded(a.entity()).await?.effects, &vec![started.clone()])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_effect_started_again_is_the_later_one(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_effect("e");
    rig.put(&a, entry).await?;
    let mut entry = a.state(b"y");
    entry.effects.push(EffectOp::Start(Effect { attempt: 2, ..effect("e") }));
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let attempts: Vec<u32> = rig.loaded(a.entity()).await?.effects.iter().map(|e| e.attempt).collect();
        same("attempts", &attempts, &vec![2])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_effect_ended_in_its_entry_leaves_nothing(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_effect("e").without_effect("e");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("effects", &effects(&rig.loaded(a.entity()).await?), &vec![])?;
        same("work", &rig.work(None, 10).await?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn work_names_who_has_messages_inbox_or_effects(rig: &mut Rig) -> Check {
    let mut owned = Vec::new();
    for key in ["idle", "message", "effect", "inbox", "timer"] {
        owned.push(rig.own(key).await?);
    }
    for own in &mut owned {
        let entry = match &*own.name.key {
            "message" => own.state(b"x").with_message(1, &name("idle")),
            "effect" => own.state(b"x").with_effect("e"),
            "timer" => own.state(b"x").with_timer("t", 1),
            _ => own.state(b"x"),
        };
        rig.put(own, entry).await?;
    }
    let inbox = rig.create(&name("inbox")).await?;
    rig.apply(Record::Inbox { entity: inbox, item: inbox_item(&name("inbox"), 1, b"p") }).await?;
    let mut expected = Vec::new();
    for own in owned.iter().filter(|own| !["idle", "timer"].contains(&&*own.name.key)) {
        expected.push(own.entity());
    }
    expected.sort_unstable();
    for _ in ROUNDS {
        same("work", &rig.work(None, 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn who_has_settled_everything_has_no_work(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let item = inbox_item(&a.name, 1, b"p");
    let position = rig.apply(Record::Inbox { entity: a.entity(), item }).await?;
    let entry = a.state(b"x").with_effect("e").with_message(1, &name("b")).consuming_inbox(position);
    rig.put(&a, entry).await?;
    same("work", &rig.work(None, 10).await?, &vec![a.entity()])?;
    rig.settle().await?;
    let entry = a.state(b"y").without_effect("e");
    rig.put(&a, entry).await?;
    rig.apply(Record::Done { sender: a.entity(), seq: 1 }).await?;
    for _ in ROUNDS {
        same("work", &rig.work(None, 10).await?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn paging_through_work_loses_none(rig: &mut Rig) -> Check {
    let mut expected = Vec::new();
    for i in 0..50 {
        let mut own = rig.own(&format!("e{i}")).await?;
        let entry = (1..=4).fold(own.state(b"x"), |entry, seq| entry.with_message(seq, &name("b")));
        rig.put(&own, entry).await?;
        expected.push(own.entity());
    }
    expected.sort_unstable();
    for _ in ROUNDS {
        let mut paged: Vec<EntityId> = Vec::new();
        loop {
            let page = rig.work(paged.last().copied(), 7).await?;
            holds(page.len() <= 7, "at most the asked number comes")?;
            if page.is_empty() {
                break;
            }
            paged.extend(page);
            holds(paged.len() <= expected.len(), "paging comes to an end")?;
        }
        same("paged", &paged, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}
