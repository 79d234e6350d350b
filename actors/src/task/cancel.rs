//! Cooperative cancellation: asked for once, seen by everyone below.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

use super::lock;

/// A cancellation request that spreads to child tokens and never to the parent.
///
/// Clones are the same token. Cancelling is final.
///
/// # Examples
/// ```
/// use stanchion_actors::task::CancelToken;
///
/// let run = CancelToken::new();
/// let step = run.child();
/// run.cancel();
/// assert!(step.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    changed: Notify,
    /// Dead entries are swept when the list doubles, so a long-lived token stays small.
    children: Mutex<Vec<Weak<Inner>>>,
    /// Keeps the way from the root alive when a token in the middle is dropped.
    _parent: Option<Arc<Inner>>,
}

impl CancelToken {
    /// Makes a token that nobody has cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a token that is cancelled with this one, and may be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let parent = Some(Arc::clone(&self.inner));
        let child = Self { inner: Arc::new(Inner { _parent: parent, ..Inner::default() }) };
        let mut children = lock(&self.inner.children);
        if self.is_cancelled() {
            child.inner.cancelled.store(true, Ordering::SeqCst);
            return child;
        }
        if children.len() == children.capacity() {
            children.retain(|known| known.strong_count() > 0);
        }
        children.push(Arc::downgrade(&child.inner));
        drop(children);
        child
    }

    /// Cancels this token and every token below it. Repeating it changes nothing.
    pub fn cancel(&self) {
        let mut pending = vec![Arc::clone(&self.inner)];
        while let Some(inner) = pending.pop() {
            // Under the lock, so that a child made at the same time is either listed or born cancelled.
            let mut children = lock(&inner.children);
            inner.cancelled.store(true, Ordering::SeqCst);
            pending.extend(children.drain(..).filter_map(|child| child.upgrade()));
            drop(children);
            inner.changed.notify_waiters();
        }
    }

    /// Whether this token or one above it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until the token is cancelled; at once if it is already.
    ///
    /// # Cancel safety
    /// Safe: dropping the future loses nothing.
    pub async fn cancelled(&self) {
        let mut changed = std::pin::pin!(self.inner.changed.notified());
        changed.as_mut().enable();
        if !self.is_cancelled() {
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_wakes_when_a_token_above_is_cancelled_although_the_one_between_was_dropped() {
        let root = CancelToken::new();
        let leaf = root.child().child();
        let middle_alone = root.child();
        assert!(!leaf.is_cancelled());
        let (_, ()) = tokio::join!(leaf.cancelled(), async { root.cancel() });
        assert!(middle_alone.is_cancelled());
    }

    #[tokio::test]
    async fn a_child_cancelled_alone_leaves_the_parent_alone() {
        let root = CancelToken::new();
        let child = root.child();
        child.cancel();
        assert!(child.is_cancelled() && !root.is_cancelled());
        assert!(child.child().is_cancelled(), "a child of a cancelled token is born cancelled");
    }
}
