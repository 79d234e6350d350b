//! Parts of a running system are killed, and disks and clocks misbehave, while all workloads run.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use stanchion::{
    Builder, System,
    clock::Clock,
    ids::Timestamp,
    store::{
        CrashPoint, CrashPoints, StoreFile, StoreOptions,
        testing::{DiskCall, FaultyDisk},
    },
    supervisors::Intensity,
};

use crate::{
    agents::builder,
    history::{History, campaign, now_us},
    house::{House, longest_silence},
    life::runtime,
    support::small,
};

/// Services are killed on purpose: that often is not the system's fault.
const PATIENT: Intensity = Intensity::new(1_000, Duration::from_secs(1));
/// Clients that ask again after a failure get their answer within this time; the machine is shared.
const RETRY_WINDOW: Duration = Duration::from_secs(2);

fn patient(history: &Arc<History>) -> Builder {
    builder(history).intensity(PATIENT)
}

/// Waits until clients have got `more` further lines.
async fn progress(history: &History, more: u64) {
    let count = history.count();
    let until = count.load(Ordering::SeqCst) + more;
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while count.load(Ordering::SeqCst) < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("no answers any more"));
}

/// Entities whose actor crashed, so far.
fn crashed(system: &System) -> u64 {
    let stats = system.stats().into_iter().filter(|(name, _)| name.contains("-supervisor-"));
    stats.map(|(_, stats)| stats.count("crashed")).sum()
}

/// As [`disturbed`], and no entity may be restarted meanwhile.
fn disturbed_alone(disturb: impl Fn(&System)) {
    disturbed(rounds(), |system| {
        assert_eq!(crashed(system), 0, "an entity was restarted");
        disturb(system);
    });
}

/// All workloads on real files, while each round does `disturb`; then nothing may be wrong.
fn disturbed(rounds: u64, disturb: impl Fn(&System)) {
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::new(dir.path().join("app.redb"));
    runtime().block_on(async {
        house
            .live(u64::MAX, patient, async |system, history| {
                progress(history, 100).await;
                for _ in 0..rounds {
                    disturb(system);
                    progress(history, 120).await;
                }
            })
            .await;
        let silence = longest_silence(&house.answers());
        assert!(silence < RETRY_WINDOW, "no client got an answer for {silence:?}");
        let faults = house.faults(patient).await;
        assert!(faults.is_empty(), "{faults:#?}");
        println!("{} answers, longest time without one {silence:?}", house.answers().len());
    });
}

fn rounds() -> u64 {
    if campaign() { 100 } else { 8 }
}

#[test]
fn timers_killed_under_load_lose_nothing() {
    disturbed_alone(|system| system.env().services().timers.actor().unwrap().kill());
}

#[test]
fn the_outbox_killed_under_load_loses_nothing() {
    disturbed_alone(|system| system.env().services().outbox.actor().unwrap().kill());
}

#[test]
fn the_runner_of_effects_killed_under_load_loses_nothing() {
    disturbed_alone(|system| system.env().services().effects.actor().unwrap().kill());
}

#[test]
fn the_coordinator_killed_under_load_loses_nothing() {
    disturbed_alone(|system| system.env().services().coordinator.actor().unwrap().kill());
}

#[test]
fn persistence_killed_under_load_loses_nothing() {
    disturbed(rounds(), |system| system.env().services().persistence.actor().unwrap().kill());
}

#[test]
fn supervisors_of_entities_killed_under_load_lose_nothing() {
    disturbed(rounds(), |system| {
        let supervisors = system.env().directory().supervisors();
        for shard in supervisors.agents().chain(supervisors.runs()) {
            supervisors.supervisor(shard).unwrap().kill();
        }
    });
}

#[test]
fn entities_killed_under_load_lose_nothing() {
    let most = AtomicU64::new(0);
    disturbed(rounds(), |system| {
        most.fetch_max(crashed(system), Ordering::SeqCst);
        for cell in system.env().directory().cells() {
            if let Some((_, actor)) = cell.owner() {
                actor.kill();
            }
        }
    });
    assert!(most.into_inner() > 0, "restarts of entities are counted");
}

/// Waits until the store is open under a later boot than `boot`.
async fn opened_anew(system: &System, boot: u64) {
    let opened = async {
        while system.store().caps().boot == boot {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), opened).await.unwrap();
}

/// Panics in the writer thread when told to.
#[derive(Default)]
struct PanicIn {
    point: Option<CrashPoint>,
    now: AtomicBool,
}

impl CrashPoints for PanicIn {
    fn reach(&self, point: CrashPoint) {
        assert!(
            Some(point) != self.point || !self.now.swap(false, Ordering::SeqCst),
            "injected at {point:?}"
        );
    }
}

