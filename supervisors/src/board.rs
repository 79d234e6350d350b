//! What a supervisor of entities or volatile actors writes down of itself.

use std::collections::HashSet;

use stanchion_actors::{
    env::Env,
    health::{Counter, Vital},
    ids::Name,
};

/// `started` children are `ended`, `crashed` or live still, or ended with their supervisor. Degraded while one of them
/// is blocked.
pub(crate) struct Board {
    vital: Vital,
    started: Counter,
    ended: Counter,
    crashed: Counter,
    blocked: HashSet<Name>,
}

impl Board {
    /// The supervisor has started.
    pub(crate) fn begin(env: &Env, name: &str) -> Self {
        let vital = env.vitals().begin(name);
        vital.up();
        let counter = |name| vital.counter(name);
        let (started, ended, crashed) = (counter("started"), counter("ended"), counter("crashed"));
        Self { vital, started, ended, crashed, blocked: HashSet::new() }
    }

    pub(crate) fn started(&self) {
        self.started.add(1);
    }

    pub(crate) fn ended(&self, crashed: bool) {
        let counter = if crashed { &self.crashed } else { &self.ended };
        counter.add(1);
    }

    /// A child crashed too often.
    pub(crate) fn blocked(&mut self, name: &Name) {
        self.blocked.insert(name.clone());
        self.tell();
    }

    /// A child may start again.
    pub(crate) fn forgiven(&mut self, name: &Name) {
        if self.blocked.remove(name) {
            self.tell();
        }
    }

    fn tell(&self) {
        let some = self.blocked.iter().next();
        self.vital
            .tell_wrong(some.map(|name| format!("{} crashed too often, {name} for one", self.blocked.len())));
    }
}
