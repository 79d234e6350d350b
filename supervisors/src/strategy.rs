//! What follows from the end of a child. Pure: no clock, no actor.

use std::ops::Range;
use std::str::FromStr;

use crate::child::Restart;
use crate::error::SpecError;
use crate::exit::Exit;
use crate::spec::AutoShutdown;

/// Which children are restarted with the one that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Only the one that ended.
    #[default]
    OneForOne,
    /// All.
    OneForAll,
    /// It and those started after it.
    RestForOne,
}

impl FromStr for Strategy {
    type Err = SpecError;

    fn from_str(name: &str) -> Result<Self, SpecError> {
        match name {
            "one_for_one" => Ok(Self::OneForOne),
            "one_for_all" => Ok(Self::OneForAll),
            "rest_for_one" => Ok(Self::RestForOne),
            _ => Err(SpecError::InvalidStrategy { name: name.to_owned() }),
        }
    }
}

/// What becomes of a child that ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Restart, as the strategy says.
    Restart,
    /// Stay listed, not running.
    Keep,
    /// Leave the list.
    Forget,
}

/// Decides by the child's restart type and its exit.
#[must_use]
pub fn decide(restart: Restart, exit: &Exit) -> Decision {
    match restart {
        Restart::Permanent => Decision::Restart,
        Restart::Transient if exit.is_abnormal() => Decision::Restart,
        Restart::Transient => Decision::Keep,
        Restart::Temporary => Decision::Forget,
    }
}

/// What the plan needs to know of one child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildView {
    /// Whether it runs.
    pub running: bool,
    /// Whether it is temporary.
    pub temporary: bool,
    /// Whether its end may shut the supervisor down.
    pub significant: bool,
}

/// Indices into the children in start order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be stopped, one after another, in this order.
    pub stop: Vec<usize>,
    /// To be taken off the list after the stops.
    pub forget: Vec<usize>,
    /// To be started, one after another, in this order.
    pub start: Vec<usize>,
}

/// Plans the restart of child `ended`, which does not run any more.
///
/// Stops in reverse start order, starts in start order. Temporary children in the group are stopped and forgotten.
#[must_use]
pub fn plan(strategy: Strategy, children: &[ChildView], ended: usize) -> Plan {
    let group: Range<usize> = match strategy {
        Strategy::OneForOne => ended..(ended + 1).min(children.len()),
        Strategy::OneForAll => 0..children.len(),
        Strategy::RestForOne => ended..children.len(),
    };
    let mut plan = Plan::default();
    for (index, child) in children.iter().enumerate().take(group.end).skip(group.start) {
        if index != ended && child.running {
            plan.stop.insert(0, index);
        }
        if index != ended && child.temporary {
            plan.forget.push(index);
        } else {
            plan.start.push(index);
        }
    }
    plan
}

/// Whether the end of a child that is not restarted shuts the supervisor down.
///
/// `others` are the remaining children; `significant` says it of the one that ended.
#[must_use]
pub fn shuts_down(mode: AutoShutdown, significant: bool, others: &[ChildView]) -> bool {
    match mode {
        AutoShutdown::Never => false,
        AutoShutdown::AnySignificant => significant,
        AutoShutdown::AllSignificant => {
            significant && !others.iter().any(|child| child.running && child.significant)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: ChildView = ChildView { running: true, temporary: false, significant: false };
    const ENDED: ChildView = ChildView { running: false, ..RUNS };
    const TEMPORARY: ChildView = ChildView { temporary: true, ..RUNS };

    fn plan_of(stop: &[usize], forget: &[usize], start: &[usize]) -> Plan {
        Plan { stop: stop.to_vec(), forget: forget.to_vec(), start: start.to_vec() }
    }

    #[test]
    fn plans_stop_in_reverse_and_start_in_order() {
        let children = [RUNS, ENDED, RUNS, TEMPORARY];
        assert_eq!(plan(Strategy::OneForOne, &children, 1), plan_of(&[], &[], &[1]));
        assert_eq!(plan(Strategy::OneForAll, &children, 1), plan_of(&[3, 2, 0], &[3], &[0, 1, 2]));
        assert_eq!(plan(Strategy::RestForOne, &children, 1), plan_of(&[3, 2], &[3], &[1, 2]));
    }

    #[test]
    fn only_an_abnormal_exit_restarts_a_transient_child() {
        for (exit, transient) in [
            (Exit::Normal, Decision::Keep),
            (Exit::Shutdown(None), Decision::Keep),
            (Exit::Failed("boom".into()), Decision::Restart),
            (Exit::Killed, Decision::Restart),
        ] {
            assert_eq!(decide(Restart::Transient, &exit), transient, "{exit}");
            assert_eq!(decide(Restart::Permanent, &exit), Decision::Restart);
            assert_eq!(decide(Restart::Temporary, &exit), Decision::Forget);
        }
    }

    #[test]
    fn all_significant_waits_for_the_last_significant_child() {
        let significant = ChildView { significant: true, ..RUNS };
        assert!(!shuts_down(AutoShutdown::AllSignificant, true, &[significant, RUNS]));
        assert!(shuts_down(AutoShutdown::AllSignificant, true, &[RUNS]));
        assert!(!shuts_down(AutoShutdown::AllSignificant, false, &[RUNS]));
        assert!(shuts_down(AutoShutdown::AnySignificant, true, &[significant]));
        assert!(!shuts_down(AutoShutdown::Never, true, &[]));
    }
}
