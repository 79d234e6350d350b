//! What nodes say to each other through their gateways: the bodies of calls and gossip.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stanchion_actors::{
    discovery::Report,
    entity::Failure,
    error::FailureKind,
    ids::{Cause, Name},
    remote::{RemoteCommand, RemoteMessage},
};

/// What is asked of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Calls an entity, or puts a command into its mailbox when it comes as a cast.
    #[serde(rename = "c")]
    Call { to: Name, command: RemoteCommand },
    /// Stores a command for an entity.
    #[serde(rename = "e")]
    Enqueue { to: Name, command: RemoteCommand },
    /// Delivers messages of one sender, in order.
    #[serde(rename = "d")]
    Deliver { from: Name, to: Name, messages: Vec<RemoteMessage> },
    /// Runs an attempt of an activity.
    #[serde(rename = "r")]
    Run(Attempt),
    /// Stops an attempt.
    #[serde(rename = "s")]
    Stop { ticket: u64 },
    /// Answers a request of the control desk.
    #[serde(rename = "q")]
    Desk(Bytes),
}

/// An attempt that another node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// By which it is stopped; of the node that asks.
    #[serde(rename = "t")]
    pub(super) ticket: u64,
    #[serde(rename = "a")]
    pub(super) activity: String,
    #[serde(rename = "i")]
    pub(super) input: Bytes,
    #[serde(rename = "ms")]
    pub(super) timeout_ms: u64,
    #[serde(rename = "k")]
    pub(super) idempotency_key: String,
    #[serde(rename = "n")]
    pub(super) number: u32,
    #[serde(rename = "c")]
    pub(super) cause: Cause,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// Of a call, an enqueue or the desk.
    #[serde(rename = "c")]
    Called(Result<Bytes, FailureKind>),
    /// Of each message.
    #[serde(rename = "d")]
    Delivered(Vec<Result<Bytes, FailureKind>>),
    /// Of an attempt; nothing when it was stopped.
    #[serde(rename = "r")]
    Ran(Option<Result<Bytes, Failure>>),
}

/// What a node says about nodes and what they can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gossip {
    /// Nodes it knows, itself first.
    #[serde(rename = "n")]
    pub(super) nodes: Vec<Known>,
    /// What they can do.
    #[serde(rename = "r")]
    pub(super) reports: Vec<Report>,
}

/// A node and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    #[serde(rename = "n")]
    pub(super) name: String,
    #[serde(rename = "a")]
    pub(super) address: String,
    #[serde(rename = "l")]
    pub(super) life: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stanchion_actors::{
        store::{decode, encode},
        testing::bytes::{cases, damaged},
    };

    use super::*;
    use crate::cluster::frame::Hello;

    fn asks() -> [Ask; 3] {
        let attempt = Attempt {
            ticket: 1,
            activity: "a".into(),
            input: Bytes::from_static(b"in"),
            timeout_ms: 5,
            idempotency_key: "k".into(),
            number: 1,
            cause: Cause::default(),
        };
        [Ask::Run(attempt), Ask::Stop { ticket: 7 }, Ask::Desk(Bytes::from_static(b"a request"))]
    }

    fn gossip() -> Gossip {
        let known = |name: &str| Known { name: name.into(), address: "127.0.0.1:7".into(), life: 3 };
        Gossip { nodes: vec![known("a"), known("b")], reports: Vec::new() }
    }

    fn read(bytes: &[u8]) {
        let _ = decode::<Ask>(bytes).is_ok();
        let _ = decode::<Told>(bytes).is_ok();
        let _ = decode::<Gossip>(bytes).is_ok();
        let _ = decode::<Hello>(bytes).is_ok();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(1_000), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn random_and_damaged_bodies_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), seed: u64) {
            read(&bytes);
            for ask in asks() {
                read(&damaged(&encode(&ask).unwrap(), seed));
            }
            let told = [Told::Called(Ok(Bytes::from_static(b"yes"))), Told::Ran(None), Told::Delivered(vec![Ok(Bytes::new())])];
            for told in told {
                read(&damaged(&encode(&told).unwrap(), seed));
            }
            read(&damaged(&encode(&gossip()).unwrap(), seed));
            let hello = Hello { versions: (1, 1), node: "a".into(), incarnation: (1, 2), message_max_bytes: 9, capabilities: vec!["c".into()] };
            read(&damaged(&encode(&hello).unwrap(), seed));
        }
    }
}
