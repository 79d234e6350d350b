//! More than a peer takes.

use stanchion::cluster::{CallEnd, GatewayOptions, LinkLimits, Outbound};

use crate::kit::{Node, Seen, options, patient};
use stanchion::cluster::PeerState;

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_finish_pushes_back_and_nothing_that_was_taken_is_lost() {
    let limits = LinkLimits { window_frames: 64, queue_max_messages: 256, ..LinkLimits::default() };
    let node = |name, limits| Node::start(GatewayOptions { limits, ..options(name, 1) });
    let (a, mut b) = (node("a", limits.clone()).await, node("b", limits).await);
    a.dial(&b);
    a.sees(&b.name(), PeerState::Up).await;
    let mut taken = 0_u64;
    let refused = loop {
        match a.gateway.cast(&b.name(), Outbound::new("held", format!("{taken}"))) {
            Ok(()) => taken += 1,
            Err(end) if taken > 64 => break end,
            Err(_) => {}
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(refused, CallEnd::Overloaded { .. }), "{refused}");
    // No more than the window is with the handler, and answers still come.
    for n in 0..64 {
        assert_eq!(b.next().await, Seen::Cast("held".into(), format!("{n}").into()));
    }
    assert!(b.seen.try_recv().is_err());
    b.hold.add_permits(usize::try_from(taken).unwrap());
    for n in 64..taken {
        assert_eq!(patient(b.next()).await, Seen::Cast("held".into(), format!("{n}").into()));
    }
    a.stop().await;
    b.stop().await;
}
