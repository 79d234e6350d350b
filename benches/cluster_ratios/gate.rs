//! The same through the gateway: plain TCP, so that TLS is in neither.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt, ready};
use stanchion::{
    bytes::Bytes,
    cluster::{
        CallEnd, Cookie, Gateway, GatewayOptions, Handler, Incoming, IncomingDurable, Nack, NodeId,
        NodeIncarnation, NodeName, Outbound, PeerState,
    },
};
use stanchion_actors::task::TaskScope;

use crate::{BODY_BYTES, pipelined};

#[derive(Default)]
struct Echo {
    taken: AtomicU64,
}

impl Handler for Echo {
    fn on_call(&self, _: &NodeId, call: Incoming) -> BoxFuture<'static, Result<Bytes, Nack>> {
        match call.entity.as_deref() {
            Some("taken") => {
                let taken = self.taken.load(Ordering::Relaxed);
                ready(Ok(Bytes::copy_from_slice(&taken.to_be_bytes()))).boxed()
            }
            _ => ready(Ok(call.body)).boxed(),
        }
    }
    fn on_cast(&self, _: &NodeId, _: Incoming) -> BoxFuture<'static, ()> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        ready(()).boxed()
    }
    fn on_durable(&self, _: &NodeId, _: IncomingDurable) -> BoxFuture<'static, Result<(), Nack>> {
        ready(Ok(())).boxed()
    }
    fn on_gossip(&self, _: &NodeId, _: Bytes) {}
}

async fn node(name: &str, scope: &TaskScope) -> Gateway {
    let incarnation = NodeIncarnation::of_now().unwrap();
    let id = NodeId { name: NodeName::new(name).unwrap(), incarnation };
    let options = GatewayOptions::new(id, Cookie::new(&[1; 32]).unwrap());
    Gateway::start(options, Arc::new(Echo::default()), scope).await.unwrap()
}

pub(crate) async fn serve() {
    let scope = TaskScope::root("server");
    let gateway = node("server", &scope).await;
    println!("{}", gateway.address().unwrap());
    gateway.ended().await;
}

/// Calls per second and casts per second.
pub(crate) async fn measure(seconds: u64) -> (f64, f64) {
    let (_server, address) = crate::serve("gate");
    let scope = TaskScope::root("client");
    let gateway = node("client", &scope).await;
    let server = NodeName::new("server").unwrap();
    gateway.dial(address);
    while !gateway.peers().iter().any(|peer| peer.state == PeerState::Up) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (caller, to, body) = (gateway.clone(), server.clone(), Bytes::from(vec![1; BODY_BYTES]));
    let calls = pipelined(seconds, move || {
        let (gateway, to, out) = (caller.clone(), to.clone(), Outbound::new("echo", body.clone()));
        async move {
            let answer = gateway.call(&to, out, Duration::from_secs(10)).await.unwrap();
            assert_eq!(answer.len(), BODY_BYTES);
        }
    })
    .await;
    let (began, count) = (Instant::now(), seconds * 40_000);
    for _ in 0..count {
        while let Err(end) = gateway.cast(&server, Outbound::new("e", vec![1; BODY_BYTES])) {
            assert!(matches!(end, CallEnd::Overloaded { .. }), "{end}");
            tokio::task::yield_now().await;
        }
    }
    let taken = || async {
        let answer =
            gateway.call(&server, Outbound::new("taken", ""), Duration::from_secs(60)).await.unwrap();
        u64::from_be_bytes(answer.as_ref().try_into().unwrap())
    };
    while taken().await < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let casts = count as f64 / began.elapsed().as_secs_f64();
    gateway.stop().await;
    (calls, casts)
}
