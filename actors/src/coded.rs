//! Codes and families of the errors that are not outcomes of calls.

use std::fmt;

use crate::{
    agent::{AddressError, Invalid, NoUpcast, RecordError},
    entity::{KindError, MailboxError, Unreadable},
    error::{CallFailure, Coded, FailureKind, Family},
    ids::NameError,
    store::{ChainError, CodecError},
    task::SpawnError,
};

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(_) => f.write_str("rejected by the handler"),
            Self::Refused(why) => why.fmt(f),
            Self::Unavailable(why) => why.fmt(f),
            Self::Unknown(why) => why.fmt(f),
            Self::Fatal(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for FailureKind {}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{} at {} (command {id})", self.kind, self.entity),
            None => write!(f, "{} at {}", self.kind, self.entity),
        }
    }
}

impl std::error::Error for CallFailure {}

impl Coded for FailureKind {
    fn code(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "call.rejected",
            Self::Refused(why) => why.code(),
            Self::Unavailable(why) => why.code(),
            Self::Unknown(why) => why.code(),
            Self::Fatal(_) => "call.fatal",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Rejected(_) | Self::Refused(_) => Family::Rejected,
            Self::Unavailable(_) => Family::Unavailable,
            Self::Unknown(_) => Family::Unknown,
            Self::Fatal(_) => Family::Fatal,
        }
    }
}

impl Coded for CallFailure {
    fn code(&self) -> &'static str {
        self.kind.code()
    }
    fn family(&self) -> Family {
        self.kind.family()
    }
}

impl Coded for NameError {
    fn code(&self) -> &'static str {
        match self {
            Self::Kind(_) => "name.kind",
            Self::Key(_) => "name.key",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for AddressError {
    fn code(&self) -> &'static str {
        match self {
            Self::Name(error) => error.code(),
            Self::Refused(refusal) => refusal.code(),
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for MailboxError {
    fn code(&self) -> &'static str {
        match self {
            Self::Capacity(_) => "mailbox.capacity",
            Self::CriticalDrops(_) => "mailbox.critical_drops",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for KindError {
    fn code(&self) -> &'static str {
        match self {
            Self::Duplicate(_) => "kind.duplicate",
            Self::OriginTtl { .. } => "kind.origin_ttl",
            Self::Name(error) => error.code(),
            Self::Mailbox { error, .. } => error.code(),
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for RecordError {
    fn code(&self) -> &'static str {
        match self {
            Self::Name(error) => error.code(),
            Self::Codec(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for CodecError {
    fn code(&self) -> &'static str {
        match self {
            Self::Short(_) => "codec.short",
            Self::Newer(_) => "codec.newer",
            Self::Checksum { .. } => "codec.checksum",
            Self::Decode(_) => "codec.decode",
            Self::Encode(_) => "codec.encode",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for ChainError {
    fn code(&self) -> &'static str {
        match self {
            Self::Full => "chain.full",
            Self::Gap { .. } => "chain.gap",
            Self::Codec(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Full => Family::Unavailable,
            Self::Gap { .. } => Family::Rejected,
            Self::Codec(error) => error.family(),
        }
    }
}

impl Coded for Invalid {
    fn code(&self) -> &'static str {
        "state.invalid"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for Unreadable {
    fn code(&self) -> &'static str {
        "state.unreadable"
    }
    fn family(&self) -> Family {
        Family::Unavailable
    }
}

impl Coded for NoUpcast {
    fn code(&self) -> &'static str {
        "state.no_upcast"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for SpawnError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSupervisor { .. } => "task.no_supervisor",
            Self::ShuttingDown { .. } => "task.shutting_down",
            Self::NoRuntime { .. } => "task.no_runtime",
        }
    }
    fn family(&self) -> Family {
        Family::Unavailable
    }
}
