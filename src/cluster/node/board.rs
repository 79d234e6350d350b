//! What a node knows of the cluster: who is there, where, and what it can do.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stanchion_actors::{
    balance::{Balancer, Candidate, ChooseError, InstanceId, Outcome, Readiness, Request, Strategy, Weight},
    discovery::{
        Beat, Capability, Criteria, Discovery, DiscoveryEvent, DiscoveryOptions, DiscoveryOptionsError,
        Found, Lease, LeaseTerms, NodeId as Place, Registration, Report,
    },
    env::Env,
    ids::Timestamp,
    remote::{Placement, RemoteNode},
};
use tokio::sync::watch;

use super::wire::Known;
use crate::cluster::{PeerState, PeerView};

/// Kind of the instance that stands for a node.
pub(super) const NODE: &str = "node";
/// What a node says of its load: the number of runs that are awake.
pub(super) const RUNS: &str = "stanchion:runs";
/// So late at most a node's own word of its load is known here, with the default heartbeat.
const NEWS_WITHIN: Duration = Duration::from_secs(2);

/// What a node knows of the cluster.
pub(super) struct Board {
    known: Mutex<Knowledge>,
    /// Counts changes, so that who waits for a capability looks again.
    changed: watch::Sender<u64>,
}

struct Knowledge {
    discovery: Discovery,
    balancer: Balancer,
    /// For new runs, by how they choose.
    placers: HashMap<Strategy, Balancer>,
    /// When runs were placed on a node lately: what it says of its load does not have them yet.
    placed: HashMap<InstanceId, VecDeque<Timestamp>>,
    leases: BTreeMap<InstanceId, (Registration, Lease)>,
    /// Addresses by node, with the life that said so.
    addresses: BTreeMap<String, (String, u64)>,
}

