//! Durable timers.

use super::prelude::*;

fn ids(due: &[Due]) -> Vec<&str> {
    due.iter().map(|due| due.timer.as_str()).collect()
}

pub(super) async fn a_timer_is_loaded_and_due(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let set = Timer { id: "t".into(), due: Timestamp(50), payload: Bytes::from_static(b"payload") };
    let mut entry = a.state(b"x");
    entry.timers.push(TimerOp::Set(set.clone()));
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("timers", &rig.loaded(a.entity()).await?.timers, &vec![set.clone()])?;
        let expected = vec![Due { due: Timestamp(50), entity: a.entity(), timer: "t".into() }];
        same("due", &rig.due(100, None, 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn timers_are_due_in_the_order_of_time(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let times = [("e", 1 << 40), ("b", -1), ("d", 256), ("a", i64::MIN), ("c", 0), ("f", i64::MAX)];
    let entry = times.iter().fold(a.state(b"x"), |entry, (id, due)| entry.with_timer(id, *due));
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("due", &ids(&rig.due(i64::MAX, None, 10).await?), &vec!["a", "b", "c", "d", "e", "f"])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_timer_is_due_at_its_time_and_not_before(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_timer("t", 50);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("before", &rig.due(49, None, 10).await?, &vec![])?;
        same("at", &rig.due(50, None, 10).await?.len(), &1)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn paging_through_due_timers_loses_none(rig: &mut Rig) -> Check {
    for key in ["a", "b", "c"] {
        let mut own = rig.own(key).await?;
        let entry = (0..40).fold(own.state(b"x"), |entry, i| entry.with_timer(&format!("t{i}"), i / 10));
        rig.put(&own, entry).await?;
    }
    for _ in ROUNDS {
        let all = rig.due(i64::MAX, None, 1000).await?;
        same("all", &all.len(), &120)?;
        let mut paged: Vec<Due> = Vec::new();
        loop {
            let page = rig.due(i64::MAX, paged.last().cloned(), 7).await?;
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

pub(super) async fn a_cleared_timer_is_gone(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_timer("t", 50).with_timer("u", 50);
    rig.put(&a, entry).await?;
    let entry = a.state(b"y").without_timer("t", 50);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("due", &ids(&rig.due(i64::MAX, None, 10).await?), &vec!["u"])?;
        same("timers", &rig.loaded(a.entity()).await?.timers, &vec![timer("u", 50)])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_moved_timer_is_due_once(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_timer("t", 50);
    rig.put(&a, entry).await?;
    rig.settle().await?;
    let entry = a.state(b"y").without_timer("t", 50).with_timer("t", 70);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("before", &rig.due(69, None, 10).await?, &vec![])?;
        same("due", &rig.due(i64::MAX, None, 10).await?.len(), &1)?;
        same("timers", &rig.loaded(a.entity()).await?.timers, &vec![timer("t", 70)])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn paging_goes_on_after_a_timer_that_is_gone(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_timer("t", 10).with_timer("u", 20).with_timer("v", 30);
    rig.put(&a, entry).await?;
    let page = rig.due(i64::MAX, None, 2).await?;
    let entry = a.state(b"y").without_timer("u", 20);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("next", &ids(&rig.due(i64::MAX, page.last().cloned(), 2).await?), &vec!["v"])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn timers_of_one_name_in_different_entities_are_apart(rig: &mut Rig) -> Check {
    let (mut a, mut b) = (rig.own("a").await?, rig.own("b").await?);
    for own in [&mut a, &mut b] {
        let entry = own.state(b"x").with_timer("t", 50);
        rig.put(own, entry).await?;
    }
    let entry = a.state(b"y").without_timer("t", 50);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let expected = vec![Due { due: Timestamp(50), entity: b.entity(), timer: "t".into() }];
        same("due", &rig.due(i64::MAX, None, 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_timer_id_of_the_greatest_length_works(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let id = "é".repeat(127);
    let entry = a.state(b"x").with_timer(&id, 50);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("due", &ids(&rig.due(50, None, 10).await?), &vec![id.as_str()])?;
        rig.reopen().await?;
    }
    Ok(())
}
