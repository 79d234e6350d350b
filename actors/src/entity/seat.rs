//! Where the activation of an entity lies between two looks at its mailbox: its actor works there, and so does a
//! caller that finds nobody at work, who thereby saves the way through the actor.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::runtime::{Handle, Id};

use super::{
    active::{Active, Broken},
    cell::EntityCell,
    mail::Item,
    purge::{Purge, PurgeError},
};

/// Items handled before others run.
const TURN: usize = 128;

/// What happened in a caller's turn, for the actor to deal with.
pub(super) enum Trouble {
    /// The activation is over.
    Broken(Broken),
    /// Its machine panicked and is unusable.
    Panicked(Box<dyn Any + Send>),
}

#[derive(Default)]
struct Place {
    /// The life whose activation it is.
    generation: u64,
    /// Boxed: most cells of a large store have none.
    active: Option<Box<Active>>,
    trouble: Option<Trouble>,
    /// Runtime of the actor: what a turn starts must live as long as the actor.
    runtime: Option<Id>,
}

/// The place of one entity's activation. Only the actor puts an activation here or takes it away.
#[derive(Default)]
pub(super) struct Seat(Mutex<Place>);

impl Seat {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the activation of this life here.
    pub(super) fn install(&self, generation: u64, active: Active) {
        let runtime = Handle::try_current().ok().map(|handle| handle.id());
        let mut place = self.lock();
        let before = std::mem::replace(
            &mut *place,
            Place { generation, active: Some(Box::new(active)), trouble: None, runtime },
        );
        // Whoever panicked here is gone with its activation.
        self.0.clear_poison();
        drop(place);
        drop(before);
    }

    /// Takes the activation of this life away, if `takes`.
    pub(super) fn remove(
        &self,
        generation: u64,
        takes: impl FnOnce(&mut Option<Box<Active>>) -> bool,
    ) -> Option<Option<Box<Active>>> {
        let mut place = self.lock();
        if place.generation != generation {
            return takes(&mut None).then_some(None);
        }
        (place.trouble.is_none() && takes(&mut place.active)).then(|| place.active.take())
    }

    /// Ends this life's activation, whatever state it is in.
    pub(super) fn clear(&self, generation: u64) -> Option<Box<Active>> {
        let mut place = self.lock();
        if place.generation != generation {
            return None;
        }
        place.trouble = None;
        place.active.take()
    }

    /// What a caller's turn left behind, and the activation, of which nobody else makes use any more.
    pub(super) fn trouble(&self, generation: u64) -> Option<(Trouble, Option<Box<Active>>)> {
        let mut place = self.lock();
        if place.generation != generation {
            return None;
        }
        place.trouble.take().map(|trouble| (trouble, place.active.take()))
    }

    /// The actor's turn. An activation that is over, or that is to be removed, is given out before anybody else finds it.
    pub(super) fn turn_of(&self, generation: u64, cell: &EntityCell) -> Worked {
        let mut place = self.lock();
        let place = &mut *place;
        let Some(active) = place.active.as_deref_mut().filter(|_| place.generation == generation) else {
            return Worked::Done;
        };
        match work(active, cell, true) {
            Ok(Next::Nothing) => Worked::Done,
            Ok(Next::Look) => Worked::Again,
            Ok(Next::Purge(purge)) => match active.in_the_way() {
                Some(busy) => Worked::Purge(purge, Err(busy)),
                None => Worked::Purge(purge, Ok(place.active.take())),
            },
            Err(broken) => Worked::Broken(broken, place.active.take()),
        }
    }

    /// Works with the activation of this life; `None`: there is none.
    pub(super) fn with<T>(&self, generation: u64, work: impl FnOnce(&mut Active) -> T) -> Option<T> {
        let mut place = self.lock();
        if place.generation != generation {
            return None;
        }
        place.active.as_deref_mut().map(work)
    }

    /// A caller's turn: `None` when it has to be the actor's; otherwise whether the actor is to be woken.
    ///
    /// The bell has been rung by the caller, and is silenced here before the mailbox is looked at.
    pub(super) fn turn(&self, cell: &EntityCell) -> Option<bool> {
        // Somebody else is at work, or one has panicked at it.
        let mut place = self.0.try_lock().ok()?;
        let Place { active: Some(active), trouble: trouble @ None, runtime, .. } = &mut *place else {
            return None;
        };
        if *runtime != Handle::try_current().ok().map(|handle| handle.id()) {
            return None;
        }
        cell.silence();
        cell.touch();
        *trouble = match catch_unwind(AssertUnwindSafe(|| work(active, cell, false))) {
            Ok(Ok(next)) => return Some(!matches!(next, Next::Nothing) || active.is_asked()),
            Ok(Err(broken)) => Some(Trouble::Broken(broken)),
            Err(panic) => Some(Trouble::Panicked(panic)),
        };
        Some(true)
    }
}

/// What is to be done after a turn.
enum Next {
    /// Nothing, until somebody rings.
    Nothing,
    /// Look again in a moment.
    Look,
    /// Remove the entity, which is at rest.
    Purge(Purge),
}

/// How a turn of the actor ended.
pub(super) enum Worked {
    /// Everything was handled, or there is nothing to work with.
    Done,
    /// Look again in a moment.
    Again,
    /// The activation is over.
    Broken(Broken, Option<Box<Active>>),
    /// The entity is to be removed: its activation, or what is in the way.
    Purge(Purge, Result<Option<Box<Active>>, PurgeError>),
}

/// Handles what lies in the mailbox, up to a removal, which a caller leaves to the actor.
fn work(active: &mut Active, cell: &EntityCell, is_actor: bool) -> Result<Next, Broken> {
    active.retry_planned = false;
    active.submit()?;
    let (mut waits, mut full, mut again) = (false, false, false);
    for handled in 0.. {
        if handled == TURN {
            // More may lie there: let others run first.
            again = true;
            break;
        }
        if !active.has_room() {
            full = true;
            break;
        }
        let Some(item) = cell.pop() else { break };
        if matches!(item, Item::Prepare(_) | Item::Purge(_)) && !active.is_quiet() {
            cell.unpop(item);
            waits = true;
            break;
        }
        match item {
            Item::Purge(purge) if is_actor => return Ok(Next::Purge(purge)),
            Item::Purge(purge) => {
                cell.unpop(Item::Purge(purge));
                again = true;
                break;
            }
            item => active.handle(item)?,
        }
    }
    active.submit()?;
    active.perform_afters();
    // A full chain that left makes room: what lies in the mailbox is for the next one.
    again |= full && active.has_room();
    if waits && !active.retry_planned {
        active.wake_when_quiet();
    }
    Ok(if again { Next::Look } else { Next::Nothing })
}