impl Board {
    pub(super) fn new() -> Result<Self, DiscoveryOptionsError> {
        let known = Knowledge {
            discovery: Discovery::new(DiscoveryOptions::default())?,
            balancer: Balancer::new(Strategy::PowerOfTwoChoices),
            placers: HashMap::new(),
            placed: HashMap::new(),
            leases: BTreeMap::new(),
            addresses: BTreeMap::new(),
        };
        Ok(Self { known: Mutex::new(known), changed: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees every change from here on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self, events: &[DiscoveryEvent]) {
        if !events.is_empty() {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// What this node has is as the list says: leases are taken, renewed and given back accordingly.
    pub(super) fn renew(&self, own: Vec<Registration>, terms: LeaseTerms, now: Timestamp) {
        let mut known = self.lock();
        let mut events = known.discovery.expire(now);
        let gone: Vec<InstanceId> = known
            .leases
            .keys()
            .filter(|id| !own.iter().any(|registration| registration.id == **id))
            .cloned()
            .collect();
        for id in gone {
            if let Some((_, lease)) = known.leases.remove(&id)
                && let Ok((_, more)) = known.discovery.deregister(&lease)
            {
                events.extend(more);
            }
        }
        for registration in own {
            events.extend(known.renew_one(registration, terms, now));
        }
        drop(known);
        self.tell(&events);
    }

    /// What other nodes should know of this one's instances; with `all` of everybody's.
    pub(super) fn reports(&self, all: bool, now: Timestamp) -> Vec<Report> {
        let known = self.lock();
        if all {
            return known.discovery.reports(now).collect();
        }
        known.leases.keys().filter_map(|id| known.discovery.report(id, now)).collect()
    }

    /// Learns what another node says.
    pub(super) fn learn(&self, reports: Vec<Report>, via: &str, now: Timestamp) {
        let mut events = Vec::new();
        let mut known = self.lock();
        for report in reports {
            match known.discovery.learn(report, &Place::new(via), now) {
                Ok(more) => events.extend(more),
                Err(error) => tracing::debug!(%error, via, "what a node says was not taken in"),
            }
        }
        drop(known);
        self.tell(&events);
    }

    /// A node is down: nothing of it is found any more.
    pub(super) fn down(&self, node: &str, life: u64, now: Timestamp) {
        let mut known = self.lock();
        let events = known.discovery.node_down(&Place::new(node), life, now);
        known.forget(&InstanceId::new(node));
        drop(known);
        self.tell(&events);
    }

    /// A node speaks.
    pub(super) fn up(&self, node: &str) {
        self.lock().discovery.node_up(&Place::new(node));
    }

    /// Where a node is; what a later life of it said stays.
    pub(super) fn learn_address(&self, known: &Known) {
        let mut board = self.lock();
        if board.addresses.get(&known.name).is_none_or(|(_, life)| *life <= known.life) {
            board.addresses.insert(known.name.clone(), (known.address.clone(), known.life));
        }
    }

    pub(super) fn addresses(&self) -> Vec<Known> {
        let known = |(name, (address, life)): (&String, &(String, u64))| Known {
            name: name.clone(),
            address: address.clone(),
            life: *life,
        };
        self.lock().addresses.iter().map(known).collect()
    }

    /// Every instance that is not gone.
    pub(super) fn instances(&self, now: Timestamp) -> Vec<Registration> {
        let known = self.lock();
        let found = known.discovery.find(&Criteria::default(), now).unwrap_or_default();
        found.into_iter().map(|found| found.registration.clone()).collect()
    }

    /// Whether a node that takes work is what is looked for.
    pub(super) fn has(&self, need: &Criteria, now: Timestamp) -> bool {
        let criteria = Criteria { kind: Some(Arc::from(NODE)), ..need.clone() };
        let known = self.lock();
        let found = known.discovery.find(&criteria, now);
        found.is_ok_and(|found| found.iter().any(|found| found.candidate().readiness == Readiness::Ready))
    }

    /// Chooses a node with this capability, by load; `None`: there is none that takes work.
    pub(super) fn choose(&self, need: &Criteria, not: &[String], env: &Env) -> Option<String> {
        let now = env.now();
        let mut known = self.lock();
        let criteria = Criteria { kind: Some(Arc::from(NODE)), ..need.clone() };
        let found = known.discovery.find(&criteria, now).ok()?;
        let usable =
            found.iter().filter(|found| !not.iter().any(|node| found.registration.node.as_str() == node));
        let candidates: Vec<_> = usable.map(|found| found.candidate()).collect();
        let chosen = known.balancer.choose(&candidates, Request::default(), now, env.next_seed()).ok()?;
        known.balancer.started(&chosen, now);
        Some(chosen.as_str().to_owned())
    }

    /// Chooses a node for a new run: of those that take work and have what is required, the ones with the most of its
    /// activities, by strategy.
    pub(super) fn place(
        &self,
        want: &Placement,
        default: Strategy,
        env: &Env,
    ) -> Result<String, ChooseError> {
        let now = env.now();
        let mut known = self.lock();
        let known = &mut *known;
        let criteria =
            Criteria { kind: Some(Arc::from(NODE)), ..Criteria::default().with_required(&want.requires) };
        let found = known.discovery.find(&criteria, now).unwrap_or_default();
        let has = |registration: &Registration| {
            let has = |activity: &&String| {
                let name =
                    |known: &Capability| known.name.strip_prefix("activity:") == Some(activity.as_str());
                registration.capabilities.iter().any(name)
            };
            want.activities.iter().filter(has).count()
        };
        let ready = |found: &&Found<'_>| found.candidate().readiness == Readiness::Ready;
        let most = found.iter().filter(ready).map(|found| has(found.registration)).max().unwrap_or(0);
        let strategy = want.strategy.unwrap_or(default);
        let candidates: Vec<Candidate> = found
            .iter()
            .filter(|found| !ready(found) || has(found.registration) == most)
            .map(|found| match strategy {
                Strategy::PowerOfTwoChoices | Strategy::Sticky => {
                    lighter(found.candidate(), load(found.registration, &mut known.placed, now))
                }
                _ => found.candidate(),
            })
            .collect();
        let placer = known.placers.entry(strategy).or_insert_with(|| Balancer::new(strategy));
        let request = Request { key: want.key.as_deref() };
        let chosen = placer.choose(&candidates, request, now, env.next_seed())?;
        known.placed.entry(chosen.clone()).or_default().push_back(now);
        Ok(chosen.as_str().to_owned())
    }

    /// What was sent to the chosen node has ended.
    pub(super) fn finished(&self, node: &str, took: Duration, succeeded: bool, now: Timestamp) {
        let outcome = if succeeded { Outcome::Done } else { Outcome::Failed };
        self.lock().balancer.finished(&InstanceId::new(node), took, outcome, now);
    }

    /// Every node that is known, this one first.
    pub(super) fn nodes(&self, own: &RemoteNode, peers: &[PeerView], now: Timestamp) -> Vec<RemoteNode> {
        let known = self.lock();
        let mut nodes = vec![known.filled(own.clone(), now)];
        for peer in peers {
            let node = RemoteNode {
                node: peer.node.name.to_string(),
                address: None,
                state: state_name(peer.state).to_owned(),
                life: peer.node.incarnation.life,
                silent_ms: u64::try_from(peer.silent_for.as_millis()).unwrap_or(u64::MAX),
                draining: false,
                capabilities: Vec::new(),
                via: None,
            };
            nodes.push(known.filled(node, now));
        }
        for (name, (address, life)) in &known.addresses {
            if nodes.iter().any(|node| node.node == *name) {
                continue;
            }
            let node = RemoteNode {
                node: name.clone(),
                address: Some(address.clone()),
                state: "unreachable".to_owned(),
                life: *life,
                silent_ms: u64::MAX,
                draining: false,
                capabilities: Vec::new(),
                via: Some("gossip".to_owned()),
            };
            nodes.push(known.filled(node, now));
        }
        nodes
    }
}

/// How many runs are awake on a node, as it says, and those placed there since.
fn load(
    registration: &Registration,
    placed: &mut HashMap<InstanceId, VecDeque<Timestamp>>,
    now: Timestamp,
) -> u64 {
    let lately = placed.get_mut(&registration.id).map_or(0, |placed| {
        while placed.front().is_some_and(|at| now.since(*at) > NEWS_WITHIN) {
            placed.pop_front();
        }
        placed.len() as u64
    });
    registration.resources.get(RUNS).copied().unwrap_or(0).saturating_add(lately)
}

/// The candidate with the weight that its load leaves.
fn lighter(candidate: Candidate, load: u64) -> Candidate {
    let weight = Weight::new(candidate.weight.as_f64() / (1.0 + load as f64)).unwrap_or(candidate.weight);
    Candidate { weight, ..candidate }
}

impl Knowledge {
    /// A node is down: its load and the keys that stuck to it are forgotten.
    fn forget(&mut self, id: &InstanceId) {
        self.balancer.forget(id);
        for placer in self.placers.values_mut() {
            placer.forget(id);
        }
        self.placed.remove(id);
    }

    fn renew_one(&mut self, own: Registration, terms: LeaseTerms, now: Timestamp) -> Vec<DiscoveryEvent> {
        if let Some((before, lease)) = self.leases.get(&own.id)
            && before.capabilities == own.capabilities
            && before.labels == own.labels
        {
            let beat = Beat {
                health: Some(own.health),
                draining: Some(own.draining),
                resources: own.resources.clone(),
            };
            if let Ok(events) = self.discovery.heartbeat(lease, &beat, now) {
                return events;
            }
        }
        if let Some((_, lease)) = self.leases.remove(&own.id) {
            let _ = self.discovery.deregister(&lease);
        }
        match self.discovery.register(own.clone(), terms, now) {
            Ok((lease, events)) => {
                self.leases.insert(own.id.clone(), (own, lease));
                events
            }
            Err(error) => {
                tracing::warn!(instance = %own.id, %error, "not registered");
                Vec::new()
            }
        }
    }

    /// With what discovery knows of the node.
    fn filled(&self, mut node: RemoteNode, now: Timestamp) -> RemoteNode {
        let found = self.discovery.instance(&InstanceId::new(node.node.as_str()), now);
        if let Some(found) = found {
            node.draining = found.registration.draining;
            node.capabilities = found.registration.capabilities.iter().map(ToString::to_string).collect();
        }
        if node.address.is_none() {
            node.address = self.addresses.get(&node.node).map(|(address, _)| address.clone());
        }
        node
    }
}

fn state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Joining => "joining",
        PeerState::Up => "up",
        PeerState::Suspect => "suspect",
        PeerState::Lost => "unreachable",
        PeerState::Left => "left",
    }
}
