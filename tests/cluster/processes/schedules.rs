//! Seeded schedules of kills, stops, drains and partitions under load; at rest nothing is wrong.

use std::time::{Duration, Instant};

use super::{
    child::runtime,
    clients::{Answer, Line, Made},
    fleet::{Fleet, Net, PATIENCE},
    oracle::States,
    orders::{Ask, Said},
    plan::{Deed, Draw, Event, campaign, plan, seed},
    spaces::Spaces,
    steps::{all_end, faults, lines_of},
    wires::Wires,
};

/// Runs that each of three nodes starts, and their steps, which take turns on the three.
const RUNS: u64 = 2;
const STEPS: usize = 9;
/// Nodes that have the activities of steps.
const WORKERS: u64 = 3;

/// What one schedule did and saw.
#[derive(Default)]
struct Seen {
    events: usize,
    kills_of_clients: usize,
    lines: Vec<Line>,
    messages: u64,
    transfers: usize,
    returned: usize,
    steps: usize,
}

impl Seen {
    fn add(&mut self, seen: Self) {
        self.events += seen.events;
        self.kills_of_clients += seen.kills_of_clients;
        self.lines.extend(seen.lines);
        self.messages += seen.messages;
        self.transfers += seen.transfers;
        self.returned += seen.returned;
        self.steps += seen.steps;
    }

    fn show(&self, first: u64, over: &str, schedules: u64, began: Instant) {
        let ended = |answer| self.lines.iter().filter(|line| line.answer == answer).count();
        let made = |made| self.lines.iter().filter(|line| line.made == made).count();
        println!(
            "STANCHION_SEED={first} {over}: {schedules} schedules, {} events, clients killed {} times, {} commands ({} \
             enqueued, {} cast; {} done, {} refused, {} unavailable, {} unknown, {} killed before their answer), {} \
             messages, {} transfers of which {} came back, {} effects of steps, {:?}: no fault",
            self.events,
            self.kills_of_clients,
            self.lines.len(),
            made(Made::Enqueue),
            made(Made::Cast),
            ended(Answer::Done),
            ended(Answer::Refused),
            ended(Answer::Unavailable),
            ended(Answer::Unknown),
            ended(Answer::None),
            self.messages,
            self.transfers,
            self.returned,
            self.steps,
            began.elapsed()
        );
        assert!(ended(Answer::Done) > 0 && self.messages > 0 && self.transfers > self.returned);
    }
}

