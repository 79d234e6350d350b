//! Systems as nodes: addresses, durable messages and activities from node to node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stanchion::{
    Activity, ActivityCtx, Agent, Builder, Completion, Ctx, Failure, System,
    cluster::{JoinError, Node, NodeOptions},
    error::{CallError, Refusal, Unavailable},
    port::memory::MemoryStore,
    workflow::{Definition, RunStatus, StartRun, Step},
};

const COOKIE: &str = "00112233445566778899aabbccddeeff";
const PATIENCE: Duration = Duration::from_secs(30);

/// Adds numbers, in the order they come; refuses odd ones when told so.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Sum {
    total: u64,
    seen: Vec<u64>,
    returned: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
enum Tell {
    Add(u64),
    /// Sends numbers to the sum of this key on a node.
    Send {
        node: String,
        key: String,
        numbers: Vec<u64>,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("13 is refused")]
struct Unlucky;

impl Agent for Sum {
    const KIND: &'static str = "sum";
    type Command = Tell;
    type Reply = u64;
    type Rejection = Unlucky;

    fn handle(&mut self, command: Tell, ctx: &mut Ctx<'_>) -> Result<u64, Unlucky> {
        match command {
            Tell::Add(13) => return Err(Unlucky),
            Tell::Add(number) => {
                self.total += number;
                self.seen.push(number);
            }
            Tell::Send { node, key, numbers } => {
                for number in numbers {
                    ctx.send_on::<Self>(&node, &key, &Tell::Add(number)).unwrap();
                }
            }
        }
        Ok(self.total)
    }

