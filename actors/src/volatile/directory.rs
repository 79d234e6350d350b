//! Which volatile kinds and actors the process knows.

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use stanchion_sync::Claim;

use super::{
    Volatile,
    cell::{VolatileCell, VolatileChild},
};
use crate::{
    entity::{KindError, MailboxOptions},
    env::Place,
    error::{Refusal, Unavailable},
    ids::Name,
};

/// Messages of the supervisor of volatile actors.
pub enum VolatileSupervisorMsg {
    /// Starts an actor for the cell, under the claim.
    Start {
        /// The cell.
        cell: Arc<dyn VolatileChild>,
        /// The right to take its slot.
        claim: Claim,
    },
    /// Forgets the crashes of an actor that was given up.
    Forgive {
        /// The cell.
        cell: Arc<dyn VolatileChild>,
    },
    /// Ends idle actors, and forgets crashes and cells that count no more.
    Sweep,
}

impl std::fmt::Debug for VolatileSupervisorMsg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start { cell, .. } => write!(f, "Start({})", cell.name()),
            Self::Forgive { cell } => write!(f, "Forgive({})", cell.name()),
            Self::Sweep => f.write_str("Sweep"),
        }
    }
}

#[cfg(feature = "cluster")]
impl ractor::Message for VolatileSupervisorMsg {}

/// Volatile kinds registered, and their actors by name.
#[derive(Default)]
pub struct Volatiles {
    kinds: RwLock<HashMap<&'static str, (TypeId, MailboxOptions)>>,
    cells: Mutex<HashMap<Name, Arc<dyn VolatileChild>>>,
    supervisor: Arc<Place<VolatileSupervisorMsg>>,
}

impl std::fmt::Debug for Volatiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volatiles").finish_non_exhaustive()
    }
}

impl Volatiles {
    /// Registers a kind.
    ///
    /// # Errors
    /// [`KindError`] when its name is taken or no name, or its mailbox options do not hold.
    pub fn register<V: Volatile>(&self, options: MailboxOptions) -> Result<(), KindError> {
        Name::new(V::KIND, "key")?;
        options.validate().map_err(|error| KindError::Mailbox { kind: V::KIND.to_owned(), error })?;
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        match kinds.insert(V::KIND, (TypeId::of::<V>(), options)) {
            Some(_) => Err(KindError::Duplicate(V::KIND.to_owned())),
            None => Ok(()),
        }
    }

    /// Where the supervisor is in force.
    #[must_use]
    pub fn supervisor(&self) -> &Place<VolatileSupervisorMsg> {
        &self.supervisor
    }

    /// The cell of a name, made if needed.
    ///
    /// # Errors
    /// [`Refusal::UnknownKind`] when the kind is not registered, or with another type.
    pub fn cell<V: Volatile>(&self, name: &Name) -> Result<Arc<VolatileCell<V>>, Refusal> {
        let unknown = || Refusal::UnknownKind(V::KIND.to_owned());
        let options = {
            let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
            let (kind, options) = kinds.get(V::KIND).ok_or_else(unknown)?;
            if *kind != TypeId::of::<V>() {
                return Err(unknown());
            }
            options.clone()
        };
        let mut cells = self.lock();
        if let Some(cell) = cells.get(name) {
            return Arc::clone(cell).into_any().downcast().map_err(|_| unknown());
        }
        let cell = VolatileCell::<V>::new(name.clone(), options, Arc::clone(&self.supervisor));
        cells.insert(name.clone(), Arc::<VolatileCell<V>>::clone(&cell));
        Ok(cell)
    }

    /// Every cell.
    #[must_use]
    pub fn cells(&self) -> Vec<Arc<dyn VolatileChild>> {
        self.lock().values().cloned().collect()
    }

    /// Forgets cells that are not used and that nobody holds.
    pub fn sweep(&self) {
        // One for the map; under its lock nobody can take another.
        self.lock().retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_unused());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Arc<dyn VolatileChild>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The system has stopped: who waits is told.
    pub fn stopped(&self) {
        for cell in self.cells() {
            cell.refuse_waiting(&Unavailable::Stopped);
        }
    }
}
