//! The graph of a definition: dense step numbers, edges both ways, and what is on a cycle.

/// An acyclic graph of steps `0..n`; edges lead from a need to its dependants.
#[derive(Debug, Clone)]
pub struct Graph {
    needs: Edges,
    dependants: Edges,
    order: Vec<u32>,
    level: Vec<u32>,
}

/// Edges of all steps in two flat arrays.
#[derive(Debug, Clone)]
struct Edges {
    starts: Vec<u32>,
    ends: Vec<u32>,
}

impl Edges {
    fn of(&self, step: u32) -> &[u32] {
        let at = step as usize;
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(&from), Some(&to)) => self.ends.get(from as usize..to as usize).unwrap_or_default(),
            (_, _) => &[],
        }
    }
}

impl Graph {
    /// Builds the graph from the needs of each step: numbers below `needs.len()`, each once, none its own.
    ///
    /// # Errors
    /// The cycles found, each as step numbers in order, each step needed by the one after it.
    pub fn new(needs: &[Vec<u32>]) -> Result<Self, Vec<Vec<u32>>> {
        let graph = Self::unordered(needs);
        let (order, level) = graph.topological();
        if order.len() < needs.len() {
            return Err(graph.cycles(&order));
        }
        Ok(Self { order, level, ..graph })
    }

    fn unordered(needs: &[Vec<u32>]) -> Self {
        let mut starts = vec![0u32];
        let mut ends = Vec::new();
        let mut out_counts = vec![0u32; needs.len() + 1];
        for list in needs {
            for &need in list {
                ends.push(need);
                if let Some(count) = out_counts.get_mut(need as usize + 1) {
                    *count += 1;
                }
            }
            starts.push(ends.len() as u32);
        }
        let mut total = 0;
        for count in &mut out_counts {
            total += *count;
            *count = total;
        }
        let mut out_ends = vec![0u32; ends.len()];
        let mut next = out_counts.clone();
        for (step, list) in needs.iter().enumerate() {
            for &need in list {
                if let Some(cursor) = next.get_mut(need as usize) {
                    if let Some(end) = out_ends.get_mut(*cursor as usize) {
                        *end = step as u32;
                    }
                    *cursor += 1;
                }
            }
        }
        Self {
            needs: Edges { starts, ends },
            dependants: Edges { starts: out_counts, ends: out_ends },
            order: Vec::new(),
            level: Vec::new(),
        }
    }

    /// Kahn's algorithm; steps on or behind a cycle are left out of the order.
    fn topological(&self) -> (Vec<u32>, Vec<u32>) {
        let n = self.len();
        let mut open: Vec<u32> = (0..n).map(|s| self.needs(s).len() as u32).collect();
        let mut level = vec![0u32; n as usize];
        let mut order: Vec<u32> = (0..n).filter(|&s| self.needs(s).is_empty()).collect();
        let mut at = 0;
        while let Some(&step) = order.get(at) {
            at += 1;
            let below = level.get(step as usize).copied().unwrap_or(0) + 1;
            for &dependant in self.dependants(step) {
                if let Some(level) = level.get_mut(dependant as usize) {
                    *level = below.max(*level);
                }
                if let Some(open) = open.get_mut(dependant as usize) {
                    *open -= 1;
                    if *open == 0 {
                        order.push(dependant);
                    }
                }
            }
        }
        (order, level)
    }

