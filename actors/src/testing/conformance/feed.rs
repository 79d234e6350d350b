//! The feed: entries of kinds that ask for it, in the order of their commits.

use super::prelude::*;

/// Three kinds: `a` and `b` with a feed, `quiet` without; answers what the feed must hold.
async fn filled(rig: &Rig) -> Result<Vec<FeedItem>, String> {
    let mut expected = Vec::new();
    let mut owned = Vec::new();
    for (kind, key) in [("a", "1"), ("quiet", "1"), ("b", "1"), ("a", "2")] {
        owned.push(rig.own_named(&name_of(kind, key)).await?);
    }
    for round in 0..4_u8 {
        for own in &mut owned {
            let fed = *own.name.kind != *"quiet";
            let entries: Vec<Entry> = (0..=round % 3)
                .map(|n| own.state(&[round, n]))
                .map(|entry| if fed { entry.fed() } else { entry })
                .collect();
            let versions: Vec<Version> = entries.iter().map(|entry| entry.head.version).collect();
            let last = rig.put_all(own, entries).await?;
            let first = (last.0 + 1).saturating_sub(versions.len() as u64);
            let items = (first..).zip(versions).filter(|_| fed).map(|(at, version)| FeedItem {
                position: Position(at),
                entity: own.entity(),
                version,
                kind: own.name.kind.to_string(),
            });
            expected.extend(items);
        }
        if round == 1 {
            rig.settle().await?;
        }
    }
    Ok(expected)
}

async fn page(rig: &Rig, after: Position, kind: Option<&str>, limit: usize) -> Result<FeedPage, String> {
    let filter = kind.map(FeedFilter::of_kind).unwrap_or_default();
    rig.store()?.feed(after, filter, limit).await.map_err(said)
}

/// Reads page by page until there is nothing more, as a reader does.
async fn read(rig: &Rig, kind: Option<&str>, limit: usize) -> Result<Vec<FeedItem>, String> {
    let mut after = Position(0);
    let mut items: Vec<FeedItem> = Vec::new();
    loop {
        let page = page(rig, after, kind, limit).await?;
        holds(page.items.len() <= limit, "at most the asked number comes")?;
        holds(page.until >= after, "the place to go on does not go back")?;
        holds(page.until <= rig.store()?.position(), "nothing is promised of what is not there yet")?;
        let reached = page.items.last().map_or(after, |item| item.position);
        holds(page.until >= reached, "what was shown lies before the place to go on")?;
        items.extend(page.items);
        holds(items.len() <= 1000, "reading comes to an end")?;
        if page.until == after {
            return Ok(items);
        }
        after = page.until;
    }
}

