//! How calls between nodes end: answered, or one of three refusals by what the caller should do.

use stanchion_actors::error::{Coded, Family};

use crate::cluster::{
    frame::{Nack, NackReason},
    link::{End, Refused},
};

/// Why a call or durable message has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallEnd {
    /// Not applied, and asking again as it is gives the same answer.
    #[error("peer rejected it: {0}")]
    Rejected(Nack),
    /// The message is larger than allowed; not applied.
    #[error("message has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The smaller of both nodes' limits.
        limit: usize,
    },
    /// A name in it is longer than a frame takes; not applied.
    #[error("entity, origin or traceparent is too long")]
    Name,
    /// Not applied: the peer refused it for now.
    #[error("peer cannot take it now: {0}")]
    Unavailable(Nack),
    /// Not applied: too much waits for the peer.
    #[error("too much waits for the peer: {messages} messages, {bytes} bytes")]
    Overloaded {
        /// Bytes that wait or are not acknowledged.
        bytes: usize,
        /// Messages that wait, or have no answer.
        messages: usize,
    },
    /// Not applied: no such node is known, or it is lost.
    #[error("node is not reachable")]
    Unreachable,
    /// Not applied: the deadline passed before it was sent.
    #[error("deadline passed before it was sent")]
    Expired,
    /// Not applied: this node is stopping.
    #[error("this node is stopping")]
    Stopping,
    /// It may have been applied: no answer within the deadline.
    #[error("no answer within the deadline")]
    Deadline,
    /// It may have been applied: the peer was lost, or began another life, before it answered.
    #[error("peer was lost before it answered")]
    Lost,
    /// It may have been applied: the peer cannot say.
    #[error("peer cannot say: {0}")]
    Unknown(Nack),
}

impl Coded for CallEnd {
    fn code(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "cluster.rejected",
            Self::TooLarge { .. } => "cluster.too_large",
            Self::Name => "cluster.name",
            Self::Unavailable(_) => "cluster.unavailable",
            Self::Overloaded { .. } => "cluster.overloaded",
            Self::Unreachable => "cluster.unreachable",
            Self::Expired => "cluster.expired",
            Self::Stopping => "cluster.stopping",
            Self::Deadline => "cluster.deadline",
            Self::Lost => "cluster.lost",
            Self::Unknown(_) => "cluster.unknown",
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::Rejected(_) | Self::TooLarge { .. } | Self::Name => Family::Rejected,
            Self::Unavailable(_)
            | Self::Overloaded { .. }
            | Self::Unreachable
            | Self::Expired
            | Self::Stopping => Family::Unavailable,
            Self::Deadline | Self::Lost | Self::Unknown(_) => Family::Unknown,
        }
    }
}

impl From<Nack> for CallEnd {
    fn from(nack: Nack) -> Self {
        match nack.reason {
            NackReason::UnknownKind
            | NackReason::UnknownEntity
            | NackReason::TooOld
            | NackReason::TooLarge
            | NackReason::Version => Self::Rejected(nack),
            NackReason::Overloaded | NackReason::Expired | NackReason::Draining | NackReason::Unavailable => {
                Self::Unavailable(nack)
            }
            NackReason::Unknown => Self::Unknown(nack),
        }
    }
}

impl From<Refused> for CallEnd {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            Refused::Name => Self::Name,
            Refused::Overloaded { bytes, messages } => Self::Overloaded { bytes, messages },
            Refused::Unreachable => Self::Unreachable,
        }
    }
}

/// The answer of an ended request.
pub(super) fn answer(end: End) -> Result<bytes::Bytes, CallEnd> {
    match end {
        End::Reply(body) => Ok(body),
        End::Nack(nack) => Err(nack.into()),
        End::Expired => Err(CallEnd::Expired),
        End::NotSent => Err(CallEnd::Unreachable),
        End::Lost => Err(CallEnd::Lost),
    }
}
