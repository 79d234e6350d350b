//! kill -9 of workers and of those who enqueue: the binary's own pool, jobs that append to a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;
use stanchion::{
    System,
    queue::{JobStatus, QueueConfig, QueueStats},
};

use crate::{
    binary::shipped,
    block_on,
    history::{Draw, campaign, seed},
};

const QUEUE: &str = "w4";
const AGENTS: u64 = 8;
/// Of so many jobs one has an input that its activity refuses: it is a dead letter after its first attempt.
const POISON: usize = 50;

struct Bench {
    dir: tempfile::TempDir,
    jobs: usize,
    /// Numbers of jobs that were acknowledged, by id.
    acked: BTreeMap<String, usize>,
    /// Next number to enqueue.
    next: usize,
}

/// What the store says after a kill.
struct Seen {
    stats: QueueStats,
    done: BTreeSet<u64>,
    dead: BTreeSet<u64>,
}

impl Bench {
    fn new(jobs: usize) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap(), jobs, acked: BTreeMap::new(), next: 0 };
        block_on(async {
            let system = System::builder().open(bench.file("app.redb")).await.unwrap();
            let config = QueueConfig { max: 100_000, keep_ended: 100_000, ..QueueConfig::default() };
            system.queue(QUEUE).unwrap().configure(config).await.unwrap();
            let _ = system.stop(Duration::ZERO).await.unwrap();
        });
        bench
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn stanchion(&self, words: &[&str]) -> Command {
        let mut command = Command::new(shipped());
        command.arg("--db").arg(self.file("app.redb")).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    fn work(&self, more: &[&str]) -> Command {
        let agents = AGENTS.to_string();
        let words = ["work", QUEUE, "--activity", "append", "--lease", "1s", "--agents", &agents];
        self.stanchion(&[&words, more].concat())
    }

    /// Writes the next jobs into a file for `job add`.
    fn batch(&mut self, size: usize) -> Option<(PathBuf, usize)> {
        let first = self.next;
        self.next = (first + size).min(self.jobs);
        let line = |number: usize| {
            let line = if number % POISON == 7 { format!("{number}\n") } else { number.to_string() };
            json!({ "path": self.file("effects"), "line": line }).to_string()
        };
        let text: Vec<String> = (first..self.next).map(line).collect();
        std::fs::write(self.file("batch.ndjson"), text.join("\n")).unwrap();
        (first < self.next).then(|| (self.file("batch.ndjson"), first))
    }

    /// Ids that `job add` printed are acknowledged; what a killed one did not print may be there or not.
    fn acknowledge(&mut self, output: &[u8], first: usize) {
        for (place, id) in String::from_utf8_lossy(output).lines().enumerate() {
            self.acked.insert(id.to_owned(), first + place);
        }
    }

    fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file("effects")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Looks into the store that nobody holds.
    fn look(&self) -> Seen {
        block_on(async {
            let system = System::builder().wake(false).open(self.file("app.redb")).await.unwrap();
            let queue = system.queue(QUEUE).unwrap();
            let stats = queue.stats().await.unwrap();
            let of = async |status| {
                let listed = queue.list(Some(status), None, usize::MAX).await.unwrap();
                listed.into_iter().map(|view| view.id.seq).collect::<BTreeSet<u64>>()
            };
            let (done, dead) = (of(JobStatus::Done).await, of(JobStatus::Dead).await);
            let _ = system.stop(Duration::ZERO).await.unwrap();
            Seen { stats, done, dead }
        })
    }
}

/// How often each job has written its line, by number of the job in the queue.
fn written(effects: &[String]) -> BTreeMap<u64, u64> {
    let mut written = BTreeMap::new();
    for line in effects {
        let (key, _) = line.split_once(' ').unwrap_or_else(|| panic!("not whole: {line:?}"));
        *written.entry(key.rsplit('/').next().unwrap().parse().unwrap()).or_default() += 1;
    }
    written
}

