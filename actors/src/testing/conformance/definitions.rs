//! Definitions by content hash.

use super::prelude::*;

async fn definition(rig: &Rig, hash: u8) -> Result<Option<Bytes>, String> {
    rig.store()?.definition([hash; 32]).await.map_err(said)
}

pub(super) async fn a_definition_comes_back(rig: &mut Rig) -> Check {
    for hash in [0, 7, 255_u8] {
        rig.apply(Record::Definition { hash: [hash; 32], bytes: Bytes::copy_from_slice(&[hash]) }).await?;
    }
    for _ in ROUNDS {
        for hash in [0, 7, 255_u8] {
            same("definition", &definition(rig, hash).await?, &Some(Bytes::copy_from_slice(&[hash])))?;
        }
        same("unknown", &definition(rig, 8).await?, &None)?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_definition_stored_twice_is_one(rig: &mut Rig) -> Check {
    for _ in 0..2 {
        rig.apply(Record::Definition { hash: [1; 32], bytes: Bytes::from_static(b"same") }).await?;
    }
    for _ in ROUNDS {
        same("definition", &definition(rig, 1).await?, &Some(Bytes::from_static(b"same")))?;
        rig.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_large_definition_comes_back(rig: &mut Rig) -> Check {
    let bytes = Bytes::from(vec![9; 16 * 1024 * 1024]);
    rig.apply(Record::Definition { hash: [1; 32], bytes: bytes.clone() }).await?;
    for _ in ROUNDS {
        holds(definition(rig, 1).await?.as_ref() == Some(&bytes), "the definition is the one stored")?;
        rig.reopen().await?;
    }
    Ok(())
}
