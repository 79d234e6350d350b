//! A peer that is stopped under load: noticed in time, and paid for with nothing but its own answers.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{
    agents::{Account, Move, Say, Sink, sink_of},
    child::{now_ms, runtime},
    clients::{Answer, Line, account},
    fleet::{Fleet, PATIENCE},
    orders::{Ask, LOST_MS, Load, Said},
    plan::campaign,
};

const DEADLINE_MS: u64 = 400;
/// The machine is shared.
const GRACE_MS: u64 = 2_000;
/// What the sender may hold more than before, in KiB.
const MORE_KIB: u64 = 96 << 10;

fn load(ms: u64) -> Load {
    let (node, key) = ("n1".to_owned(), account(0));
    Load { node, key, at_once: 64, ms, deadline_ms: DEADLINE_MS, ballast: 16 << 10 }
}

async fn state_of(fleet: &Fleet, peer: &str) -> String {
    let Some(Said::Nodes(nodes)) = fleet.ask(0, Ask::Nodes).await else { panic!("no answer") };
    nodes.into_iter().find(|(name, _)| name == peer).map(|(_, state)| state).unwrap_or_default()
}

/// While its peer is stopped: when the sender noticed, and the most memory it had in KiB.
async fn watch(fleet: &Fleet, stopped_ms: u64) -> (Option<Duration>, u64) {
    let (began, mut noticed, mut most) = (Instant::now(), None, 0);
    while began.elapsed() < Duration::from_millis(stopped_ms) {
        if noticed.is_none() && state_of(fleet, "n1").await == "unreachable" {
            noticed = Some(began.elapsed());
        }
        most = most.max(fleet.memory_kib(0).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (noticed, most)
}

#[test]
fn a_peer_stopped_under_load_is_noticed_in_time_and_runs_nothing_that_expired() {
    let stopped_ms = if campaign() { 60_000 } else { 4_000 };
    runtime().block_on(async {
        let fleet = Fleet::start(2).await;
        let (system, node) = fleet.client().await;
        let sink = system.agent_on::<Sink>("n0", &sink_of("n0")).unwrap();
        let emit = |id| sink.call(Say::Emit { id, count: 500, to: vec!["n1".to_owned()] });
        // Warm: what a sender holds in peace.
        let Some(Said::Loaded(warm)) = fleet.ask(0, Ask::Load(load(700))).await else { panic!("no load") };
        assert!(warm.iter().any(|line| line.answer == Answer::Done), "{warm:?}");
        let before = fleet.memory_kib(0).await;
        let loaded = fleet.ask(0, Ask::Load(Load { key: account(1), ..load(stopped_ms + 1_000) }));
        let stops = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            fleet.signal(1, Signal::STOP).await;
            let stopped_at = now_ms();
            // Durable messages wait for it meanwhile.
            for id in 1..=4 {
                emit(id).await.unwrap();
            }
            let (noticed, most) = watch(&fleet, stopped_ms).await;
            let goes_on_at = now_ms();
            fleet.signal(1, Signal::CONT).await;
            (stopped_at, goes_on_at, noticed, most)
        };
        let (loaded, (stopped_at, goes_on_at, noticed, most)) = tokio::join!(loaded, stops);
        let Some(Said::Loaded(lines)) = loaded else { panic!("no load") };
        let noticed = noticed.expect("not noticed");
        println!("noticed after {noticed:?}; {before} KiB before, at most {most} KiB; {} calls", lines.len());
        assert!(noticed < Duration::from_millis(LOST_MS + GRACE_MS), "{noticed:?}");
        assert!(most < before + MORE_KIB, "{before} KiB before, {most} KiB at most");
        let late: Vec<&Line> = lines.iter().filter(|line| line.took_ms > DEADLINE_MS + GRACE_MS).collect();
        assert!(late.is_empty(), "{late:?}");
        // All that was sent to it before is there, once and in order.
        let there = system.agent_on::<Sink>("n1", &sink_of("n1")).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(sink)) = there.call(Say::Look).await
                && sink.got.get(&sink_of("n0")) == Some(&2_000)
            {
                assert_eq!(sink.wrong, []);
                break;
            }
            assert!(Instant::now() < until, "messages did not arrive");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let added = system.agent_on::<Account>("n1", &account(1)).unwrap().call(Move::Look).await;
        let added = added.unwrap().unwrap().added;
        let expired = lines.iter().filter(|line| {
            line.began_ms > stopped_at
                && line.began_ms + DEADLINE_MS < goes_on_at
                && line.answer != Answer::Done
        });
        let expired: Vec<&Line> = expired.collect();
        assert!(expired.len() > 100, "only {} calls to a peer that stood still", expired.len());
        let ran: Vec<&&Line> = expired.iter().filter(|line| added.contains(&line.id)).collect();
        assert!(ran.is_empty(), "ran after their deadline: {ran:?}");
        let not_applied = lines.iter().filter(|line| line.answer == Answer::Unavailable);
        let applied: Vec<&Line> = not_applied.filter(|line| added.contains(&line.id)).collect();
        assert!(applied.is_empty(), "answered as not applied: {applied:?}");
        node.leave().await;
        let _ = system.stop(Duration::from_secs(5)).await.unwrap();
        fleet.end().await;
    });
}
