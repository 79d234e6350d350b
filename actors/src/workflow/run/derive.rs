//! Counters that follow from the codes of the steps, and what they decide about a pending step.

use super::codes::{Settled, StepCode};
use super::state::{NeedCounts, RunState};
use crate::workflow::definition::ValidDefinition;

/// What the needs of a step say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Too early to say.
    Open,
    /// It may start.
    Ready,
    /// It can no longer run.
    Doomed,
}

impl NeedCounts {
    /// Applies a settled need.
    fn settle(&mut self, how: Settled) {
        self.open = self.open.saturating_sub(1);
        match how {
            Settled::Done => self.done += 1,
            Settled::Bad => self.bad += 1,
            Settled::Neutral => {}
        }
    }

    /// Judges the step; `quorum` as in [`crate::workflow::definition::ValidStep`].
    fn verdict(self, quorum: Option<u32>, needs: usize) -> Verdict {
        match quorum {
            Some(quorum) if self.done >= quorum => Verdict::Ready,
            Some(quorum) if self.done + self.open < quorum => Verdict::Doomed,
            Some(_) => Verdict::Open,
            None if self.bad > 0 => Verdict::Doomed,
            None if self.open > 0 => Verdict::Open,
            None if self.done > 0 || needs == 0 => Verdict::Ready,
            None => Verdict::Doomed,
        }
    }
}

impl RunState {
    /// What the needs of a step say about it.
    pub(super) fn verdict(&self, def: &ValidDefinition, step: u32) -> Verdict {
        let counts = self.derived.needs.get(step as usize).copied().unwrap_or_default();
        let quorum = def.step(step).and_then(|s| s.quorum);
        counts.verdict(quorum, def.graph().needs(step).len())
    }

    /// Changes a step's code and keeps the counts.
    pub(super) fn set_code(&mut self, step: u32, code: StepCode) {
        let Some(slot) = self.kept.codes.get_mut(step as usize) else { return };
        let old = std::mem::replace(slot, code);
        if let Some(count) = self.derived.counts.get_mut(old as usize) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.derived.counts.get_mut(code as usize) {
            *count += 1;
        }
    }

    /// Ends a step: tells its dependants, and queues those that this decides.
    pub(super) fn settle_step(&mut self, def: &ValidDefinition, step: u32, code: StepCode) {
        self.set_code(step, code);
        let Some(how) = code.settled() else { return };
        for &dependant in def.graph().dependants(step) {
            let before = self.verdict(def, dependant);
            if let Some(counts) = self.derived.needs.get_mut(dependant as usize) {
                counts.settle(how);
            }
            if before == Verdict::Open && self.code(dependant) == StepCode::Pending {
                self.queue_if_decided(def, dependant);
            }
        }
        if !code.may_run_again() {
            self.release_readings(def, step);
        }
    }

    fn queue_if_decided(&mut self, def: &ValidDefinition, step: u32) {
        match self.verdict(def, step) {
            Verdict::Open => {}
            Verdict::Ready => {
                self.set_code(step, StepCode::Ready);
                self.kept.ready.push_back(step);
            }
            Verdict::Doomed => self.kept.doomed.push_back(step),
        }
    }

    /// A step that will not start again needs no outputs of others any more.
    fn release_readings(&mut self, def: &ValidDefinition, step: u32) {
        for &read in def.step(step).map_or(&[][..], |s| &s.references) {
            if let Some(left) = self.derived.readers_left.get_mut(read as usize) {
                *left = left.saturating_sub(1);
                if *left == 0 && !def.is_pinned(read) {
                    self.memory.outputs.remove(&read);
                }
            }
        }
    }

    /// Sizes the arrays for a run that starts, and queues the roots.
    pub(super) fn initialise(&mut self, def: &ValidDefinition) {
        let n = def.step_count() as usize;
        self.kept.codes = vec![StepCode::Pending; n];
        self.kept.attempts = vec![0; n];
        self.derive(def);
        self.queue_pending(def);
    }

    /// Computes everything derived anew from the codes and attempts.
    pub(super) fn derive(&mut self, def: &ValidDefinition) {
        let steps = 0..def.step_count();
        self.derived.counts = Default::default();
        for &code in &self.kept.codes {
            if let Some(count) = self.derived.counts.get_mut(code as usize) {
                *count += 1;
            }
        }
        self.derived.attempts_total = self.kept.attempts.iter().map(|&n| u64::from(n)).sum();
        self.derived.needs = steps.clone().map(|step| self.count_needs(def, step)).collect();
        self.derived.readers_left = steps.clone().map(|step| def.readers(step)).collect();
        for step in steps {
            let code = self.code(step);
            if code.settled().is_some() && !code.may_run_again() {
                self.release_readings(def, step);
            }
        }
    }

    fn count_needs(&self, def: &ValidDefinition, step: u32) -> NeedCounts {
        let needs = def.graph().needs(step);
        let mut counts = NeedCounts { open: needs.len() as u32, ..NeedCounts::default() };
        for how in needs.iter().filter_map(|&need| self.code(need).settled()) {
            counts.settle(how);
        }
        counts
    }

    /// Queues every pending step that is decided, ascending.
    pub(super) fn queue_pending(&mut self, def: &ValidDefinition) {
        for step in 0..def.step_count() {
            if self.code(step) == StepCode::Pending {
                self.queue_if_decided(def, step);
            }
        }
    }
}
