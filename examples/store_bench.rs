//! Measures the redb store against one redb commit per transition; prints one JSON line a cell.
//!
//! `cargo run --release --example store_bench -- [seconds a cell] [wide entities] [directory]`

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use redb::{Database, TableDefinition};
use stanchion::store::{RedbStore, StoreOptions};
use stanchion_actors::{
    ids::{Cause, EntityId, Name, Timestamp, Version},
    store::{
        Activated, Chain, Change, Entry, Head, History, Incarnation, Outcome, Record, Store, Token, encode,
    },
};
use tokio::{sync::oneshot, task::JoinSet};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const STATE_BYTES: usize = 512;

/// An entity as its only writer knows it.
struct Owned {
    name: Name,
    token: Token,
    version: u64,
}

fn entry(name: &Name, version: u64, state: &Bytes) -> Entry {
    let head = Head {
        name: name.clone(),
        schema: 1,
        version: Version(version),
        created: Timestamp(1),
        updated: Timestamp(version as i64),
        status: String::new(),
        next_message: 1,
        next_effect: 1,
        state_crc: crc32c::crc32c(state),
        history: History::Last(1_000),
        feed: false,
    };
    Entry {
        head,
        change: Change::State(state.clone()),
        rows: vec![],
        messages: vec![],
        timers: vec![],
        effects: vec![],
        dedup: vec![],
        consumed: vec![],
        parked: Vec::new(),
        status_before: None,
        cause: Cause::default(),
    }
}

async fn step(store: &RedbStore, owned: &mut Owned, state: &Bytes) -> Result<(), Failure> {
    let mut chain = Chain::new(owned.token, Version(owned.version));
    chain.push(entry(&owned.name, owned.version + 1, state))?;
    let (answer, waiting) = oneshot::channel();
    let done = Box::new(move |result| drop(answer.send(result)));
    store.submit(Record::Chain(chain), done).map_err(|refused| format!("{refused:?}"))?;
    match waiting.await?? {
        Outcome::Applied { .. } => {
            owned.version += 1;
            Ok(())
        }
        other => Err(format!("{other:?}").into()),
    }
}

async fn own(store: &RedbStore, key: String) -> Result<Owned, Failure> {
    let name = Name::new("bench", key)?;
    let entity = store.create(&name).await?.entity();
    match store.activate(entity, Incarnation(1)).await? {
        Activated::Granted(token) => Ok(Owned { name, token, version: 0 }),
        other => Err(format!("{other:?}").into()),
    }
}

/// Processor time of the threads called `name`, in seconds.
fn thread_cpu(name: &str) -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let ticks = tasks.flatten().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        head.contains(name).then_some(ticks)
    });
    ticks.sum::<f64>() / 100.0
}

fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0) as f64 / 1e3
}

