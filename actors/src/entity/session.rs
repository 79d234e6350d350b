//! Command ids of one client: (session, seq), and which of them are settled.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

use crate::ids::{CommandId, Origin, Timestamp};

/// A client session: numbers commands and knows below which number all are settled.
#[derive(Debug)]
pub struct Session {
    id: Uuid,
    window: Mutex<Window>,
}

/// Commands from `base` on: whether each is still open.
#[derive(Debug)]
struct Window {
    base: u64,
    open: VecDeque<bool>,
}

impl Session {
    /// A new session, made at `now`: entities tell by its id whether they may have forgotten it.
    #[must_use]
    pub fn begun_at(now: Timestamp) -> Arc<Self> {
        let mut random = [0; 10];
        if let Some(tail) = Uuid::now_v7().as_bytes().get(6..) {
            random.copy_from_slice(tail);
        }
        let millis = u64::try_from(now.0 / 1_000).unwrap_or(0);
        Self::with_id(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// A session under a known id.
    #[must_use]
    pub fn with_id(id: Uuid) -> Arc<Self> {
        Arc::new(Self { id, window: Mutex::new(Window { base: 1, open: VecDeque::new() }) })
    }

    /// Numbers a command. It counts as open until the ticket is dropped.
    pub fn begin(self: &Arc<Self>) -> Ticket {
        let mut window = self.lock();
        let seq = window.base + window.open.len() as u64;
        window.open.push_back(true);
        Ticket { session: Arc::clone(self), seq }
    }

    /// Every command below this number is settled: nobody will ask for its answer again.
    #[must_use]
    pub fn settled_below(&self) -> u64 {
        self.lock().base
    }

    fn settle(&self, seq: u64) {
        let mut window = self.lock();
        let index = usize::try_from(seq.saturating_sub(window.base)).unwrap_or(usize::MAX);
        if let Some(open) = window.open.get_mut(index) {
            *open = false;
        }
        while window.open.front() == Some(&false) {
            window.open.pop_front();
            window.base += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One numbered command. While it lives, its answer is remembered and a retry under it is safe.
#[derive(Debug)]
#[must_use = "dropping the ticket settles the command"]
pub struct Ticket {
    session: Arc<Session>,
    seq: u64,
}

impl Ticket {
    /// The command's id.
    #[must_use]
    pub fn id(&self) -> CommandId {
        CommandId { origin: Origin::Session(self.session.id), seq: self.seq }
    }

    /// Below which number its session is settled.
    #[must_use]
    pub fn settled_below(&self) -> u64 {
        self.session.settled_below()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.session.settle(self.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_below_waits_for_the_oldest_open_command() {
        let session = Session::begun_at(Timestamp(0));
        let first = session.begin();
        let second = session.begin();
        let third = session.begin();
        drop(second);
        assert_eq!(session.settled_below(), 1);
        drop(first);
        assert_eq!(session.settled_below(), 3);
        drop(third);
        assert_eq!(session.settled_below(), 4);
        assert_eq!(session.begin().id().seq, 4);
    }
}
