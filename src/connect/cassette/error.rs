//! What may be wrong with a cassette.

use std::{path::PathBuf, time::Duration};

use stanchion_actors::{
    error::{Coded, Family},
    resilience::{
        breaker::{FailureClass, Outcome},
        retry::RetryCause,
    },
};

use super::line::RequestKey;

/// A request that the cassette does not have, or does not have any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cassette has no answer to {got}; it expects {}", .expected.as_ref().map_or_else(|| "nothing more".to_owned(), ToString::to_string))]
pub struct CassetteMismatch {
    /// The first recorded request that was not made yet.
    pub expected: Option<RequestKey>,
    /// The request that was made.
    pub got: RequestKey,
}

/// Why a cassette does not play, or does not record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CassetteError {
    /// The file cannot be read or written.
    #[error("cassette {path}: {cause}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// A line is no recorded answer.
    #[error("cassette {path}, line {line}: {cause}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// A request was not recorded.
    #[error(transparent)]
    Mismatch(#[from] Box<CassetteMismatch>),
    /// Recorded requests were not made.
    #[error("{} recorded requests were not made, the first is {}", .0.len(), .0.first().map_or_else(String::new, ToString::to_string))]
    Unmet(Vec<RequestKey>),
}

impl Coded for CassetteError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "cassette.io",
            Self::Malformed { .. } => "cassette.malformed",
            Self::Mismatch(_) => "cassette.mismatch",
            Self::Unmet(_) => "cassette.unmet",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Io { .. } => Family::Unavailable,
            Self::Malformed { .. } | Self::Mismatch(_) | Self::Unmet(_) => Family::Rejected,
        }
    }
}

impl RetryCause for CassetteError {
    fn cause_code(&self) -> &str {
        self.code()
    }
    fn may_retry(&self) -> bool {
        false
    }
    fn outcome(&self) -> Outcome {
        Outcome::Ignored
    }
}

/// Why a request that is recorded has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError<E: std::error::Error> {
    /// The real service did not answer; nothing was recorded.
    #[error("{0}")]
    Transport(#[source] E),
    /// The answer was not recorded.
    #[error(transparent)]
    Cassette(CassetteError),
}

impl<E: std::error::Error + RetryCause> RetryCause for RecordError<E> {
    fn cause_code(&self) -> &str {
        match self {
            Self::Transport(error) => error.cause_code(),
            Self::Cassette(error) => error.code(),
        }
    }
    fn may_retry(&self) -> bool {
        match self {
            Self::Transport(error) => error.may_retry(),
            Self::Cassette(_) => false,
        }
    }
    fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Transport(error) => error.class(),
            Self::Cassette(_) => None,
        }
    }
    fn outcome(&self) -> Outcome {
        match self {
            Self::Transport(error) => error.outcome(),
            Self::Cassette(error) => error.outcome(),
        }
    }
    fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::Transport(error) => error.asked_wait(),
            Self::Cassette(_) => None,
        }
    }
}
