use crate::check::{fails, finds, model};
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{Drain, Fences, HandOff};
use std::sync::Arc;

const ENTITY: u64 = 7;

enum Record {
    /// Adds one to the state, if the activation is admitted.
    Chain {
        activation: u64,
    },
    Activate,
}

/// The activation number, and the state as its activator reads it.
type Activated = (u64, u64);

struct Store {
    queue: HandOff<Record>,
    fences: Fences,
    state: AtomicU64,
    answers: HandOff<Activated>,
}

impl Store {
    fn new() -> Arc<Self> {
        let (queue, answers) = (HandOff::new(8, usize::MAX), HandOff::new(1, usize::MAX));
        Arc::new(Self { queue, fences: Fences::new(), state: AtomicU64::new(0), answers })
    }

    fn activate_now(&self) -> Activated {
        (self.fences.raise(ENTITY), self.state.load(SeqCst))
    }

    fn activate_through_queue(&self) -> Activated {
        assert!(self.queue.push_control(Record::Activate).is_ok());
        let mut answer = Vec::new();
        assert_eq!(self.answers.drain(1, usize::MAX, &mut answer), Drain::Items);
        answer[0]
    }

    /// The writer thread: performs `count` records.
    fn write(&self, count: usize) {
        let (mut done, mut batch) = (0, Vec::new());
        while done < count {
            assert_eq!(self.queue.drain(8, usize::MAX, &mut batch), Drain::Items);
            for record in batch.drain(..) {
                done += 1;
                match record {
                    Record::Chain { activation } if self.fences.admits(ENTITY, activation) => {
                        self.state.store(self.state.load(SeqCst) + 1, SeqCst);
                    }
                    Record::Chain { .. } => {}
                    Record::Activate => self.answers.push(self.activate_now(), 0).unwrap(),
                }
            }
        }
    }
}

/// The former owner's chains are in flight while another activates the entity.
fn chains_against_activation(records: usize, activate: fn(&Store) -> Activated) {
    let store = Store::new();
    let (old, _) = store.activate_now();
    let (owns, activates) = (Arc::clone(&store), Arc::clone(&store));
    let owner = thread::spawn(move || {
        for _ in 0..2 {
            assert!(owns.queue.push(Record::Chain { activation: old }, 1).is_ok());
        }
    });
    let activator = thread::spawn(move || activate(&activates));
    store.write(records);
    owner.join().unwrap();
    let (new, seen) = activator.join().unwrap();
    assert!(new > old && store.fences.admits(ENTITY, new));
    assert_eq!(
        store.state.load(SeqCst),
        seen,
        "a chain of the former owner was applied after the activation read"
    );
}

#[test]
fn an_activation_is_a_barrier_to_chains_in_flight() {
    model(|| chains_against_activation(3, Store::activate_through_queue));
}

#[test]
fn an_activation_is_a_barrier_to_chains_in_flight_finds_one_beside_the_queue() {
    fails("former owner", || model(|| chains_against_activation(2, Store::activate_now)));
}

fn late_forget() {
    let fences = Arc::new(Fences::new());
    let old = fences.raise(ENTITY);
    let late = Arc::clone(&fences);
    let former = thread::spawn(move || late.forget(ENTITY, old));
    let new = fences.raise(ENTITY);
    former.join().unwrap();
    assert!(new > old && fences.admits(ENTITY, new), "the new activation stays admitted");
    assert!(!fences.admits(ENTITY, old));
}

#[test]
fn a_late_forget_leaves_the_new_activation_alone() {
    model(late_forget);
}

#[test]
fn a_late_forget_leaves_the_new_activation_alone_finds_a_blind_forget() {
    finds(Bug::FencesForgetBlindly, "stays admitted", late_forget);
}
