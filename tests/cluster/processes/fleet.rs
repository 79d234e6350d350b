//! The processes of a cluster and the wires between them, in the hands of a test.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use stanchion::{
    System,
    cluster::{Node, NodeOptions},
    port::memory::MemoryStore,
    store::verify,
};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::{
    agents::{Account, Sink},
    child::now_ms,
    orders::{Ask, MARK, NODE, Orders, Role, Said, options, store_options},
    plan::{Deed, Event, Split},
    spaces::Spaces,
    wires::{Flow, Wires},
};

/// Longest time that anything may take when nothing is in its way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Said>>>>;

/// A process.
struct Process {
    child: Child,
    input: ChildStdin,
    waiting: Waiting,
}

/// What is between the processes.
pub(crate) enum Net {
    /// A TCP proxy for each ordered pair.
    Wires(Arc<Wires>),
    /// A network namespace for each process.
    Spaces(Spaces),
}

/// Nodes on their files, and what is between them; the clients' process is the last number.
pub(crate) struct Fleet {
    dir: tempfile::TempDir,
    pub(crate) count: usize,
    // Dropped before the namespaces that they are in.
    processes: Vec<AsyncMutex<Option<Process>>>,
    /// Held while something is done to a process: one thing after the other.
    deeds: Vec<AsyncMutex<()>>,
    net: Net,
    next: AtomicU64,
    /// Seed of the clients, and when each life of their process ended.
    clients: Mutex<(u64, Vec<u64>)>,
}

pub(crate) fn name_of(number: usize) -> String {
    format!("n{number}")
}

