//! Processes that live on one store, one after another, and how each of them ends.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use stanchion::{
    Builder,
    error::Coded,
    moment::{Moment, Moments},
    store::{CrashPoint, CrashPoints, StoreOptions, verify},
};

use crate::{
    agents::builder,
    check::{come_to_rest, faults_of},
    early::AckEarly,
    history::{self, HISTORY_ENDED, HISTORY_IS_FULL, History, Kind, Line, Op},
    load::{Sessions, World},
};

const LIFE: &str = "STANCHION_TEST_CRASH_LIFE";
/// How a process ends whose store neither takes anything nor opens anew, as that of the binary does.
const STORE_REFUSED: i32 = 3;
/// Begins the line in which it says so.
const GIVEN_UP: &str = "given up by the store:";
/// A process that does not end by itself in this time is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// Told to a process when it begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Orders {
    dir: PathBuf,
    life: u32,
    sessions: Sessions,
    small: bool,
    ack_early: bool,
    /// Ends by itself at the n-th visit of a point.
    point: Option<(String, u64)>,
    /// Stops in order after so many milliseconds.
    stop_after_ms: Option<u64>,
}

/// How a process ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// Killed from outside.
    Kill(Duration),
    /// By itself, at the n-th visit of a named point.
    Point(&'static str, u64),
    /// Stopped in order; ends at the point in the middle of that.
    PointInStop(&'static str),
}

/// Ends the process at the n-th visit of a point.
struct AbortAt {
    point: String,
    at: u64,
    visits: AtomicU64,
}

impl AbortAt {
    fn visit(&self, point: &str) {
        if point == self.point && self.visits.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            std::process::abort();
        }
    }
}

impl CrashPoints for AbortAt {
    fn reach(&self, point: CrashPoint) {
        self.visit(&format!("store {point:?}"));
    }
}

impl Moments for AbortAt {
    fn reach(&self, moment: Moment) {
        self.visit(&format!("runtime {moment:?}"));
    }
}

/// Small limits make folds a matter of milliseconds.
fn store_options(small: bool) -> StoreOptions {
    let mut options = StoreOptions::default();
    if small {
        options.log_max_bytes = 512 << 10;
        options.fold_bytes = 64 << 10;
        options.slice_bytes = 8 << 10;
    }
    options
}

impl Orders {
    fn store(&self) -> PathBuf {
        self.dir.join("app.redb")
    }

    fn history(&self) -> PathBuf {
        self.dir.join("history")
    }

    fn builder(&self, history: &Arc<History>) -> Builder {
        let mut builder = builder(history);
        let mut options = store_options(self.small);
        if let Some((point, at)) = &self.point {
            let abort = Arc::new(AbortAt { point: point.clone(), at: *at, visits: AtomicU64::new(0) });
            options = options.crash_points(abort.clone());
            builder = builder.moments(abort);
        }
        if self.ack_early {
            builder = builder.wrap_store(Arc::new(|store| AckEarly::over(store)));
        }
        builder.store_options(options)
    }

    async fn live(self) {
        let before = history::read(&self.history());
        let history = History::in_file(&self.history(), self.life);
        history.append(Kind::Ok, Op::Life);
        let system = match self.builder(&history).open(self.store()).await {
            Ok(system) => Arc::new(system),
            Err(error) => given_up(error.code(), &error),
        };
        let world = World::new(system, history, &before, (self.life, u64::MAX), self.sessions.clone());
        let Some(ms) = self.stop_after_ms else {
            tokio::select! {
                () = world.load() => return,
                () = world.system.root().ended() => {
                    given_up("store.lost", &world.system.store().poisoned().unwrap_or_default())
                }
            }
        };
        let loading = world.clone();
        let load = tokio::spawn(async move { loading.load().await });
        tokio::time::sleep(Duration::from_millis(ms)).await;
        world.tell_to_stop();
        load.await.unwrap();
        let system = Arc::try_unwrap(Arc::into_inner(world).unwrap().system).unwrap();
        let _report = system.stop(Duration::from_secs(2)).await.unwrap();
    }
}

