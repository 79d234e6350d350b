//! The bound on how many tasks run at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for tasks; a task that holds one may run. Clones are the same places.
#[derive(Clone, Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    limit: usize,
}

/// A place; free again when dropped.
#[derive(Debug)]
#[must_use = "dropped, the place is free again"]
pub struct TaskPlace {
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// So many places: at least one, at most what a semaphore holds.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(limit)), limit }
    }

    /// A place, if one is free.
    #[must_use]
    pub fn try_take(&self) -> Option<TaskPlace> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(|permit| TaskPlace { _permit: permit })
    }

    /// Waits for a place, in turn.
    ///
    /// # Cancel safety
    /// Dropped while it waits, its turn is lost and no place is taken.
    pub async fn take(&self) -> TaskPlace {
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => TaskPlace { _permit: permit },
            // Closed never: nothing closes it.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Places that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// All places.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_dropped_and_a_limit_of_any_size_holds() {
        let places = Places::new(0);
        let place = places.try_take();
        assert!(place.is_some() && places.try_take().is_none(), "0 is read as 1");
        drop(place);
        assert_eq!((places.free(), places.limit()), (1, 1));
        assert_eq!(Places::new(usize::MAX).limit(), Semaphore::MAX_PERMITS);
    }
}
