//! One flag: what it is set to, and the last changes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    agent::{Agent, Ctx, Invalid},
    ids::Timestamp,
    store::History,
};

/// Changes kept in the flag itself; all of them are in its history.
const CHANGES_MAX: usize = 100;
/// Longest `by` and `reason`, in bytes.
const TEXT_MAX_BYTES: usize = 1_024;
/// Buckets that ids fall into.
const BUCKETS: u32 = 10_000;

/// A share of all ids: 0.00..=100.00 percent, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent(u32);

impl Percent {
    /// A share, rounded to hundredths of a percent.
    ///
    /// # Errors
    /// [`FlagRejection::NotAPercentage`] outside `0.0..=100.0`, and for what is no number.
    pub fn new(percent: f64) -> Result<Self, FlagRejection> {
        if (0.0..=100.0).contains(&percent) {
            Ok(Self((percent * 100.0).round() as u32))
        } else {
            Err(FlagRejection::NotAPercentage(percent.to_string()))
        }
    }

    /// Whether an id of this [`bucket`] is in.
    #[must_use]
    pub fn includes(self, bucket: u32) -> bool {
        bucket < self.0
    }
}

impl TryFrom<f64> for Percent {
    type Error = FlagRejection;
    fn try_from(percent: f64) -> Result<Self, FlagRejection> {
        Self::new(percent)
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> f64 {
        f64::from(percent.0) / 100.0
    }
}

/// What a flag is set to. A flag keeps its kind: what asks a switch is not answered by a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlagSetting {
    /// On or off for everybody.
    Switch(bool),
    /// On for a share of ids.
    Share(Percent),
}

/// One change of a flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Setting before; `None`: the flag was defined.
    pub from: Option<FlagSetting>,
    /// Setting after.
    pub to: FlagSetting,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A flag, stored under its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    setting: Option<FlagSetting>,
    changes: VecDeque<Changed>,
}

/// What a flag is asked to become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlagCommand {
    /// Defines the flag, or finds it as it is; never changes a setting.
    Define {
        /// Setting while nobody has set another one.
        default: FlagSetting,
        /// Who.
        by: String,
    },
    /// Sets it.
    Set {
        /// The new setting, of the same kind.
        to: FlagSetting,
        /// Who: 1..=1024 bytes.
        by: String,
        /// Why: at most 1024 bytes.
        reason: String,
    },
}

/// Why a flag refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum FlagRejection {
    /// Nobody defined it.
    #[error("flag {0:?} is not defined: define it where the program starts")]
    Unknown(String),
    /// It is a switch and was asked as a share, or the other way round.
    #[error("flag {flag:?} is a {is}, not a {asked}")]
    OtherKind {
        /// The flag.
        flag: String,
        /// What it is.
        is: String,
        /// What it was taken for.
        asked: String,
    },
    /// Not in 0..=100.
    #[error("{0} is not a percentage: give a number from 0 to 100")]
    NotAPercentage(String),
    /// Who or why is missing or too long.
    #[error("{field} has {bytes} bytes: give 1 to 1024 (a reason may be empty)")]
    Text {
        /// `by` or `reason`.
        field: String,
        /// Its length.
        bytes: usize,
    },
}

impl FlagSetting {
    /// The kind, for messages: `switch` or `share`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Switch(_) => "switch",
            Self::Share(_) => "share",
        }
    }

    fn is_kind_of(&self, other: &Self) -> bool {
        self.kind() == other.kind()
    }
}

impl Flag {
    /// What it is set to; `None`: not defined.
    #[must_use]
    pub fn setting(&self) -> Option<FlagSetting> {
        self.setting
    }

    /// The last changes, oldest first; at most 100. All of them are in the entity's history.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = &Changed> {
        self.changes.iter()
    }

    fn become_(&mut self, to: FlagSetting, by: String, reason: String, at: Timestamp) {
        let from = self.setting.replace(to);
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(Changed { from, to, at, by, reason });
    }
}

