//! Settings of a node.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use stanchion_actors::{
    balance::Strategy,
    discovery::{Capability, LeaseTerms},
    ids::Name,
};

use crate::cluster::{Cookie, LinkLimits, NodeName, Security, TlsFiles, TransportOptions};

/// Settings of a node, as in `node.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOptions {
    /// Its name, unique in the cluster: 1..=64 visible ASCII characters without `/`, `@` and `#`. A store keeps its name:
    /// what others remember of it goes by the name.
    pub name: String,
    /// Where it listens, such as `127.0.0.1:7001`; none: it only dials.
    #[serde(default)]
    pub listen: Option<String>,
    /// Where others reach it, as `host:port`; default: where it listens.
    #[serde(default)]
    pub advertise: Option<String>,
    /// Nodes to dial first, each as `host:port`; one that answers is enough.
    #[serde(default)]
    pub seeds: Vec<String>,
    /// The cluster's secret in hexadecimal: at least 128 bits.
    #[serde(default)]
    pub cookie: Option<String>,
    /// A file with the secret, instead.
    #[serde(default)]
    pub cookie_file: Option<PathBuf>,
    /// Certificates and key; none: plain TCP, on loopback only.
    #[serde(default)]
    pub tls: Option<NodeTls>,
    /// Allows plain TCP outside loopback: whoever sees the network reads and changes everything.
    #[serde(default)]
    pub insecure: bool,
    /// What it can do beside its activities and kinds, each as `name@1.2.3`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Free labels, such as `zone = "eu"`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it has, by name, such as `memory_mb = 4096`: for steps that require at least so much.
    #[serde(default)]
    pub resources: BTreeMap<String, u64>,
    /// How nodes for new runs are chosen here: `power_of_two_choices` (default), `round_robin`, `consistent_hash` or
    /// `sticky`; the last two go by the key that a start gives.
    #[serde(default = "by_load")]
    pub balance: Strategy,
    /// Milliseconds between heartbeats: default 1 000.
    #[serde(default = "heartbeat")]
    pub heartbeat_ms: u64,
    /// Milliseconds without a word after which a node takes no new work and is `suspect`; default 2 000.
    #[serde(default = "suspect")]
    pub suspect_ms: u64,
    /// Milliseconds without a word after which a node is `unreachable`; default 5 000. At least twice the heartbeat.
    #[serde(default = "lost")]
    pub lost_ms: u64,
}

fn by_load() -> Strategy {
    Strategy::PowerOfTwoChoices
}

fn heartbeat() -> u64 {
    1_000
}

fn suspect() -> u64 {
    2_000
}

fn lost() -> u64 {
    5_000
}

/// Capabilities that a node announces by itself begin like this.
const OWN_CAPABILITIES: [&str; 2] = ["activity:", "kind:"];

/// Certificates and key of a node, in PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTls {
    /// The authority that signs the nodes' certificates.
    pub authority: PathBuf,
    /// This node's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The name every node's certificate is for.
    pub server_name: String,
}

/// A setting that does not hold: which, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct NodeOptionsError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub fault: String,
}

/// Settings that hold.
pub(super) struct Checked {
    pub(super) name: NodeName,
    pub(super) cookie: Cookie,
    pub(super) listen: Option<SocketAddr>,
    pub(super) advertise: Option<String>,
    pub(super) seeds: Vec<String>,
    pub(super) capabilities: Vec<Capability>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) resources: BTreeMap<String, u64>,
    pub(super) balance: Strategy,
    pub(super) terms: LeaseTerms,
    pub(super) limits: LinkLimits,
    pub(super) transport: TransportOptions,
}

impl NodeOptions {
    /// Settings for plain TCP on loopback, on a free port.
    #[must_use]
    pub fn new(name: impl Into<String>, cookie: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: Some("127.0.0.1:0".to_owned()),
            advertise: None,
            seeds: Vec::new(),
            cookie: Some(cookie.into()),
            cookie_file: None,
            tls: None,
            insecure: false,
            capabilities: Vec::new(),
            labels: BTreeMap::new(),
            resources: BTreeMap::new(),
            balance: by_load(),
            heartbeat_ms: heartbeat(),
            suspect_ms: suspect(),
            lost_ms: lost(),
        }
    }

    pub(super) fn check(self) -> Result<Checked, NodeOptionsError> {
        let fault = |field, fault: &dyn ToString| NodeOptionsError { field, fault: fault.to_string() };
        let name = NodeName::new(self.name.as_str()).map_err(|error| fault("name", &error))?;
        let probe = Name { kind: "node".into(), key: "key".into() };
        probe.on(&self.name).map_err(|_| {
            fault(
                "name",
                &format!("{:?}: use 1 to 64 visible ASCII characters without /, @ and #", self.name),
            )
        })?;
        let cookie = match (&self.cookie, &self.cookie_file) {
            (Some(cookie), None) => Cookie::from_hex(cookie).map_err(|error| fault("cookie", &error))?,
            (None, Some(file)) => Cookie::from_file(file).map_err(|error| fault("cookie_file", &error))?,
            _ => return Err(fault("cookie", &"give the secret, or a file with it, and not both")),
        };
        let listen = self.listen.as_ref().map(|text| {
            text.parse()
                .map_err(|_| fault("listen", &format!("{text:?}: use ADDRESS:PORT, such as 127.0.0.1:7001")))
        });
        let (heartbeat, lost) =
            (Duration::from_millis(self.heartbeat_ms), Duration::from_millis(self.lost_ms));
        let terms = LeaseTerms::new(heartbeat, lost).map_err(|error| fault("lost_ms", &error))?;
        let limits = LinkLimits {
            heartbeat,
            suspect_after: Duration::from_millis(self.suspect_ms),
            lost_after: lost,
            ..LinkLimits::default()
        };
        limits.validate().map_err(|error| fault("suspect_ms", &error))?;
        let parsed = |text: &String| match text.parse::<Capability>() {
            Ok(capability) if OWN_CAPABILITIES.iter().any(|own| capability.name.starts_with(own)) => Err(
                fault("capabilities", &format!("{text:?}: activities and kinds are announced by themselves")),
            ),
            Ok(capability) => Ok(capability),
            Err(error) => Err(fault("capabilities", &error)),
        };
        let capabilities = self.capabilities.iter().map(parsed).collect::<Result<_, _>>()?;
        let security = match self.tls {
            None => Security::Plain { insecure: self.insecure },
            Some(NodeTls { authority, certificate, key, server_name }) => {
                Security::Tls(TlsFiles { authority, certificate, key, server_name })
            }
        };
        Ok(Checked {
            name,
            cookie,
            listen: listen.transpose()?,
            advertise: self.advertise,
            seeds: self.seeds,
            capabilities,
            labels: self.labels,
            resources: self.resources,
            balance: self.balance,
            terms,
            limits,
            transport: TransportOptions { security, ..TransportOptions::default() },
        })
    }
}
