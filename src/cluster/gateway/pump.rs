//! The task of each peer: sends what the link has to say, and tells what happened on it, in order.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tracing::debug;

use super::{
    actor::GatewayMsg,
    core::Core,
    handler::{Incoming, IncomingDurable, unpack},
    peer::Peer,
};
use crate::cluster::{
    frame::{Kind, Nack, NackReason, encode},
    link::{LinkEvent, LinkState, Request},
};

/// Runs until the peer retires.
pub(super) async fn run(core: Arc<Core>, peer: Arc<Peer>) {
    loop {
        let now_us = core.now_us();
        let work = peer.work(now_us);
        if let Some(remote) = &work.remote {
            for packet in &work.packets {
                // A session that has just ended takes nothing; the link sends it again on the next one.
                let _ = remote.send_message(GatewayMsg(encode(packet)));
            }
        }
        for event in work.events {
            happened(&core, &peer, event).await;
        }
        if work.wake_us <= core.now_us() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = peer.bell.notified() => {}
            () = tokio::time::sleep_until(core.instant(work.wake_us)) => {}
            () = peer.retired.cancelled() => return,
        }
    }
}

async fn happened(core: &Arc<Core>, peer: &Arc<Peer>, event: LinkEvent) {
    match event {
        LinkEvent::Request(request) => take(core, peer, request).await,
        LinkEvent::Ended(id, end) => {
            if let Some(waiter) = peer.waiter(id) {
                // A caller that waits no longer needs no answer.
                let _ = waiter.send(end);
            }
        }
        LinkEvent::Greeted(hello) => peer.learn(hello.capabilities),
        LinkEvent::State(LinkState::Lost) => {
            peer.cut();
            core.tell_news(peer);
        }
        LinkEvent::State(LinkState::Up) => core.tell_news(peer),
        LinkEvent::State(LinkState::Greeting | LinkState::Suspect) => {
            peer.turned_away();
            core.tell_news(peer);
        }
        LinkEvent::Goodbye => {
            peer.leave();
            core.tell_news(peer);
        }
    }
}

/// What a request of a peer needs until its end.
type Answering = BoxFuture<'static, ()>;

async fn take(core: &Arc<Core>, peer: &Arc<Peer>, request: Request) {
    let id = request.id;
    let Some(mut answering) = core.guarded(|| begin(core, peer, request)) else {
        // Of a kind that wants no answer, it is done with; of the others it may have been applied.
        peer.answer(id, Err(Nack::new(NackReason::Unknown, "the handler panicked")));
        return;
    };
    // Most ends are there at once, and need no task.
    if (&mut answering).now_or_never().is_none() && core.scope.spawn("request", answering).is_err() {
        debug!(node = %peer.id, "request came while the gateway stops");
    }
}

fn begin(core: &Arc<Core>, peer: &Arc<Peer>, request: Request) -> Answering {
    let (id, kind) = (request.id, request.kind);
    let time_left = request.deadline_us.map(|at| Duration::from_micros(at.saturating_sub(core.now_us())));
    let Request { entity, traceparent, body, .. } = request;
    let message = Incoming { entity, body, time_left, traceparent };
    match kind {
        Kind::Call => answering(core, peer, id, core.handler.on_call(&peer.id, message)),
        Kind::Durable => durable(core, peer, id, message),
        Kind::Gossip => {
            core.handler.on_gossip(&peer.id, message.body);
            peer.finished(id);
            Box::pin(std::future::ready(()))
        }
        Kind::Cast | Kind::Hello | Kind::Reply | Kind::Nack | Kind::Void | Kind::Goodbye => {
            let (cast, peer) = (core.handler.on_cast(&peer.id, message), peer.clone());
            Box::pin(async move {
                let _ = AssertUnwindSafe(cast).catch_unwind().await;
                peer.finished(id);
            })
        }
    }
}

fn durable(core: &Arc<Core>, peer: &Arc<Peer>, id: u64, message: Incoming) -> Answering {
    let Some((origin, seq, body)) = unpack(message.body) else {
        peer.answer(id, Err(Nack::new(NackReason::Version, "a durable message without origin and number")));
        return Box::pin(std::future::ready(()));
    };
    let message = Incoming { body, ..message };
    let commits = core.handler.on_durable(&peer.id, IncomingDurable { origin, seq, message });
    answering(core, peer, id, Box::pin(async move { commits.await.map(|()| Bytes::new()) }))
}

fn answering(
    core: &Arc<Core>,
    peer: &Arc<Peer>,
    id: u64,
    answer: BoxFuture<'static, Result<Bytes, Nack>>,
) -> Answering {
    let (core, peer) = (core.clone(), peer.clone());
    Box::pin(async move {
        let answer = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
            core.counters.panics.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Err(Nack::new(NackReason::Unknown, "the handler panicked"))
        });
        peer.answer(id, answer);
    })
}
