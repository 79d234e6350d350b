//! Names and numbers.

use super::prelude::*;

pub(super) async fn a_new_name_gets_a_number_and_keeps_it(rig: &mut Rig) -> Check {
    let first = rig.store()?.create(&name("a")).await.map_err(said)?;
    holds(matches!(first, Created::New(_)), "the first creation says New")?;
    same("number", &rig.create(&name("a")).await?, &first.entity())
}

pub(super) async fn different_names_get_different_numbers(rig: &mut Rig) -> Check {
    let mut numbers = std::collections::BTreeSet::new();
    for i in 0..100 {
        numbers.insert(rig.create(&name(&format!("k{i}"))).await?);
    }
    same("numbers", &numbers.len(), &100)
}

pub(super) async fn a_name_never_created_resolves_to_nothing(rig: &mut Rig) -> Check {
    rig.own("a").await?;
    for _ in ROUNDS {
        same("resolved", &rig.store()?.resolve(&name("b")).await.map_err(said)?, &None)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn resolve_finds_what_create_gave(rig: &mut Rig) -> Check {
    let entity = rig.create(&name("a")).await?;
    same("resolved", &rig.store()?.resolve(&name("a")).await.map_err(said)?, &Some(entity))
}

pub(super) async fn an_entity_with_entries_exists_also_after_reopening(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let created = rig.store()?.create(&name("a")).await.map_err(said)?;
        same("created", &created, &Created::Exists(a.entity()))?;
        same("resolved", &rig.store()?.resolve(&name("a")).await.map_err(said)?, &Some(a.entity()))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_name_that_was_only_looked_at_is_free_after_its_release(rig: &mut Rig) -> Check {
    let own = rig.own("a").await?;
    rig.release(own.token).await?;
    same("resolved", &rig.store()?.resolve(&name("a")).await.map_err(said)?, &None)?;
    let mut again = rig.own("a").await?;
    holds(again.entity() != own.entity(), "a number is given once")?;
    let entry = again.state(b"x");
    rig.put(&again, entry).await?;
    rig.release(again.token).await?;
    for _ in ROUNDS {
        same("resolved", &rig.store()?.resolve(&name("a")).await.map_err(said)?, &Some(again.entity()))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn kind_and_key_are_both_part_of_a_name(rig: &mut Rig) -> Check {
    let names = [name_of("ab", "c"), name_of("a", "bc"), name_of("abc", "c"), name_of("ab", "cc")];
    let mut owned = Vec::new();
    for name in &names {
        let mut own = rig.own_named(name).await?;
        let entry = own.state(name.to_string().as_bytes());
        rig.put(&own, entry).await?;
        owned.push(own);
    }
    for _ in ROUNDS {
        for own in &owned {
            same("number", &rig.create(&own.name).await?, &own.entity())?;
            same("state", &rig.state(own.entity()).await?, &Bytes::from(own.name.to_string()))?;
        }
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_name_of_the_greatest_length_works(rig: &mut Rig) -> Check {
    let long = name_of(&"k".repeat(KIND_MAX_BYTES), &"é".repeat(KEY_MAX_BYTES / 2));
    let mut own = rig.own_named(&long).await?;
    let entry = own.state(b"x");
    rig.put(&own, entry).await?;
    for _ in ROUNDS {
        same("number", &rig.create(&long).await?, &own.entity())?;
        let head = rig.loaded(own.entity()).await?.head().map(|head| head.name.clone());
        same("name", &head, &Some(long.clone()))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_number_in_use_is_not_given_again_after_reopening(rig: &mut Rig) -> Check {
    let mut used = std::collections::BTreeSet::new();
    for round in 0..3 {
        for i in 0..5 {
            let mut own = rig.own(&format!("{round}-{i}")).await?;
            let entry = own.state(b"x");
            rig.put(&own, entry).await?;
            holds(used.insert(own.entity()), "the number is new")?;
        }
        rig.reopen().await?;
    }
    Ok(())
}
