//! Calls, casts, durable messages and gossip, and the four ways a call ends.

use std::time::Duration;

use stanchion::{
    bytes::Bytes,
    cluster::{CallEnd, Outbound, PeerState},
    error::{Coded, Family},
};

use crate::kit::{Node, Seen, name, options, pair, patient, quick};

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_both_ways_over_one_stream() {
    let (a, b) = pair().await;
    assert_eq!(a.call(&b.name(), "echo", "to b").await, Ok(Bytes::from("to b")));
    assert_eq!(b.call(&a.name(), "echo", "to a").await, Ok(Bytes::from("to a")));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_durable_messages_and_gossip_arrive_in_order() {
    let (a, mut b) = pair().await;
    for n in 0..500 {
        a.gateway.cast(&b.name(), Outbound::new("e", format!("{n}"))).unwrap();
    }
    a.gateway.send_durable(&b.name(), b"outbox", 1, Outbound::new("e", "first")).await.unwrap();
    assert_eq!(*b.committed.lock().unwrap(), vec![(Bytes::from("outbox"), 1)]);
    a.gateway.gossip(&b.name(), Bytes::from("rumour")).unwrap();
    for n in 0..500 {
        assert_eq!(b.next().await, Seen::Cast("e".into(), format!("{n}").into()));
    }
    assert_eq!(b.next().await, Seen::Durable("outbox".into(), 1, "first".into()));
    assert_eq!(b.next().await, Seen::Gossip("rumour".into()));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_reach_each_other_and_twenty_callers_at_once_each_get_their_own_answer() {
    let nodes = [Node::plain("a").await, Node::plain("b").await, Node::plain("c").await];
    // Everyone dials everyone: of the dials that cross, one stream a pair stays.
    for from in &nodes {
        for to in &nodes {
            from.dial(to);
        }
    }
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name() != from.name()) {
            from.sees(&to.name(), PeerState::Up).await;
        }
    }
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name() != from.name()) {
            let to = to.name();
            let calls = (0..20).map(|n| {
                let (from, to) = (from.gateway.clone(), to.clone());
                async move {
                    let body = format!("{n}");
                    let out = Outbound::new("echo", body.clone());
                    assert_eq!(from.call(&to, out, Duration::from_secs(20)).await, Ok(Bytes::from(body)));
                }
            });
            futures_util::future::join_all(calls).await;
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_handler_keep_their_family() {
    let (a, b) = pair().await;
    let rejected = a.call(&b.name(), "missing", "").await.unwrap_err();
    assert!(matches!(rejected, CallEnd::Rejected(_)), "{rejected}");
    assert_eq!(rejected.family(), Family::Rejected);
    let full = a.call(&b.name(), "full", "").await.unwrap_err();
    assert_eq!((full.code(), full.family()), ("cluster.unavailable", Family::Unavailable));
    for entity in ["panics", "panics-later"] {
        let unknown = a.call(&b.name(), entity, "").await.unwrap_err();
        assert_eq!(unknown.family(), Family::Unknown, "{entity}");
    }
    assert_eq!(b.gateway.stats().panics, 2);
    assert_eq!(a.call(&b.name(), "echo", "still there").await, Ok(Bytes::from("still there")));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_an_answer_ends_at_its_deadline_as_unknown() {
    let (a, mut b) = pair().await;
    let out = Outbound::new("held", "x");
    let end = a.gateway.call(&b.name(), out, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!((end.clone(), end.family()), (CallEnd::Deadline, Family::Unknown));
    assert_eq!(b.next().await, Seen::Call("held".into(), "x".into()));
    b.hold.add_permits(1);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_knows_is_unreachable() {
    let a = Node::plain("a").await;
    assert_eq!(a.call(&name("nobody"), "e", "").await, Err(CallEnd::Unreachable));
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_goodbye_has_left_at_once_and_calls_to_it_are_unavailable() {
    let (a, b) = pair().await;
    let b_name = b.name();
    b.stop().await;
    a.sees(&b_name, PeerState::Left).await;
    let end = a.call(&b_name, "e", "").await.unwrap_err();
    assert_eq!(end.family(), Family::Unavailable);
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_when_their_peer_begins_another_life_end_as_unknown_before_their_deadline() {
    let a = Node::start(stanchion::cluster::GatewayOptions { limits: quick(), ..options("a", 1) }).await;
    let mut first = Node::start(options("b", 1)).await;
    first.dial(&a);
    a.sees(&name("b"), PeerState::Up).await;
    let gateway = a.gateway.clone();
    let call = async move {
        gateway.call(&name("b"), Outbound::new("held", ""), Duration::from_secs(60)).await.unwrap_err()
    };
    let replace = async {
        assert!(matches!(first.next().await, Seen::Call(..)));
        let second = Node::start(options("b", 2)).await;
        second.dial(&a);
        second
    };
    let (end, second) = patient(async { tokio::join!(call, replace) }).await;
    assert_eq!((end.clone(), end.family()), (CallEnd::Lost, Family::Unknown));
    for node in [first, second, a] {
        node.hold.add_permits(10);
        node.stop().await;
    }
}
