//! The list of children, in start order.

use std::sync::Arc;

use ractor::{ActorCell, ActorId};

use crate::child::{ChildKind, ChildSpec, Restart};
use crate::strategy::ChildView;

/// One child and what it is doing.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) spec: ChildSpec,
    /// Lives so far; the running one bears this number.
    pub(super) generation: u64,
    pub(super) status: Status,
}

#[derive(Debug)]
pub(super) enum Status {
    Running(ActorCell),
    Idle,
    /// Waits for the message with this ticket.
    Restarting(u64),
}

/// What a supervisor tells of one child.
#[derive(Clone, Debug)]
pub struct ChildInfo {
    /// The child's id.
    pub id: Arc<str>,
    /// Lives so far; 0 if it never started.
    pub generation: u64,
    /// What it is doing.
    pub status: ChildStatus,
    /// Worker or supervisor.
    pub kind: ChildKind,
}

/// What a child is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildStatus {
    /// It runs.
    Running(ActorCell),
    /// It is listed, but does not run.
    Idle,
    /// It waits for its next start attempt.
    Restarting,
}

/// How many children there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// Listed children.
    pub specs: usize,
    /// Of these, the running ones.
    pub active: usize,
    /// Listed children that are supervisors, running or not.
    pub supervisors: usize,
    /// Listed children that are workers, running or not.
    pub workers: usize,
}

#[derive(Debug, Default)]
pub(super) struct Children {
    list: Vec<Child>,
}

impl Children {
    pub(super) fn push(&mut self, spec: ChildSpec) {
        self.list.push(Child { spec, generation: 0, status: Status::Idle });
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn at(&self, index: usize) -> Option<&Child> {
        self.list.get(index)
    }

    pub(super) fn at_mut(&mut self, index: usize) -> Option<&mut Child> {
        self.list.get_mut(index)
    }

    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.list.iter().position(|child| &*child.spec.id == id)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &ActorCell> {
        self.list.iter().filter_map(|child| match &child.status {
            Status::Running(cell) => Some(cell),
            Status::Idle | Status::Restarting(_) => None,
        })
    }

    pub(super) fn find_running(&self, actor: ActorId) -> Option<usize> {
        self.list.iter().position(|child| match &child.status {
            Status::Running(cell) => cell.get_id() == actor,
            Status::Idle | Status::Restarting(_) => false,
        })
    }

    /// The child that waits for exactly this ticket.
    pub(super) fn find_restarting(&self, id: &str, ticket: u64) -> Option<usize> {
        let index = self.find(id)?;
        let waits = matches!(self.at(index)?.status, Status::Restarting(due) if due == ticket);
        waits.then_some(index)
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.list.retain(|child| &*child.spec.id != id);
    }

    pub(super) fn id_at(&self, index: usize) -> Option<Arc<str>> {
        self.at(index).map(|child| Arc::clone(&child.spec.id))
    }

    /// The ids behind indices, for work during which indices shift.
    pub(super) fn ids(&self, indices: &[usize]) -> Vec<Arc<str>> {
        indices.iter().filter_map(|index| self.id_at(*index)).collect()
    }

    pub(super) fn views(&self) -> Vec<ChildView> {
        self.list.iter().map(view).collect()
    }

    /// Newest first.
    pub(super) fn infos(&self) -> Vec<ChildInfo> {
        self.list.iter().rev().map(info).collect()
    }

    pub(super) fn counts(&self) -> ChildCounts {
        let count = |wanted: fn(&Child) -> bool| self.list.iter().filter(|child| wanted(child)).count();
        ChildCounts {
            specs: self.list.len(),
            active: count(|child| matches!(child.status, Status::Running(_))),
            supervisors: count(|child| child.spec.kind == ChildKind::Supervisor),
            workers: count(|child| child.spec.kind == ChildKind::Worker),
        }
    }
}

fn view(child: &Child) -> ChildView {
    ChildView {
        running: matches!(child.status, Status::Running(_)),
        temporary: child.spec.restart == Restart::Temporary,
        significant: child.spec.significant,
    }
}

fn info(child: &Child) -> ChildInfo {
    ChildInfo {
        id: Arc::clone(&child.spec.id),
        generation: child.generation,
        status: match &child.status {
            Status::Running(cell) => ChildStatus::Running(cell.clone()),
            Status::Idle => ChildStatus::Idle,
            Status::Restarting(_) => ChildStatus::Restarting,
        },
        kind: child.spec.kind,
    }
}
