//! Outgoing messages and the inbox.

use super::prelude::*;

fn seqs(loaded: &Loaded) -> Vec<u64> {
    loaded.messages.iter().map(|message| message.seq).collect()
}

async fn sender(rig: &Rig, messages: u64) -> Result<Owned, String> {
    let mut a = rig.own("a").await?;
    let entry = (1..=messages).fold(a.state(b"x"), |entry, seq| entry.with_message(seq, &name("b")));
    rig.put(&a, entry).await?;
    Ok(a)
}

pub(super) async fn a_message_is_pending_until_consumed(rig: &mut Rig) -> Check {
    let a = sender(rig, 1).await?;
    for _ in ROUNDS {
        let expected = vec![message(1, &name("b"), &1_u64.to_be_bytes())];
        same("messages", &rig.loaded(a.entity()).await?.messages, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn messages_come_in_the_order_of_their_numbers(rig: &mut Rig) -> Check {
    let a = sender(rig, 300).await?;
    for _ in ROUNDS {
        same("numbers", &seqs(&rig.loaded(a.entity()).await?), &(1..=300).collect())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn the_receivers_entry_consumes_the_message(rig: &mut Rig) -> Check {
    let a = sender(rig, 3).await?;
    let mut b = rig.own("b").await?;
    let entry = b.state(b"x").consuming(a.entity(), 2);
    rig.put(&b, entry).await?;
    for _ in ROUNDS {
        same("numbers", &seqs(&rig.loaded(a.entity()).await?), &vec![1, 3])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_fenced_receiver_consumes_nothing(rig: &mut Rig) -> Check {
    let a = sender(rig, 1).await?;
    let mut b = rig.own("b").await?;
    rig.activate(b.entity()).await?;
    let entry = b.state(b"x").consuming(a.entity(), 1);
    rig.outcome(record(&b, vec![entry])?).await?;
    for _ in ROUNDS {
        same("numbers", &seqs(&rig.loaded(a.entity()).await?), &vec![1])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_sender_may_take_its_message_back(rig: &mut Rig) -> Check {
    let mut a = sender(rig, 2).await?;
    let entry = a.state(b"y").consuming(a.entity(), 1);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("numbers", &seqs(&rig.loaded(a.entity()).await?), &vec![2])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn done_settles_a_message(rig: &mut Rig) -> Check {
    let a = sender(rig, 2).await?;
    rig.apply(Record::Done { sender: a.entity(), seq: 1 }).await?;
    for _ in ROUNDS {
        same("numbers", &seqs(&rig.loaded(a.entity()).await?), &vec![2])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn settling_a_message_twice_does_no_harm(rig: &mut Rig) -> Check {
    let a = sender(rig, 2).await?;
    let mut b = rig.own("b").await?;
    rig.apply(Record::Done { sender: a.entity(), seq: 1 }).await?;
    rig.apply(Record::Done { sender: a.entity(), seq: 1 }).await?;
    rig.apply(Record::Done { sender: a.entity(), seq: 99 }).await?;
    let entry = b.state(b"x").consuming(a.entity(), 1);
    rig.put(&b, entry).await?;
    for _ in ROUNDS {
        same("numbers", &seqs(&rig.loaded(a.entity()).await?), &vec![2])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn done_needs_no_owner_and_changes_no_version(rig: &mut Rig) -> Check {
    let a = sender(rig, 1).await?;
    rig.release(a.token).await?;
    rig.apply(Record::Done { sender: a.entity(), seq: 1 }).await?;
    same("version", &rig.version(a.entity()).await?, &1)
}

pub(super) async fn a_message_comes_back_whole(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let sent = OutMessage {
        seq: 1,
        to: name_of("other", "é"),
        payload: Bytes::from(vec![0; 100_000]),
        at: Timestamp(-1),
        expires: Some(Timestamp(i64::MAX)),
        cause: Cause { correlation: Some("c".into()), ..Cause::default() },
    };
    let mut entry = a.state(b"x");
    entry.messages.push(sent.clone());
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("messages", &rig.loaded(a.entity()).await?.messages, &vec![sent.clone()])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_message_sent_and_consumed_in_one_entry_is_gone(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_message(1, &name("a")).consuming(a.entity(), 1);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("numbers", &seqs(&rig.loaded(a.entity()).await?), &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

async fn enqueue(rig: &Rig, to: &Name, seq: u64) -> Result<Position, String> {
    let entity = rig.create(to).await?;
    rig.apply(Record::Inbox { entity, item: inbox_item(to, seq, &seq.to_be_bytes()) }).await
}

fn inbox(loaded: &Loaded) -> Vec<u64> {
    loaded.inbox.iter().map(|(_, item)| item.id.seq).collect()
}

pub(super) async fn the_inbox_keeps_the_order_of_its_commands(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    let mut pending = Vec::new();
    for seq in (1..=50).rev() {
        let item = inbox_item(&a.name, seq, b"p");
        pending.push(rig.start(Record::Inbox { entity: a.entity(), item })?);
    }
    for outcome in pending {
        applied(outcome_of(outcome).await?)?;
    }
    for _ in ROUNDS {
        same("inbox", &inbox(&rig.loaded(a.entity()).await?), &(1..=50).rev().collect())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_inbox_command_is_found_at_its_position(rig: &mut Rig) -> Check {
    let first = enqueue(rig, &name("a"), 1).await?;
    let second = enqueue(rig, &name("a"), 2).await?;
    let entity = rig.create(&name("a")).await?;
    for _ in ROUNDS {
        let item = |seq: u64| inbox_item(&name("a"), seq, &seq.to_be_bytes());
        let expected = vec![(first, item(1)), (second, item(2))];
        same("inbox", &rig.loaded(entity).await?.inbox, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_inbox_command_makes_its_entity_durable(rig: &mut Rig) -> Check {
    enqueue(rig, &name("a"), 1).await?;
    let entity = rig.create(&name("a")).await?;
    for _ in ROUNDS {
        same("resolved", &rig.store()?.resolve(&name("a")).await.map_err(said)?, &Some(entity))?;
        same("inbox", &inbox(&rig.loaded(entity).await?), &vec![1])?;
        holds(rig.create(&name("other")).await? != entity, "the number is taken")?;
        rig.activate(entity).await?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_entry_consumes_an_inbox_command(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let first = enqueue(rig, &a.name, 1).await?;
    enqueue(rig, &a.name, 2).await?;
    let entry = a.state(b"x").consuming_inbox(first);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("inbox", &inbox(&rig.loaded(a.entity()).await?), &vec![2])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn inboxes_of_different_entities_are_apart(rig: &mut Rig) -> Check {
    for (key, seq) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
        enqueue(rig, &name(key), seq).await?;
    }
    let mut numbers = Vec::new();
    for key in ["a", "b", "c"] {
        numbers.push(rig.create(&name(key)).await?);
    }
    for _ in ROUNDS {
        let mut found = Vec::new();
        for entity in &numbers {
            found.push(inbox(&rig.loaded(*entity).await?));
        }
        same("inboxes", &found, &vec![vec![1, 3], vec![2], vec![4]])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_inbox_command_changes_no_version(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    enqueue(rig, &a.name, 1).await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    same("version", &rig.version(a.entity()).await?, &1)
}
