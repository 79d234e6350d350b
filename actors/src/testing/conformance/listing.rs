//! Lists of entities.

use super::prelude::*;

async fn filled(rig: &Rig) -> Result<Vec<Owned>, String> {
    let mut owned = Vec::new();
    for (kind, key, status) in
        [("b", "1", "open"), ("a", "2", "open"), ("ab", "1", ""), ("a", "1", "shut"), ("a", "10", "open")]
    {
        let mut own = rig.own_named(&name_of(kind, key)).await?;
        let entry = own.state(b"x").with_status(status);
        rig.put(&own, entry).await?;
        owned.push(own);
    }
    Ok(owned)
}

async fn names(rig: &Rig, query: ListQuery, limit: usize) -> Result<Vec<String>, String> {
    let listed = rig.store()?.list(query, limit).await.map_err(said)?;
    Ok(listed.iter().map(|listed| listed.head.name.to_string()).collect())
}

fn query(kind: Option<&str>, status: Option<&str>) -> ListQuery {
    ListQuery { kind: kind.map(Into::into), status: status.map(Into::into), after: None }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub(super) async fn a_list_is_ordered_by_kind_and_key(rig: &mut Rig) -> Check {
    filled(rig).await?;
    for _ in ROUNDS {
        let expected = strings(&["a/1", "a/10", "a/2", "ab/1", "b/1"]);
        same("all", &names(rig, ListQuery::default(), 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_list_of_one_kind_holds_no_other(rig: &mut Rig) -> Check {
    filled(rig).await?;
    for _ in ROUNDS {
        let expected = strings(&["a/1", "a/10", "a/2"]);
        same("a", &names(rig, query(Some("a"), None), 10).await?, &expected)?;
        same("ab", &names(rig, query(Some("ab"), None), 10).await?, &strings(&["ab/1"]))?;
        same("none", &names(rig, query(Some("c"), None), 10).await?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_list_of_one_status_holds_no_other(rig: &mut Rig) -> Check {
    filled(rig).await?;
    for _ in ROUNDS {
        let open = strings(&["a/10", "a/2", "b/1"]);
        same("open", &names(rig, query(None, Some("open")), 10).await?, &open)?;
        same("of a", &names(rig, query(Some("a"), Some("shut")), 10).await?, &strings(&["a/1"]))?;
        same("limited", &names(rig, query(None, Some("open")), 2).await?, &strings(&["a/10", "a/2"]))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn paging_through_a_list_loses_none(rig: &mut Rig) -> Check {
    for i in 0..60 {
        let mut own = rig.own_named(&name_of(if i % 2 == 0 { "x" } else { "y" }, &i.to_string())).await?;
        let entry = own.state(b"x");
        rig.put(&own, entry).await?;
    }
    for _ in ROUNDS {
        let all = rig.store()?.list(ListQuery::default(), 100).await.map_err(said)?;
        same("all", &all.len(), &60)?;
        let mut paged: Vec<Listed> = Vec::new();
        loop {
            let after = paged.last().map(|listed| listed.head.name.clone());
            let query = ListQuery { after, ..ListQuery::default() };
            let page = rig.store()?.list(query, 7).await.map_err(said)?;
            holds(page.len() <= 7, "at most the asked number comes")?;
            if page.is_empty() {
                break;
            }
            paged.extend(page);
            holds(paged.len() <= all.len(), "paging comes to an end")?;
        }
        same("paged", &paged, &all)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_list_shows_the_last_head(rig: &mut Rig) -> Check {
    let mut owned = filled(rig).await?;
    let own = owned.first_mut().ok_or("filled")?;
    let entry = own.state(b"y").with_status_after("open", "shut");
    rig.put(own, entry).await?;
    let mut e = rig.own("events").await?;
    let second = e.events(&[b"1"], Some(b"s"));
    let entries = vec![second, e.events(&[b"2"], None).with_status_after("", "shut")];
    rig.put_all(&e, entries).await?;
    for _ in ROUNDS {
        let expected = strings(&["a/1", "b/1", "thing/events"]);
        same("shut", &names(rig, query(None, Some("shut")), 10).await?, &expected)?;
        let listed = rig.store()?.list(query(Some("thing"), None), 10).await.map_err(said)?;
        let found: Vec<_> = listed.iter().map(|listed| (listed.entity, listed.head.version)).collect();
        same("events", &found, &vec![(e.entity(), Version(2))])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn who_has_no_entry_is_not_listed(rig: &mut Rig) -> Check {
    filled(rig).await?;
    rig.own_named(&name_of("a", "3")).await?;
    let waiting = name_of("a", "4");
    let entity = rig.create(&waiting).await?;
    rig.apply(Record::Inbox { entity, item: inbox_item(&waiting, 1, b"p") }).await?;
    for _ in ROUNDS {
        let expected = strings(&["a/1", "a/10", "a/2"]);
        same("a", &names(rig, query(Some("a"), None), 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

/// Each change of a status: entered, changed, changed back, left, within one chain and over several.
async fn changed(rig: &Rig) -> Result<Vec<Owned>, String> {
    let mut owned = filled(rig).await?;
    let b = owned.first_mut().ok_or("filled")?;
    let (shut, open) =
        (b.state(b"1").with_status_after("open", "shut"), b.state(b"2").with_status_after("shut", "open"));
    rig.put_all(b, vec![shut, open]).await?;
    let a2 = owned.get_mut(1).ok_or("filled")?;
    let entry = a2.state(b"1").with_status_after("open", "");
    rig.put(a2, entry).await?;
    rig.settle().await?;
    let a10 = owned.get_mut(4).ok_or("filled")?;
    let entry = a10.state(b"1").with_status_after("open", "shut");
    rig.put(a10, entry).await?;
    let ab = owned.get_mut(2).ok_or("filled")?;
    let entry = ab.state(b"1").with_status_after("", "open");
    rig.put(ab, entry).await?;
    let entry = ab.state(b"2").with_status_after("open", "open");
    rig.put(ab, entry).await?;
    Ok(owned)
}

pub(super) async fn an_entity_is_found_by_the_status_it_has_and_by_no_other(rig: &mut Rig) -> Check {
    changed(rig).await?;
    for _ in ROUNDS {
        let open = names(rig, query(None, Some("open")), 10).await?;
        same("open", &open, &strings(&["ab/1", "b/1"]))?;
        let shut = names(rig, query(None, Some("shut")), 10).await?;
        same("shut", &shut, &strings(&["a/1", "a/10"]))?;
        same("none", &names(rig, query(Some("a"), Some("")), 10).await?, &strings(&["a/2"]))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_status_is_not_a_part_of_another(rig: &mut Rig) -> Check {
    for (key, status) in [("1", "a"), ("2", "a\0b"), ("3", "ab"), ("b\u{1}", "a")] {
        let mut own = rig.own(key).await?;
        let entry = own.state(b"x").with_status(status);
        rig.put(&own, entry).await?;
    }
    for _ in ROUNDS {
        let found = names(rig, query(Some("thing"), Some("a")), 10).await?;
        same("a", &found, &strings(&["thing/1", "thing/b\u{1}"]))?;
        same("a0b", &names(rig, query(None, Some("a\0b")), 10).await?, &strings(&["thing/2"]))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn paging_through_a_status_loses_none(rig: &mut Rig) -> Check {
    for i in 0..40 {
        let mut own = rig.own_named(&name_of(if i % 2 == 0 { "x" } else { "y" }, &i.to_string())).await?;
        let first = own.state(b"x").with_status("open");
        let second = own.state(b"y").with_status_after("open", if i % 3 == 0 { "shut" } else { "open" });
        rig.put_all(&own, vec![first, second]).await?;
    }
    for _ in ROUNDS {
        let all = names(rig, query(None, Some("open")), 100).await?;
        same("open", &all.len(), &26)?;
        let mut paged: Vec<Listed> = Vec::new();
        loop {
            let after = paged.last().map(|listed| listed.head.name.clone());
            let page = ListQuery { after, ..query(None, Some("open")) };
            let page = rig.store()?.list(page, 7).await.map_err(said)?;
            holds(page.len() <= 7, "at most the asked number comes")?;
            if page.is_empty() {
                break;
            }
            paged.extend(page);
            holds(paged.len() <= all.len(), "paging comes to an end")?;
        }
        same("paged", &paged.iter().map(|listed| listed.head.name.to_string()).collect(), &all)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_purged_entity_is_not_found_by_its_status(rig: &mut Rig) -> Check {
    let owned = changed(rig).await?;
    let b = owned.first().ok_or("filled")?;
    rig.apply(Record::Purge { token: b.token }).await?;
    let mut again = rig.own_named(&b.name).await?;
    for _ in ROUNDS {
        same("open", &names(rig, query(None, Some("open")), 10).await?, &strings(&["ab/1"]))?;
        rig.reopen().await?;
    }
    rig.own_again(&mut again).await?;
    let entry = again.state(b"again").with_status("open");
    rig.put(&again, entry).await?;
    for _ in ROUNDS {
        same("open", &names(rig, query(None, Some("open")), 10).await?, &strings(&["ab/1", "b/1"]))?;
        rig.reopen().await?;
    }
    Ok(())
}
