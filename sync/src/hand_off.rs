//! [`HandOff`]: entries for the one writer thread.

use crate::planted::{Bug, planted};
use crate::shim::{Condvar, Mutex, MutexGuard, lock, wait};
use std::collections::VecDeque;

/// A bounded queue from many producers to the one thread that writes.
///
/// Order is the order of the pushes, whatever their kind. Producers never block: a full queue gives the item
/// back. The consumer takes what is there and never lingers for more, so batches grow with load by themselves.
/// Producers pay for a wake-up only when the consumer sleeps. Only one thread may drain.
///
/// ```
/// use stanchion_sync::{Drain, HandOff, Refused};
/// # if stanchion_sync::UNDER_LOOM { return Ok(()); }
/// let queue = HandOff::new(2, 1_024);
/// queue.push("a", 100)?;
/// queue.push("b", 100)?;
/// assert_eq!(queue.push("c", 100), Err(Refused::Full("c")));
/// queue.push_control("barrier")?;
/// let mut batch = Vec::new();
/// assert_eq!(queue.drain(256, 1_024, &mut batch), Drain::Items);
/// assert_eq!(batch, ["a", "b", "barrier"]);
/// # Ok::<(), Refused<&str>>(())
/// ```
#[derive(Debug)]
pub struct HandOff<T> {
    limit_items: usize,
    limit_bytes: usize,
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<Queued<T>>,
    /// Counted items in the queue, `0..=limit_items`; control items are not counted.
    items: usize,
    /// Their bytes.
    bytes: usize,
    closed: bool,
    /// The consumer sleeps and nobody has notified it yet.
    sleeping: bool,
}

#[derive(Debug)]
struct Queued<T> {
    item: T,
    /// Size of a counted item; `None` for control items.
    bytes: Option<usize>,
}

/// Why a push was refused; the item comes back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused<T> {
    /// The limit of items or bytes is reached: try again later, or refuse the caller.
    #[error("the hand-off is full")]
    Full(T),
    /// The consumer takes nothing new: the writer stops or is gone.
    #[error("the hand-off is closed")]
    Closed(T),
}

impl<T> Refused<T> {
    /// Gives the item back.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

/// What a drain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "`Closed` ends the consumer's loop"]
pub enum Drain {
    /// At least one item was taken.
    Items,
    /// Nothing is there. [`HandOff::drain`] never answers this.
    Idle,
    /// Closed, and empty for good.
    Closed,
}

impl<T> HandOff<T> {
    /// Makes an open queue of at most `limit_items` counted items of `limit_bytes` together.
    ///
    /// `limit_items: 0` refuses all but control items. An item above `limit_bytes` is admitted only when no
    /// other counted item is queued, so nothing is too large for ever.
    #[must_use]
    pub fn new(limit_items: usize, limit_bytes: usize) -> Self {
        let state = State { queue: VecDeque::new(), items: 0, bytes: 0, closed: false, sleeping: false };
        Self { limit_items, limit_bytes, state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Appends `item`, counted as one item of `bytes`. Never blocks.
    ///
    /// # Errors
    /// [`Refused::Full`]: a limit is reached. [`Refused::Closed`]: see [`HandOff::close`].
    pub fn push(&self, item: T, bytes: usize) -> Result<(), Refused<T>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Refused::Closed(item));
        }
        let total = state.bytes.saturating_add(bytes);
        if state.items >= self.limit_items || (total > self.limit_bytes && state.items > 0) {
            return Err(Refused::Full(item));
        }
        state.items += 1;
        state.bytes = total;
        self.append(state, Queued { item, bytes: Some(bytes) });
        Ok(())
    }

    /// Appends `item` in the same order, but outside the limits: for barriers and activations, which their
    /// senders bound. Never blocks.
    ///
    /// # Errors
    /// [`Refused::Closed`]: see [`HandOff::close`].
    pub fn push_control(&self, item: T) -> Result<(), Refused<T>> {
        let state = lock(&self.state);
        if state.closed {
            return Err(Refused::Closed(item));
        }
        self.append(state, Queued { item, bytes: None });
        Ok(())
    }

    /// Sleeps until something is there, then appends to `into` up to `max` items of `max_bytes` together.
    ///
    /// At least one item is taken, even if it alone exceeds `max_bytes` or `max` is `0`. Answers
    /// [`Drain::Closed`] only when closed *and* empty: what was accepted is always drained.
    pub fn drain(&self, max: usize, max_bytes: usize, into: &mut Vec<T>) -> Drain {
        let mut state = lock(&self.state);
        while state.queue.is_empty() && !state.closed {
            if planted(Bug::HandOffSleepsUnseen) {
                drop(state);
                state = lock(&self.state);
            }
            state.sleeping = true;
            state = wait(&self.filled, state);
        }
        state.sleeping = false;
        state.take(max, max_bytes, into)
    }

    /// As [`HandOff::drain`], but answers [`Drain::Idle`] instead of sleeping.
    pub fn try_drain(&self, max: usize, max_bytes: usize, into: &mut Vec<T>) -> Drain {
        lock(&self.state).take(max, max_bytes, into)
    }

    /// As [`HandOff::drain`], but answers [`Drain::Idle`] when nothing came within `timeout`.
    ///
    /// Not part of a loom build: loom has no time.
    #[cfg(not(stanchion_loom))]
    pub fn drain_timeout(
        &self,
        max: usize,
        max_bytes: usize,
        into: &mut Vec<T>,
        timeout: std::time::Duration,
    ) -> Drain {
        let mut state = lock(&self.state);
        if state.queue.is_empty() && !state.closed {
            state.sleeping = true;
            let nothing = |state: &mut State<T>| state.queue.is_empty() && !state.closed;
            let waited = self.filled.wait_timeout_while(state, timeout, nothing);
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            state.sleeping = false;
        }
        state.take(max, max_bytes, into)
    }

