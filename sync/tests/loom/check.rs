//! Runs a model, or expects it to fail with a planted bug.

use loom::sync::{Condvar, Mutex};
use stanchion_sync::planted::{Bug, with};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Preemptions per execution, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 3;

/// Explores every interleaving of `model` within the bound.
pub(crate) fn model(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.check(model);
}

/// Requires that loom finds `bug` with the same `case`, by a panic that says `symptom`.
pub(crate) fn finds(bug: Bug, symptom: &str, case: impl Fn() + Send + Sync + 'static) {
    fails(symptom, || with(bug, || model(case)));
}

/// Requires that `run` panics and says `symptom`: part of an assertion's text, or [`DEADLOCK`].
pub(crate) fn fails(symptom: &str, run: impl FnOnce()) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { panic!("loom did not find the planted bug") };
    let said = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(said), _) => said.as_str(),
        (None, Some(said)) => said,
        (None, None) => "",
    };
    assert!(said.contains(symptom), "found something else than {symptom:?}: {said}");
}

/// What loom says when every thread sleeps: a wake-up was lost.
pub(crate) const DEADLOCK: &str = "deadlock";

/// Polls until ready. Unlike loom's own, its waker may be dropped while a failing model unwinds.
pub(crate) fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let signal = Arc::new(Signal { woken: Mutex::new(false), changed: Condvar::new() });
    let waker = Waker::from(Arc::clone(&signal));
    loop {
        if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut woken = signal.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = signal.changed.wait(woken).unwrap();
        }
    }
}

struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}