/// Ends the process as one that cannot go on with its store: in words, not by a panic.
fn given_up(code: &str, why: &dyn std::fmt::Display) -> ! {
    eprintln!("{GIVEN_UP} {code}: {why}");
    std::process::exit(STORE_REFUSED)
}

/// The process that is killed.
#[test]
fn child_lives_until_it_is_killed() {
    let Ok(orders) = std::env::var(LIFE) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    runtime().block_on(orders.live());
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One store with its lives.
pub(crate) struct Case {
    _dir: tempfile::TempDir,
    orders: Orders,
    pub(crate) seed: u64,
    pub(crate) ends: Vec<End>,
    holder: Option<Child>,
    /// Largest file that a process may write.
    file_max_bytes: Option<u64>,
}

impl Case {
    pub(crate) fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let orders = Orders {
            dir: dir.path().to_path_buf(),
            life: 0,
            sessions: Sessions::new(),
            small: !seed.is_multiple_of(3),
            ack_early: false,
            point: None,
            stop_after_ms: None,
        };
        Self { _dir: dir, orders, seed, ends: Vec::new(), holder: None, file_max_bytes: None }
    }

    /// The store answers before it commits.
    pub(crate) fn acks_early(mut self) -> Self {
        self.orders.ack_early = true;
        self
    }

    pub(crate) fn small(mut self) -> Self {
        self.orders.small = true;
        self
    }

    /// Lets a process begin.
    fn begin(&mut self, end: &End) -> Child {
        self.orders.life += 1;
        self.orders.point = match end {
            End::Kill(_) => None,
            End::Point(point, at) => Some(((*point).to_owned(), *at)),
            End::PointInStop(point) => Some(((*point).to_owned(), 1)),
        };
        self.orders.stop_after_ms = matches!(end, End::PointInStop(_)).then_some(150);
        let errors = std::fs::File::create(self.orders.dir.join("errors")).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut command = if let Some(bytes) = self.file_max_bytes {
            // A write beyond the limit fails instead of ending the process.
            let mut shell = Command::new("sh");
            let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
            shell.args(["-c", &script]).arg(program);
            shell
        } else {
            Command::new(program)
        };
        command
            .args(["--exact", "life::child_lives_until_it_is_killed", "--nocapture"])
            .env(LIFE, serde_json::to_string(&self.orders).unwrap())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap()
    }

    /// Lets a process live and end; what its clients saw must hold.
    pub(crate) fn live(&mut self, end: End) {
        let mut child = self.begin(&end);
        let killed = if let End::Kill(after) = end {
            std::thread::sleep(after);
            let running = child.try_wait().unwrap().is_none();
            child.kill().unwrap();
            child.wait().unwrap();
            running
        } else {
            wait(&mut child).is_some_and(|status| !status.success())
        };
        self.ends.push(end);
        let errors = std::fs::read_to_string(self.orders.dir.join("errors")).unwrap();
        assert!(killed && !errors.contains("panicked"), "{}: ended by itself: {errors}", self.name());
        self.holds(&faults_of(&self.lines()));
    }

    /// Lets a process live until [`Self::kill_holder`]; answers its id once its clients are at work.
    pub(crate) fn begin_and_hold(&mut self) -> u32 {
        let child = self.begin(&End::Kill(Duration::ZERO));
        let pid = child.id();
        self.holder = Some(child);
        let until = Instant::now() + STUCK;
        while self.lines().len() < 20 {
            assert!(Instant::now() < until, "no operation was done");
            std::thread::sleep(Duration::from_millis(2));
        }
        pid
    }

    pub(crate) fn kill_holder(&mut self) {
        if let Some(mut child) = self.holder.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.orders.store()
    }

    /// How large the files of later processes may become.
    pub(crate) fn limit_files(&mut self, bytes: Option<u64>) {
        self.file_max_bytes = bytes;
    }

    /// Lets a process live until the store cannot grow and clients are refused; then it is killed.
    pub(crate) fn live_to_the_limit(&mut self) {
        let mut child = self.begin(&End::Kill(Duration::ZERO));
        let until = Instant::now() + STUCK;
        // A full disk lets nobody add, though all ask again and again.
        let added = |lines: &[Line]| {
            let ok = lines.iter().filter(|line| line.kind == Kind::Ok && matches!(line.op, Op::Add { .. }));
            ok.count()
        };
        let before = added(&self.lines());
        let (mut last, mut since) = (before, Instant::now());
        while last == before || since.elapsed() < Duration::from_millis(1_500) {
            let now = added(&self.lines());
            if now != last {
                (last, since) = (now, Instant::now());
            }
            assert!(Instant::now() < until, "the disk did not fill up");
            if let Some(status) = child.try_wait().unwrap() {
                // It may give up its store, and nothing else; what it said before must hold all the same.
                let errors = std::fs::read_to_string(self.orders.dir.join("errors")).unwrap();
                let unheard = status.code() == Some(HISTORY_ENDED) && errors.contains(HISTORY_IS_FULL);
                assert!(
                    unheard || is_given_up(status.code(), &errors),
                    "{}: {status}: {errors}",
                    self.name()
                );
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        self.ends.push(End::Kill(Duration::ZERO));
        self.holds(&faults_of(&self.lines()));
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.orders.dir
    }

    /// Stays down for a while.
    pub(crate) fn stay_down(&self, time: Duration) {
        std::thread::sleep(time);
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        history::read(&self.orders.history())
    }

    pub(crate) fn name(&self) -> String {
        format!("STANCHION_SEED={} lives {:?}", self.seed, self.ends)
    }

    /// Opens the store once more, lets everything come to rest, and gives all faults.
    pub(crate) fn faults(&mut self) -> Vec<String> {
        self.orders.life += 1;
        self.orders.point = None;
        self.orders.ack_early = false;
        let orders = self.orders.clone();
        let mut faults = runtime().block_on(async {
            let before = self.lines();
            let history = History::in_file(&orders.history(), orders.life);
            history.append(Kind::Ok, Op::Life);
            let system = Arc::new(orders.builder(&history).open(orders.store()).await.unwrap());
            let world = World::new(system, history, &before, (orders.life, 0), orders.sessions.clone());
            let faults = come_to_rest(&world, || self.lines()).await;
            let system = Arc::try_unwrap(Arc::into_inner(world).unwrap().system).unwrap();
            let report = system.stop(Duration::from_secs(5)).await.unwrap();
            assert_eq!(report.left_over, 0, "no live actors, no tasks");
            faults
        });
        let report = verify(orders.store(), &store_options(false)).unwrap();
        faults.extend(report.faults.iter().map(|fault| format!("{fault:?}")));
        faults
    }

    /// Ends the case: nothing is wrong at rest.
    pub(crate) fn check(mut self) -> Vec<Line> {
        let faults = self.faults();
        self.holds(&faults);
        self.lines()
    }

    fn holds(&self, faults: &[String]) {
        if !faults.is_empty() {
            let shown = &faults[..faults.len().min(12)];
            let all = faults.len();
            let kept = self.orders.dir.with_extension("kept");
            let _ = std::fs::rename(&self.orders.dir, &kept);
            panic!(
                "{} faults; {}; files kept in {}:\n{}",
                all,
                self.name(),
                kept.display(),
                shown.join("\n")
            );
        }
    }
}

/// Whether a process ended because of its store, with a typed error.
fn is_given_up(code: Option<i32>, errors: &str) -> bool {
    let said = errors.lines().filter_map(|line| line.strip_prefix(GIVEN_UP));
    let typed = said.map(str::trim).any(|line| line.starts_with("store."));
    code == Some(STORE_REFUSED) && typed && !errors.contains("panicked")
}

#[test]
fn only_a_typed_error_of_the_store_counts_as_given_up() {
    let typed = "given up by the store: store.lost: the log was not flushed";
    assert!(is_given_up(Some(STORE_REFUSED), typed));
    // Negative controls: other ends are faults.
    assert!(!is_given_up(Some(101), typed));
    assert!(!is_given_up(None, typed));
    assert!(!is_given_up(Some(STORE_REFUSED), ""));
    assert!(!is_given_up(Some(STORE_REFUSED), "given up by the store: run.unknown: x"));
    assert!(!is_given_up(Some(STORE_REFUSED), &format!("thread panicked\n{typed}")));
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let until = Instant::now() + STUCK;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}