fn check(field: &str, text: &str, may_be_empty: bool) -> Result<(), FlagRejection> {
    if text.len() > TEXT_MAX_BYTES || (text.is_empty() && !may_be_empty) {
        return Err(FlagRejection::Text { field: field.to_owned(), bytes: text.len() });
    }
    Ok(())
}

impl Agent for Flag {
    const KIND: &'static str = "flag";
    const HISTORY: History = History::Forever;
    type Command = FlagCommand;
    type Reply = FlagSetting;
    type Rejection = FlagRejection;

    fn handle(&mut self, command: FlagCommand, ctx: &mut Ctx<'_>) -> Result<FlagSetting, FlagRejection> {
        match (command, self.setting) {
            (FlagCommand::Define { default, by }, None) => {
                check("by", &by, false)?;
                self.become_(default, by, "defined".to_owned(), ctx.now());
                Ok(default)
            }
            (FlagCommand::Set { .. }, None) => Err(FlagRejection::Unknown(ctx.key().to_owned())),
            (FlagCommand::Define { default: to, .. } | FlagCommand::Set { to, .. }, Some(is))
                if !is.is_kind_of(&to) =>
            {
                Err(FlagRejection::OtherKind {
                    flag: ctx.key().to_owned(),
                    is: is.kind().to_owned(),
                    asked: to.kind().to_owned(),
                })
            }
            (FlagCommand::Define { .. }, Some(is)) => Ok(is),
            (FlagCommand::Set { to, by, reason }, Some(_)) => {
                check("by", &by, false)?;
                check("reason", &reason, true)?;
                self.become_(to, by, reason, ctx.now());
                Ok(to)
            }
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        if self.changes.back().map(|last| last.to) == self.setting {
            Ok(())
        } else {
            Err(Invalid("the setting is not that of the last change".to_owned()))
        }
    }
}

/// The bucket of an id for a flag: 0..10 000, the same in every process, spread evenly and apart for each flag.
#[must_use]
pub fn bucket(flag: &str, id: &str) -> u32 {
    let mut hash = Sha256::new();
    hash.update(flag.as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    let digest = hash.finalize();
    let first = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    first % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_sticky_and_monotone_and_as_large_as_it_says() {
        let ids: Vec<String> = (0..20_000).map(|n| format!("user-{n}")).collect();
        let mut before: Vec<&String> = Vec::new();
        for percent in [0.0, 0.5, 10.0, 20.0, 50.0, 99.5, 100.0] {
            let share = Percent::new(percent).unwrap();
            let inside: Vec<&String> = ids.iter().filter(|id| share.includes(bucket("new-ui", id))).collect();
            assert!(before.iter().all(|id| inside.contains(id)), "{percent} % keeps whoever was in");
            let got = inside.len() as f64 / ids.len() as f64 * 100.0;
            assert!((got - percent).abs() < 1.5, "{percent} % holds {got} %");
            before = inside;
        }
        assert_eq!(before.len(), ids.len(), "100 % is everybody");
    }

    #[test]
    fn flags_choose_apart_from_each_other() {
        let half = Percent::new(50.0).unwrap();
        let both = (0..10_000)
            .map(|n| n.to_string())
            .filter(|id| half.includes(bucket("a", id)) && half.includes(bucket("b", id)))
            .count();
        assert!((2_200..2_800).contains(&both), "{both} of 10 000 are in both halves");
    }

    #[test]
    fn what_is_no_percentage_is_refused() {
        for wrong in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(Percent::new(wrong), Err(FlagRejection::NotAPercentage(_))), "{wrong}");
        }
        assert!(serde_json::from_str::<FlagSetting>(r#"{"share":101}"#).is_err());
        let share = serde_json::from_str::<FlagSetting>(r#"{"share":12.5}"#).unwrap();
        assert_eq!(share, FlagSetting::Share(Percent::new(12.5).unwrap()));
    }
}
