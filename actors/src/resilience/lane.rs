//! [`lane_of_thread`]: a small number for each thread.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    num::NonZero,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Most lanes of a policy: more cores share them.
const LANES_MAX: usize = 16;

/// Numbers given back by threads that ended, and the next one that nobody had.
struct Numbers {
    free: BinaryHeap<Reverse<usize>>,
    next: usize,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { free: BinaryHeap::new(), next: 0 });

thread_local! {
    static MINE: Number = Number::take();
}

/// A number of one thread; free again when the thread ends.
struct Number(usize);

impl Number {
    fn take() -> Self {
        let mut numbers = numbers();
        if let Some(Reverse(number)) = numbers.free.pop() {
            return Self(number);
        }
        numbers.next += 1;
        Self(numbers.next - 1)
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        numbers().free.push(Reverse(self.0));
    }
}

fn numbers() -> MutexGuard<'static, Numbers> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of this thread: as small as may be, and no other living thread has it. A thread that ends has 0.
pub(super) fn lane_of_thread() -> usize {
    MINE.try_with(|number| number.0).unwrap_or(0)
}

/// Lanes of a policy: a power of two, as many as the machine has cores or more.
pub(super) fn lanes() -> usize {
    static LANES: OnceLock<usize> = OnceLock::new();
    *LANES.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        cores.next_power_of_two().min(LANES_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_alive_have_numbers_of_their_own_and_those_of_the_dead_are_given_again() {
        let mine = lane_of_thread();
        let number_of_another = || std::thread::spawn(lane_of_thread).join().unwrap();
        assert_ne!(number_of_another(), mine);
        let most = (0..1_000).map(|_| number_of_another()).max().unwrap();
        assert!(most < 1_000, "a number for each thread that ever was: {most}");
        assert_eq!(lane_of_thread(), mine);
    }
}
