//! [`NameRecord`]: the life of one name.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{InvalidName, Metadata, NameKey, NameRef, NamesError, key::is_ascii_word};
use crate::{balance::InstanceId, ids::Timestamp};

/// Largest start specification, in bytes.
const SPEC_MAX_BYTES: usize = 64 * 1_024;

/// When the owner of a name is started anew, as in OTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Respawn {
    /// Whenever it ends.
    Permanent,
    /// When it crashes, or its process dies.
    Transient,
    /// Never.
    #[default]
    Temporary,
}

/// How an owner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By its own will, or asked to.
    Normal,
    /// By a failure, or with its process.
    Crashed,
}

/// What is registered under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameSpec {
    /// What the owner is: 1..=64 visible ASCII characters without `/`; says who starts it anew.
    pub kind: Arc<str>,
    /// When it is started anew.
    pub respawn: Respawn,
    /// By what it is found.
    pub metadata: Metadata,
    /// What a new start is given: at most 64 KiB.
    pub start: Bytes,
}

impl NameSpec {
    /// A temporary owner without metadata.
    #[must_use]
    pub fn of_kind(kind: impl Into<Arc<str>>) -> Self {
        let (respawn, metadata, start) = (Respawn::default(), Metadata::default(), Bytes::new());
        Self { kind: kind.into(), respawn, metadata, start }
    }

    fn check(&self) -> Result<(), InvalidName> {
        if is_ascii_word(&self.kind) {
            return Ok(());
        }
        Err(InvalidName::new("kind", &self.kind, "1 to 64 visible ASCII characters without '/'"))
    }

    /// Whether an owner that ended like this is started anew.
    fn is_respawned_after(&self, exit: Exit) -> bool {
        match (self.respawn, exit) {
            (Respawn::Permanent, _) | (Respawn::Transient, Exit::Crashed) => true,
            (Respawn::Transient, Exit::Normal) | (Respawn::Temporary, _) => false,
        }
    }
}

/// Where a name is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameState {
    /// It has an owner.
    Live {
        /// Who.
        owner: InstanceId,
        /// Since when.
        since: Timestamp,
    },
    /// Its owner has ended and is to be started anew; nobody else may have it.
    Recovering {
        /// Who had it last.
        owner: InstanceId,
        /// Since when.
        since: Timestamp,
    },
    /// Nobody has it.
    Gone,
}

/// What is to be done after an owner has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an owner that is to be respawned keeps its name until that is said"]
pub enum AfterEnd {
    /// Start it anew, then say so under this reference; no other will do.
    Respawn(NameRef),
    /// Nothing: the name is free.
    Free,
}

/// One name, through all of its owners: a state machine that a durable entity can hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    epoch: u64,
    spec: NameSpec,
    state: NameState,
}

impl NameRecord {
    /// A name nobody has, whose epochs up to this one are used up.
    #[must_use]
    pub fn free(epoch: u64) -> Self {
        Self { epoch, spec: NameSpec::of_kind(""), state: NameState::Gone }
    }