    fn completed(&mut self, done: Completion, _: &mut Ctx<'_>) {
        if let Completion::Returned { seq, .. } = done {
            self.returned.push(seq);
        }
    }
}

/// Tells where it ran.
struct Here(&'static str, Arc<AtomicU32>);

impl Activity for Here {
    const NAME: &'static str = "here";
    type Input = serde_json::Value;
    type Output = String;
    async fn run(&self, _: ActivityCtx, _: serde_json::Value) -> Result<String, Failure> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(self.0.to_owned())
    }
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let began = std::time::Instant::now();
    while !look().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}

fn options(name: &str, seeds: &[&Node]) -> NodeOptions {
    let seeds = seeds.iter().map(|node| node.address().unwrap().to_string()).collect();
    NodeOptions { seeds, heartbeat_ms: 50, suspect_ms: 200, lost_ms: 500, ..NodeOptions::new(name, COOKIE) }
}

async fn open(builder: Builder, store: &MemoryStore) -> System {
    builder.agent::<Sum>().open_on(store.clone()).await.unwrap()
}

async fn start(name: &str, seeds: &[&Node]) -> (System, Node) {
    let system = open(System::builder(), &MemoryStore::new()).await;
    let node = Node::join(&system, options(name, seeds)).await.unwrap();
    (system, node)
}

async fn crash(system: System, node: Node) {
    // The sockets go as they do when a process dies.
    system.env().tasks().end();
    let _ended = system.root().stop(stanchion::supervisors::Shutdown::BrutalKill).await;
    drop(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_the_same_from_every_node_and_ends_in_the_same_four_ways() {
    let (a, node_a) = start("a", &[]).await;
    let (b, node_b) = start("b", &[&node_a]).await;
    assert!(node_b.await_peers(1, PATIENCE).await);
    let far = a.agent_on::<Sum>("b", "ann").unwrap();
    let near = b.agent_on::<Sum>("b", "ann").unwrap();
    assert_eq!(far.call(Tell::Add(2)).await.unwrap(), 2);
    assert_eq!(near.call(Tell::Add(3)).await.unwrap(), 5);
    assert_eq!(b.agent::<Sum>("ann").unwrap().read(|sum| sum.total).await.unwrap(), 5);
    assert!(matches!(far.call(Tell::Add(13)).await, Err(CallError::Rejected(Unlucky))));
    far.enqueue(Tell::Add(1)).await.unwrap();
    far.cast(Tell::Add(1)).await.unwrap();
    until("both are handled", async || near.call(Tell::Add(0)).await.unwrap() == 7).await;
    let ticket = a.env().session().begin();
    assert_eq!(far.call_as(&ticket, Tell::Add(10)).await.unwrap(), 17);
    assert_eq!(far.call_as(&ticket, Tell::Add(10)).await.unwrap(), 17, "the same ticket, the same answer");
    let look = far.read(|sum| sum.total).await;
    assert!(
        matches!(look, Err(CallError::Refused(context)) if matches!(context.kind, Refusal::NotRemote(_)))
    );
    let nobody = a.agent_on::<Sum>("nobody", "ann").unwrap().call(Tell::Add(1)).await;
    assert!(
        matches!(&nobody, Err(CallError::Unavailable(context)) if matches!(context.kind, Unavailable::Unreachable(_))),
        "{nobody:?}"
    );
    let alone = open(System::builder(), &MemoryStore::new()).await;
    let refused = alone.agent_on::<Sum>("a", "ann");
    assert!(refused.unwrap_err().to_string().contains("joined no cluster"));
    assert!(matches!(Node::join(&a, options("c", &[])).await, Err(JoinError::Joined)));
    for (system, node) in [(a, node_a), (b, node_b)] {
        node.leave().await;
        let _ = system.stop(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_messages_between_nodes_take_effect_once_and_in_order_whoever_dies() {
    let (store_a, store_b) = (MemoryStore::new(), MemoryStore::new());
    let mut a = open(System::builder(), &store_a).await;
    let mut node_a = Node::join(&a, options("a", &[])).await.unwrap();
    let mut b = open(System::builder(), &store_b).await;
    let mut node_b = Node::join(&b, options("b", &[&node_a])).await.unwrap();
    let (mut store_a, mut store_b) = (store_a, store_b);
    let mut next = 1_000;
    for round in 0..6 {
        let sender = a.agent::<Sum>("sender").unwrap();
        for _ in 0..5 {
            let numbers: Vec<u64> = (next..next + 40).collect();
            next += 40;
            sender.call(Tell::Send { node: "b".into(), key: "sink".into(), numbers }).await.unwrap();
        }
        if round % 2 == 0 {
            store_b = store_b.reopen();
            crash(b, node_b).await;
            b = open(System::builder(), &store_b).await;
            node_b = Node::join(&b, options("b", &[&node_a])).await.unwrap();
        } else {
            store_a = store_a.reopen();
            crash(a, node_a).await;
            a = open(System::builder(), &store_a).await;
            node_a = Node::join(&a, options("a", &[&node_b])).await.unwrap();
        }
    }
    let sink = b.agent::<Sum>("sink").unwrap();
    let expected: Vec<u64> = (1_000..next).collect();
    until("all of them have come", async || sink.read(|sum| sum.seen.len()).await.unwrap() >= expected.len())
        .await;
    assert_eq!(sink.read(|sum| sum.seen.clone()).await.unwrap(), expected, "each once, in order");
    let sender = a.agent::<Sum>("sender").unwrap();
    until("the sender has nothing undelivered", async || sender.untyped().cell().unwrap().undelivered() == 0)
        .await;
    node_a.leave().await;
    node_b.leave().await;
    let _ = a.stop(Duration::from_secs(5)).await.unwrap();
    let _ = b.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_its_receiver_refuses_comes_back_from_another_node() {
    let (a, node_a) = start("a", &[]).await;
    let (b, node_b) = start("b", &[&node_a]).await;
    let sender = a.agent::<Sum>("sender").unwrap();
    let numbers = vec![1, 13, 2];
    sender.call(Tell::Send { node: "b".into(), key: "sink".into(), numbers }).await.unwrap();
    let sink = b.agent::<Sum>("sink").unwrap();
    until("the others have come", async || sink.read(|sum| sum.total).await.unwrap() == 3).await;
    until("the sender has it back", async || sender.read(|sum| sum.returned.len()).await.unwrap() == 1).await;
    let nowhere = Tell::Send { node: "b".into(), key: "sink".into(), numbers: vec![13] };
    sender.call(nowhere).await.unwrap();
    until("that one, too", async || sender.read(|sum| sum.returned.len()).await.unwrap() == 2).await;
    drop((node_a, node_b));
    let _ = (a.stop(Duration::ZERO).await.unwrap(), b.stop(Duration::ZERO).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_runs_on_the_node_that_has_its_activity_and_waits_until_there_is_one() {
    let (a, node_a) = start("a", &[]).await;
    let definition = Definition::builder("far").step(Step::new("s").activity("here")).build();
    let definition = a.workflows().define(definition.validate().unwrap());
    a.workflows().start(StartRun::new("r1", definition)).await.unwrap();
    until("it waits for a node", async || node_a.waiting_for_capability() == 1).await;
    let ran = Arc::new(AtomicU32::new(0));
    let builder = System::builder().activity(Here("b", Arc::clone(&ran)));
    let b = open(builder, &MemoryStore::new()).await;
    let node_b = Node::join(&b, options("b", &[&node_a])).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, a.workflows().wait("r1")).await.unwrap().unwrap();
    assert_eq!((ended.state.status(), ran.load(Ordering::SeqCst)), (RunStatus::Completed, 1));
    let known = node_a.nodes();
    let capabilities = &known.iter().find(|node| node.node == "b").unwrap().capabilities;
    assert!(capabilities.contains(&"activity:here@1.0.0".to_owned()), "{capabilities:?}");
    drop((node_a, node_b));
    let _ = (a.stop(Duration::ZERO).await.unwrap(), b.stop(Duration::ZERO).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_learn_of_each_other_through_one_seed_and_notice_who_is_gone() {
    let (a, node_a) = start("a", &[]).await;
    let (b, node_b) = start("b", &[&node_a]).await;
    let (c, node_c) = start("c", &[&node_a]).await;
    assert!(node_c.await_peers(2, PATIENCE).await, "{:?}", node_c.nodes());
    assert!(node_b.await_peers(2, PATIENCE).await);
    assert_eq!(b.agent_on::<Sum>("c", "x").unwrap().call(Tell::Add(1)).await.unwrap(), 1);
    crash(c, node_c).await;
    until("c is known to be gone", async || {
        node_b.nodes().iter().any(|node| node.node == "c" && node.state == "unreachable")
    })
    .await;
    let gone = b.agent_on::<Sum>("c", "x").unwrap().call(Tell::Add(1)).await;
    assert!(matches!(gone, Err(CallError::Unavailable(_) | CallError::Unknown(_))), "{gone:?}");
    for wrong in [
        NodeOptions { cookie: Some("00".into()), ..options("d", &[]) },
        NodeOptions { name: "d/e".into(), ..options("d", &[]) },
        NodeOptions { lost_ms: 60, ..options("d", &[]) },
        NodeOptions { listen: Some("nowhere".into()), ..options("d", &[]) },
        NodeOptions { capabilities: vec!["x".into()], ..options("d", &[]) },
        NodeOptions { listen: Some("0.0.0.0:0".into()), ..options("d", &[]) },
    ] {
        let system = open(System::builder(), &MemoryStore::new()).await;
        let joined = Node::join(&system, wrong).await;
        assert!(matches!(joined, Err(JoinError::Options(_) | JoinError::Gateway(_))), "{joined:?}");
        let _ = system.stop(Duration::ZERO).await.unwrap();
    }
    drop((node_a, node_b));
    let _ = (a.stop(Duration::ZERO).await.unwrap(), b.stop(Duration::ZERO).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_of_another_node_that_is_stopped_never_harms_the_link() {
    let (a, node_a) = start("a", &[]).await;
    let (b, node_b) = start("b", &[&node_a]).await;
    assert!(node_b.await_peers(1, PATIENCE).await);
    let (far, other) = (a.agent_on::<Sum>("b", "ann").unwrap(), a.agent_on::<Sum>("b", "bob").unwrap());
    let near = b.agent::<Sum>("ann").unwrap();
    let joined = || (node_a.gateway().stats().transport.joined, node_b.gateway().stats().transport.joined);
    let (before, mut acknowledged) = (joined(), 0);
    // One more within five seconds would be a loop of crashes.
    for round in 0..3 {
        // In the middle of calls.
        let calls = async {
            let calls = (0..8).map(|_| far.call(Tell::Add(1)));
            let answers = futures_util::future::join_all(calls).await;
            acknowledged += answers.iter().filter(|answer| answer.is_ok()).count();
        };
        let stops = async {
            tokio::task::yield_now().await;
            match (near.untyped().cell().unwrap().owner(), round % 2) {
                (Some((_, actor)), 0) => actor.stop(Some("as the test says".to_owned())),
                (Some((_, actor)), _) => actor.kill(),
                (None, _) => {}
            }
        };
        tokio::join!(calls, stops);
        assert_eq!(other.call(Tell::Add(1)).await.unwrap(), round + 1, "the link goes on");
    }
    assert!(acknowledged > 0);
    let total = far.call(Tell::Add(0)).await.unwrap();
    assert!(total >= acknowledged as u64, "{total} of {acknowledged}");
    assert_eq!(joined(), before, "the link was made anew");
    for (system, node) in [(a, node_a), (b, node_b)] {
        node.leave().await;
        let _ = system.stop(Duration::from_secs(5)).await.unwrap();
    }
}
