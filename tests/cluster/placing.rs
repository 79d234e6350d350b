//! Where work goes in a cluster: steps by what they require, runs by capability and load, and what waits for a node.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use stanchion::{
    Activity, ActivityCtx, Builder, Failure, System,
    balance::Strategy,
    cluster::{Node, NodeOptions},
    control::Request,
    discovery::Requirement,
    port::memory::MemoryStore,
    remote::Placement,
    task_agent::TaskAgentConfig,
    workflow::{Definition, RunStatus, StartRun, Step, StoredRun, ValidDefinition, WaitingFor},
};

const COOKIE: &str = "00112233445566778899aabbccddeeff";
const PATIENCE: Duration = Duration::from_secs(60);

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
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn options(name: &str, seeds: &[&Node]) -> NodeOptions {
    let seeds = seeds.iter().map(|node| node.address().unwrap().to_string()).collect();
    NodeOptions { seeds, heartbeat_ms: 50, suspect_ms: 400, lost_ms: 900, ..NodeOptions::new(name, COOKIE) }
}

async fn join(builder: Builder, store: &MemoryStore, options: NodeOptions) -> (System, Node) {
    let system = builder.joins_cluster(true).open_on(store.clone()).await.unwrap();
    let node = Node::join(&system, options).await.unwrap();
    (system, node)
}

async fn plain(name: &str, seeds: &[&Node]) -> (System, Node) {
    join(System::builder(), &MemoryStore::new(), options(name, seeds)).await
}

async fn crash(system: System, node: Node) {
    system.env().tasks().end();
    let _ended = system.root().stop(stanchion::supervisors::Shutdown::BrutalKill).await;
    drop(node);
}

async fn stop(nodes: impl IntoIterator<Item = (System, Node)>) {
    for (system, node) in nodes {
        node.leave().await;
        let _ = system.stop(Duration::from_secs(5)).await.unwrap();
    }
}

fn one_step(requires: impl IntoIterator<Item = Requirement>) -> ValidDefinition {
    let step = requires.into_iter().fold(Step::new("s").activity("here"), Step::requires);
    Definition::builder("placed").step(step).validate().unwrap()
}

async fn begin(system: &System, id: &str, requires: impl IntoIterator<Item = Requirement>) {
    let definition = system.workflows().define(one_step(requires));
    system.workflows().start(StartRun::new(id, definition)).await.unwrap();
}

fn stands(run: &StoredRun) -> (RunStatus, u32, Option<WaitingFor>) {
    let step = run.state.step_view(&run.definition, 0).unwrap();
    (run.state.status(), step.attempts, step.waiting_for)
}

async fn waits(system: &System, id: &str) -> u32 {
    let mut attempts = 0;
    until("it waits for a node", async || {
        let (status, attempt, waiting) = stands(&system.workflows().read(id).await.unwrap());
        attempts = attempt;
        (status, waiting) == (RunStatus::Waiting, Some(WaitingFor::Capability))
    })
    .await;
    attempts
}