    /// Epoch of the present owner, or of the next.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is registered; that of the last owner when nobody has it.
    #[must_use]
    pub fn spec(&self) -> &NameSpec {
        &self.spec
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> &NameState {
        &self.state
    }

    /// Whether it may be forgotten.
    pub(super) fn is_gone(&self) -> bool {
        self.state == NameState::Gone
    }

    /// Gives the name to an owner; answers its epoch.
    ///
    /// # Errors
    /// [`NamesError::AlreadyRegistered`]; [`NamesError::Kind`] or [`NamesError::SpecTooLarge`] for the specification.
    pub fn register(
        &mut self,
        key: &NameKey,
        spec: NameSpec,
        owner: InstanceId,
        now: Timestamp,
    ) -> Result<u64, NamesError> {
        spec.check()?;
        if spec.start.len() > SPEC_MAX_BYTES {
            let (key, bytes) = (key.clone(), spec.start.len());
            return Err(NamesError::SpecTooLarge { key, bytes, limit: SPEC_MAX_BYTES });
        }
        match &self.state {
            NameState::Live { owner, .. } | NameState::Recovering { owner, .. } => {
                Err(NamesError::AlreadyRegistered { key: key.clone(), owner: owner.clone() })
            }
            NameState::Gone => {
                self.epoch += 1;
                (self.spec, self.state) = (spec, NameState::Live { owner, since: now });
                Ok(self.epoch)
            }
        }
    }

    /// Who has it in this epoch.
    ///
    /// # Errors
    /// [`NamesError::StaleEpoch`], [`NamesError::Recovering`] or [`NamesError::NotRegistered`].
    pub fn owner(&self, reference: &NameRef) -> Result<&InstanceId, NamesError> {
        self.check_epoch(reference)?;
        match &self.state {
            NameState::Live { owner, .. } => Ok(owner),
            NameState::Recovering { owner, .. } => {
                Err(NamesError::Recovering { key: reference.key.clone(), owner: owner.clone() })
            }
            NameState::Gone => Err(NamesError::NotRegistered { key: reference.key.clone() }),
        }
    }

    /// The owner has ended: references to it are refused from here on.
    ///
    /// # Errors
    /// As [`Self::owner`]: it ended before.
    pub fn ended(&mut self, reference: &NameRef, exit: Exit, now: Timestamp) -> Result<AfterEnd, NamesError> {
        let owner = self.owner(reference)?.clone();
        if !self.spec.is_respawned_after(exit) {
            self.state = NameState::Gone;
            return Ok(AfterEnd::Free);
        }
        self.epoch += 1;
        self.state = NameState::Recovering { owner, since: now };
        Ok(AfterEnd::Respawn(NameRef { key: reference.key.clone(), epoch: self.epoch }))
    }

    /// The owner was started anew, as [`AfterEnd::Respawn`] asked.
    ///
    /// # Errors
    /// [`NamesError::StaleEpoch`] when that was asked of another start since, [`NamesError::AlreadyRegistered`] when
    /// it is back already, [`NamesError::NotRegistered`] when it was given up.
    pub fn respawned(
        &mut self,
        reference: &NameRef,
        owner: InstanceId,
        now: Timestamp,
    ) -> Result<(), NamesError> {
        self.check_epoch(reference)?;
        let key = reference.key.clone();
        match &self.state {
            NameState::Recovering { .. } => {
                self.state = NameState::Live { owner, since: now };
                Ok(())
            }
            NameState::Live { owner, .. } => Err(NamesError::AlreadyRegistered { key, owner: owner.clone() }),
            NameState::Gone => Err(NamesError::NotRegistered { key }),
        }
    }

    /// Gives the name free, whether its owner lives or is awaited.
    ///
    /// # Errors
    /// [`NamesError::StaleEpoch`] or [`NamesError::NotRegistered`].
    pub fn unregister(&mut self, reference: &NameRef) -> Result<(), NamesError> {
        self.check_epoch(reference)?;
        if self.is_gone() {
            return Err(NamesError::NotRegistered { key: reference.key.clone() });
        }
        self.state = NameState::Gone;
        Ok(())
    }

    /// Sets the metadata of a living owner.
    ///
    /// # Errors
    /// As [`Self::owner`].
    pub fn set_metadata(&mut self, reference: &NameRef, metadata: Metadata) -> Result<(), NamesError> {
        self.owner(reference)?;
        self.spec.metadata = metadata;
        Ok(())
    }

    fn check_epoch(&self, reference: &NameRef) -> Result<(), NamesError> {
        if reference.epoch == self.epoch {
            return Ok(());
        }
        let (key, given) = (reference.key.clone(), reference.epoch);
        Err(NamesError::StaleEpoch { key, given, current: self.epoch })
    }
}