/// Lets each of the workers start its runs; what is not acknowledged is asked for again.
async fn start_runs(fleet: &Fleet) {
    for node in 0..WORKERS {
        let runs = node * RUNS..(node + 1) * RUNS;
        let ask = || fleet.ask(node as usize, Ask::Start { runs: runs.clone(), steps: STEPS });
        while !matches!(ask().await, Some(Said::Done)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn finish(fleet: &Fleet, told: &str) {
    let finished = tokio::time::timeout(PATIENCE, fleet.ask(fleet.count, Ask::Finish)).await;
    assert!(matches!(finished, Ok(Some(Said::Done))), "a client waits for ever: {told}");
}

/// Runs the schedule of a seed.
async fn run(seed: u64, length: u64, net: impl AsyncFn(usize) -> Net) -> Seen {
    let mut draw = Draw(seed);
    let count = 3 + draw.below(3) as usize;
    let events = plan(&mut draw, count, length);
    suffer(seed, draw, count, events, net).await
}

/// Lets the clients work while the events happen, and looks at all of it at rest.
async fn suffer(
    seed: u64,
    mut draw: Draw,
    count: usize,
    events: Vec<Event>,
    net: impl AsyncFn(usize) -> Net,
) -> Seen {
    let told = format!("STANCHION_SEED={seed} {count} nodes {events:#?}");
    let fleet = Fleet::start_over(net(count + 1).await, count).await;
    fleet.begin_clients(draw.next()).await;
    let nemesis = futures_util::future::join_all(events.iter().map(|event| fleet.suffer(*event)));
    tokio::join!(start_runs(&fleet), nemesis);
    finish(&fleet, &told).await;
    let states = come_to_rest(&fleet, &told).await;
    let (lines, kills_of_clients) = fleet.journal();
    let found = states.faults(&lines);
    assert!(found.is_empty(), "{} faults: {:#?}\n{told}", found.len(), &found[..found.len().min(12)]);
    for node in 0..WORKERS {
        all_end(&fleet, node as usize, node * RUNS..(node + 1) * RUNS, seed).await;
    }
    let steps = lines_of(&fleet);
    let found = faults(&steps, WORKERS * RUNS, STEPS);
    assert!(found.is_empty(), "{found:#?}\n{told}");
    fleet.end().await;
    let accounts = || states.accounts.values();
    Seen {
        events: events.len(),
        kills_of_clients,
        lines,
        messages: states.sinks.values().map(|sink| sink.got.values().sum::<u64>()).sum(),
        transfers: accounts().map(|account| account.debits.len()).sum(),
        returned: accounts().map(|account| account.returned.len()).sum(),
        steps: steps.len(),
    }
}

/// Every entity answers the clients, and every message has arrived or come back, every stored command is done.
async fn come_to_rest(fleet: &Fleet, told: &str) -> States {
    let began = Instant::now();
    let (lines, _) = fleet.journal();
    loop {
        let open = match fleet.ask(fleet.count, Ask::Look { nodes: fleet.count }).await {
            Some(Said::Looked(Ok(states))) => match states.under_way(&lines) {
                open if open.is_empty() => return states,
                open => open,
            },
            Some(Said::Looked(Err(why))) => vec![why],
            other => panic!("the clients' process says {other:?}: {told}"),
        };
        assert!(began.elapsed() < PATIENCE, "no progress: {open:#?}\n{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn all(schedules: u64, length: u64, over: &str, net: impl AsyncFn(usize) -> Net) {
    let (began, first) = (Instant::now(), seed());
    println!("STANCHION_SEED={first}");
    let mut draws = Draw(first);
    let mut all = Seen::default();
    for number in 0..schedules {
        // A schedule alone: its own seed, first.
        let seed = if number == 0 { first } else { draws.next() };
        all.add(runtime().block_on(run(seed, length, &net)));
    }
    all.show(first, over, schedules, began);
}

#[test]
fn nothing_is_lost_done_twice_or_out_of_order_between_processes_whatever_happens_to_them() {
    let (schedules, length) = if campaign() { (60, 5_000) } else { (8, 2_500) };
    all(schedules, length, "over proxies", async |count| Net::Wires(Wires::between(count).await));
}

#[test]
fn the_same_holds_over_network_namespaces_where_the_machine_allows_them() {
    let (schedules, length) = if campaign() { (20, 5_000) } else { (2, 2_500) };
    match Spaces::make(2) {
        Ok(probe) => {
            drop(probe);
            let net = async |count| Net::Spaces(Spaces::make(count).unwrap());
            all(schedules, length, "over network namespaces", net);
        }
        Err(why) => {
            println!("no network namespaces here ({why}): proxies instead");
            all(schedules, length, "over proxies", async |count| Net::Wires(Wires::between(count).await));
        }
    }
}

#[test]
fn transfers_between_three_nodes_keep_the_sum_while_one_is_killed_every_second() {
    let (began, seed) = (Instant::now(), seed());
    let kills = if campaign() { 60 } else { 4 };
    let mut draw = Draw(seed);
    let events = (1..=kills).map(|second| Event {
        at: Duration::from_millis(second * 1_000),
        lasts: Duration::from_millis(draw.below(200)),
        deed: Deed::Kill { node: draw.below(3) as usize },
    });
    let events: Vec<Event> = events.collect();
    let wires = async |count| Net::Wires(Wires::between(count).await);
    let seen = runtime().block_on(suffer(seed, draw, 3, events, wires));
    seen.show(seed, "kills only", 1, began);
}
