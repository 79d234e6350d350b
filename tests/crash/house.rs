//! A whole system in this process under all workloads, disturbed while it runs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use stanchion::{Builder, System};

use crate::{
    check::{come_to_rest, faults_of},
    history::{History, Kind, Line, Op},
    load::{Sessions, World},
};

/// One store and the history of its lives.
pub(crate) struct House {
    path: PathBuf,
    life: u32,
    pub(crate) lines: Vec<Line>,
    sessions: Sessions,
}

impl House {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), life: 0, lines: Vec::new(), sessions: Sessions::new() }
    }

    /// The same house with what was known at some moment.
    pub(crate) fn as_of(&self, lines: usize) -> Self {
        let (path, sessions) = (self.path.clone(), self.sessions.clone());
        Self { path, life: self.life, lines: self.lines[..lines].to_vec(), sessions }
    }

    fn begin(&mut self) -> Arc<History> {
        self.life += 1;
        let history = History::in_memory(self.life, std::mem::take(&mut self.lines));
        history.append(Kind::Ok, Op::Life);
        history
    }

    async fn open(&mut self, builder: Builder, history: &Arc<History>, ops: u64) -> Arc<World> {
        let system = Arc::new(builder.open(&self.path).await.unwrap());
        let before = history.lines();
        World::new(system, Arc::clone(history), &before, (self.life, ops), self.sessions.clone())
    }

    /// Runs the workloads while `disturb` does what it does; at most `ops` operations a client.
    pub(crate) async fn live(
        &mut self,
        ops: u64,
        make: impl Fn(&Arc<History>) -> Builder,
        disturb: impl AsyncFnOnce(&System, &Arc<History>),
    ) {
        let history = self.begin();
        let world = self.open(make(&history), &history, ops).await;
        let loading = Arc::clone(&world);
        let load = tokio::spawn(async move { loading.load().await });
        disturb(&world.system, &history).await;
        if ops == u64::MAX {
            world.tell_to_stop();
        }
        load.await.unwrap();
        stop(world).await;
        self.lines = history.lines();
    }

    /// Opens it once more, lets it come to rest, and answers what is wrong.
    pub(crate) async fn faults(&mut self, make: impl Fn(&Arc<History>) -> Builder) -> Vec<String> {
        let history = self.begin();
        let world = self.open(make(&history), &history, 0).await;
        let mut faults = come_to_rest(&world, || history.lines()).await;
        stop(world).await;
        self.lines = history.lines();
        faults.extend(faults_of(&self.lines));
        faults.truncate(12);
        faults
    }

    /// When the clients got answers, in microseconds.
    pub(crate) fn answers(&self) -> Vec<i64> {
        let lines = self.lines.iter();
        lines.filter(|line| line.kind == Kind::Ok).map(|line| line.time_us).collect()
    }
}

/// The longest time without an answer between the first and the last.
pub(crate) fn longest_silence(answers: &[i64]) -> Duration {
    let gaps = answers.windows(2).map(|pair| (pair[1] - pair[0]).unsigned_abs());
    Duration::from_micros(gaps.max().unwrap_or(0))
}

async fn stop(world: Arc<World>) {
    let system = Arc::try_unwrap(Arc::into_inner(world).unwrap().system).unwrap();
    let report = system.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.left_over, 0, "no live actors, no tasks");
}