/// Lets each group of entities be written by one caller for `time`; prints the cell.
async fn cell(
    label: &str,
    (store, path): (&Arc<RedbStore>, &Path),
    groups: Vec<Vec<Owned>>,
    time: Duration,
    baseline: f64,
) -> Result<Vec<Vec<Owned>>, Failure> {
    let callers = groups.len();
    let state = Bytes::from(vec![7; STATE_BYTES]);
    let stop = Arc::new(AtomicBool::new(false));
    let (write, fold) = (thread_cpu("stanchion-write"), thread_cpu("stanchion-fold"));
    let (began, before) = (Instant::now(), store.stats());
    let mut tasks = JoinSet::new();
    for (seed, mut group) in groups.into_iter().enumerate() {
        let (store, stop, state) = (store.clone(), stop.clone(), state.clone());
        tasks.spawn(async move {
            let mut random = seed as u64 * 0x9E37_79B9_7F4A_7C15 + 1;
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = (random % group.len().max(1) as u64) as usize;
                let Some(owned) = group.get_mut(at) else { break };
                let asked = Instant::now();
                step(&store, owned, &state).await?;
                times.push(asked.elapsed().as_micros() as u64);
            }
            Ok::<_, Failure>((group, times))
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let (mut groups, mut times) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (group, mut of_group) = done??;
        groups.push(group);
        times.append(&mut of_group);
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let after = store.stats();
    let count = times.len() as f64;
    let rate = count / seconds;
    println!(
        "{{\"cell\":\"{label}\",\"callers\":{callers},\"per_second\":{rate:.0},\"vs_baseline\":{:.1},\
         \"p50_ms\":{:.2},\"p99_ms\":{:.2},\"max_ms\":{:.1},\"commits\":{},\"folds\":{},\
         \"write_us\":{:.2},\"fold_us\":{:.2},\"unfolded_mib\":{:.1},\"log_file_mib\":{}}}",
        rate / baseline,
        percentile(&times, 50),
        percentile(&times, 99),
        times.last().copied().unwrap_or(0) as f64 / 1e3,
        after.commits - before.commits,
        after.folds - before.folds,
        (thread_cpu("stanchion-write") - write) * 1e6 / count,
        (thread_cpu("stanchion-fold") - fold) * 1e6 / count,
        after.unfolded_bytes as f64 / f64::from(1 << 20),
        std::fs::metadata(format!("{}-log", path.display()))?.len() >> 20,
    );
    Ok(groups)
}

/// One redb commit per transition: state and history row, one flush.
fn baseline(path: &Path, time: Duration) -> Result<f64, Failure> {
    const STATE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("state");
    const HISTORY: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("history");
    let db = Database::builder().set_cache_size(64 << 20).create(path)?;
    let name = Name::new("bench", "baseline")?;
    let state = Bytes::from(vec![7; STATE_BYTES]);
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < time {
        count += 1;
        let encoded = encode(&entry(&name, count, &state))?;
        let txn = db.begin_write()?;
        txn.open_table(STATE)?.insert(count % 256, state.as_ref())?;
        txn.open_table(HISTORY)?.insert((count % 256, count), encoded.as_slice())?;
        txn.commit()?;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{{\"cell\":\"baseline\",\"callers\":1,\"per_second\":{rate:.0}}}");
    Ok(rate)
}

/// 4 KiB appended and flushed, again and again.
fn flushes(path: &Path) -> Result<(), Failure> {
    use std::io::{Seek, Write};
    let mut file = std::fs::File::create(path)?;
    file.set_len(1 << 20)?;
    file.sync_all()?;
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < Duration::from_secs(1) {
        file.seek(std::io::SeekFrom::Start((count % 256) * 4096))?;
        file.write_all(&[count as u8; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{{\"cell\":\"fdatasync\",\"per_second\":{rate:.0}}}");
    Ok(())
}

async fn entities(store: &RedbStore, label: &str, count: usize) -> Result<Vec<Owned>, Failure> {
    let mut all = Vec::with_capacity(count);
    for number in 0..count {
        all.push(own(store, format!("{label}-{number}")).await?);
    }
    Ok(all)
}

fn split(all: Vec<Owned>, groups: usize) -> Vec<Vec<Owned>> {
    let mut split: Vec<Vec<Owned>> = (0..groups).map(|_| Vec::new()).collect();
    for (number, owned) in all.into_iter().enumerate() {
        if let Some(group) = split.get_mut(number % groups) {
            group.push(owned);
        }
    }
    split
}

async fn run(dir: &Path, time: Duration, wide: usize) -> Result<(), Failure> {
    flushes(&dir.join("flush"))?;
    let base = baseline(&dir.join("baseline.redb"), time.min(Duration::from_secs(5)))?;
    for callers in [1, 16, 256, 4_096] {
        let path = dir.join(format!("own-{callers}.redb"));
        let store = Arc::new(RedbStore::open(&path, StoreOptions::default())?);
        let groups = split(entities(&store, "own", callers).await?, callers);
        drop(cell("own", (&store, &path), groups, time, base).await?);
        store.close().await?;
        std::fs::remove_file(&path)?;
    }
    let path = dir.join("wide.redb");
    let store = Arc::new(RedbStore::open(&path, StoreOptions::default())?);
    let mut all = entities(&store, "wide", wide).await?;
    fill(&store, &mut all).await?;
    store.fold().await?;
    println!("{{\"cell\":\"filled\",\"entities\":{wide},\"mib\":{}}}", std::fs::metadata(&path)?.len() >> 20);
    for callers in [1, 16, 256, 4_096] {
        let groups = cell("wide", (&store, &path), split(all, callers), time, base).await?;
        all = groups.into_iter().flatten().collect();
    }
    let closing = Instant::now();
    store.close().await?;
    println!("{{\"cell\":\"close\",\"seconds\":{:.2}}}", closing.elapsed().as_secs_f64());
    let _: Option<EntityId> = all.first().map(|owned| owned.token.entity);
    Ok(())
}

/// Writes every entity once.
async fn fill(store: &Arc<RedbStore>, all: &mut Vec<Owned>) -> Result<(), Failure> {
    let state = Bytes::from(vec![7; STATE_BYTES]);
    let mut tasks = JoinSet::new();
    for mut group in split(std::mem::take(all), 1_024) {
        let (store, state) = (store.clone(), state.clone());
        tasks.spawn(async move {
            for owned in &mut group {
                step(&store, owned, &state).await?;
            }
            Ok::<_, Failure>(group)
        });
    }
    while let Some(done) = tasks.join_next().await {
        all.append(&mut done??);
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(5), |arg| arg.parse())?;
    let wide = args.next().map_or(Ok(100_000), |arg| arg.parse())?;
    let dir = args
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("stanchion-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let done = runtime.block_on(run(&dir, Duration::from_secs(seconds), wide));
    std::fs::remove_dir_all(&dir)?;
    done
}
