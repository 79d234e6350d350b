//! The way to flags.

use std::sync::Arc;

use super::flag::{Flag, FlagCommand, FlagRejection, FlagSetting, bucket};
use crate::{
    agent::{Address, AddressError},
    env::Env,
    error::{CallError, Coded, Family},
};

/// The way to flags: defines, sets and asks them.
#[derive(Clone)]
pub struct Flags {
    env: Arc<Env>,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flags")
    }
}

/// Why a flag did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// Its name is no name.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It refused, or its entity did not answer.
    #[error(transparent)]
    Call(#[from] CallError<FlagRejection>),
    /// It is not defined, or of the other kind.
    #[error(transparent)]
    Rejected(#[from] FlagRejection),
}

impl Flags {
    /// The flags of a system.
    #[must_use]
    pub fn new(env: Arc<Env>) -> Self {
        Self { env }
    }

    /// Defines a flag, once; a flag that was set keeps its setting. Answers the setting in force.
    ///
    /// # Errors
    /// [`FlagError`]; `OtherKind` when it was defined as the other kind before.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the flag may be defined.
    pub async fn define(&self, flag: &str, default: FlagSetting, by: &str) -> Result<FlagSetting, FlagError> {
        let command = FlagCommand::Define { default, by: by.to_owned() };
        Ok(self.address(flag)?.call(command).await?)
    }

    /// Sets a flag, and answers once that is durable; the next question anywhere in the process sees it.
    ///
    /// # Errors
    /// [`FlagError`]; `Unknown` when nobody defined it, `OtherKind` when the setting is of the other kind.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the flag may be set.
    pub async fn set(&self, flag: &str, to: FlagSetting, by: &str, reason: &str) -> Result<(), FlagError> {
        let command = FlagCommand::Set { to, by: by.to_owned(), reason: reason.to_owned() };
        self.address(flag)?.call(command).await?;
        Ok(())
    }

    /// Whether a switch is on.
    ///
    /// # Errors
    /// [`FlagError`]; `OtherKind` for a share: ask [`Self::is_on_for`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn is_on(&self, flag: &str) -> Result<bool, FlagError> {
        match self.setting(flag).await? {
            FlagSetting::Switch(on) => Ok(on),
            share @ FlagSetting::Share(_) => Err(other_kind(flag, share, "switch").into()),
        }
    }

    /// Whether a share includes an id: the same answer for the same id until the share becomes smaller.
    ///
    /// # Errors
    /// [`FlagError`]; `OtherKind` for a switch: ask [`Self::is_on`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn is_on_for(&self, flag: &str, id: &str) -> Result<bool, FlagError> {
        match self.setting(flag).await? {
            FlagSetting::Share(share) => Ok(share.includes(bucket(flag, id))),
            switch @ FlagSetting::Switch(_) => Err(other_kind(flag, switch, "share").into()),
        }
    }

    /// The flag, with its last changes.
    ///
    /// # Errors
    /// [`FlagError`]; `Unknown` when nobody defined it.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn flag(&self, flag: &str) -> Result<Flag, FlagError> {
        let found = self.address(flag)?.read(Flag::clone).await?;
        if found.setting().is_none() {
            return Err(FlagRejection::Unknown(flag.to_owned()).into());
        }
        Ok(found)
    }

    async fn setting(&self, flag: &str) -> Result<FlagSetting, FlagError> {
        let found = self.address(flag)?.read(Flag::setting).await?;
        found.ok_or_else(|| FlagRejection::Unknown(flag.to_owned()).into())
    }

    fn address(&self, flag: &str) -> Result<Address<Flag>, FlagError> {
        Ok(Address::new(&self.env, flag)?)
    }
}

fn other_kind(flag: &str, is: FlagSetting, asked: &str) -> FlagRejection {
    let (flag, asked) = (flag.to_owned(), asked.to_owned());
    FlagRejection::OtherKind { flag, is: is.kind().to_owned(), asked }
}

impl Coded for FlagRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "flag.unknown",
            Self::OtherKind { .. } => "flag.other_kind",
            Self::NotAPercentage(_) => "flag.not_a_percentage",
            Self::Text { .. } => "flag.text",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for FlagError {
    fn code(&self) -> &'static str {
        match self {
            Self::Address(error) => error.code(),
            Self::Rejected(error) | Self::Call(CallError::Rejected(error)) => error.code(),
            Self::Call(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Address(error) => error.family(),
            Self::Rejected(error) => error.family(),
            Self::Call(error) => error.family(),
        }
    }
}
