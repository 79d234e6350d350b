//! Keeps a stream to an address: dials, waits until it is gone, dials again after a delay that grows.

use std::sync::Arc;

use stanchion_actors::task::CancelToken;
use stanchion_supervisors::Backoff;
use tracing::debug;

use super::core::Core;
use crate::cluster::transport::{HandshakeError, Refusal, TransportError, dial, draw};

/// Dials `target` until `enough`, or until it is found to be this node.
pub(super) async fn run(core: Arc<Core>, target: String, enough: CancelToken, backoff: Backoff) {
    tokio::select! {
        () = keep(&core, &target, backoff) => {}
        () = enough.cancelled() => {}
        () = core.ended.cancelled() => {}
    }
}

async fn keep(core: &Arc<Core>, target: &str, backoff: Backoff) {
    let mut failures = 0_u32;
    loop {
        match once(core, target).await {
            Ok(gone) => {
                failures = 0;
                gone.cancelled().await;
            }
            Err(TransportError::Handshake(HandshakeError::Refused(Refusal::Myself))) => {
                debug!(target, "address is this node");
                return;
            }
            Err(error) => debug!(target, %error, "not joined"),
        }
        failures = failures.saturating_add(1);
        tokio::time::sleep(backoff.delay(failures, draw())).await;
    }
}

async fn once(core: &Arc<Core>, target: &str) -> Result<CancelToken, TransportError> {
    let Some(started) = core.started.get() else {
        return Err(HandshakeError::Refused(Refusal::Stopping).into());
    };
    let arrival = dial(target, &started.door, &**core).await?;
    core.join(arrival).map_err(|refusal| HandshakeError::Refused(refusal).into())
}
