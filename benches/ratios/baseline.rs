//! What the ratios are against: the disk's flush, and one redb commit for each transition.

use std::{
    fs::File,
    io::{Seek, Write},
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

use crate::Lab;

/// 4-KiB write and fdatasync, in a loop.
pub fn fsync(lab: &mut Lab) -> f64 {
    let path = lab.path("fsync");
    let mut file = File::create(&path).expect("a file");
    let block = [7u8; 4096];
    let mut times = Vec::new();
    let until = Instant::now() + Duration::from_secs_f64(lab.seconds.min(2.0));
    while Instant::now() < until {
        let began = Instant::now();
        file.rewind().expect("seek");
        file.write_all(&block).expect("write");
        file.sync_data().expect("fdatasync");
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let rate = times.len() as f64 / times.iter().sum::<f64>() * 1e3;
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    lab.report.figure("fdatasync", &[("per_s", rate), ("p50_ms", at(0.5)), ("p99_ms", at(0.99))]);
    at(0.5)
}

/// One 1-phase redb commit for each transition of 512 bytes: state and history row.
pub fn one_commit_per_transition(lab: &mut Lab) -> f64 {
    const STATE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("state");
    const HISTORY: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("history");
    let db = Database::create(lab.path("baseline.redb")).expect("a database");
    let state = [7u8; 512];
    let began = Instant::now();
    let mut commits = 0u64;
    while began.elapsed().as_secs_f64() < lab.seconds.min(3.0) {
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
    lab.report.figure("one_commit_per_transition", &[("per_s", rate)]);
    rate
}
