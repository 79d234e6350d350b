//! Backup and restore.

use super::prelude::*;

async fn filled(rig: &Rig) -> Result<Owned, String> {
    let mut a = rig.own("a").await?;
    let entries = (0..100_u8)
        .map(|i| a.state(&[i]).with_row(&[i], &[i]).with_timer(&format!("t{i}"), i64::from(i)))
        .collect();
    rig.put_all(&a, entries).await?;
    Ok(a)
}

async fn is_whole(rig: &Rig, own: &Owned, rows: usize) -> Check {
    same("version", &rig.version(own.entity()).await?, &(rows as u64))?;
    same("rows", &rig.rows(own.entity(), b"", b"", 1000).await?.len(), &rows)?;
    same("due", &rig.due(i64::MAX, None, 1000).await?.len(), &rows)?;
    same("kept", &rig.kept(own.entity()).await?.1.len(), &rows)?;
    same("number", &rig.create(&own.name).await?, &own.entity())
}

pub(super) async fn a_restored_backup_holds_what_was_stored(rig: &mut Rig) -> Check {
    let Some(dir) = rig.factory().backup_dir() else { return Ok(()) };
    let mut a = filled(rig).await?;
    let to = dir.join("whole");
    rig.store()?.backup(to.clone(), false).await.map_err(said)?;
    let entry = a.state(b"after").with_row(b"after", b"v");
    rig.put(&a, entry).await?;
    let restored = rig.factory().restore(&to).await?;
    rig.replace(restored);
    is_whole(rig, &a, 100).await?;
    a.version = 100;
    rig.own_again(&mut a).await?;
    let entry = a.state(b"on");
    rig.put(&a, entry).await.map(|_| ())
}

pub(super) async fn a_backup_does_not_overwrite_unless_forced(rig: &mut Rig) -> Check {
    let Some(dir) = rig.factory().backup_dir() else { return Ok(()) };
    let a = filled(rig).await?;
    let to = dir.join("once");
    std::fs::write(&to, b"somebody's").map_err(|e| e.to_string())?;
    holds(rig.store()?.backup(to.clone(), false).await.is_err(), "an existing target is refused")?;
    same("target", &std::fs::read(&to).map_err(|e| e.to_string())?, &b"somebody's".to_vec())?;
    rig.store()?.backup(to.clone(), true).await.map_err(said)?;
    let restored = rig.factory().restore(&to).await?;
    rig.replace(restored);
    is_whole(rig, &a, 100).await
}

pub(super) async fn a_damaged_backup_is_refused(rig: &mut Rig) -> Check {
    let Some(dir) = rig.factory().backup_dir() else { return Ok(()) };
    filled(rig).await?;
    let to = dir.join("damaged");
    rig.store()?.backup(to.clone(), false).await.map_err(said)?;
    let mut bytes = std::fs::read(&to).map_err(|e| e.to_string())?;
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    std::fs::write(&to, bytes).map_err(|e| e.to_string())?;
    holds(rig.factory().restore(&to).await.is_err(), "half a backup is refused")
}

pub(super) async fn a_backup_amid_writing_is_consistent(rig: &mut Rig) -> Check {
    let Some(dir) = rig.factory().backup_dir() else { return Ok(()) };
    let (mut a, mut b) = (rig.own("a").await?, rig.own("b").await?);
    let mut pending = Vec::new();
    for i in 0..100_u8 {
        let chains = [&mut a, &mut b].map(|own| {
            let (expect, entry) = (own.version, own.state(&[i]).with_row(&[i], b"v"));
            chain(own.token, expect, vec![entry])
        });
        pending.push(rig.start(Record::Atomic(chains.into_iter().collect::<Result<_, _>>()?))?);
    }
    let to = dir.join("amid");
    rig.store()?.backup(to.clone(), false).await.map_err(said)?;
    for outcome in pending {
        applied(outcome_of(outcome).await?)?;
    }
    let restored = rig.factory().restore(&to).await?;
    rig.replace(restored);
    let version = rig.version(a.entity()).await?;
    same("of b", &rig.version(b.entity()).await?, &version)?;
    for own in [&a, &b] {
        same("rows", &(rig.rows(own.entity(), b"", b"", 1000).await?.len() as u64), &version)?;
    }
    Ok(())
}