    /// Cycles among the steps that the order leaves out: every step left has a need left, so walking needs
    /// must come round.
    fn cycles(&self, order: &[u32]) -> Vec<Vec<u32>> {
        // 0: left, not walked; 1: not left; k > 1: walked in round k.
        let mut walked_in = vec![0u32; self.len() as usize];
        for &step in order {
            if let Some(mark) = walked_in.get_mut(step as usize) {
                *mark = 1;
            }
        }
        let mark_of = |marks: &[u32], step: u32| marks.get(step as usize).copied().unwrap_or(1);
        let mut found = Vec::new();
        for (round, start) in (2u32..).zip(0..self.len()) {
            let mut path = Vec::new();
            let mut at = start;
            while mark_of(&walked_in, at) == 0 {
                if let Some(mark) = walked_in.get_mut(at as usize) {
                    *mark = round;
                }
                path.push(at);
                let left = self.needs(at).iter().copied().find(|&need| mark_of(&walked_in, need) != 1);
                let Some(next) = left else { break };
                at = next;
            }
            if !path.is_empty()
                && mark_of(&walked_in, at) == round
                && let Some(from) = path.iter().position(|&step| step == at)
            {
                let mut cycle = path.split_off(from);
                cycle.reverse();
                found.push(cycle);
            }
        }
        found
    }

    /// Number of steps.
    #[must_use]
    pub fn len(&self) -> u32 {
        (self.needs.starts.len() - 1) as u32
    }

    /// Whether there are no steps.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of edges.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.needs.ends.len()
    }

    /// The steps this one waits for, in the order written.
    #[must_use]
    pub fn needs(&self, step: u32) -> &[u32] {
        self.needs.of(step)
    }

    /// The steps that wait for this one, ascending.
    #[must_use]
    pub fn dependants(&self, step: u32) -> &[u32] {
        self.dependants.of(step)
    }

    /// Steps without needs, ascending.
    pub fn roots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len()).filter(|&step| self.needs(step).is_empty())
    }

    /// Every step after its needs.
    #[must_use]
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Length of the longest path of edges that ends at this step.
    #[must_use]
    pub fn level(&self, step: u32) -> u32 {
        self.level.get(step as usize).copied().unwrap_or(0)
    }

    /// Longest path through the graph when each step weighs as much as `weight` says.
    pub fn critical_path(&self, weight: impl Fn(u32) -> f64) -> f64 {
        let mut end = vec![0.0_f64; self.len() as usize];
        let mut longest = 0.0_f64;
        for &step in &self.order {
            let ends = self.needs(step).iter().filter_map(|&need| end.get(need as usize).copied());
            let at = ends.fold(0.0, f64::max) + weight(step);
            longest = longest.max(at);
            if let Some(slot) = end.get_mut(step as usize) {
                *slot = at;
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_diamond_has_its_edges_both_ways() {
        let graph = Graph::new(&[vec![], vec![0], vec![0], vec![2, 1]]).unwrap();
        assert_eq!(graph.dependants(0), [1, 2]);
        assert_eq!(graph.needs(3), [2, 1]);
        assert_eq!((graph.level(3), graph.edge_count(), graph.roots().collect::<Vec<_>>()), (2, 4, vec![0]));
        assert_eq!(graph.critical_path(|s| [1.0, 2.0, 5.0, 1.0][s as usize]), 7.0);
    }

    #[test]
    fn each_cycle_is_found_once_and_steps_behind_it_are_not_blamed() {
        let cycles = Graph::new(&[vec![1], vec![2], vec![0], vec![0], vec![5], vec![4], vec![]]).unwrap_err();
        assert_eq!(cycles, vec![vec![2, 1, 0], vec![5, 4]]);
    }

    proptest! {
        #[test]
        fn the_order_puts_needs_first_and_cycles_are_real(
            needs in proptest::collection::vec(proptest::collection::btree_set(0u32..30, 0..3), 30)
        ) {
            let needs: Vec<Vec<u32>> = needs.iter().enumerate()
                .map(|(i, set)| set.iter().copied().filter(|&n| n != i as u32).collect()).collect();
            match Graph::new(&needs) {
                Ok(graph) => {
                    let place = |s: u32| graph.order().iter().position(|&o| o == s).unwrap();
                    for step in 0..30 {
                        prop_assert!(graph.needs(step).iter().all(|&n| place(n) < place(step)));
                    }
                }
                Err(cycles) => {
                    prop_assert!(!cycles.is_empty());
                    for cycle in cycles {
                        for (a, b) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
                            prop_assert!(needs[*b as usize].contains(a));
                        }
                    }
                }
            }
        }
    }
}
