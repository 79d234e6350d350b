//! What a store may be asked and told.

use serde::{Deserialize, Serialize};

/// What a store may be asked and told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// Lists runs by id.
    List {
        /// With this status only.
        status: Option<String>,
    },
    /// Shows a run and its steps.
    Show {
        /// Id of the run.
        run: String,
    },
    /// The history of a run.
    History {
        /// Id of the run.
        run: String,
    },
    /// Lists entities.
    EntityList {
        /// Of this kind only.
        kind: Option<String>,
    },
    /// Shows the state of an entity.
    EntityShow {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
        /// As it was at this version; `None`: the last one.
        at: Option<u64>,
    },
    /// Tells a run to start no further steps.
    Pause {
        /// Id of the run.
        run: String,
    },
    /// Tells a paused run to go on.
    Resume {
        /// Id of the run.
        run: String,
    },
    /// Ends a run.
    Cancel {
        /// Id of the run.
        run: String,
    },
    /// Tells a failed or parked run to go on.
    Retry {
        /// Id of the run.
        run: String,
        /// Only this failed step.
        step: Option<String>,
    },
    /// Lists feature flags.
    FlagList,
    /// Sets a feature flag.
    FlagSet {
        /// Its name.
        flag: String,
        /// `on`, `off`, or a percentage.
        to: String,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Writes a backup.
    Backup {
        /// The file, as an absolute path.
        to: String,
        /// Whether a file that is there is replaced.
        force: bool,
    },
}

impl Request {
    /// Whether it only reads.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        match self {
            Self::List { .. }
            | Self::Show { .. }
            | Self::History { .. }
            | Self::EntityList { .. }
            | Self::EntityShow { .. }
            | Self::FlagList
            | Self::Backup { .. } => true,
            Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Cancel { .. }
            | Self::Retry { .. }
            | Self::FlagSet { .. } => false,
        }
    }
}
