//! [`DurableName`]: one name as an agent.

use serde::{Deserialize, Serialize};

use super::{
    AfterEnd, Exit, Metadata, NameKey, NameRecord, NameRef, NameSpec, NameState, NamesError, Stopped,
};
use crate::{
    agent::{Agent, Ctx, Invalid},
    balance::InstanceId,
    ids::Timestamp,
    store::History,
};

/// One name, stored under its key; through all of its owners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableName {
    /// The name; `None`: it was never registered.
    key: Option<NameKey>,
    record: NameRecord,
    /// Life of the process that its owner runs in.
    life: u64,
}

impl Default for DurableName {
    fn default() -> Self {
        Self { key: None, record: NameRecord::free(0), life: 0 }
    }
}

/// What a name is asked, by a process in one of its lives. An owner of another life has crashed with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCommand {
    /// Life of the process that asks.
    pub life: u64,
    /// What is asked.
    pub ask: NameAsk,
}

/// What a name is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NameAsk {
    /// As [`NameRecord::register`].
    Register {
        /// The name.
        key: NameKey,
        /// What is registered.
        spec: NameSpec,
        /// Who.
        owner: InstanceId,
    },
    /// As [`NameRecord::ended`].
    Ended {
        /// Which owning.
        reference: NameRef,
        /// How.
        exit: Exit,
    },
    /// As [`NameRecord::respawned`].
    Respawned {
        /// Which start.
        reference: NameRef,
        /// Who.
        owner: InstanceId,
    },
    /// As [`NameRecord::unregister`].
    Unregister {
        /// Which owning.
        reference: NameRef,
    },
    /// As [`NameRecord::set_metadata`].
    SetMetadata {
        /// Which owning.
        reference: NameRef,
        /// The new metadata.
        metadata: Metadata,
    },
    /// Gives the name free, whoever has it.
    Drop,
}

/// What a name answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NameReply {
    /// It has an owner, under this reference.
    Registered(NameRef),
    /// Its owner is to be started anew.
    Respawn(NameRef),
    /// That was done.
    Done,
    /// It was given free; who is to be stopped, when somebody had it.
    Dropped(Option<Stopped>),
}

impl DurableName {
    /// The name as a process sees it in one of its lives: an owner of another one has crashed.
    #[must_use]
    pub fn seen_in(&self, life: u64, now: Timestamp) -> NameRecord {
        let mut seen = self.clone();
        seen.recover(life, now);
        seen.record
    }

    /// The name; `None`: it was never registered.
    #[must_use]
    pub fn key(&self) -> Option<&NameKey> {
        self.key.as_ref()
    }

    /// Ends an owner of another life. A second time it changes nothing.
    fn recover(&mut self, life: u64, now: Timestamp) {
        let is_live = matches!(self.record.state(), NameState::Live { .. });
        if self.life == life || !is_live {
            return;
        }
        if let Some(reference) = self.reference() {
            // Live and of the present epoch: nothing to refuse.
            let _ = self.record.ended(&reference, Exit::Crashed, now);
        }
    }

    /// The reference of the present epoch.
    fn reference(&self) -> Option<NameRef> {
        let key = self.key.clone()?;
        Some(NameRef { key, epoch: self.record.epoch() })
    }

    fn free(&mut self) -> Result<NameReply, NamesError> {
        let owner = match self.record.state() {
            NameState::Live { owner, .. } => Some(owner.clone()),
            NameState::Recovering { .. } => None,
            NameState::Gone => return Ok(NameReply::Dropped(None)),
        };
        let Some(reference) = self.reference() else { return Ok(NameReply::Dropped(None)) };
        self.record.unregister(&reference)?;
        Ok(NameReply::Dropped(Some(Stopped { reference, owner })))
    }
}

impl Agent for DurableName {
    const KIND: &'static str = "name";
    const HISTORY: History = History::Last(100);
    type Command = NameCommand;
    type Reply = NameReply;
    type Rejection = NamesError;

    fn handle(&mut self, command: NameCommand, ctx: &mut Ctx<'_>) -> Result<NameReply, NamesError> {
        let (life, now) = (command.life, ctx.now());
        self.recover(life, now);
        match command.ask {
            NameAsk::Register { key, spec, owner } => {
                let epoch = self.record.register(&key, spec, owner, now)?;
                (self.key, self.life) = (Some(key.clone()), life);
                Ok(NameReply::Registered(NameRef { key, epoch }))
            }
            NameAsk::Ended { reference, exit } => match self.record.ended(&reference, exit, now)? {
                AfterEnd::Respawn(next) => Ok(NameReply::Respawn(next)),
                AfterEnd::Free => Ok(NameReply::Done),
            },
            NameAsk::Respawned { reference, owner } => {
                self.record.respawned(&reference, owner, now)?;
                self.life = life;
                Ok(NameReply::Registered(reference))
            }
            NameAsk::Unregister { reference } => self.record.unregister(&reference).map(|()| NameReply::Done),
            NameAsk::SetMetadata { reference, metadata } => {
                self.record.set_metadata(&reference, metadata).map(|()| NameReply::Done)
            }
            NameAsk::Drop => self.free(),
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        if self.key.is_some() || self.record.state() == &NameState::Gone {
            Ok(())
        } else {
            Err(Invalid("a name that somebody has is not called anything".to_owned()))
        }
    }
}