/// What is wrong between two looks: counts that do not add up, what is done and written again.
fn faults(
    before: &BTreeMap<u64, u64>,
    done_before: &BTreeSet<u64>,
    now: &Seen,
    effects: &[String],
) -> Vec<String> {
    let mut faults = Vec::new();
    if !now.stats.is_conserved() {
        faults.push(format!("not conserved: {:?}", now.stats));
    }
    let counts = written(effects);
    for job in done_before {
        if !now.done.contains(job) {
            faults.push(format!("job {job} was done and is not any more"));
        }
        if counts.get(job) != before.get(job) {
            faults.push(format!("job {job} ran again after it was done"));
        }
    }
    faults.extend(now.done.intersection(&now.dead).map(|job| format!("job {job} is done and dead")));
    faults
}

#[test]
fn nothing_enqueued_is_lost_and_nothing_done_runs_again_when_workers_are_killed() {
    let first = seed();
    println!("STANCHION_SEED={first}");
    let mut draw = Draw(first);
    let (jobs, kills) = if campaign() { (10_000, 200) } else { (1_000, 20) };
    let mut bench = Bench::new(jobs);
    let (mut done, mut counts) = (BTreeSet::new(), BTreeMap::new());
    for _ in 0..kills {
        let mut worker = bench.work(&[]).spawn().unwrap();
        let added = bench.batch(jobs / kills * 5 / 4).map(|(file, number)| {
            let file = file.to_str().unwrap().to_owned();
            (bench.stanchion(&["job", "add", QUEUE, "--from", &file]).spawn().unwrap(), number)
        });
        std::thread::sleep(Duration::from_millis(5 + draw.below(250)));
        worker.kill().unwrap();
        worker.wait().unwrap();
        if let Some((mut adder, number)) = added {
            if draw.below(2) == 0 {
                adder.kill().unwrap();
            }
            let output = adder.wait_with_output().unwrap();
            bench.acknowledge(&output.stdout, number);
        }
        let (seen, effects) = (bench.look(), bench.effects());
        let faults = faults(&counts, &done, &seen, &effects);
        assert!(faults.is_empty(), "{faults:#?}");
        counts = written(&effects);
        done = seen.done;
    }
    assert!(bench.work(&["--until-empty"]).status().unwrap().success());
    let (seen, effects) = (bench.look(), bench.effects());
    let faults = faults(&counts, &done, &seen, &effects);
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(seen.stats.live(), 0);
    let written = written(&effects);
    for (id, number) in &bench.acked {
        let seq: u64 = id.rsplit('-').next().unwrap().parse().unwrap();
        let poison = number % POISON == 7;
        assert_eq!((seen.dead.contains(&seq), seen.done.contains(&seq)), (poison, !poison), "{id}");
        assert_eq!(written.contains_key(&seq), !poison, "{id}");
    }
    let again: u64 = written.values().map(|count| count - 1).sum();
    let kills = u64::try_from(kills).unwrap();
    assert!(again <= kills * AGENTS, "{again} effects were repeated, of at most what ran at the kills");
    println!(
        "{} of {jobs} jobs acknowledged, {} stored, {} done, {} dead, {kills} kills, {} leases lost, {again} effects repeated",
        bench.acked.len(),
        seen.stats.enqueued,
        seen.stats.done,
        seen.stats.dead,
        seen.stats.lost
    );
    assert!(bench.acked.len() > jobs / 4, "most kills hit before anything was acknowledged");
}

#[test]
fn a_job_that_runs_again_after_it_was_done_is_found() {
    // Negative control of the scan.
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let before = written(&lines("queue/w4/1 a\nqueue/w4/2 b"));
    let stats = QueueStats { enqueued: 2, done: 1, pending: 1, ..QueueStats::default() };
    let seen = Seen { stats, done: BTreeSet::from([1]), dead: BTreeSet::new() };
    let done = BTreeSet::from([1]);
    assert!(faults(&before, &done, &seen, &lines("queue/w4/1 a\nqueue/w4/2 b\nqueue/w4/2 b")).is_empty());
    assert_eq!(faults(&before, &done, &seen, &lines("queue/w4/1 a\nqueue/w4/2 b\nqueue/w4/1 a")).len(), 1);
    let gone = Seen { done: BTreeSet::new(), dead: BTreeSet::from([1]), ..seen };
    assert_eq!(faults(&before, &done, &gone, &lines("queue/w4/1 a\nqueue/w4/2 b")).len(), 1);
    let odd = Seen { stats: QueueStats { enqueued: 3, ..gone.stats.clone() }, ..gone };
    assert_eq!(faults(&before, &BTreeSet::new(), &odd, &[]).len(), 1);
}