pub(super) async fn the_feed_holds_every_entry_of_its_kinds_in_the_order_of_commits(rig: &mut Rig) -> Check {
    let expected = filled(rig).await?;
    for _ in ROUNDS {
        same("at once", &page(rig, Position(0), None, 1000).await?.items, &expected)?;
        for limit in [1, 3, 7] {
            same("page by page", &read(rig, None, limit).await?, &expected)?;
        }
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_kind_without_a_feed_has_no_place_in_it(rig: &mut Rig) -> Check {
    let mut own = rig.own("quiet").await?;
    let entry = own.state(b"x");
    rig.put(&own, entry).await?;
    for _ in ROUNDS {
        let found = page(rig, Position(0), None, 10).await?;
        same("items", &found.items, &vec![])?;
        same("until", &found.until, &rig.store()?.position())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn the_feed_of_one_kind_holds_no_other(rig: &mut Rig) -> Check {
    let expected = filled(rig).await?;
    for _ in ROUNDS {
        for kind in ["a", "b", "quiet", "none"] {
            let of_kind: Vec<_> = expected.iter().filter(|item| item.kind == kind).cloned().collect();
            same(kind, &read(rig, Some(kind), 3).await?, &of_kind)?;
        }
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn the_feed_goes_on_after_what_was_read(rig: &mut Rig) -> Check {
    let expected = filled(rig).await?;
    for _ in ROUNDS {
        for (i, item) in expected.iter().enumerate() {
            let rest: Vec<_> = expected.iter().skip(i + 1).cloned().collect();
            same("after", &page(rig, item.position, None, 1000).await?.items, &rest)?;
            let before = Position(item.position.0.saturating_sub(1));
            same("at", &page(rig, before, None, 1).await?.items, &vec![item.clone()])?;
        }
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_reader_has_seen_every_entry_that_will_ever_be_before_it(rig: &mut Rig) -> Check {
    let mut owned = rig.own_named(&name_of("a", "1")).await?;
    let mut other = rig.own_named(&name_of("b", "1")).await?;
    let (mut after, mut seen) = (Position(0), 0);
    for round in 0..30_u64 {
        let mut pending = Vec::new();
        for _ in 0..=round % 4 {
            let (a, b) = (owned.state(b"a").fed(), other.state(b"b").fed());
            pending.push(rig.start(record(&owned, vec![a])?)?);
            pending.push(rig.start(record(&other, vec![b])?)?);
        }
        // While they are on their way: whatever it shows, it has shown all up to `until`.
        let amid = page(rig, after, Some("a"), 3).await?;
        (after, seen) = (amid.until, seen + amid.items.len());
        for outcome in pending {
            applied(outcome_of(outcome).await?)?;
        }
        if round % 10 == 9 {
            rig.settle().await?;
        }
        let next = page(rig, after, Some("a"), 1000).await?;
        (after, seen) = (next.until, seen + next.items.len());
        same("seen", &(seen as u64), &owned.version)?;
        same("until", &after, &rig.store()?.position())?;
    }
    Ok(())
}

pub(super) async fn what_was_answered_is_in_the_feed(rig: &mut Rig) -> Check {
    let mut own = rig.own("a").await?;
    let mut after = Position(0);
    for _ in 0..20 {
        let entry = own.state(b"x").fed();
        let position = rig.put(&own, entry).await?;
        let found = page(rig, after, None, 1).await?;
        let place: Vec<_> = found.items.iter().map(|item| (item.position, item.version.0)).collect();
        same("place", &place, &vec![(position, own.version)])?;
        same("until", &found.until, &position)?;
        after = found.until;
    }
    Ok(())
}

pub(super) async fn entries_that_commit_together_stand_side_by_side_in_the_feed(rig: &mut Rig) -> Check {
    let (mut a, mut b) = (rig.own("a").await?, rig.own("b").await?);
    let both = vec![
        chain(a.token, 0, vec![a.state(b"1").fed(), a.state(b"2").fed()])?,
        chain(b.token, 0, vec![b.state(b"1").fed()])?,
    ];
    let last = rig.apply(Record::Atomic(both)).await?;
    for _ in ROUNDS {
        let found: Vec<_> = page(rig, Position(0), None, 10).await?.items;
        let places: Vec<_> = found.iter().map(|item| (item.position, item.entity, item.version.0)).collect();
        let expected = [(a.entity(), 1), (a.entity(), 2), (b.entity(), 1)];
        let expected =
            expected.into_iter().zip(last.0.saturating_sub(2)..).map(|((e, v), at)| (Position(at), e, v));
        same("places", &places, &expected.collect())?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn what_did_not_apply_has_no_place_in_the_feed(rig: &mut Rig) -> Check {
    let mut own = rig.own("a").await?;
    let entry = own.state(b"1").fed();
    rig.put(&own, entry).await?;
    let gap = state_entry(&own.name, own.version + 2, b"gap").fed();
    let outcome = rig.outcome(record(&own, vec![gap])?).await?;
    holds(matches!(outcome, Outcome::Conflict { .. }), "the gap is refused")?;
    let stale = own.clone();
    rig.own_again(&mut own).await?;
    let late = state_entry(&own.name, own.version + 1, b"late").fed();
    let outcome = rig.outcome(record(&stale, vec![late])?).await?;
    holds(matches!(outcome, Outcome::Fenced { .. }), "the stale right is refused")?;
    for _ in ROUNDS {
        same("items", &page(rig, Position(0), None, 10).await?.items.len(), &1)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_purged_entity_leaves_its_places_in_the_feed(rig: &mut Rig) -> Check {
    let expected = filled(rig).await?;
    let mut own = rig.own_named(&name_of("a", "1")).await?;
    rig.apply(Record::Purge { token: own.token }).await?;
    for _ in ROUNDS {
        same("items", &read(rig, None, 5).await?, &expected)?;
        rig.settle().await?;
        rig.reopen().await?;
    }
    own = rig.own_named(&own.name).await?;
    let entry = own.state(b"again").fed();
    rig.put(&own, entry).await?;
    let last = read(rig, None, 5).await?.pop().ok_or("the feed is empty")?;
    same("again", &(last.entity, last.version), &(own.entity(), Version(1)))
}

pub(super) async fn a_backup_holds_the_feed_and_the_index(rig: &mut Rig) -> Check {
    let Some(dir) = rig.factory().backup_dir() else { return Ok(()) };
    let expected = filled(rig).await?;
    let mut own = rig.own("open").await?;
    let entry = own.state(b"x").with_status("open");
    rig.put(&own, entry).await?;
    let file = dir.join("feed.backup");
    rig.store()?.backup(file.clone(), false).await.map_err(said)?;
    let restored = rig.factory().restore(&file).await?;
    rig.replace(restored);
    same("items", &read(rig, None, 5).await?, &expected)?;
    let query = ListQuery { status: Some("open".into()), ..ListQuery::default() };
    same("open", &rig.store()?.list(query, 9).await.map_err(said)?.len(), &1)
}
