//! Messages of which their sender does not know whether they came: never both at the receiver and back.

use stanchion::{
    System,
    bytes::Bytes,
    cluster::{Node, NodeOptions},
    error::FailureKind,
    ids::{Cause, Name},
    port::memory::MemoryStore,
};
use stanchion_actors::{remote::RemoteMessage, store::encode};

use super::{
    agents::{Account, Move},
    fleet::PATIENCE,
    orders::COOKIE,
};

async fn open(store: &MemoryStore) -> System {
    System::builder().agent::<Account>().open_on(store.clone()).await.unwrap()
}

async fn join(system: &System, name: &str, seeds: &[&Node]) -> Node {
    let seeds = seeds.iter().map(|node| node.address().unwrap().to_string()).collect();
    let options = NodeOptions {
        seeds,
        heartbeat_ms: 50,
        suspect_ms: 200,
        lost_ms: 500,
        ..NodeOptions::new(name, COOKIE)
    };
    let node = Node::join(system, options).await.unwrap();
    assert!(node.await_peers(usize::from(name != "a"), PATIENCE).await);
    node
}

async fn state(system: &System, key: &str) -> Account {
    system.agent::<Account>(key).unwrap().read(Account::clone).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_refused_stays_refused_when_a_copy_of_it_comes_later() {
    let (store_b, a) = (MemoryStore::new(), open(&MemoryStore::new()).await);
    let node_a = join(&a, "a", &[]).await;
    let mut b = open(&store_b).await;
    let mut node_b = join(&b, "b", &[&node_a]).await;
    let (from, to) =
        (Name::new("account", "x").unwrap(), Name::new("account", "y").unwrap().on("b").unwrap());
    let credit = |seq: u64| {
        let payload = Bytes::from(encode(&Move::Credit { id: seq, n: 50 }).unwrap());
        let message = RemoteMessage { seq, payload, cause: Cause::default() };
        a.env().remote().unwrap().deliver(from.clone(), to.clone(), vec![message])
    };
    let is_rejected =
        |results: &[Result<Bytes, FailureKind>]| matches!(results, [Err(FailureKind::Rejected(_))]);
    assert!(credit(1).await[0].is_ok());
    assert!(is_rejected(&credit(2).await), "it would be too much");
    let empties = Move::Send { id: 9, node: "b".into(), key: "z".into(), n: 50 };
    b.agent::<Account>("y").unwrap().call(empties).await.unwrap();
    assert!(is_rejected(&credit(2).await), "now it would not, but its sender has it back");
    // The same after a restart on the same store.
    let _ = b.stop(std::time::Duration::ZERO).await.unwrap();
    drop(node_b);
    b = open(&store_b.reopen()).await;
    node_b = join(&b, "b", &[&node_a]).await;
    assert!(is_rejected(&credit(2).await), "nor later");
    assert_eq!(state(&b, "y").await.credits, [(1, 50)]);
    assert!(credit(3).await[0].is_ok());
    assert!(credit(2).await[0].is_ok(), "nobody waits for this answer: it changes nothing");
    assert_eq!(state(&b, "y").await.credits, [(1, 50), (3, 50)]);
    drop((node_a, node_b));
    let _ = (a.stop(PATIENCE).await.unwrap(), b.stop(PATIENCE).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_other_nodes_wait_until_their_system_has_joined_again() {
    let store_a = MemoryStore::new();
    let mut a = open(&store_a).await;
    let mut node_a = join(&a, "a", &[]).await;
    let send = Move::Send { id: 1, node: "b".into(), key: "y".into(), n: 5 };
    a.agent::<Account>("x").unwrap().call(send).await.unwrap();
    let _ = a.stop(std::time::Duration::ZERO).await.unwrap();
    drop(node_a);
    a = open(&store_a.reopen()).await;
    // Awake, with its message, and no way to another node yet.
    assert_eq!(state(&a, "x").await.debits, [(1, 5)]);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(state(&a, "x").await.returned, []);
    node_a = join(&a, "a", &[]).await;
    let b = open(&MemoryStore::new()).await;
    let node_b = join(&b, "b", &[&node_a]).await;
    let began = std::time::Instant::now();
    while state(&b, "y").await.credits != [(1, 5)] {
        assert!(began.elapsed() < PATIENCE, "it did not come");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(state(&a, "x").await.returned, []);
    drop((node_a, node_b));
    let _ = (a.stop(PATIENCE).await.unwrap(), b.stop(PATIENCE).await.unwrap());
}
