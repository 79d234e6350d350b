//! Codes and families of the errors of opening and asking a system.

use stanchion_actors::error::{Coded, Family};

use crate::{OpenError, SystemError, store};

impl Coded for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Kind(error) => error.code(),
            Self::DuplicateActivity(_) => "open.duplicate_activity",
            Self::Store(error) => error.code(),
            Self::Supervisors(_) => "open.supervisors",
            Self::Control(_) => "open.control_socket",
            Self::Lost => "open.lost",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Kind(_) | Self::DuplicateActivity(_) => Family::Rejected,
            Self::Store(error) => error.family(),
            Self::Supervisors(_) => Family::Fatal,
            Self::Control(_) => Family::Unavailable,
            Self::Lost => Family::Unavailable,
        }
    }
}

impl Coded for store::OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "store.locked",
            Self::Missing(_) => "store.missing",
            Self::NotAStore(_) => "store.not_a_store",
            Self::NewerFormat { .. } => "store.newer_format",
            Self::Corrupt { .. } => "store.corrupt",
            Self::LogMissing { .. } => "store.log_missing",
            Self::Gap { .. } => "store.gap",
            Self::ReadOnly { .. } => "store.read_only",
            Self::Io { .. } => "store.io",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Locked { .. } | Self::Io { .. } => Family::Unavailable,
            Self::Missing(_) | Self::NotAStore(_) | Self::NewerFormat { .. } | Self::ReadOnly { .. } => {
                Family::Rejected
            }
            Self::Corrupt { .. } | Self::LogMissing { .. } | Self::Gap { .. } => Family::Fatal,
        }
    }
}

impl Coded for SystemError {
    fn code(&self) -> &'static str {
        match self {
            Self::Name(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Name(error) => error.family(),
            Self::Store(error) => error.family(),
        }
    }
}