impl Fleet {
    /// Lets so many nodes begin, with proxies between them.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_over(Net::Wires(Wires::between(count + 1).await), count).await
    }

    /// Lets so many nodes begin.
    pub(crate) async fn start_over(net: Net, count: usize) -> Self {
        let fleet = Self {
            dir: tempfile::tempdir().unwrap(),
            count,
            processes: (0..=count).map(|_| AsyncMutex::new(None)).collect(),
            deeds: (0..=count).map(|_| AsyncMutex::new(())).collect(),
            net,
            next: AtomicU64::new(1),
            clients: Mutex::default(),
        };
        futures_util::future::join_all((0..count).map(|node| fleet.begin(node))).await;
        fleet
    }

    fn orders(&self, number: usize) -> Orders {
        let others: Vec<usize> = (0..self.count).filter(|other| *other != number).collect();
        let (seeds, address) = match &self.net {
            Net::Wires(wires) => (others.iter().map(|other| wires.address(number, *other)).collect(), None),
            Net::Spaces(spaces) => {
                (others.iter().map(|other| spaces.address(*other)).collect(), Some(spaces.address(number)))
            }
        };
        let role = if number < self.count { Role::Node } else { self.role_of_clients() };
        Orders { dir: self.dir.path().to_path_buf(), number, seeds, address, role }
    }

    fn role_of_clients(&self) -> Role {
        let clients = self.clients.lock().unwrap();
        Role::Clients { nodes: self.count, seed: clients.0, life: clients.1.len() as u64 }
    }

    /// Lets the clients' process begin; it works until it is told to finish.
    pub(crate) async fn begin_clients(&self, seed: u64) {
        self.clients.lock().unwrap().0 = seed;
        self.begin(self.count).await;
    }

    /// What the clients have written down, and how often they were killed.
    pub(crate) fn journal(&self) -> (Vec<super::clients::Line>, usize) {
        let text = std::fs::read_to_string(self.orders(self.count).journal()).unwrap();
        let ended = self.clients.lock().unwrap().1.clone();
        (super::journal::read(&text, &ended), ended.len())
    }

    fn command(&self, number: usize) -> Command {
        let program = std::env::current_exe().unwrap();
        match &self.net {
            Net::Wires(_) => Command::new(program),
            Net::Spaces(spaces) => spaces.command(number, &program),
        }
    }

    /// Lets a node begin on its file, and waits until it has joined.
    pub(crate) async fn begin(&self, number: usize) {
        let mut place = self.processes[number].lock().await;
        assert!(place.is_none(), "it runs");
        let errors = self.dir.path().join(format!("n{number}.errors"));
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(errors).unwrap();
        let mut child = self
            .command(number)
            .args(["--exact", "processes::child::child_is_a_node_until_it_is_killed", "--nocapture"])
            .env(NODE, serde_json::to_string(&self.orders(number)).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let waiting = Waiting::default();
        let (ready, is_ready) = oneshot::channel();
        waiting.lock().unwrap().insert(0, ready);
        let answers = Arc::clone(&waiting);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Some(said) = line.strip_prefix(MARK) else { continue };
                // Killed in the middle of a line, it has said nothing.
                let Ok((id, said)) = serde_json::from_str(said) else { continue };
                if let Some(waits) = answers.lock().unwrap().remove(&id) {
                    let _ = waits.send(said);
                }
            }
            // Nobody answers any more.
            answers.lock().unwrap().clear();
        });
        *place = Some(Process { child, input, waiting });
        let said = tokio::time::timeout(PATIENCE, is_ready).await;
        let Ok(Ok(Said::Ready(address))) = said else {
            panic!("n{number} did not join: {}", self.errors(number))
        };
        if let (Net::Wires(wires), Some(address)) = (&self.net, address) {
            wires.lead(number, address.parse().unwrap());
        }
    }

    /// Tells a node something; `None` when it ends before it has answered.
    pub(crate) async fn ask(&self, number: usize, ask: Ask) -> Option<Said> {
        let answer = {
            let mut place = self.processes[number].lock().await;
            let process = place.as_mut()?;
            let id = self.next.fetch_add(1, Ordering::SeqCst);
            let (tell, told) = oneshot::channel();
            process.waiting.lock().unwrap().insert(id, tell);
            writeln!(process.input, "{}", serde_json::to_string(&(id, ask)).unwrap()).ok()?;
            told
        };
        answer.await.ok()
    }

    pub(crate) async fn kill(&self, number: usize) {
        let process = self.processes[number].lock().await.take();
        let Some(mut process) = process else { return };
        let running = process.child.try_wait().unwrap().is_none();
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        assert!(running, "n{number} ended by itself: {}", self.errors(number));
        if number == self.count {
            self.clients.lock().unwrap().1.push(now_ms());
        }
    }

    /// Lets a node leave in order and end.
    pub(crate) async fn drain(&self, number: usize) {
        let process = self.processes[number].lock().await.take();
        let Some(mut process) = process else { return };
        let line = serde_json::to_string(&(self.next.fetch_add(1, Ordering::SeqCst), Ask::Leave)).unwrap();
        writeln!(process.input, "{line}").unwrap();
        let began = std::time::Instant::now();
        let status = loop {
            if let Some(status) = process.child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > PATIENCE {
                process.child.kill().unwrap();
                panic!("n{number} did not end: {}", self.errors(number));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(status.success(), "n{number}: {status}: {}", self.errors(number));
    }

    pub(crate) async fn signal(&self, number: usize, signal: Signal) {
        kill_process(self.pid(number).await, signal).unwrap();
    }

    async fn pid(&self, number: usize) -> Pid {
        let place = self.processes[number].lock().await;
        Pid::from_child(&place.as_ref().unwrap().child)
    }

    /// Resident memory of a node in KiB.
    pub(crate) async fn memory_kib(&self, number: usize) -> u64 {
        let pid = self.pid(number).await.as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn errors(&self, number: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("n{number}.errors"))).unwrap_or_default()
    }

    /// The lines that steps have written.
    pub(crate) fn lines(&self) -> String {
        std::fs::read_to_string(self.orders(0).lines()).unwrap_or_default()
    }

    /// The lines that tasks of traces have written.
    pub(crate) fn tasks(&self) -> String {
        std::fs::read_to_string(self.orders(0).tasks()).unwrap_or_default()
    }

    /// A node in this process that has no entities of its own.
    pub(crate) async fn client(&self) -> (System, Node) {
        let builder = System::builder().agent::<Account>().agent::<Sink>();
        let system = builder.open_on(MemoryStore::new()).await.unwrap();
        let seeds = self.orders(self.count).seeds;
        let only_dials = NodeOptions { listen: None, ..options("clients", seeds) };
        let node = Node::join(&system, only_dials).await.unwrap();
        assert!(node.await_peers(self.count, PATIENCE).await, "{:?}", node.nodes());
        (system, node)
    }

    /// Does what the plan says, and undoes it after its time.
    pub(crate) async fn suffer(&self, event: Event) {
        tokio::time::sleep(event.at).await;
        let lasts = tokio::time::sleep(event.lasts);
        let _alone = match event.deed {
            Deed::Kill { node } | Deed::Stop { node } | Deed::Drain { node } => {
                Some(self.deeds[node].lock().await)
            }
            Deed::Split { .. } | Deed::Island { .. } => None,
        };
        match event.deed {
            Deed::Kill { node } => {
                self.kill(node).await;
                lasts.await;
                self.begin(node).await;
            }
            Deed::Stop { node } => {
                self.signal(node, Signal::STOP).await;
                lasts.await;
                self.signal(node, Signal::CONT).await;
            }
            Deed::Drain { node } => {
                self.drain(node).await;
                lasts.await;
                self.begin(node).await;
            }
            Deed::Split { between, how } => self.split(between, how, event.lasts).await,
            Deed::Island { node, how } => match &self.net {
                Net::Wires(_) => {
                    let others = (0..=self.count).filter(|other| *other != node);
                    let splits = others.map(|other| self.split((node, other), how, event.lasts));
                    futures_util::future::join_all(splits).await;
                }
                Net::Spaces(spaces) => spaces.island(node, event.lasts).await,
            },
        }
    }

    async fn split(&self, between: (usize, usize), how: Split, lasts: Duration) {
        match &self.net {
            Net::Wires(wires) => split(wires, between, how, lasts).await,
            Net::Spaces(spaces) => spaces.split(between, how, lasts).await,
        }
    }

    /// Every node leaves in order; nobody has panicked, and the files are sound.
    pub(crate) async fn end(self) {
        self.drain(self.count).await;
        futures_util::future::join_all((0..self.count).map(|node| self.drain(node))).await;
        for node in 0..=self.count {
            let errors = self.errors(node);
            assert!(!errors.contains("panicked"), "n{node}: {errors}");
            if node == self.count {
                break;
            }
            let report = verify(self.orders(node).store(), &store_options()).unwrap();
            assert_eq!(report.faults, [], "n{node}");
        }
    }
}

async fn split(wires: &Wires, (one, other): (usize, usize), how: Split, lasts: Duration) {
    let both = |flow| {
        wires.set(one, other, flow);
        wires.set(other, one, flow);
    };
    match how {
        Split::Silent | Split::Lost => both(Flow::Hold),
        Split::OneWay => wires.set(one, other, Flow::Hold),
        Split::Slow => both(Flow::Slow(Duration::from_millis(30))),
        Split::Refused => {
            both(Flow::Closed);
            wires.cut(one, other);
        }
        Split::Reconnect => {
            for _ in 0..5 {
                wires.cut(one, other);
                tokio::time::sleep(lasts / 5).await;
            }
            return;
        }
    }
    tokio::time::sleep(lasts).await;
    if how == Split::Lost {
        wires.cut(one, other);
    }
    both(Flow::Pass);
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for place in &mut self.processes {
            if let Some(process) = place.get_mut() {
                // A test that failed leaves nobody behind.
                let _killed = process.child.kill();
                let _ended = process.child.wait();
            }
        }
    }
}
