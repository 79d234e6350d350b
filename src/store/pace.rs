//! How the writer goes at the speed of the fold: waits in proportion to the backlog, and when to freeze.

use std::time::Duration;

use super::{shared::Shared, view::read_mem};

/// Longest single wait for the fold before a commit.
const PACE_MAX: Duration = Duration::from_millis(50);
/// Batches are this many times smaller while the fold is behind, so that its waits spread over the callers.
const PACED_SHARE: usize = 8;
/// Fold speed assumed before the first fold, in bytes a second.
const PACE_ASSUMED: f64 = 20e6;
/// At the log's cap the writer is slower than the fold by this factor, so that the cap is not reached.
const PACE_OVER: f64 = 1.5;

/// While a backup keeps the fold from writing, the log may grow to this many times its cap before commits wait.
const BACKUP_SHARE: usize = 4;

/// Waits for the fold in proportion to what it is behind; answers by how much batches are to be smaller.
pub(crate) fn pace(shared: &Shared, last_bytes: usize) -> usize {
    loop {
        let (backlog, speed, paused) = {
            let fold = shared.fold_state();
            (fold.backlog(), fold.bytes_per_second, fold.paused > 0)
        };
        let cap = shared.options.log_max_bytes.saturating_mul(if paused { BACKUP_SHARE } else { 1 });
        let half = cap / 2;
        if backlog <= half {
            return 1;
        }
        freeze_if_due(shared);
        if shared.poisoned().is_some() {
            return 1;
        }
        if backlog < cap {
            let full = (backlog - half) as f64 / half.max(1) as f64;
            let speed = if speed > 0.0 { speed } else { PACE_ASSUMED };
            let wait = Duration::from_secs_f64(PACE_OVER * full * last_bytes as f64 / speed).min(PACE_MAX);
            drop(shared.await_fold(Some(wait), |fold| !fold.stop && fold.backlog() > half));
            return PACED_SHARE;
        }
        drop(shared.await_fold(None, |fold| !fold.stop && fold.busy && fold.backlog() >= cap));
    }
}

/// Freezes when the generation or its log is large enough.
pub(crate) fn freeze_if_due(shared: &Shared) {
    let limit = shared.options.freeze_bytes();
    let logged = shared.fold_state().active_bytes;
    if logged >= limit || read_mem(&shared.view.active()).bytes >= limit {
        freeze(shared);
    }
}

/// Freezes the active generation, unless one is being folded or there is nothing; whether it did.
///
/// Only the writer's thread may: nobody projects into a generation that is being frozen.
pub(crate) fn freeze(shared: &Shared) -> bool {
    if shared.fold_state().busy {
        return false;
    }
    let frozen = shared.view.change(|gens| {
        if read_mem(&gens.active).is_empty() || gens.folding.is_some() {
            return false;
        }
        gens.folding = Some(std::mem::take(&mut gens.active));
        true
    });
    if frozen {
        shared.fold(|fold| {
            fold.frozen_bytes = std::mem::take(&mut fold.active_bytes);
            fold.done_bytes = 0;
            fold.busy = true;
        });
    }
    frozen
}
