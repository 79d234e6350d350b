//! Random sequences of calls against models simple enough to be right by reading.
#![cfg(not(stanchion_loom))]
#![expect(clippy::indexing_slicing, reason = "a panic fails the test")]

use proptest::prelude::*;
use stanchion_sync::{
    Claim, Closed, Drain, Fences, Gate, GateRefusal, HandOff, Held, OwnerSlot, OwnerState, Permit, Refused,
    ReleaseOrder, Turnstile, TurnstileLimits, TurnstileRefusal, Waiter,
};
use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

fn calls<T: std::fmt::Debug>(call: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(call, 1..60)
}

#[derive(Clone, Debug)]
enum GateCall {
    Try,
    Return,
    Wait,
    Poll(usize),
    Cancel(usize),
    Close,
    Reopen,
}

fn gate_call() -> impl Strategy<Value = GateCall> {
    prop_oneof![
        3 => Just(GateCall::Try),
        4 => Just(GateCall::Return),
        4 => Just(GateCall::Wait),
        4 => (0_usize..6).prop_map(GateCall::Poll),
        3 => (0_usize..6).prop_map(GateCall::Cancel),
        1 => Just(GateCall::Close),
        1 => Just(GateCall::Reopen),
    ]
}

/// What the model knows of one waiter that still exists.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    Waits,
    Given,
    TurnedAway,
}

#[derive(Debug, Default)]
struct GateModel {
    capacity: usize,
    permits: usize,
    closed: bool,
    turns: Vec<Turn>,
}

impl GateModel {
    fn in_use(&self) -> usize {
        self.permits + self.turns.iter().filter(|turn| **turn == Turn::Given).count()
    }

    fn admit(&mut self) -> Result<(), GateRefusal> {
        match (self.closed, self.in_use() < self.capacity) {
            (true, _) => Err(GateRefusal::Closed),
            (false, false) => Err(GateRefusal::Full),
            (false, true) => {
                self.permits += 1;
                Ok(())
            }
        }
    }

    /// The first who waits gets a free place. There is none free while one waits, so order of calls suffices.
    fn pass_on(&mut self) {
        let free = self.in_use() < self.capacity;
        if let Some(turn) = self.turns.iter_mut().find(|turn| free && **turn == Turn::Waits) {
            *turn = Turn::Given;
        }
    }
}

fn poll(gate: &std::sync::Arc<Gate>, waiter: &mut Waiter) -> Poll<Result<Permit, Closed>> {
    gate.poll_acquire(waiter, &mut Context::from_waker(Waker::noop()))
}

fn gate_agrees(capacity: usize, calls: Vec<GateCall>) -> Result<(), TestCaseError> {
    let gate = Gate::new(capacity);
    let mut model = GateModel { capacity, ..GateModel::default() };
    let (mut permits, mut waiters): (Vec<Permit>, Vec<Waiter>) = (Vec::new(), Vec::new());
    for call in calls {
        match call {
            GateCall::Try => {
                let outcome = gate.try_acquire();
                prop_assert_eq!(outcome.as_ref().map(|_| ()).map_err(|refusal| *refusal), model.admit());
                permits.extend(outcome);
            }
            GateCall::Return => {
                if permits.pop().is_some() {
                    model.permits -= 1;
                    model.pass_on();
                }
            }
            GateCall::Wait => {
                let mut waiter = Waiter::new();
                match (poll(&gate, &mut waiter), model.admit()) {
                    (Poll::Ready(Ok(permit)), Ok(())) => permits.push(permit),
                    (Poll::Ready(Err(Closed)), Err(GateRefusal::Closed)) => {}
                    (Poll::Pending, Err(GateRefusal::Full)) => {
                        waiters.push(waiter);
                        model.turns.push(Turn::Waits);
                    }
                    (found, expected) => prop_assert!(false, "{:?} where {:?}", found, expected),
                }
            }
            GateCall::Poll(nth) if nth < waiters.len() => {
                match (poll(&gate, &mut waiters[nth]), model.turns[nth]) {
                    (Poll::Pending, Turn::Waits) => {}
                    (Poll::Ready(Ok(permit)), Turn::Given) => {
                        permits.push(permit);
                        model.permits += 1;
                        model.turns.remove(nth);
                        waiters.remove(nth);
                    }
                    (Poll::Ready(Err(Closed)), Turn::TurnedAway) => {
                        model.turns.remove(nth);
                        waiters.remove(nth);
                    }
                    (found, expected) => prop_assert!(false, "{:?} where {:?}", found, expected),
                }
            }
            GateCall::Cancel(nth) if nth < waiters.len() => {
                drop(waiters.remove(nth));
                model.turns.remove(nth);
                model.pass_on();
            }
            GateCall::Poll(_) | GateCall::Cancel(_) => {}
            GateCall::Close => {
                gate.close();
                model.closed = true;
                model
                    .turns
                    .iter_mut()
                    .filter(|turn| **turn == Turn::Waits)
                    .for_each(|turn| *turn = Turn::TurnedAway);
            }
            GateCall::Reopen => {
                gate.reopen();
                model.closed = false;
            }
        }
        let waiting = model.turns.iter().filter(|turn| **turn == Turn::Waits).count();
        prop_assert_eq!((gate.in_use(), gate.waiting()), (model.in_use(), waiting));
    }
    drop((permits, waiters));
    prop_assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
    Ok(())
}

