//! Taking turns: plain, and by weight.

use std::collections::HashMap;

use super::{Candidate, InstanceId};

/// Who comes after whom, by id: the set may change between two turns.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    last: Option<InstanceId>,
}

impl Turns {
    pub(super) fn next<'a>(&mut self, candidates: &[&'a Candidate]) -> Option<&'a Candidate> {
        let first = || candidates.iter().min_by(|a, b| a.id.cmp(&b.id));
        let later = self.last.as_ref().and_then(|last| {
            let after = candidates.iter().filter(|candidate| candidate.id > *last);
            after.min_by(|a, b| a.id.cmp(&b.id))
        });
        let next = later.or_else(first).copied();
        self.last = next.map(|candidate| candidate.id.clone()).or(self.last.take());
        next
    }
}

/// Smooth weighted round robin: everybody earns its weight each turn, the richest has the turn and pays for all.
///
/// # Source
/// nginx, `ngx_http_upstream_round_robin.c`.
#[derive(Clone, Debug, Default)]
pub(super) struct WeightedTurns {
    credit: HashMap<InstanceId, f64>,
}

impl WeightedTurns {
    pub(super) fn next<'a>(&mut self, candidates: &[&'a Candidate]) -> Option<&'a Candidate> {
        let mut total = 0.0;
        let mut best: Option<(f64, &'a Candidate)> = None;
        for candidate in candidates {
            total += candidate.weight.as_f64();
            let credit = self.credit.entry(candidate.id.clone()).or_insert(0.0);
            *credit += candidate.weight.as_f64();
            let is_better = best.is_none_or(|(most, richest)| {
                *credit > most || (*credit == most && candidate.id < richest.id)
            });
            if is_better {
                best = Some((*credit, candidate));
            }
        }
        let (_, chosen) = best?;
        if let Some(credit) = self.credit.get_mut(&chosen.id) {
            *credit -= total;
        }
        Some(chosen)
    }

    pub(super) fn forget(&mut self, id: &InstanceId) {
        self.credit.remove(id);
    }
}
