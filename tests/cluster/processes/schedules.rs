//! Seeded schedules of kills, stops, drains and partitions under load; at rest nothing is wrong.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    agents::{Account, Move, Say, Sink, sink_of},
    child::runtime,
    clients::{ACCOUNTS, Answer, Clients, Line, account},
    fleet::{Fleet, PATIENCE, name_of},
    oracle::States,
    plan::{Draw, campaign, plan, seed},
};

const CLIENTS: u64 = 6;

/// What one schedule did and saw.
#[derive(Default)]
struct Seen {
    events: usize,
    lines: Vec<Line>,
    messages: u64,
    transfers: usize,
    returned: usize,
}

/// Runs the schedule of a seed.
async fn run(seed: u64, length: u64) -> Seen {
    let mut draw = Draw(seed);
    let count = 3 + draw.below(3) as usize;
    let events = plan(&mut draw, count, length);
    let told = format!("STANCHION_SEED={seed} {count} nodes {events:#?}");
    let fleet = Fleet::start(count).await;
    let (system, node) = fleet.client().await;
    let clients = Clients::new(system, (0..count).map(name_of).collect());
    let draws: Vec<Draw> = (0..CLIENTS).map(|_| Draw(draw.next())).collect();
    let load = futures_util::future::join_all(draws.into_iter().map(|draw| clients.work(draw)));
    let nemesis = async {
        futures_util::future::join_all(events.iter().map(|event| fleet.suffer(*event))).await;
        clients.ends.store(true, Ordering::SeqCst);
    };
    tokio::join!(load, nemesis);
    let states = come_to_rest(&clients, &told).await;
    let lines = std::mem::take(&mut *clients.lines.lock().unwrap());
    let faults = states.faults(&lines);
    assert!(faults.is_empty(), "{} faults: {:#?}\n{told}", faults.len(), &faults[..faults.len().min(12)]);
    node.leave().await;
    let report = clients.system.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.left_over, 0, "{told}");
    fleet.end().await;
    let accounts = || states.accounts.values();
    Seen {
        events: events.len(),
        lines,
        messages: states.sinks.values().map(|sink| sink.got.values().sum::<u64>()).sum(),
        transfers: accounts().map(|account| account.debits.len()).sum(),
        returned: accounts().map(|account| account.returned.len()).sum(),
    }
}

/// Every entity answers, and every message has arrived or come back.
async fn come_to_rest(clients: &Clients, told: &str) -> States {
    let began = Instant::now();
    loop {
        let open = match look(clients).await {
            Ok(states) => match states.under_way() {
                open if open.is_empty() => return states,
                open => open,
            },
            Err(why) => vec![why],
        };
        assert!(began.elapsed() < PATIENCE, "no progress: {open:#?}\n{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn look(clients: &Clients) -> Result<States, String> {
    let mut states = States::default();
    for node in &clients.nodes {
        for key in (0..ACCOUNTS).map(account) {
            let seen = clients.at::<Account>(node, &key).call(Move::Look).await;
            let seen = seen.map_err(|error| format!("{key} of {node}: {error}"))?;
            states.accounts.insert((node.clone(), key), seen.unwrap());
        }
        let seen = clients.at::<Sink>(node, &sink_of(node)).call(Say::Look).await;
        states.sinks.insert(node.clone(), seen.map_err(|error| format!("sink of {node}: {error}"))?.unwrap());
    }
    Ok(states)
}

#[test]
fn nothing_is_lost_done_twice_or_out_of_order_between_processes_whatever_happens_to_them() {
    let (began, first) = (Instant::now(), seed());
    println!("STANCHION_SEED={first}");
    let (schedules, length) = if campaign() { (60, 5_000) } else { (10, 2_500) };
    let mut draws = Draw(first);
    let mut all = Seen::default();
    for number in 0..schedules {
        // A schedule alone: its own seed, first.
        let seed = if number == 0 { first } else { draws.next() };
        let seen = runtime().block_on(run(seed, length));
        all.events += seen.events;
        all.lines.extend(seen.lines);
        all.messages += seen.messages;
        all.transfers += seen.transfers;
        all.returned += seen.returned;
    }
    let ended = |answer| all.lines.iter().filter(|line| line.answer == answer).count();
    println!(
        "STANCHION_SEED={first}: {schedules} schedules, {} events, {} commands ({} done, {} refused, {} unavailable, {} \
         unknown), {} messages, {} transfers of which {} came back, {:?}: no fault",
        all.events,
        all.lines.len(),
        ended(Answer::Done),
        ended(Answer::Refused),
        ended(Answer::Unavailable),
        ended(Answer::Unknown),
        all.messages,
        all.transfers,
        all.returned,
        began.elapsed()
    );
    assert!(ended(Answer::Done) > 0 && all.messages > 0 && all.transfers > all.returned);
}
