//! Keeps what nodes know of each other fresh: leases of what is here, gossip to every peer, news of the links.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use stanchion_actors::{
    discovery::{Capability, LeaseTerms, Registration, RegistrationDraft},
    env::Env,
    health::Status,
    store::encode,
    task_agent::Shared,
};
use tokio::sync::{broadcast::error::RecvError, mpsc::Receiver};

use super::{
    board::{NODE, RUNS},
    house::{House, nodes_known},
    reach::Reach,
    wire::{Gossip, Known},
};
use crate::cluster::{NodeName, PeerEvent, PeerState};

/// So many turns apart, a node passes on what it knows of others, too.
const PASS_ON_EVERY: u64 = 5;

/// Keeps what nodes know of each other fresh.
pub(super) struct Keeper {
    pub(super) reach: Reach,
    pub(super) house: Arc<House>,
    pub(super) activities: Vec<String>,
    pub(super) extra: Vec<Capability>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) resources: BTreeMap<String, u64>,
    pub(super) terms: LeaseTerms,
}

impl Keeper {
    /// Runs until the gateway has ended.
    pub(super) async fn keep(self, mut found: Receiver<String>) {
        let mut events = self.reach.gateway.events();
        let mut turn = 0;
        let mut ticks = tokio::time::interval(self.terms.interval());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    turn += 1;
                    self.renew();
                    self.tell_all(turn % PASS_ON_EVERY == 0);
                }
                event = events.recv() => match event {
                    Ok(event) => self.heard(&event),
                    // What was missed shows in the next turn.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                Some(address) = found.recv() => {
                    if self.reach.address.as_deref() != Some(&address) {
                        self.reach.gateway.dial(address);
                    }
                }
                () = self.reach.gateway.ended() => return,
            }
        }
    }

    /// Registers what is here, without a call by anybody.
    fn renew(&self) {
        let env = &self.reach.env;
        let agents = env.task_agents().all();
        let drafts = std::iter::once(self.node()).chain(agents.iter().map(|agent| self.agent(agent)));
        let checked = drafts.filter_map(|draft| match draft.check() {
            Ok(registration) => Some(registration),
            Err(error) => {
                tracing::warn!(%error, "not registered");
                None
            }
        });
        let own: Vec<Registration> = checked.collect();
        self.reach.board.renew(own, self.terms, env.now());
    }

    fn node(&self) -> RegistrationDraft {
        let env = &self.reach.env;
        let activities = self.activities.iter().map(|name| format!("activity:{name}@1.0.0"));
        let kinds = env.directory().kinds().map(|kind| format!("kind:{}@{}.0.0", kind.name, kind.schema));
        let extra = self.extra.iter().map(ToString::to_string);
        let worst = env.health().into_iter().map(|(_, health)| health.status).max().unwrap_or(Status::Up);
        let health = match worst {
            Status::Up | Status::Draining => "healthy",
            Status::Degraded => "degraded",
            _ => "unhealthy",
        };
        let mut resources = self.resources.clone();
        resources.insert(RUNS.to_owned(), runs_awake(env));
        RegistrationDraft {
            id: Some(self.reach.name.to_string()),
            kind: Some(NODE.to_owned()),
            capabilities: activities.chain(kinds).chain(extra).collect(),
            health: Some(health.to_owned()),
            draining: env.is_draining(),
            resources,
            ..self.draft()
        }
    }

    fn agent(&self, agent: &Arc<Shared>) -> RegistrationDraft {
        let config = agent.config();
        let mut labels = self.labels.clone();
        labels.insert("queue".to_owned(), config.queue.clone());
        RegistrationDraft {
            id: Some(format!("{}/{}", self.reach.name, config.name)),
            kind: Some("task-agent".to_owned()),
            capabilities: config
                .types
                .iter()
                .map(|task| format!("activity:{}@1.0.0", task.activity))
                .collect(),
            labels,
            health: Some("healthy".to_owned()),
            draining: agent.is_held(),
            ..self.draft()
        }
    }

    fn draft(&self) -> RegistrationDraft {
        RegistrationDraft {
            node: Some(self.reach.name.to_string()),
            incarnation: self.reach.life,
            labels: self.labels.clone(),
            ..RegistrationDraft::default()
        }
    }

    fn gossip(&self, all: bool) -> Bytes {
        let own = self.reach.address.as_ref().map(|address| Known {
            name: self.reach.name.to_string(),
            address: address.clone(),
            life: self.reach.life,
        });
        let gossip = Gossip {
            nodes: nodes_known(&self.reach.board, own),
            reports: self.reach.board.reports(all, self.reach.env.now()),
        };
        match encode(&gossip) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => {
                tracing::warn!(%error, "gossip does not encode");
                Bytes::new()
            }
        }
    }

    fn tell_all(&self, all: bool) {
        let body = self.gossip(all);
        for peer in self.reach.gateway.peers() {
            if peer.state == PeerState::Up {
                self.tell(&peer.node.name, body.clone());
            }
        }
    }

    fn tell(&self, node: &NodeName, body: Bytes) {
        if let Err(error) = self.reach.gateway.gossip(node, body) {
            tracing::debug!(%node, %error, "gossip not sent");
        }
    }

    fn heard(&self, event: &PeerEvent) {
        let (board, name) = (&self.reach.board, event.node.name.as_str());
        match event.state {
            PeerState::Up => {
                board.up(name);
                self.tell(&event.node.name, self.gossip(true));
            }
            PeerState::Lost | PeerState::Left => {
                board.down(name, event.node.incarnation.life, self.reach.env.now());
                self.house.stop_all_of(name);
            }
            PeerState::Joining | PeerState::Suspect => {}
        }
    }
}

/// The load of a node: its runs that are awake.
fn runs_awake(env: &Env) -> u64 {
    let cells = env.directory().cells();
    cells.iter().filter(|cell| cell.kind().is_run && cell.is_active()).count() as u64
}
