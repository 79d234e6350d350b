//! Streams that break and peers that stand still.

use std::time::{Duration, Instant};

use stanchion::{
    bytes::Bytes,
    cluster::{CallEnd, GatewayOptions, LinkLimits, Outbound, PeerState},
    error::{Coded, Family},
};

use crate::{
    kit::{Node, Seen, options, patient, quick},
    proxy::Proxy,
};

/// Two nodes with a proxy between them.
async fn apart(limits: LinkLimits) -> (Node, Proxy, Node) {
    let node = |name, limits| Node::start(GatewayOptions { limits, ..options(name, 1) });
    let (a, b) = (node("a", limits.clone()).await, node("b", limits).await);
    let proxy = Proxy::to(b.gateway.address().unwrap()).await;
    a.gateway.dial(proxy.address.to_string());
    a.sees(&b.name(), PeerState::Up).await;
    b.sees(&a.name(), PeerState::Up).await;
    (a, proxy, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_messages_cross_a_stream_that_breaks_once_each_and_in_order() {
    let (a, proxy, mut b) = apart(LinkLimits::default()).await;
    let (count, to) = (600_u64, b.name());
    let sends = async {
        let sends = (0..count).map(|seq| {
            let (gateway, to) = (a.gateway.clone(), to.clone());
            async move { gateway.send_durable(&to, b"o", seq, Outbound::new("e", vec![0; 2_000])).await }
        });
        futures_util::future::join_all(sends).await
    };
    let breaks = async {
        let mut got = Vec::new();
        while got.len() < count as usize {
            let Seen::Durable(_, seq, _) = patient(b.seen.recv()).await.unwrap() else { panic!() };
            got.push(seq);
            if got.len() % 100 == 50 {
                proxy.cut();
            }
        }
        got
    };
    let (acked, got) = patient(async { tokio::join!(sends, breaks) }).await;
    assert!(acked.iter().all(Result::is_ok), "{acked:?}");
    assert_eq!(got, (0..count).collect::<Vec<_>>());
    assert!(b.seen.try_recv().is_err(), "delivered twice");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stands_still_is_noticed_in_time_and_holds_no_more_than_the_queue() {
    let limits = LinkLimits { queue_max_bytes: 2 << 20, message_max_bytes: 1 << 20, ..quick() };
    let (a, proxy, b) = apart(limits).await;
    let to = b.name();
    let lost = a.sees(&to, PeerState::Lost);
    proxy.stop();
    let began = Instant::now();
    let offers = async {
        let (mut ended, mut most) = (vec![], 0);
        while !matches!(ended.last(), Some(CallEnd::Unreachable)) {
            let out = Outbound::new("e", vec![0; 60_000]);
            if let Err(end) = a.gateway.cast(&b.name(), out) {
                ended.push(end);
            }
            most = most.max(a.gateway.peers()[0].held_bytes);
            tokio::task::yield_now().await;
        }
        (ended, most)
    };
    let ((), (ended, most)) = patient(async { tokio::join!(lost, offers) }).await;
    let noticed = began.elapsed();
    assert!(noticed >= Duration::from_millis(900) && noticed < Duration::from_secs(3), "{noticed:?}");
    assert!(most <= 2 << 20, "{most} bytes were held");
    assert!(matches!(ended[0], CallEnd::Overloaded { .. }), "{:?}", ended[0]);
    assert!(ended.iter().all(|end| end.family() == Family::Unavailable));
    // Once it goes on, it joins by itself.
    proxy.go_on();
    a.sees(&b.name(), PeerState::Up).await;
    assert_eq!(a.call(&b.name(), "echo", "back").await, Ok(Bytes::from("back")));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lay_in_a_stopped_peer_past_its_deadline_never_runs() {
    let (a, proxy, mut b) = apart(LinkLimits { lost_after: Duration::from_secs(60), ..quick() }).await;
    assert_eq!(a.call(&b.name(), "echo", "before").await, Ok(Bytes::from("before")));
    assert_eq!(b.next().await, Seen::Call("echo".into(), "before".into()));
    proxy.stop();
    for _ in 0..20 {
        let out = Outbound::new("echo", "too late");
        let end = a.gateway.call(&b.name(), out, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(end, CallEnd::Deadline);
    }
    proxy.go_on();
    assert_eq!(a.call(&b.name(), "echo", "after").await, Ok(Bytes::from("after")));
    assert_eq!(b.next().await, Seen::Call("echo".into(), "after".into()));
    assert!(b.gateway.peers()[0].link.expired_in > 0);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_20_mib_arrives_in_pieces_or_is_refused_by_name_and_small_calls_pass_it() {
    let body = Bytes::from((0..20 << 20).map(|n: u32| n.to_le_bytes()[1]).collect::<Vec<_>>());
    let limits = LinkLimits { message_max_bytes: 24 << 20, ..LinkLimits::default() };
    let (a, _proxy, b) = apart(limits).await;
    let deadline = Duration::from_secs(30);
    let to = b.name();
    let large = a.gateway.call(&to, Outbound::new("big", body.clone()), deadline);
    let small = a.call(&to, "small", "quick");
    let (large, small) = tokio::join!(large, small);
    assert_eq!(small, Ok(Bytes::from("quick")));
    assert!(large == Ok(body.clone()), "another body came back");
    a.stop().await;
    b.stop().await;

    let (a, _proxy, b) = apart(LinkLimits::default()).await;
    let refused = a.gateway.call(&b.name(), Outbound::new("big", body), deadline).await;
    assert_eq!(refused, Err(CallEnd::TooLarge { bytes: 20 << 20, limit: 16 << 20 }));
    a.stop().await;
    b.stop().await;
}
