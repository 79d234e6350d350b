//! What the ratios are against: the disk's flush, and one redb commit for each transition.

use std::{
    fs::File,
    io::{Seek, Write},
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

use crate::{Lab, discard};

/// How fast the disk flushes.
pub struct Flush {
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Prints both, as this run begins.
pub fn report(lab: &Lab) {
    let flush = fsync(lab);
    let raw = [("per_s", flush.per_s), ("p50_ms", flush.p50_ms), ("p99_ms", flush.p99_ms)];
    lab.report.figure("fdatasync", &raw);
    lab.report.figure("one_commit_per_transition", &[("per_s", one_commit_per_transition(lab))]);
}

/// 4-KiB write and fdatasync, in a loop; measured anew before each row that is against it.
pub fn fsync(lab: &Lab) -> Flush {
    let path = lab.path("fsync");
    let mut file = File::create(&path).expect("a file");
    let block = [7u8; 4096];
    let mut times = Vec::new();
    let until = Instant::now() + Duration::from_secs_f64(lab.seconds.min(1.0));
    while Instant::now() < until {
        let began = Instant::now();
        file.rewind().expect("seek");
        file.write_all(&block).expect("write");
        file.sync_data().expect("fdatasync");
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let per_s = times.len() as f64 / times.iter().sum::<f64>() * 1e3;
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    Flush { per_s, p50_ms: at(0.5), p99_ms: at(0.99) }
}

/// One 1-phase redb commit for each transition of 512 bytes: state and history row. Measured anew before each row
/// that is against it, so that a machine that slows down slows both.
pub fn one_commit_per_transition(lab: &Lab) -> f64 {
    const STATE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("state");
    const HISTORY: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("history");
    let path = lab.path("baseline.redb");
    let db = Database::create(&path).expect("a database");
    let state = [7u8; 512];
    let began = Instant::now();
    let mut commits = 0u64;
    while began.elapsed().as_secs_f64() < lab.seconds.min(2.0) {
        let write = db.begin_write().expect("a transaction");
        {
            let entity = commits % 256;
            write.open_table(STATE).expect("table").insert(entity, state.as_slice()).expect("insert");
            let mut history = write.open_table(HISTORY).expect("table");
            history.insert((entity, commits), state.as_slice()).expect("insert");
        }
        write.commit().expect("commit");
        commits += 1;
    }
    let rate = commits as f64 / began.elapsed().as_secs_f64();
    drop(db);
    discard(&path);
    rate
}
