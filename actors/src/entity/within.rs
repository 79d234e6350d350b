//! Which entity's handler runs on this thread: a handler that calls its own entity and waits would wait for ever.

use std::cell::Cell;

thread_local! {
    /// The address of the cell in memory; 0: no handler runs.
    static WITHIN: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, a handler of the entity of this cell runs on this thread.
pub(super) struct Within(usize);

impl Within {
    pub(super) fn enter<T>(cell: &std::sync::Arc<T>) -> Self {
        Self(WITHIN.replace(place(cell)))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        WITHIN.set(self.0);
    }
}

/// Whether a handler of the entity of this cell runs on this thread.
pub(super) fn is_within<T>(cell: &std::sync::Arc<T>) -> bool {
    WITHIN.get() == place(cell)
}

fn place<T>(cell: &std::sync::Arc<T>) -> usize {
    std::sync::Arc::as_ptr(cell).addr()
}
