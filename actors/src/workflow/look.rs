//! Has what waits for a breaker look again, when one was closed by hand.

use std::sync::Arc;

use bytes::Bytes;

use super::{command::RunCommand, reader::run_ids};
use crate::{
    entity::{CallOptions, EntityAddress},
    env::Env,
    store::{StoreError, encode},
};

/// Runs read at a time.
const PAGE: usize = 256;
/// Statuses of runs in which a step or a compensation may wait.
const MAY_WAIT: [&str; 5] = ["waiting", "running", "paused", "compensating", "cancelling"];

/// Tells every run that is not over, one after the other. A run that is not reached looks when its time has come.
///
/// # Errors
/// [`StoreError`]: the runs could not be listed.
pub(crate) async fn look_again(env: &Arc<Env>) -> Result<(), StoreError> {
    // A word without fields can be encoded.
    let Ok(command) = encode(&RunCommand::LookAgain).map(Bytes::from) else { return Ok(()) };
    for status in MAY_WAIT {
        let mut after = None;
        loop {
            let store = env.store().current();
            let names = run_ids(store.as_ref(), Some(status), after, PAGE).await?;
            for name in &names {
                if let Ok(address) = EntityAddress::new(env, name) {
                    drop(address.call(command.clone(), CallOptions::default()).await);
                }
            }
            after = names.last().cloned().filter(|_| names.len() == PAGE);
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}
