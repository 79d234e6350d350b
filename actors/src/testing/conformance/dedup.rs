//! Answers remembered of command ids.

use super::prelude::*;

fn ids(loaded: &Loaded) -> Vec<CommandId> {
    let mut ids: Vec<CommandId> = loaded.answers.iter().map(|answer| answer.id).collect();
    ids.sort_unstable();
    ids
}

pub(super) async fn an_answer_comes_back(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_answer(command(1, 1), b"reply");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let expected = vec![answer(command(1, 1), Bytes::from_static(b"reply"), Timestamp(START.0 + 1))];
        same("answers", &rig.loaded(a.entity()).await?.answers, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_forgotten_answer_is_gone(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = (1..=5).fold(a.state(b"x"), |entry, seq| entry.with_answer(command(1, seq), b"r"));
    rig.put(&a, entry).await?;
    let entry = a.state(b"y").without_answer(command(1, 2)).without_answer(command(1, 4));
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let expected = [1, 3, 5].map(|seq| command(1, seq)).to_vec();
        same("ids", &ids(&rig.loaded(a.entity()).await?), &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_answer_remembered_again_is_replaced(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entries = vec![
        a.state(b"1").with_answer(command(1, 1), b"old"),
        a.state(b"2").with_answer(command(1, 1), b"new"),
    ];
    rig.put_all(&a, entries).await?;
    for _ in ROUNDS {
        let answers = rig.loaded(a.entity()).await?.answers;
        same("answers", &answers.len(), &1)?;
        holds(answers.iter().all(|answer| answer.reply == b"new".as_slice()), "the reply is the new one")?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_answer_replaces_the_one_in_its_place(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"1").with_answer(command(1, 1), b"old");
    rig.put(&a, entry).await?;
    let mut entry = a.state(b"2").with_answer(command(1, 2), b"new");
    for op in &mut entry.dedup {
        if let DedupOp::Remember(record) = op {
            record.slot = 1;
        }
    }
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("ids", &ids(&rig.loaded(a.entity()).await?), &vec![command(1, 2)])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn answers_of_different_origins_are_apart(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let mut expected: Vec<CommandId> = [Origin::Entity(EntityId(1)), Origin::Entity(EntityId(2))]
        .map(|origin| CommandId { origin, seq: 1 })
        .to_vec();
    expected.extend([command(1, 1), command(1, 1 << 40), command(2, 1)]);
    expected.sort_unstable();
    let entry = expected.iter().fold(a.state(b"x"), |entry, id| entry.with_answer(*id, b"r"));
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("ids", &ids(&rig.loaded(a.entity()).await?), &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn answers_of_different_entities_are_apart(rig: &mut Rig) -> Check {
    let (mut a, mut b) = (rig.own("a").await?, rig.own("b").await?);
    let entry = a.state(b"x").with_answer(command(1, 1), b"r");
    rig.put(&a, entry).await?;
    let entry = b.state(b"x").without_answer(command(1, 1));
    rig.put(&b, entry).await?;
    for _ in ROUNDS {
        same("of a", &rig.loaded(a.entity()).await?.answers.len(), &1)?;
        same("of b", &rig.loaded(b.entity()).await?.answers, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_origin_comes_back_as_last_written(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let origin = command(1, 1).origin;
    let entries = vec![a.state(b"1").with_origin(origin, 3), a.state(b"2").with_origin(origin, 9)];
    rig.put_all(&a, entries).await?;
    for _ in ROUNDS {
        let last_use = Timestamp(START.0 + 2);
        let expected = vec![(origin, OriginRecord { settled_below: 9, last_use })];
        same("origins", &rig.loaded(a.entity()).await?.origins, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_dropped_origin_is_gone_and_its_answers_are_not(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let (one, two) = (command(1, 1), command(2, 1));
    let entry = a.state(b"1").with_origin(one.origin, 1).with_origin(two.origin, 1).with_answer(one, b"r");
    rig.put(&a, entry).await?;
    let entry = a.state(b"2").without_origin(one.origin);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let loaded = rig.loaded(a.entity()).await?;
        let origins: Vec<Origin> = loaded.origins.iter().map(|(origin, _)| *origin).collect();
        same("origins", &origins, &vec![two.origin])?;
        same("answers", &ids(&loaded), &vec![one])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn answers_of_a_conflicting_chain_are_not_kept(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_answer(command(1, 1), b"kept");
    rig.put(&a, entry).await?;
    a.version = 0;
    let entry = a.state(b"y").with_answer(command(1, 1), b"lost").with_answer(command(1, 2), b"lost");
    rig.outcome(record(&a, vec![entry])?).await?;
    let answers = rig.loaded(a.entity()).await?.answers;
    same("answers", &answers.len(), &1)?;
    holds(answers.iter().all(|answer| answer.reply == b"kept".as_slice()), "the first reply stays")
}