#[test]
fn a_panic_of_the_writer_under_load_loses_nothing_and_the_store_opens_anew() {
    for point in [CrashPoint::BeforeCommit, CrashPoint::AfterCommit, CrashPoint::BeforeAnswer] {
        let dir = tempfile::tempdir().unwrap();
        let mut house = House::new(dir.path().join("app.redb"));
        let hook = Arc::new(PanicIn { point: Some(point), now: AtomicBool::new(false) });
        runtime().block_on(async {
            let make = |history: &Arc<History>| {
                patient(history).store_options(StoreOptions::default().crash_points(hook.clone()))
            };
            house
                .live(u64::MAX, make, async |system, history| {
                    for _ in 0..3 {
                        progress(history, 100).await;
                        let boot = system.store().caps().boot;
                        hook.now.store(true, Ordering::SeqCst);
                        opened_anew(system, boot).await;
                        progress(history, 150).await;
                    }
                })
                .await;
            let faults = house.faults(make).await;
            assert!(faults.is_empty(), "{point:?}: {faults:#?}");
        });
    }
}

#[test]
fn a_failed_flush_under_load_loses_nothing_and_the_store_opens_anew() {
    let disk = FaultyDisk::new();
    let mut house = House::new("memory.redb");
    runtime().block_on(async {
        let make = |history: &Arc<History>| patient(history).store_options(small(&disk));
        house
            .live(u64::MAX, make, async |system, history| {
                for (file, call, kind) in [
                    (StoreFile::Log, DiskCall::Sync, io::ErrorKind::Other),
                    (StoreFile::Log, DiskCall::Write, io::ErrorKind::StorageFull),
                    (StoreFile::Data, DiskCall::Sync, io::ErrorKind::Other),
                    (StoreFile::Data, DiskCall::Write, io::ErrorKind::StorageFull),
                ] {
                    progress(history, 100).await;
                    let boot = system.store().caps().boot;
                    disk.fail(file, call, 3, kind);
                    let poisoned = async {
                        while system.store().poisoned().is_none() && system.store().caps().boot == boot {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    };
                    tokio::time::timeout(Duration::from_secs(20), poisoned).await.unwrap();
                    disk.heal();
                    opened_anew(system, boot).await;
                    progress(history, 150).await;
                }
            })
            .await;
        let faults = house.faults(make).await;
        assert!(faults.is_empty(), "{faults:#?}");
    });
}

/// The machine's clock, moved.
#[derive(Debug, Default)]
struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(now_us() + self.0.load(Ordering::SeqCst))
    }
}

const HOUR_US: i64 = 3_600_000_000;

#[test]
fn a_clock_that_jumps_an_hour_either_way_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for jumps in [[HOUR_US, 0, -HOUR_US], [-HOUR_US, 0, HOUR_US]] {
        let clock = Arc::new(Moved::default());
        let mut house = House::new(dir.path().join(format!("{}.redb", jumps[0])));
        runtime().block_on(async {
            let make = |history: &Arc<History>| patient(history).clock(clock.clone());
            house
                .live(u64::MAX, make, async |_, history| {
                    for jump in jumps {
                        progress(history, 150).await;
                        clock.0.store(jump, Ordering::SeqCst);
                    }
                    progress(history, 150).await;
                })
                .await;
            clock.0.store(0, Ordering::SeqCst);
            let mut faults = house.faults(make).await;
            // How late a timer was is read on the clock that jumped.
            faults.retain(|fault| {
                !fault.starts_with("timer ") || !fault.contains(" late") || fault.contains(": -")
            });
            assert!(faults.is_empty(), "jumps {jumps:?}: {faults:#?}");
        });
    }
}

#[test]
fn a_disk_that_cannot_be_written_is_refused_by_name() {
    let disk = FaultyDisk::new();
    for call in [DiskCall::Write, DiskCall::Resize, DiskCall::Sync] {
        disk.fail(StoreFile::Data, call, 0, io::ErrorKind::ReadOnlyFilesystem);
        disk.fail(StoreFile::Log, call, 0, io::ErrorKind::ReadOnlyFilesystem);
    }
    runtime().block_on(async {
        let history = History::in_memory(1, Vec::new());
        let refused = builder(&history).store_options(small(&disk)).open("memory.redb").await.unwrap_err();
        assert!(
            matches!(refused, stanchion::OpenError::Store(stanchion::store::OpenError::ReadOnly { .. })),
            "{refused}"
        );
    });
}

#[test]
fn a_system_on_a_store_that_another_process_holds_is_refused_and_says_by_whom() {
    let mut case = crate::life::Case::new(1);
    let pid = case.begin_and_hold();
    let refused = runtime().block_on(async {
        let history = History::in_memory(1, Vec::new());
        builder(&history).open(case.store()).await.unwrap_err()
    });
    case.kill_holder();
    let stanchion::OpenError::Store(stanchion::store::OpenError::Locked { pid: found, .. }) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*found, Some(pid));
    case.check();
}