    /// Refuses every later push and wakes the consumer, which drains what is left.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_all();
    }

    /// Items queued at this moment, control items included.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// Whether nothing is queued at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the counted items queued at this moment.
    #[must_use]
    pub fn bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Whether [`HandOff::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    fn append(&self, mut state: MutexGuard<'_, State<T>>, queued: Queued<T>) {
        state.queue.push_back(queued);
        let wake = std::mem::take(&mut state.sleeping);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }
}

impl<T> State<T> {
    fn take(&mut self, max: usize, max_bytes: usize, into: &mut Vec<T>) -> Drain {
        if self.closed && planted(Bug::HandOffForgetsTheRest) {
            return Drain::Closed;
        }
        let (mut taken, mut taken_bytes) = (0_usize, 0_usize);
        while let Some(next) = self.queue.front() {
            let size = next.bytes.unwrap_or(0);
            let fits = taken < max && taken_bytes.saturating_add(size) <= max_bytes;
            if taken > 0 && !fits {
                break;
            }
            let Some(Queued { item, bytes }) = self.queue.pop_front() else { break };
            self.items -= usize::from(bytes.is_some());
            self.bytes = self.bytes.saturating_sub(size);
            taken += 1;
            taken_bytes = taken_bytes.saturating_add(size);
            into.push(item);
        }
        match (taken, self.closed) {
            (0, true) => Drain::Closed,
            (0, false) => Drain::Idle,
            (1.., _) => Drain::Items,
        }
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn control_items_keep_their_place_and_are_not_counted() {
        let queue = HandOff::new(1, 10);
        queue.push('a', 10).unwrap();
        assert_eq!(queue.push('b', 0), Err(Refused::Full('b')));
        queue.push_control('c').unwrap();
        assert_eq!((queue.len(), queue.bytes()), (2, 10));
        let mut batch = Vec::new();
        assert_eq!(queue.drain(1, 10, &mut batch), Drain::Items);
        queue.push('d', 10).unwrap();
        assert_eq!(queue.drain(8, 100, &mut batch), Drain::Items);
        assert_eq!(batch, ['a', 'c', 'd']);
        assert!(queue.is_empty());
    }

    #[test]
    fn bytes_bound_the_queue_and_the_batch() {
        let queue = HandOff::new(8, 100);
        queue.push(1, 60).unwrap();
        assert_eq!(queue.push(2, 41).map_err(Refused::into_item), Err(2));
        queue.push(3, 40).unwrap();
        let mut batch = Vec::new();
        assert_eq!(queue.drain(8, 99, &mut batch), Drain::Items);
        assert_eq!(batch, [1]);
    }

    #[test]
    fn an_oversized_item_passes_alone() {
        let queue = HandOff::new(8, 100);
        queue.push(1, 500).unwrap();
        assert_eq!(queue.push(2, 0), Err(Refused::Full(2)));
        let mut batch = Vec::new();
        assert_eq!(queue.drain(8, 100, &mut batch), Drain::Items);
        queue.push(2, 0).unwrap();
        assert_eq!(queue.push(3, 500), Err(Refused::Full(3)));
    }

    #[test]
    fn a_closed_queue_refuses_and_gives_out_what_is_left() {
        let queue = HandOff::new(8, 100);
        queue.push(1, 1).unwrap();
        queue.push(2, 1).unwrap();
        queue.close();
        assert!(queue.is_closed());
        assert_eq!(queue.push(3, 1), Err(Refused::Closed(3)));
        assert_eq!(queue.push_control(4), Err(Refused::Closed(4)));
        let mut batch = Vec::new();
        assert_eq!(queue.drain(1, 100, &mut batch), Drain::Items);
        assert_eq!(queue.try_drain(1, 100, &mut batch), Drain::Items);
        assert_eq!(queue.drain(1, 100, &mut batch), Drain::Closed);
        assert_eq!(batch, [1, 2]);
    }

    #[test]
    fn an_empty_queue_is_idle_at_once_or_after_the_timeout() {
        let (queue, mut batch) = (HandOff::<u8>::new(8, 100), Vec::new());
        assert_eq!(queue.try_drain(8, 100, &mut batch), Drain::Idle);
        assert_eq!(queue.drain_timeout(8, 100, &mut batch, Duration::from_millis(1)), Drain::Idle);
        queue.push(1, 1).unwrap();
        assert_eq!(queue.drain_timeout(8, 100, &mut batch, Duration::MAX), Drain::Items);
    }

    #[test]
    fn many_producers_are_drained_once_each_and_in_their_order() {
        const EACH: u64 = 2_000;
        let queue = Arc::new(HandOff::new(64, 1 << 20));
        let producers: Vec<_> = (0..4_u64)
            .map(|who| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    for n in 0..EACH {
                        while queue.push((who, n), 8).is_err() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let closer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                producers.into_iter().for_each(|producer| producer.join().unwrap());
                queue.close();
            })
        };
        let mut all = Vec::new();
        while queue.drain(32, 1 << 20, &mut all) == Drain::Items {}
        closer.join().unwrap();
        for who in 0..4 {
            let of_one: Vec<u64> = all.iter().filter(|item| item.0 == who).map(|item| item.1).collect();
            assert_eq!(of_one, (0..EACH).collect::<Vec<_>>());
        }
    }
}