#[derive(Clone, Debug)]
enum QueueCall {
    Push(usize),
    Control,
    Drain(usize, usize),
    Close,
}

fn queue_call() -> impl Strategy<Value = QueueCall> {
    prop_oneof![
        6 => (0_usize..40).prop_map(QueueCall::Push),
        2 => Just(QueueCall::Control),
        4 => (0_usize..5, 0_usize..60).prop_map(|(max, bytes)| QueueCall::Drain(max, bytes)),
        1 => Just(QueueCall::Close),
    ]
}

fn hand_off_agrees(items: usize, bytes: usize, calls: Vec<QueueCall>) -> Result<(), TestCaseError> {
    let queue = HandOff::new(items, bytes);
    let (mut model, mut closed): (VecDeque<(usize, Option<usize>)>, bool) = (VecDeque::new(), false);
    for (n, call) in calls.into_iter().enumerate() {
        let counted: Vec<usize> = model.iter().filter_map(|queued| queued.1).collect();
        match call {
            QueueCall::Push(size) => {
                let full = counted.len() >= items
                    || (!counted.is_empty() && counted.iter().sum::<usize>() + size > bytes);
                let expected = match (closed, full) {
                    (true, _) => Err(Refused::Closed(n)),
                    (false, true) => Err(Refused::Full(n)),
                    (false, false) => Ok(()),
                };
                model.extend(expected.is_ok().then_some((n, Some(size))));
                prop_assert_eq!(queue.push(n, size), expected);
            }
            QueueCall::Control => {
                let expected = if closed { Err(Refused::Closed(n)) } else { Ok(()) };
                model.extend(expected.is_ok().then_some((n, None)));
                prop_assert_eq!(queue.push_control(n), expected);
            }
            QueueCall::Drain(max, max_bytes) => {
                let mut batch = Vec::new();
                let outcome = queue.try_drain(max, max_bytes, &mut batch);
                let (mut expected, mut sum) = (Vec::new(), 0);
                while let Some((item, size)) = model.front().copied() {
                    sum += size.unwrap_or(0);
                    if !expected.is_empty() && (expected.len() >= max || sum > max_bytes) {
                        break;
                    }
                    expected.push(item);
                    model.pop_front();
                }
                let named = match (expected.is_empty(), closed) {
                    (false, _) => Drain::Items,
                    (true, true) => Drain::Closed,
                    (true, false) => Drain::Idle,
                };
                prop_assert_eq!((outcome, batch), (named, expected));
            }
            QueueCall::Close => {
                queue.close();
                closed = true;
            }
        }
        prop_assert_eq!(queue.len(), model.len());
        prop_assert_eq!(queue.bytes(), model.iter().filter_map(|queued| queued.1).sum::<usize>());
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum ReleaseCall {
    Begin,
    Hold(usize, u64),
    Release(usize, u64),
    Abandon(usize),
}

fn release_call() -> impl Strategy<Value = ReleaseCall> {
    prop_oneof![
        1 => Just(ReleaseCall::Begin),
        8 => (0_usize..3, 0_u64..20).prop_map(|(age, version)| ReleaseCall::Hold(age, version)),
        4 => (0_usize..3, 0_u64..20).prop_map(|(age, version)| ReleaseCall::Release(age, version)),
        1 => (0_usize..3).prop_map(ReleaseCall::Abandon),
    ]
}

/// `age` 0 names the latest epoch, 1 the one before; the model keeps waiting items unsorted.
fn release_order_agrees(calls: Vec<ReleaseCall>) -> Result<(), TestCaseError> {
    let order = ReleaseOrder::new(0);
    let mut epochs = vec![order.begin().0];
    let (mut waiting, mut durable, mut alive): (Vec<(u64, usize)>, u64, bool) = (Vec::new(), 0, true);
    let take = |waiting: &mut Vec<(u64, usize)>, upto: u64| {
        waiting.sort_unstable();
        let (out, rest): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(|held| held.0 <= upto);
        *waiting = rest;
        out.into_iter().map(|held| held.1).collect::<Vec<usize>>()
    };
    for (n, call) in calls.into_iter().enumerate() {
        match call {
            ReleaseCall::Begin => {
                let (epoch, rest) = order.begin();
                prop_assert!(epochs.iter().all(|earlier| *earlier < epoch));
                prop_assert_eq!(rest, take(&mut waiting, u64::MAX));
                epochs.push(epoch);
                alive = true;
            }
            ReleaseCall::Hold(age, version) => {
                let Some(epoch) = epochs.iter().rev().nth(age) else { continue };
                let expected = match (alive && age == 0, version <= durable) {
                    (false, _) => Held::Abandoned(n),
                    (true, true) => Held::Durable(n),
                    (true, false) => Held::Waiting,
                };
                if expected == Held::Waiting {
                    waiting.push((version, n));
                }
                prop_assert_eq!(order.hold(*epoch, version, n), expected);
            }
            ReleaseCall::Release(age, version) => {
                let Some(epoch) = epochs.iter().rev().nth(age) else { continue };
                let current = alive && age == 0;
                durable = if current { durable.max(version) } else { durable };
                let expected = if current { take(&mut waiting, durable) } else { Vec::new() };
                prop_assert_eq!(order.release(*epoch, version), expected);
            }
            ReleaseCall::Abandon(age) => {
                let Some(epoch) = epochs.iter().rev().nth(age) else { continue };
                let current = alive && age == 0;
                let expected = if current { take(&mut waiting, u64::MAX) } else { Vec::new() };
                alive = alive && !current;
                prop_assert_eq!(order.abandon(*epoch), expected);
            }
        }
        prop_assert_eq!((order.len(), order.durable()), (waiting.len(), durable));
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum SlotCall {
    Claim,
    Own(usize),
    Leave(u64),
    Vacate(u64),
}

fn slot_call() -> impl Strategy<Value = SlotCall> {
    prop_oneof![
        3 => Just(SlotCall::Claim),
        3 => (0_usize..3).prop_map(SlotCall::Own),
        2 => (1_u64..8).prop_map(SlotCall::Leave),
        2 => (1_u64..8).prop_map(SlotCall::Vacate),
    ]
}

fn owner_slot_agrees(calls: Vec<SlotCall>) -> Result<(), TestCaseError> {
    let slot = OwnerSlot::new();
    let (mut state, mut claims): (OwnerState<usize>, Vec<Claim>) = (OwnerState::Vacant, Vec::new());
    for (n, call) in calls.into_iter().enumerate() {
        match call {
            SlotCall::Claim => {
                let claim = slot.claim();
                prop_assert_eq!(claim.is_some(), state == OwnerState::Vacant);
                if let Some(claim) = claim {
                    prop_assert_eq!(claim.generation(), claims.len() as u64 + 1);
                    state = OwnerState::Starting { generation: claim.generation() };
                    claims.push(claim);
                }
            }
            SlotCall::Own(age) => {
                let Some(claim) = claims.iter().rev().nth(age) else { continue };
                let generation = claim.generation();
                let expected = state == OwnerState::Starting { generation };
                prop_assert_eq!(slot.own(claim, n), expected);
                state = if expected { OwnerState::Owned { generation, owner: n } } else { state };
            }
            SlotCall::Leave(generation) => {
                let expected = matches!(state, OwnerState::Owned { generation: g, .. } if g == generation);
                prop_assert_eq!(slot.leave(generation), expected);
                state = if expected { OwnerState::Leaving { generation } } else { state };
            }
            SlotCall::Vacate(generation) => {
                let expected = state.generation() == Some(generation);
                prop_assert_eq!(slot.vacate(generation), expected);
                state = if expected { OwnerState::Vacant } else { state };
            }
        }
        prop_assert_eq!(&slot.state(), &state);
        let owner = match state {
            OwnerState::Owned { generation, owner } => Some((generation, owner)),
            OwnerState::Vacant | OwnerState::Starting { .. } | OwnerState::Leaving { .. } => None,
        };
        prop_assert_eq!(slot.owner(), owner);
    }
    Ok(())
}

/// Each call is an entity and either a raise (`None`) or the forget of an activation number.
fn fences_agree(calls: Vec<(u64, Option<u64>)>) -> Result<(), TestCaseError> {
    let fences = Fences::new();
    let (mut model, mut last): (HashMap<u64, u64>, u64) = (HashMap::new(), 0);
    for (entity, forgets) in calls {
        match forgets {
            None => {
                last += 1;
                prop_assert_eq!(fences.raise(entity), last);
                model.insert(entity, last);
            }
            Some(activation) => {
                let expected = model.get(&entity) == Some(&activation);
                prop_assert_eq!(fences.forget(entity, activation), expected);
                model.retain(|e, _| *e != entity || !expected);
            }
        }
        for entity in 0..4 {
            for activation in 0..=last {
                prop_assert_eq!(fences.admits(entity, activation), model.get(&entity) == Some(&activation));
            }
        }
        prop_assert_eq!(fences.len(), model.len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_gate_agrees_with_a_list_of_turns(capacity in 0_usize..4, calls in calls(gate_call())) {
        gate_agrees(capacity, calls)?;
    }

    #[test]
    fn a_hand_off_agrees_with_a_plain_queue(items in 0_usize..6, bytes in 0_usize..100, calls in calls(queue_call())) {
        hand_off_agrees(items, bytes, calls)?;
    }

    #[test]
    fn a_release_order_agrees_with_an_unsorted_list(calls in calls(release_call())) {
        release_order_agrees(calls)?;
    }

    #[test]
    fn an_owner_slot_agrees_with_its_state_diagram(calls in calls(slot_call())) {
        owner_slot_agrees(calls)?;
    }

    #[test]
    fn fences_agree_with_a_plain_map(calls in calls((0_u64..4, prop::option::of(1_u64..12)))) {
        fences_agree(calls)?;
    }
}

#[derive(Clone, Debug)]
enum TurnCall {
    Try(u64),
    Wait(u64),
    Poll(usize),
    Leave(usize),
    Cancel(usize),
    Resize(u64, u64),
}

fn turn_call() -> impl Strategy<Value = TurnCall> {
    prop_oneof![
        3 => (0..8_u64).prop_map(TurnCall::Try),
        4 => (0..8_u64).prop_map(TurnCall::Wait),
        4 => (0_usize..8).prop_map(TurnCall::Poll),
        4 => (0_usize..8).prop_map(TurnCall::Leave),
        3 => (0_usize..8).prop_map(TurnCall::Cancel),
        1 => (0..5_u64, 0..12_u64).prop_map(|(places, weight)| TurnCall::Resize(places, weight)),
    ]
}

const MAX_TURNS: usize = 4;

/// Weights of those inside, and of those who wait with how their wait ended, if it has.
#[derive(Debug)]
struct TurnModel {
    places: u64,
    weight: u64,
    inside: Vec<u64>,
    turns: Vec<(u64, Turn)>,
}

impl TurnModel {
    fn has_room(&self, weight: u64) -> bool {
        let given = || self.turns.iter().filter(|(_, turn)| *turn == Turn::Given).map(|(weight, _)| *weight);
        let (inside, load) = (self.inside.len() + given().count(), self.inside.iter().sum::<u64>());
        (inside as u64) < self.places && load + given().sum::<u64>() + weight <= self.weight
    }

    fn waiting(&self) -> usize {
        self.turns.iter().filter(|(_, turn)| *turn == Turn::Waits).count()
    }

    fn enter(&mut self, weight: u64) -> Result<(), TurnstileRefusal> {
        if weight > self.weight {
            return Err(TurnstileRefusal::TooHeavy);
        }
        if self.waiting() > 0 || !self.has_room(weight) {
            return Err(TurnstileRefusal::Full);
        }
        self.inside.push(weight);
        Ok(())
    }

    fn pass_on(&mut self) {
        while let Some(first) = self.turns.iter().position(|(_, turn)| *turn == Turn::Waits) {
            if !self.has_room(self.turns[first].0) {
                return;
            }
            self.turns[first].1 = Turn::Given;
        }
    }
}

fn poll_turn(future: &mut stanchion_sync::Enter) -> Poll<Result<stanchion_sync::Pass, TurnstileRefusal>> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn turnstile_agrees(calls: Vec<TurnCall>) -> Result<(), TestCaseError> {
    let turnstile = Turnstile::new(TurnstileLimits { places: 3, weight: 10, waiting: MAX_TURNS });
    let mut model = TurnModel { places: 3, weight: 10, inside: Vec::new(), turns: Vec::new() };
    let (mut passes, mut futures) = (Vec::new(), Vec::new());
    for call in calls {
        match call {
            TurnCall::Try(weight) => {
                let outcome = turnstile.try_enter(weight);
                prop_assert_eq!(
                    outcome.as_ref().map(|_| ()).map_err(|refusal| *refusal),
                    model.enter(weight)
                );
                passes.extend(outcome);
            }
            TurnCall::Wait(weight) => {
                let mut future = turnstile.enter(weight);
                match (poll_turn(&mut future), model.enter(weight)) {
                    (Poll::Ready(Ok(pass)), Ok(())) => passes.push(pass),
                    (Poll::Ready(Err(TurnstileRefusal::TooHeavy)), Err(TurnstileRefusal::TooHeavy)) => {}
                    (Poll::Ready(Err(TurnstileRefusal::Crowded)), Err(TurnstileRefusal::Full))
                        if model.waiting() >= MAX_TURNS => {}
                    (Poll::Pending, Err(TurnstileRefusal::Full)) if model.waiting() < MAX_TURNS => {
                        futures.push(future);
                        model.turns.push((weight, Turn::Waits));
                    }
                    (ours, theirs) => prop_assert!(false, "{:?}, the model says {:?}", ours, theirs),
                }
            }
            TurnCall::Poll(which) if which < futures.len() => {
                match (poll_turn(&mut futures[which]), model.turns[which]) {
                    (Poll::Pending, (_, Turn::Waits)) => continue,
                    (Poll::Ready(Ok(pass)), (weight, Turn::Given)) => {
                        passes.push(pass);
                        model.inside.push(weight);
                    }
                    (Poll::Ready(Err(TurnstileRefusal::TooHeavy)), (_, Turn::TurnedAway)) => {}
                    (ours, theirs) => prop_assert!(false, "{:?}, the model says {:?}", ours, theirs),
                }
                drop(futures.remove(which));
                model.turns.remove(which);
            }
            TurnCall::Leave(which) if which < passes.len() => {
                drop(passes.remove(which));
                model.inside.remove(which);
                model.pass_on();
            }
            TurnCall::Cancel(which) if which < futures.len() => {
                drop(futures.remove(which));
                model.turns.remove(which);
                model.pass_on();
            }
            TurnCall::Resize(places, weight) => {
                turnstile.resize(TurnstileLimits { places, weight, waiting: MAX_TURNS });
                (model.places, model.weight) = (places, weight);
                let heavy = model.turns.iter_mut().filter(|(w, turn)| *w > weight && *turn == Turn::Waits);
                heavy.for_each(|(_, turn)| *turn = Turn::TurnedAway);
                model.pass_on();
            }
            TurnCall::Poll(_) | TurnCall::Leave(_) | TurnCall::Cancel(_) => {}
        }
        prop_assert_eq!(turnstile.load().waiting, model.waiting());
    }
    drop((futures, passes));
    prop_assert_eq!((turnstile.load().inside, turnstile.load().weight), (0, 0));
    Ok(())
}

proptest! {
    #[test]
    fn a_turnstile_agrees_with_a_list_of_turns(calls in calls(turn_call())) {
        turnstile_agrees(calls)?;
    }
}
