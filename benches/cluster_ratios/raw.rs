//! ractor_cluster as it is: a remote actor, its TCP, no TLS.

use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call_t};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};

use crate::{BODY_BYTES, pipelined};

const GROUP: &str = "raw";

#[derive(RactorClusterMessage)]
enum RawMsg {
    #[rpc]
    Echo(Vec<u8>, RpcReplyPort<Vec<u8>>),
    Take(Vec<u8>),
    #[rpc]
    Taken(u64, RpcReplyPort<u64>),
}

struct Echo;

impl Actor for Echo {
    type Msg = RawMsg;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RawMsg>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<RawMsg>,
        msg: RawMsg,
        taken: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RawMsg::Echo(body, reply) => reply.send(body)?,
            RawMsg::Take(_) => *taken += 1,
            RawMsg::Taken(_, reply) => reply.send(*taken)?,
        }
        Ok(())
    }
}

async fn node(name: &str, port: u16) -> ActorRef<NodeServerMessage> {
    let server =
        NodeServer::new(port, "cookie".to_owned(), name.to_owned(), format!("{name}.local"), None, None);
    Actor::spawn(None, server, ()).await.unwrap().0
}

pub(crate) async fn serve() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = node("server", port).await;
    let (echo, _) = Actor::spawn(None, Echo, ()).await.unwrap();
    ractor::pg::join(GROUP.to_owned(), vec![echo.get_cell()]);
    println!("127.0.0.1:{port}");
    std::future::pending::<()>().await;
}

/// Calls per second and casts per second.
pub(crate) async fn measure(seconds: u64) -> (f64, f64) {
    let (_server, address) = crate::serve("raw");
    let client = node("client", 0).await;
    ractor_cluster::client_connect(&client, address).await.unwrap();
    let echo: ActorRef<RawMsg> = loop {
        if let Some(cell) = ractor::pg::get_members(&GROUP.to_owned()).pop() {
            break cell.into();
        }
        tokio::task::yield_now().await;
    };
    let caller = echo.clone();
    let calls = pipelined(seconds, move || {
        let echo = caller.clone();
        async move {
            let body = vec![1; BODY_BYTES];
            assert_eq!(call_t!(echo, RawMsg::Echo, 10_000, body).unwrap().len(), BODY_BYTES);
        }
    })
    .await;
    let (began, count) = (Instant::now(), seconds * 40_000);
    for _ in 0..count {
        echo.cast(RawMsg::Take(vec![1; BODY_BYTES])).unwrap();
    }
    while call_t!(echo, RawMsg::Taken, 60_000, 0).unwrap() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let casts = count as f64 / began.elapsed().as_secs_f64();
    client.stop(None);
    (calls, casts)
}
