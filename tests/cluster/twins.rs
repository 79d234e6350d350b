//! A node that begins another life while its ghost is still there.

use std::time::{Duration, Instant};

use stanchion::cluster::{PeerState, Refusal};

use crate::{
    kit::{Node, is_campaign, name, options, pair, patient},
    proxy::Proxy,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_twin_joins_at_once_although_its_ghost_is_still_connected() {
    let a = Node::plain("a").await;
    let lives = if is_campaign() { 50 } else { 3 };
    let mut ghosts = Vec::new();
    let mut slowest = Duration::ZERO;
    for life in 1..=lives {
        let b = Node::start(options("b", life)).await;
        let proxy = Proxy::to(a.gateway.address().unwrap()).await;
        let began = Instant::now();
        b.gateway.dial(proxy.address.to_string());
        a.sees_life(&name("b"), Some(life), PeerState::Up).await;
        slowest = slowest.max(began.elapsed());
        assert!(a.call(&name("b"), "echo", "").await.is_ok());
        // It stands still, as a machine without power does: nobody is told.
        proxy.stop();
        ghosts.push((b, proxy));
    }
    assert!(slowest < Duration::from_secs(4), "the slowest joined after {slowest:?}");
    let last = ghosts.len() - 1;
    for (at, (ghost, proxy)) in ghosts.into_iter().enumerate() {
        proxy.go_on();
        if at == 0 && last > 0 {
            // The ghost dials again, and is told that it is one.
            ghost.gateway.dial(a.gateway.address().unwrap().to_string());
            let mut refused = ghost.gateway.stats().transport.refused;
            while refused == 0 {
                tokio::task::yield_now().await;
                refused = ghost.gateway.stats().transport.refused;
            }
            assert_eq!(Refusal::Stale.to_string(), "a later life of this node has joined");
        }
        ghost.stop().await;
    }
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_store_that_runs_beside_the_first_is_refused() {
    let a = Node::plain("a").await;
    let (first, copy) = (Node::start(options("b", 5)).await, Node::start(options("b", 5)).await);
    first.dial(&a);
    a.sees(&name("b"), PeerState::Up).await;
    copy.dial(&a);
    while copy.gateway.stats().transport.refused == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(a.gateway.peers()[0].node, *first.gateway.node());
    for node in [copy, first, a] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dials_itself_finds_out_and_stops() {
    let a = Node::plain("a").await;
    a.dial(&a);
    while a.gateway.stats().transport.refused == 0 {
        tokio::task::yield_now().await;
    }
    assert!(a.gateway.peers().is_empty());
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_stream_is_replaced_is_told_of_although_it_is_up_again_at_once() {
    for _ in 0..20 {
        let (a, b) = pair().await;
        let mut events = a.gateway.events();
        // The dial of the node that sorts last takes the place of the other one's, which is as young.
        b.dial(&a);
        let told = async { while events.recv().await.unwrap().state != PeerState::Up {} };
        patient(told).await;
        patient(a.gateway.stop()).await;
        patient(b.gateway.stop()).await;
    }
}
