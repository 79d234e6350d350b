//! Private rows.

use super::prelude::*;

async fn with_rows(rig: &Rig, keys: &[&[u8]]) -> Result<Owned, String> {
    let mut a = rig.own("a").await?;
    let entry = keys.iter().fold(a.state(b"x"), |entry, key| entry.with_row(key, key));
    rig.put(&a, entry).await?;
    Ok(a)
}

async fn keys(rig: &Rig, own: &Owned, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Bytes>, String> {
    Ok(rig.rows(own.entity(), from, to, limit).await?.into_iter().map(|(key, _)| key).collect())
}

pub(super) async fn a_row_comes_back(rig: &mut Rig) -> Check {
    let a = with_rows(rig, &[b"k"]).await?;
    for _ in ROUNDS {
        let expected = vec![(Bytes::from_static(b"k"), Bytes::from_static(b"k"))];
        same("rows", &rig.rows(a.entity(), b"", b"", 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn rows_come_ascending_whatever_the_order_written(rig: &mut Rig) -> Check {
    let a = with_rows(rig, &[b"b", b"ab", b"\xff", b"a", b"\x00", b"aa"]).await?;
    for _ in ROUNDS {
        let expected: Vec<Bytes> =
            [b"\x00".as_slice(), b"a", b"aa", b"ab", b"b", b"\xff"].map(Bytes::copy_from_slice).into();
        same("keys", &keys(rig, &a, b"", b"", 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_range_holds_its_start_and_not_its_end(rig: &mut Rig) -> Check {
    let a = with_rows(rig, &[b"a", b"b", b"c", b"d"]).await?;
    for _ in ROUNDS {
        let expected = vec![Bytes::from_static(b"b"), Bytes::from_static(b"c")];
        same("keys", &keys(rig, &a, b"b", b"d", 10).await?, &expected)?;
        same("one", &keys(rig, &a, b"b", b"b\x00", 10).await?, &vec![Bytes::from_static(b"b")])?;
        same("none", &keys(rig, &a, b"b", b"b", 10).await?, &vec![])?;
        same("backwards", &keys(rig, &a, b"d", b"a", 10).await?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn at_most_the_asked_number_of_rows_comes(rig: &mut Rig) -> Check {
    let a = with_rows(rig, &[b"a", b"b", b"c", b"d"]).await?;
    for _ in ROUNDS {
        let expected = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        same("keys", &keys(rig, &a, b"", b"", 2).await?, &expected)?;
        same("none", &keys(rig, &a, b"", b"", 0).await?, &vec![])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn paging_through_rows_loses_none(rig: &mut Rig) -> Check {
    let all: Vec<[u8; 2]> = (0..1000_u16).map(u16::to_be_bytes).collect();
    let a = with_rows(rig, &all.iter().map(<[u8; 2]>::as_slice).collect::<Vec<_>>()).await?;
    for _ in ROUNDS {
        let (mut from, mut seen) = (Vec::new(), 0);
        loop {
            let page = keys(rig, &a, &from, b"", 7).await?;
            seen += page.len();
            holds(seen <= 1000, "paging comes to an end")?;
            let Some(last) = page.last() else { break };
            from = [last.as_ref(), &[0]].concat();
        }
        same("seen", &seen, &1000)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_deleted_row_is_gone(rig: &mut Rig) -> Check {
    let mut a = with_rows(rig, &[b"a", b"b", b"c"]).await?;
    let entry = a.state(b"y").without_row(b"b").without_row(b"never there");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let expected = vec![Bytes::from_static(b"a"), Bytes::from_static(b"c")];
        same("keys", &keys(rig, &a, b"", b"", 10).await?, &expected)?;
        same("limited", &keys(rig, &a, b"", b"", 2).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_row_deleted_after_reopening_is_gone(rig: &mut Rig) -> Check {
    let mut a = with_rows(rig, &[b"a", b"b"]).await?;
    rig.settle().await?;
    rig.reopen().await?;
    rig.own_again(&mut a).await?;
    let entry = a.state(b"y").without_row(b"a");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("keys", &keys(rig, &a, b"", b"", 10).await?, &vec![Bytes::from_static(b"b")])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn the_last_write_of_a_row_wins(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entries = vec![
        a.state(b"1").with_row(b"k", b"1").with_row(b"k", b"2"),
        a.state(b"2").without_row(b"k"),
        a.state(b"3").with_row(b"k", b"3"),
    ];
    rig.put_all(&a, entries).await?;
    for _ in ROUNDS {
        let expected = vec![(Bytes::from_static(b"k"), Bytes::from_static(b"3"))];
        same("rows", &rig.rows(a.entity(), b"", b"", 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_put_and_a_delete_in_one_entry_apply_in_order(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a
        .state(b"1")
        .with_row(b"gone", b"v")
        .without_row(b"gone")
        .without_row(b"there")
        .with_row(b"there", b"v");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        same("keys", &keys(rig, &a, b"", b"", 10).await?, &vec![Bytes::from_static(b"there")])?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn rows_of_neighbours_are_apart(rig: &mut Rig) -> Check {
    let mut owned = Vec::new();
    for key in ["a", "b", "c"] {
        let mut own = rig.own(key).await?;
        let entry = own.state(b"x").with_row(&[0], key.as_bytes()).with_row(&[255; 255], key.as_bytes());
        rig.put(&own, entry).await?;
        owned.push(own);
    }
    for _ in ROUNDS {
        for own in &owned {
            let rows = rig.rows(own.entity(), b"", b"", 10).await?;
            same("rows", &rows.len(), &2)?;
            holds(rows.iter().all(|(_, v)| *v == own.name.key.as_bytes()), "the rows are its own")?;
        }
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn an_empty_value_is_a_row(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let entry = a.state(b"x").with_row(b"k", b"");
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let expected = vec![(Bytes::from_static(b"k"), Bytes::new())];
        same("rows", &rig.rows(a.entity(), b"", b"", 10).await?, &expected)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_row_of_the_greatest_size_comes_back(rig: &mut Rig) -> Check {
    let mut a = rig.own("a").await?;
    let (key, value) = ([9; 255], vec![5; ROW_MAX_BYTES]);
    let entry = a.state(b"x").with_row(&key, &value);
    rig.put(&a, entry).await?;
    for _ in ROUNDS {
        let rows = rig.rows(a.entity(), b"", b"", 10).await?;
        holds(rows.iter().all(|(k, v)| *k == key.as_slice() && *v == value), "the row is the one written")?;
        same("rows", &rows.len(), &1)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn rows_of_an_unknown_entity_are_none(rig: &mut Rig) -> Check {
    with_rows(rig, &[b"a"]).await?;
    same("rows", &rig.rows(EntityId(1 << 40), b"", b"", 10).await?, &vec![])
}
