//! The start order of children that depend on each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::child::ChildSpec;
use crate::error::SpecError;

/// Puts every child behind what it depends on; otherwise the given order stays.
pub(crate) fn start_order(children: Vec<ChildSpec>) -> Result<Vec<ChildSpec>, SpecError> {
    let mut known = HashSet::new();
    for child in &children {
        if !known.insert(Arc::clone(&child.id)) {
            return Err(SpecError::DuplicateChild { id: Arc::clone(&child.id) });
        }
    }
    for child in &children {
        if let Some(on) = child.depends_on.iter().find(|on| !known.contains(*on)) {
            return Err(SpecError::UnknownDependency { id: Arc::clone(&child.id), on: Arc::clone(on) });
        }
    }
    let mut placed = HashSet::new();
    let mut ordered = Vec::with_capacity(children.len());
    let mut waiting = children;
    while !waiting.is_empty() {
        let before = ordered.len();
        let mut still = Vec::new();
        for child in waiting {
            if child.depends_on.iter().all(|on| placed.contains(on)) {
                placed.insert(Arc::clone(&child.id));
                ordered.push(child);
            } else {
                still.push(child);
            }
        }
        if ordered.len() == before {
            return Err(SpecError::DependencyCycle { circle: circle(&still) });
        }
        waiting = still;
    }
    Ok(ordered)
}

/// Finds a circle among children of which each waits for another of them.
fn circle(waiting: &[ChildSpec]) -> Vec<Arc<str>> {
    let next: HashMap<&Arc<str>, &Arc<str>> = waiting
        .iter()
        .filter_map(|child| {
            let on = child.depends_on.iter().find(|on| waiting.iter().any(|other| other.id == **on))?;
            Some((&child.id, on))
        })
        .collect();
    let mut path: Vec<Arc<str>> = Vec::new();
    let mut at = waiting.first().map(|child| &child.id);
    while let Some(id) = at {
        let seen = path.iter().position(|known| known == id);
        path.push(Arc::clone(id));
        if let Some(start) = seen {
            return path.split_off(start);
        }
        at = next.get(id).copied();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::Started;

    fn child(id: &str, on: &[&str]) -> ChildSpec {
        let spec = ChildSpec::worker(id, Arc::new(|_| Box::pin(async { Ok(Started::Ignore) })));
        on.iter().fold(spec, |spec, on| spec.depends_on(*on))
    }

    fn ids(children: Vec<ChildSpec>) -> Vec<String> {
        children.iter().map(|child| child.id.to_string()).collect()
    }

    #[test]
    fn children_follow_what_they_depend_on_and_keep_their_order_otherwise() {
        let ordered =
            start_order(vec![child("a", &["c"]), child("b", &[]), child("c", &[]), child("d", &["a"])]);
        assert_eq!(ids(ordered.unwrap()), ["b", "c", "a", "d"]);
        assert_eq!(ids(start_order(vec![child("z", &[]), child("y", &["z"])]).unwrap()), ["z", "y"]);
    }

    #[test]
    fn a_circle_is_refused_and_named() {
        let refused = start_order(vec![child("x", &["a"]), child("a", &["b"]), child("b", &["a"])]);
        assert_eq!(
            refused.unwrap_err(),
            SpecError::DependencyCycle { circle: vec!["a".into(), "b".into(), "a".into()] }
        );
        let refused = start_order(vec![child("a", &["a"])]).unwrap_err();
        assert_eq!(refused, SpecError::DependencyCycle { circle: vec!["a".into(), "a".into()] });
    }

    #[test]
    fn an_unknown_dependency_is_refused() {
        let refused = start_order(vec![child("a", &["nobody"])]).unwrap_err();
        assert_eq!(refused, SpecError::UnknownDependency { id: "a".into(), on: "nobody".into() });
    }
}
