//! Random operations against the model.

use super::prelude::*;
use crate::testing::model::{Op, agrees, draws};

pub(super) async fn random_operations_agree_with_the_model(rig: &mut Rig) -> Check {
    for seed in 0..5 {
        let ops: Vec<Op> = draws(seed).take(120).map(Op::from_draw).collect();
        agrees(rig, &ops).await.map_err(|e| format!("seed {seed}: {e}"))?;
        let fresh = rig.factory().open().await?;
        rig.replace(fresh);
    }
    Ok(())
}
