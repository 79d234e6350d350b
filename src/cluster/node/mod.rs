//! A system as a node of a cluster: its entities within reach from every other node, and theirs from here.
//!
//! `wire` is what nodes say, `house` answers it, `reach` asks it, `board` is what a node knows of the others, `keeper`
//! keeps that fresh. Every node is alone on its own store: there is nothing to agree on, and nothing moves.

mod board;
mod house;
mod keeper;
mod options;
mod reach;
mod starts;
mod wire;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use stanchion_actors::{
    discovery::Registration,
    error::{Coded, Family},
    remote::{Remote, RemoteNode},
    task::{CancelToken, SpawnError},
};

use self::{board::Board, house::House, keeper::Keeper, reach::Reach};
pub use self::{
    options::{NodeOptions, NodeOptionsError, NodeTls},
    starts::PlacedRun,
};
use super::{Gateway, GatewayError, GatewayOptions, NodeId, NodeIncarnation, PeerView, RandomError};
use crate::{System, control::Desk};

/// Addresses from gossip that wait to be dialled.
const ADDRESSES: usize = 256;

/// Why a system does not join a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A setting does not hold.
    #[error(transparent)]
    Options(#[from] NodeOptionsError),
    /// The gateway does not start.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The machine gives no random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The system is stopping.
    #[error(transparent)]
    Tasks(#[from] SpawnError),
    /// It has joined one before.
    #[error("this system has joined a cluster already: a system is one node")]
    Joined,
}

impl Coded for JoinError {
    fn code(&self) -> &'static str {
        match self {
            Self::Options(_) => "node.bad_options",
            Self::Gateway(_) => "node.gateway",
            Self::Random(_) => "node.random",
            Self::Tasks(_) => "node.stopping",
            Self::Joined => "node.joined",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Options(_) | Self::Joined => Family::Rejected,
            Self::Gateway(error) => error.family(),
            Self::Random(_) | Self::Tasks(_) => Family::Unavailable,
        }
    }
}

/// A system that has joined a cluster. Dropped, the system stays a node until it stops.
pub struct Node {
    name: Arc<str>,
    gateway: Gateway,
    reach: Reach,
    desk: Desk,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).field("address", &self.address()).finish()
    }
}

impl Node {
    /// Joins: from here on names with a node lead to that node, and others reach this one's entities.
    ///
    /// # Errors
    /// [`JoinError`]: nothing stays behind.
    ///
    /// # Cancel safety
    /// Not safe: dropped half way, the gateway may stay until the system stops.
    pub async fn join(system: &System, options: NodeOptions) -> Result<Self, JoinError> {
        let checked = options.check()?;
        let env = Arc::clone(system.env());
        if env.remote().is_some() {
            return Err(JoinError::Joined);
        }
        let incarnation = NodeIncarnation::of_now()?;
        let board = Board::new()
            .map_err(|error| NodeOptionsError { field: "discovery", fault: error.to_string() })?;
        let board = Arc::new(board);
        let (found, addresses) = tokio::sync::mpsc::channel(ADDRESSES);
        let house = Arc::new(House {
            env: Arc::clone(&env),
            workflows: system.workflows().clone(),
            board: Arc::clone(&board),
            found,
            running: Arc::default(),
        });
        let gateway_options = GatewayOptions {
            listen: checked.listen,
            limits: checked.limits,
            transport: checked.transport,
            ..GatewayOptions::new(NodeId { name: checked.name.clone(), incarnation }, checked.cookie)
        };
        let handler: Arc<dyn super::Handler> = Arc::clone(&house) as _;
        let gateway = Gateway::start(gateway_options, handler, env.tasks()).await?;
        let name: Arc<str> = Arc::from(checked.name.as_str());
        let address = checked.advertise.or_else(|| gateway.address().map(|address| address.to_string()));
        let reach = Reach {
            env: Arc::clone(&env),
            name: Arc::clone(&name),
            life: incarnation.life,
            address,
            gateway: gateway.clone(),
            board: Arc::clone(&board),
            tickets: Arc::new(AtomicU64::new(1)),
            waiting: Arc::default(),
            leaves: CancelToken::new(),
            strategy: checked.balance,
        };
        if !env.join(Arc::new(reach.clone())) {
            gateway.stop().await;
            return Err(JoinError::Joined);
        }
        let keeper = Keeper {
            reach: reach.clone(),
            house,
            activities: system.activity_names(),
            extra: checked.capabilities,
            labels: checked.labels,
            resources: checked.resources,
            terms: checked.terms,
        };
        checked.seeds.iter().for_each(|seed| gateway.dial(seed.clone()));
        env.tasks().spawn("cluster-keeper", keeper.keep(addresses))?;
        Ok(Self { name, gateway, reach, desk: starts::desk(system) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.gateway.address()
    }

    /// Every node that is known, this one first.
    #[must_use]
    pub fn nodes(&self) -> Vec<RemoteNode> {
        self.reach.nodes()
    }

    /// Every instance that is known and not gone, of this node and of others: nodes and their task agents.
    #[must_use]
    pub fn instances(&self) -> Vec<Registration> {
        self.reach.board.instances(self.reach.env.now())
    }

    /// What the gateway sees of each peer.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        self.gateway.peers()
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Attempts that wait for a node that can do them.
    #[must_use]
    pub fn waiting_for_capability(&self) -> u64 {
        self.reach.waiting.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits until this node is up for at least so many others, at most `within`; whether it is.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn await_peers(&self, count: usize, within: Duration) -> bool {
        let mut events = self.gateway.events();
        let until = tokio::time::Instant::now() + within;
        loop {
            let up = self.gateway.peers().iter().filter(|peer| peer.state == super::PeerState::Up).count();
            if up >= count {
                return true;
            }
            match tokio::time::timeout_at(until, events.recv()).await {
                Ok(Err(tokio::sync::broadcast::error::RecvError::Closed)) | Err(_) => return false,
                Ok(_) => {}
            }
        }
    }

    /// Waits until somebody asks this node to leave: `stanchion node drain`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn asked_to_leave(&self) {
        self.reach.leaves.cancelled().await;
    }

    /// Says goodbye to the others; to be called before the system stops.
    ///
    /// # Cancel safety
    /// Dropped half way, it is leaving; call it again.
    pub async fn leave(&self) {
        self.gateway.stop().await;
    }
}
