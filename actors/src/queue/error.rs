//! Why a queue does not do what it was asked.

use super::refusal::QueueRefusal;
use crate::{
    error::{CallFailure, Coded, FailureKind, Family, Refusal},
    ids::NameError,
    store::{CodecError, StoreError},
};

/// Why a queue does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The name is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The queue refuses; nothing changed.
    #[error(transparent)]
    Refused(#[from] QueueRefusal),
    /// The partition did not answer; its kind says whether to ask again.
    #[error(transparent)]
    Call(#[from] CallFailure),
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was said or answered does not encode or decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl From<Refusal> for QueueError {
    fn from(refusal: Refusal) -> Self {
        Self::Codec(CodecError::Encode(refusal.to_string()))
    }
}

impl QueueError {
    /// From a call's failure: a rejection is the queue's own.
    pub(super) fn of_call(failure: CallFailure) -> Self {
        match &failure.kind {
            FailureKind::Rejected(refusal) => match crate::store::decode(refusal) {
                Ok(refusal) => Self::Refused(refusal),
                Err(fault) => Self::Codec(fault),
            },
            _ => Self::Call(failure),
        }
    }
}

impl Coded for QueueError {
    fn code(&self) -> &'static str {
        match self {
            Self::Name(error) => error.code(),
            Self::Refused(error) => error.code(),
            Self::Call(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Codec(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Name(error) => error.family(),
            Self::Refused(error) => error.family(),
            Self::Call(error) => error.family(),
            Self::Store(error) => error.family(),
            Self::Codec(error) => error.family(),
        }
    }
}