async fn ends(system: &System, id: &str) -> StoredRun {
    tokio::time::timeout(PATIENCE, system.workflows().wait(id)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_no_node_can_run_is_seen_waiting_through_a_crash_until_a_node_appears() {
    let store = MemoryStore::new();
    let (a, node_a) = join(System::builder(), &store, options("a", &[])).await;
    begin(&a, "r1", []).await;
    assert_eq!(waits(&a, "r1").await, 1);
    let listed = node_a.ask("a", Request::List { status: Some("waiting".into()) }).await.unwrap();
    assert!(listed[0].contains("r1"), "{listed:?}");
    let shown = node_a.ask("a", Request::Show { run: "r1".into() }).await.unwrap();
    assert!(shown[0].contains(r#""waiting_for":"capability""#), "{shown:?}");

    // What is stored says so before anybody has taken the run up again.
    let reopened = store.reopen();
    crash(a, node_a).await;
    let idle = System::builder().wake(false).open_on(reopened.clone()).await.unwrap();
    let stored = idle.workflows().read("r1").await.unwrap();
    assert_eq!(stands(&stored), (RunStatus::Waiting, 1, Some(WaitingFor::Capability)));
    let _ = idle.stop(Duration::ZERO).await.unwrap();
    let (a, node_a) = join(System::builder(), &reopened.reopen(), options("a", &[])).await;
    until("it looks for a node anew", async || waits(&a, "r1").await == 2).await;

    let ran = Arc::new(AtomicU32::new(0));
    let builder = System::builder().activity(Here("b", Arc::clone(&ran)));
    let b = join(builder, &MemoryStore::new(), options("b", &[&node_a])).await;
    let ended = ends(&a, "r1").await;
    assert_eq!((ended.state.status(), ran.load(Ordering::SeqCst)), (RunStatus::Completed, 1));
    let history = node_a.ask("a", Request::History { run: "r1".into() }).await.unwrap();
    assert!(history.iter().any(|line| line.contains("capability_awaited")), "{history:?}");
    stop([(a, node_a), b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_runs_on_a_node_that_has_all_that_it_requires_and_on_no_other() {
    let (a, node_a) = plain("a", &[]).await;
    let offers =
        [("b", "gpu@1.1.0", "eu", 512), ("c", "gpu@1.4.0", "us", 256), ("d", "gpu@2.0.0", "eu", 4_096)];
    let mut counts = BTreeMap::new();
    let mut nodes = Vec::new();
    for (name, capability, zone, memory_mb) in offers {
        let ran = Arc::new(AtomicU32::new(0));
        counts.insert(name, Arc::clone(&ran));
        let options = NodeOptions {
            capabilities: vec![capability.into()],
            labels: [("zone".to_owned(), zone.to_owned())].into(),
            resources: [("memory_mb".to_owned(), memory_mb)].into(),
            ..options(name, &[&node_a])
        };
        let builder = System::builder().activity(Here(name, ran));
        nodes.push(join(builder, &MemoryStore::new(), options).await);
    }
    assert!(node_a.await_peers(3, PATIENCE).await);
    let gpu = || Requirement::new("gpu");
    let cases = [
        (vec![gpu().version(">=1.2, <2")], "c"),
        (vec![gpu().version("^1").label("zone", "eu")], "b"),
        (vec![gpu().resource("memory_mb", 1_024)], "d"),
        (vec![gpu().version("<2"), Requirement::new("gpu").resource("memory_mb", 500)], "b"),
    ];
    for (number, (requires, node)) in cases.into_iter().enumerate() {
        let id = format!("r{number}");
        let before = counts[node].load(Ordering::SeqCst);
        begin(&a, &id, requires).await;
        assert_eq!(ends(&a, &id).await.state.status(), RunStatus::Completed);
        assert_eq!(counts[node].load(Ordering::SeqCst), before + 1, "{id} ran on {node}");
    }
    let total = || counts.values().map(|count| count.load(Ordering::SeqCst)).sum::<u32>();
    assert_eq!(total(), 4);
    // Nobody has this, whoever has the activity.
    begin(&a, "nowhere", [gpu().version(">=3")]).await;
    waits(&a, "nowhere").await;
    // Its own node has the activity and not what it requires.
    let (own, node_own) = nodes.pop().unwrap();
    begin(&own, "elsewhere", [gpu().version("=1.4.0")]).await;
    assert_eq!(ends(&own, "elsewhere").await.state.status(), RunStatus::Completed);
    assert_eq!((counts["c"].load(Ordering::SeqCst), total()), (2, 5));
    nodes.push((own, node_own));
    a.workflows().cancel("nowhere").await.unwrap();
    stop(nodes.into_iter().chain([(a, node_a)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_runs_go_where_their_activities_are_and_are_told_and_shown_from_every_node() {
    let (a, node_a) = plain("a", &[]).await;
    let ran = Arc::new(AtomicU32::new(0));
    let mut nodes = Vec::new();
    for name in ["b", "c"] {
        let builder = System::builder().activity(Here(name, Arc::clone(&ran)));
        nodes.push(join(builder, &MemoryStore::new(), options(name, &[&node_a])).await);
    }
    assert!(node_a.await_peers(2, PATIENCE).await);
    let definition = a.workflows().define(one_step([]));
    let placement = Placement::of(&definition);
    until("both are known to have it", async || {
        let has = |node: &stanchion::remote::RemoteNode| {
            node.capabilities.iter().any(|capability| capability.starts_with("activity:here@"))
        };
        node_a.nodes().iter().filter(|node| has(node)).count() == 2
    })
    .await;
    let mut on: BTreeMap<String, usize> = BTreeMap::new();
    for run in 0..20 {
        let start = StartRun::new(format!("rr{run}"), Arc::clone(&definition));
        let in_turn = placement.clone().strategy(Strategy::RoundRobin);
        let placed = node_a.start_run(&start, &in_turn).await.unwrap();
        assert!(!placed.started.known);
        *on.entry(placed.node.clone()).or_default() += 1;
        assert!(node_a.wait_run(&placed.node, &start.id).await.unwrap().ended);
        // Asked for again it is found where it is.
        let again = node_a.start_run(&start, &in_turn).await.unwrap();
        assert_eq!((again.node, again.started.known), (placed.node, true));
    }
    assert_eq!(on, [("b".to_owned(), 10), ("c".to_owned(), 10)].into());
    for strategy in [Strategy::ConsistentHash, Strategy::Sticky] {
        let keyed = placement.clone().strategy(strategy);
        let missing =
            node_a.start_run(&StartRun::new("x", Arc::clone(&definition)), &keyed).await.unwrap_err();
        assert_eq!(missing.code, "balance.key_missing");
        let mut of_key = BTreeMap::new();
        for run in 0..12 {
            let start = StartRun::new(format!("{}{run}", strategy.name()), Arc::clone(&definition));
            let key = format!("key{}", run % 3);
            let placed = node_a.start_run(&start, &keyed.clone().key(&key)).await.unwrap();
            assert_eq!(*of_key.entry(key).or_insert_with(|| placed.node.clone()), placed.node);
        }
    }

    // By load: one node is busy with runs that wait for what nobody has, and gets nothing while the other one is idle.
    for run in 0..40 {
        begin(&nodes[0].0, &format!("busy{run}"), [Requirement::new("nobody")]).await;
    }
    let mut idle = 0;
    until("its load is known", async || {
        let start = StartRun::new(format!("load{idle}"), Arc::clone(&definition));
        idle += 1;
        node_a.start_run(&start, &placement).await.unwrap().node == "c"
    })
    .await;
    for run in 0..10 {
        let start = StartRun::new(format!("light{run}"), Arc::clone(&definition));
        assert_eq!(node_a.start_run(&start, &placement).await.unwrap().node, "c");
    }

    // A run of b is paused, shown, resumed and cancelled from c.
    let (_, node_c) = &nodes[1];
    let told = async |request: Request| node_c.ask("b", request).await.map(|lines| lines[0].clone());
    let run = || "busy0".to_owned();
    assert!(told(Request::Pause { run: run() }).await.unwrap().contains("paused"));
    assert!(told(Request::Show { run: run() }).await.unwrap().contains(r#""status":"paused""#));
    assert!(told(Request::Resume { run: run() }).await.unwrap().contains("waiting"));
    assert!(told(Request::Cancel { run: run() }).await.unwrap().contains("cancelled"));
    assert_eq!(told(Request::Pause { run: run() }).await.unwrap_err().code, "run.already_terminal");
    assert_eq!(told(Request::Pause { run: "nobody".into() }).await.unwrap_err().code, "run.unknown");
    let everywhere = node_c.ask("*", Request::List { status: Some("completed".into()) }).await.unwrap();
    assert!(everywhere.len() >= 44, "{}", everywhere.len());
    let other = one_step([Requirement::new("other")]);
    let other = StartRun::new("rr0", a.workflows().define(other));
    assert_eq!(node_a.start_run(&other, &placement).await.unwrap_err().code, "run.already_exists");

    // A node that may have the run does not answer: nobody can say where it goes.
    let (c, node_c) = nodes.pop().unwrap();
    crash(c, node_c).await;
    let unknown = node_a.start_run(&StartRun::new("fresh", Arc::clone(&definition)), &placement).await;
    assert_eq!(unknown.unwrap_err().code, "run.place_unknown");
    let named = node_a.start_run_on("b", &StartRun::new("fresh", definition)).await.unwrap();
    assert!(!named.known);
    stop(nodes.into_iter().chain([(a, node_a)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_a_node_is_registered_again_after_its_crash_and_leaves_with_it_without_a_call() {
    let (a, node_a) = plain("a", &[]).await;
    let store = MemoryStore::new();
    let builder = || System::builder().activity(Here("b", Arc::default()));
    let (b, node_b) = join(builder(), &store, options("b", &[&node_a])).await;
    let config = TaskAgentConfig::new("worker", "mail", "here");
    b.task_agents().start(config.clone()).await.unwrap();
    let known = |life: u64| {
        node_a.nodes().iter().any(|node| {
            node.node == "b" && node.life == life && node.state == "up" && !node.capabilities.is_empty()
        }) && node_a
            .instances()
            .iter()
            .any(|instance| instance.id.as_str() == "b/worker" && instance.incarnation == life)
    };
    let life = node_b.nodes()[0].life;
    until("a knows its agent", async || known(life)).await;
    let reopened = store.reopen();
    crash(b, node_b).await;
    until("its agent is gone", async || {
        !node_a.instances().iter().any(|instance| instance.id.as_str() == "b/worker")
    })
    .await;
    let (b, node_b) = join(builder(), &reopened, options("b", &[&node_a])).await;
    b.task_agents().start(config).await.unwrap();
    let again = node_b.nodes()[0].life;
    assert!(again > life);
    until("a knows its agent again", async || known(again)).await;
    stop([(b, node_b)]).await;
    until("it has left", async || {
        !node_a.instances().iter().any(|instance| instance.id.as_str().starts_with('b'))
    })
    .await;
    stop([(a, node_a)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nodes_that_all_dial_each_other_at_once_keep_one_connection_a_pair() {
    const NODES: usize = 20;
    let held: Vec<_> = (0..NODES).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> = held.iter().map(|held| held.local_addr().unwrap().to_string()).collect();
    drop(held);
    let all = addresses.iter().enumerate().map(|(number, address)| {
        let options = NodeOptions {
            listen: Some(address.clone()),
            seeds: addresses.clone(),
            heartbeat_ms: 500,
            suspect_ms: 5_000,
            lost_ms: 20_000,
            ..NodeOptions::new(format!("n{number}"), COOKIE)
        };
        async move { join(System::builder(), &MemoryStore::new(), options).await }
    });
    let nodes = futures_util::future::join_all(all).await;
    for (_, node) in &nodes {
        assert!(node.await_peers(NODES - 1, PATIENCE).await, "{:?}", node.peers());
    }
    // Dials that lost are over: what stands is one connection to each, the same one seen from both sides.
    until("one connection stands for each pair", async || {
        nodes.iter().all(|(_, node)| node.gateway().stats().streams == NODES as u64 - 1)
    })
    .await;
    for (_, node) in &nodes {
        assert_eq!(node.peers().len(), NODES - 1);
    }
    stop(nodes).await;
}
