//! Who refers to whose output: only to steps that come before, and how many readers each has.

use super::super::fault::FaultKind;
use super::super::{ValidCompensation, ValidStep};
use super::Checker;
use crate::workflow::graph::Graph;
use crate::workflow::template::Template;

/// Walks needs backwards from one step at a time, within a common budget of edges.
struct Ancestry<'g> {
    graph: &'g Graph,
    /// The walk that saw a step last; 0 = none.
    seen_by: Vec<u32>,
    walk: u32,
    budget: usize,
}

impl Ancestry<'_> {
    /// Whether `ancestor` comes before `step`; `None` when the budget is used up.
    fn leads_back(&mut self, step: u32, ancestor: u32) -> Option<bool> {
        if self.graph.needs(step).contains(&ancestor) {
            return Some(true);
        }
        let lowest = self.graph.level(ancestor);
        let mut open = vec![step];
        self.walk += 1;
        while let Some(at) = open.pop() {
            for &need in self.graph.needs(at) {
                self.budget = self.budget.checked_sub(1)?;
                if need == ancestor {
                    return Some(true);
                }
                if self.graph.level(need) > lowest
                    && let Some(mark) = self.seen_by.get_mut(need as usize)
                    && *mark != self.walk
                {
                    *mark = self.walk;
                    open.push(need);
                }
            }
        }
        Some(false)
    }
}

pub(super) fn check(checker: &mut Checker<'_>, graph: &Graph, steps: &[ValidStep], budget: usize) {
    let mut ancestry = Ancestry { graph, seen_by: vec![0; steps.len()], walk: 0, budget };
    for (number, step) in (0u32..).zip(steps) {
        checker.step = Some(number);
        let undo = step.compensation.as_ref().map_or(&[][..], undo_references);
        let input = step.input.references().iter().map(|&r| ("input", r));
        let when = step.when.iter().flat_map(|w| w.references()).map(|&r| ("when", r));
        let undo = undo.iter().filter(|&&r| r != number).map(|&r| ("compensation.input", r));
        for (field, reference) in input.chain(when).chain(undo) {
            match ancestry.leads_back(number, reference) {
                Some(true) => {}
                Some(false) => {
                    let reference = checker.id_of(reference);
                    let hint = format!("add \"{reference}\" to its needs");
                    checker.fault(FaultKind::NotAnAncestor { field, reference }, hint);
                }
                None => {
                    checker.fault(FaultKind::ReferencesTooFar, "name the steps referred to among the needs");
                    checker.step = None;
                    return;
                }
            }
        }
    }
    checker.step = None;
}

fn undo_references(compensation: &ValidCompensation) -> &[u32] {
    compensation.input.references()
}

/// For each step: how many steps read its output before they start, and whether it stays to the end.
pub(super) fn readers(steps: &[ValidStep], output: Option<&Template>) -> (Vec<u32>, Vec<bool>) {
    let mut readers = vec![0u32; steps.len()];
    let mut pinned = vec![false; steps.len()];
    for step in steps {
        for &reference in &step.references {
            if let Some(count) = readers.get_mut(reference as usize) {
                *count += 1;
            }
        }
        for &reference in step.compensation.as_ref().map_or(&[][..], undo_references) {
            if let Some(pin) = pinned.get_mut(reference as usize) {
                *pin = true;
            }
        }
    }
    for &reference in output.map_or(&[][..], Template::references) {
        if let Some(pin) = pinned.get_mut(reference as usize) {
            *pin = true;
        }
    }
    (readers, pinned)
}
