//! The oracles: what must hold of a history at any time, and of a history and the state at rest.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use stanchion::workflow::{ReadError, RunStatus};

use crate::{
    agents::{
        ACCOUNTS, Account, Counter, Emitter, OPENING, Queue, RECEIVERS, Receiver, STEPS, Sleeper, account,
        is_refused, mail_account,
    },
    history::{Kind, Line, Op},
    load::{ADDERS, HOT, World, private},
};

/// A timer may fire this much after both its time and the start of the process; the machine is shared.
const LATEST_US: i64 = 3_000_000;

/// Everything, once nothing is in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest {
    pub(crate) accounts: Vec<Account>,
    pub(crate) mail: Vec<Account>,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) queue: Queue,
    pub(crate) sleeper: Sleeper,
    pub(crate) emitted: u64,
    pub(crate) receivers: Vec<Receiver>,
    /// Status and output of the runs that exist.
    pub(crate) runs: BTreeMap<String, (RunStatus, Value)>,
}

/// What is known of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Happened,
    DidNot,
    Unclear,
}

/// Operations by id, with what is known of each.
fn outcomes<'a, K: std::hash::Hash + Eq>(
    lines: &'a [Line],
    id: impl Fn(&'a Op) -> Option<K>,
) -> HashMap<K, (&'a Op, Known)> {
    let mut known = HashMap::new();
    for line in lines {
        let Some(id) = id(&line.op) else { continue };
        let outcome = match line.kind {
            Kind::Invoke => Known::Unclear,
            Kind::Ok => Known::Happened,
            Kind::Fail => Known::DidNot,
        };
        known.insert(id, (&line.op, outcome));
    }
    known
}

/// Faults that a history shows by itself.
pub(crate) fn faults_of(lines: &[Line]) -> Vec<String> {
    [totals(lines), vanished(lines), adds(lines), repeated(lines), keys(lines)].concat()
}

fn totals(lines: &[Line]) -> Vec<String> {
    let all = ACCOUNTS as i64 * OPENING;
    let seen = lines.iter().filter_map(|line| match line.op {
        Op::Total { sum, least } if sum != all || least < 0 => {
            Some(format!("bank: an atomic read shows sum {sum}, least {least}"))
        }
        _ => None,
    });
    seen.collect()
}

/// Nothing that was shown may be gone in a later life.
fn vanished(lines: &[Line]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut shown: HashMap<&str, (u64, u64, u32)> = HashMap::new();
    for line in lines {
        let (counter, value) = match &line.op {
            Op::Read { counter, value } => (counter, *value),
            Op::Add { counter, reply, .. } if line.kind == Kind::Ok => (counter, *reply),
            _ => continue,
        };
        let (before, now, life) = shown.entry(counter).or_insert((0, 0, line.life));
        if *life != line.life {
            (*before, *life) = (*now, line.life);
        }
        *now = value.max(*now);
        // The answer to a repeated command is the first one, and so is older.
        if value < *before && matches!(line.op, Op::Read { .. }) {
            faults.push(format!("{counter}: {before} was shown, life {} shows {value}", line.life));
        }
    }
    faults
}

/// A counter that one client alone adds to tells how often each command was applied.
fn adds(lines: &[Line]) -> Vec<String> {
    let mut faults = Vec::new();
    for line in lines {
        let Op::Add { client, seq, counter, reply } = &line.op else { continue };
        match line.kind {
            Kind::Invoke => {}
            Kind::Fail => faults.push(format!("command {seq} of client {client} was refused")),
            Kind::Ok if counter != HOT && *reply != seq.div_ceil(2) => {
                faults.push(format!("{counter}: command {seq} answered {reply}, not {}", seq.div_ceil(2)));
            }
            Kind::Ok => {}
        }
    }
    faults
}

/// What is known to be done is not done again.
fn repeated(lines: &[Line]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut done: HashSet<u64> = HashSet::new();
    let mut reached: HashMap<&str, usize> = HashMap::new();
    for line in lines {
        match &line.op {
            Op::Done { id } => drop(done.insert(*id)),
            Op::Effect { what, .. } => {
                let job = what.strip_prefix("job/").and_then(|id| id.parse().ok());
                if job.is_some_and(|id| done.contains(&id)) {
                    faults.push(format!("{what} ran again after it was shown as done"));
                }
                if let Some((run, step)) = what.strip_prefix("step/").and_then(|what| what.split_once("/s")) {
                    let step: usize = step.parse().unwrap();
                    let furthest = reached.entry(run).or_insert(step);
                    if step < *furthest {
                        faults.push(format!("{what} ran again, though step {furthest} had begun"));
                    }
                    *furthest = step.max(*furthest);
                }
            }
            _ => {}
        }
    }
    faults
}

/// The idempotency key of an effect is the same at each attempt, and no other effect has it.
fn keys(lines: &[Line]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut keys: HashMap<&str, &str> = HashMap::new();
    let mut users: HashMap<&str, &str> = HashMap::new();
    for line in lines {
        let Op::Effect { what, key } = &line.op else { continue };
        let known = keys.entry(what).or_insert(key);
        if known != key {
            faults.push(format!("{what} had key {known} and then {key}"));
        }
        let user = users.entry(key).or_insert(what);
        if user != what {
            faults.push(format!("key {key} of {user} is that of {what} too"));
        }
    }
    faults
}

/// Faults of a history against the state at rest.
pub(crate) fn faults_at_rest(lines: &[Line], rest: &Rest) -> Vec<String> {
    [
        transfers(lines, rest),
        sends(lines, rest),
        counters(lines, rest),
        jobs(lines, rest),
        timers(lines, rest),
        mail(lines, rest),
        runs(lines, rest),
    ]
    .concat()
}

/// Times an id is in a ledger, with the amount.
fn times(ledger: &[(u64, i64)]) -> HashMap<u64, Vec<i64>> {
    let mut times: HashMap<u64, Vec<i64>> = HashMap::new();
    for (id, n) in ledger {
        times.entry(*id).or_default().push(*n);
    }
    times
}

fn bank(what: &str, accounts: &[Account]) -> Vec<String> {
    let sum: i64 = accounts.iter().map(Account::balance).sum();
    let mut faults = Vec::new();
    if sum != ACCOUNTS as i64 * OPENING {
        faults.push(format!("{what}: the sum at rest is {sum}"));
    }
    for (n, account) in accounts.iter().enumerate().filter(|(_, account)| account.balance() < 0) {
        faults.push(format!("{what}: account {n} is at {}", account.balance()));
    }
    faults
}

fn transfers(lines: &[Line], rest: &Rest) -> Vec<String> {
    let mut faults = bank("transfers", &rest.accounts);
    let debits: Vec<_> = rest.accounts.iter().map(|account| times(&account.debits)).collect();
    let credits: Vec<_> = rest.accounts.iter().map(|account| times(&account.credits)).collect();
    let known = outcomes(lines, |op| if let Op::Transfer { id, .. } = op { Some(*id) } else { None });
    for (id, (op, known)) in known {
        let Op::Transfer { from, to, n, .. } = *op else { continue };
        let debit = debits[from].get(&id).cloned().unwrap_or_default();
        let credit = credits[to].get(&id).cloned().unwrap_or_default();
        let fits = match known {
            Known::Happened => debit == [n] && credit == [n],
            Known::DidNot => debit.is_empty() && credit.is_empty(),
            Known::Unclear => debit == credit && debit.len() <= 1,
        };
        if !fits {
            faults.push(format!("transfer {id} of {n}, {known:?}: debited {debit:?}, credited {credit:?}"));
        }
    }
    faults
}

fn sends(lines: &[Line], rest: &Rest) -> Vec<String> {
    let mut faults = bank("sends", &rest.mail);
    let debits: Vec<_> = rest.mail.iter().map(|account| times(&account.debits)).collect();
    let credits: Vec<_> = rest.mail.iter().map(|account| times(&account.credits)).collect();
    let returned: Vec<_> = rest.mail.iter().map(|account| times(&account.returned)).collect();
    let known = outcomes(lines, |op| if let Op::Send { id, .. } = op { Some(*id) } else { None });
    for (id, (op, known)) in known {
        let Op::Send { from, to, n, .. } = *op else { continue };
        let debit = debits[from].get(&id).cloned().unwrap_or_default();
        let credit = credits[to].get(&id).cloned().unwrap_or_default();
        let back = returned[from].get(&id).cloned().unwrap_or_default();
        let (went, came) = if is_refused(id) { (&back, &credit) } else { (&credit, &back) };
        let fits = match known {
            Known::Happened => debit == [n] && *went == [n] && came.is_empty(),
            Known::DidNot => debit.is_empty() && went.is_empty() && came.is_empty(),
            Known::Unclear => debit == *went && debit.len() <= 1 && came.is_empty(),
        };
        if !fits {
            faults.push(format!(
                "send {id} of {n}, {known:?}: debited {debit:?}, credited {credit:?}, returned {back:?}"
            ));
        }
    }
    faults
}

fn counters(lines: &[Line], rest: &Rest) -> Vec<String> {
    let mut last = [0_u64; ADDERS];
    for line in lines {
        if let Op::Add { client, seq, .. } = line.op {
            last[client] = last[client].max(seq);
        }
    }
    // Every command was asked for until it was answered: the counters are exact.
    let mut expected: BTreeMap<String, u64> =
        last.iter().enumerate().map(|(client, seq)| (private(client), seq.div_ceil(2))).collect();
    expected.insert(HOT.to_owned(), last.iter().map(|seq| seq / 2).sum());
    let mut faults = Vec::new();
    for (counter, value) in expected {
        let found = rest.counters.get(&counter).copied().unwrap_or(0);
        if found != value {
            faults.push(format!("{counter} is at {found} after {value} commands"));
        }
    }
    faults
}

fn jobs(lines: &[Line], rest: &Rest) -> Vec<String> {
    let mut faults = Vec::new();
    let count = |ids: &[u64]| {
        let mut count: HashMap<u64, usize> = HashMap::new();
        for id in ids {
            *count.entry(*id).or_default() += 1;
        }
        count
    };
    let (handled, done) = (count(&rest.queue.handled), count(&rest.queue.done));
    let ran: HashSet<&str> = lines
        .iter()
        .filter_map(
            |line| if let Op::Effect { what, .. } = &line.op { what.strip_prefix("job/") } else { None },
        )
        .collect();
    let known = outcomes(lines, |op| if let Op::Enqueue { id } = op { Some(*id) } else { None });
    for (id, (_, known)) in &known {
        let times = handled.get(id).copied().unwrap_or(0);
        let fits = match known {
            Known::Happened => times == 1,
            Known::DidNot => times == 0,
            Known::Unclear => times <= 1,
        };
        if !fits {
            faults.push(format!("job {id}, {known:?}: handled {times} times"));
        }
        let ended = done.get(id).copied().unwrap_or(0);
        if ended != times || (times > 0 && !ran.contains(id.to_string().as_str())) {
            faults.push(format!("job {id}: handled {times} times, ended {ended} times"));
        }
    }
    if let Some(id) = handled.keys().find(|id| !known.contains_key(id)) {
        faults.push(format!("job {id} was handled, and nobody enqueued it"));
    }
    for id in lines.iter().filter_map(|line| if let Op::Done { id } = line.op { Some(id) } else { None }) {
        if !done.contains_key(&id) {
            faults.push(format!("job {id} was shown as done and is not"));
        }
    }
    faults
}

fn timers(lines: &[Line], rest: &Rest) -> Vec<String> {
    let mut faults = Vec::new();
    let starts: Vec<i64> =
        lines.iter().filter(|line| matches!(line.op, Op::Life)).map(|line| line.time_us).collect();
    let mut fired: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
    for (id, due, at) in &rest.sleeper.fired {
        fired.entry(*id).or_default().push((*due, *at));
    }
    let known = outcomes(lines, |op| if let Op::Sleep { id, .. } = op { Some(*id) } else { None });
    for (id, (_, known)) in known {
        let fired = fired.get(&id).map(Vec::as_slice).unwrap_or_default();
        let times = match known {
            Known::Happened => 1..=1,
            Known::DidNot => 0..=0,
            Known::Unclear => 0..=1,
        };
        if !times.contains(&fired.len()) || rest.sleeper.asleep.contains_key(&id) {
            faults.push(format!("timer {id}, {known:?}: fired {} times", fired.len()));
        }
        for (due, at) in fired {
            let start = starts.iter().copied().filter(|start| start <= at).max().unwrap_or(0);
            let late = at - (*due).max(start);
            if at < due || late > LATEST_US {
                faults.push(format!("timer {id}: {} us after its time, {late} us late", at - due));
            }
        }
    }
    faults
}

fn mail(lines: &[Line], rest: &Rest) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut least, mut most) = (0, 0);
    for line in lines {
        if let Op::Emit { count } = line.op {
            match line.kind {
                Kind::Invoke => most += count,
                Kind::Ok => least += count,
                Kind::Fail => most -= count,
            }
        }
    }
    if !(least..=most).contains(&rest.emitted) {
        faults.push(format!("{} numbers were sent, not {least} to {most}", rest.emitted));
    }
    for (n, receiver) in rest.receivers.iter().enumerate() {
        if receiver.last != rest.emitted || !receiver.wrong.is_empty() {
            faults.push(format!("receiver {n} of {} numbers: {receiver:?}", rest.emitted));
        }
    }
    faults
}

fn runs(lines: &[Line], rest: &Rest) -> Vec<String> {
    let mut faults = Vec::new();
    let known = outcomes(lines, |op| if let Op::Start { run } = op { Some(run.as_str()) } else { None });
    for (run, (_, known)) in known {
        let found = rest.runs.get(run);
        let fits = match (known, found) {
            (Known::Happened | Known::Unclear, Some((status, output))) => {
                *status == RunStatus::Completed && *output == json!(STEPS)
            }
            (Known::DidNot | Known::Unclear, None) => true,
            (Known::Happened, None) | (Known::DidNot, Some(_)) => false,
        };
        if !fits {
            faults.push(format!("run {run}, {known:?}: {found:?}"));
        }
    }
    faults
}

/// Waits until nothing is in flight and reads everything; answers the faults that do not go away.
pub(crate) async fn come_to_rest(world: &Arc<World>, lines: impl Fn() -> Vec<Line>) -> Vec<String> {
    world.settle().await;
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let seen = lines();
        let rest = rest(world, &seen).await;
        let mut faults = faults_at_rest(&seen, &rest);
        if faults.is_empty() || tokio::time::Instant::now() > until {
            faults.extend(faults_of(&lines()));
            return faults;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn rest(world: &Arc<World>, lines: &[Line]) -> Rest {
    let mut rest = Rest::default();
    for n in 0..ACCOUNTS {
        rest.accounts.push(world.agent::<Account>(&account(n)).read(Clone::clone).await.unwrap());
        rest.mail.push(world.agent::<Account>(&mail_account(n)).read(Clone::clone).await.unwrap());
    }
    for counter in (0..ADDERS).map(private).chain([HOT.to_owned()]) {
        let value = world.agent::<Counter>(&counter).read(|counter| counter.0).await.unwrap();
        rest.counters.insert(counter, value);
    }
    rest.queue = world.agent::<Queue>("jobs").read(Clone::clone).await.unwrap();
    rest.sleeper = world.agent::<Sleeper>("s").read(Clone::clone).await.unwrap();
    rest.emitted = world.agent::<Emitter>("e").read(|emitter| emitter.0).await.unwrap();
    for n in 0..RECEIVERS {
        rest.receivers.push(world.agent::<Receiver>(&n.to_string()).read(Clone::clone).await.unwrap());
    }
    for line in lines {
        let Op::Start { run } = &line.op else { continue };
        if line.kind != Kind::Invoke || rest.runs.contains_key(run) {
            continue;
        }
        match world.system.workflows().read(run).await {
            Ok(found) => {
                let output = found.output(world.system.store().as_ref()).await.unwrap();
                rest.runs.insert(run.clone(), (found.state.status(), output));
            }
            Err(ReadError::Unknown(_)) => {}
            Err(error) => panic!("{run}: {error}"),
        }
    }
    rest
}

// Negative controls: each oracle finds what is planted.

fn line(life: u32, kind: Kind, op: Op) -> Line {
    Line { life, kind, time_us: 1_000, op }
}

fn effect(what: &str, key: &str) -> Line {
    line(1, Kind::Ok, Op::Effect { what: what.into(), key: key.into() })
}

/// A state in which nothing was done.
fn idle() -> Rest {
    let accounts = vec![Account::default(); ACCOUNTS];
    Rest {
        mail: accounts.clone(),
        accounts,
        receivers: vec![Receiver::default(); RECEIVERS],
        ..Rest::default()
    }
}

#[test]
fn what_was_shown_and_is_gone_is_found() {
    let read = |life, value| line(life, Kind::Ok, Op::Read { counter: "hot".into(), value });
    assert!(faults_of(&[read(1, 4), read(1, 3), read(2, 4)]).is_empty(), "readers of one life overtake");
    assert_eq!(faults_of(&[read(1, 4), read(2, 3)]).len(), 1);
}

#[test]
fn a_command_applied_twice_is_found() {
    let add = |seq, reply| line(1, Kind::Ok, Op::Add { client: 0, seq, counter: "c0".into(), reply });
    assert!(faults_of(&[add(1, 1), add(3, 2)]).is_empty());
    assert_eq!(faults_of(&[add(1, 1), add(3, 3)]).len(), 1);
}

#[test]
fn a_torn_read_of_the_bank_is_found() {
    let total = |sum, least| line(1, Kind::Ok, Op::Total { sum, least });
    assert!(faults_of(&[total(800, 0)]).is_empty());
    assert_eq!(faults_of(&[total(799, 0), total(800, -1)]).len(), 2);
}

#[test]
fn an_effect_that_runs_again_or_changes_its_key_is_found() {
    let done = line(1, Kind::Ok, Op::Done { id: 7 });
    assert!(faults_of(&[effect("job/7", "a"), effect("job/7", "a"), done.clone()]).is_empty());
    assert_eq!(faults_of(&[effect("job/7", "a"), done, effect("job/7", "a")]).len(), 1);
    assert_eq!(faults_of(&[effect("job/7", "a"), effect("job/7", "b")]).len(), 1);
    assert_eq!(faults_of(&[effect("job/7", "a"), effect("job/8", "a")]).len(), 1);
    let again = [effect("step/r/s0", "r/s0"), effect("step/r/s1", "r/s1"), effect("step/r/s0", "r/s0")];
    assert_eq!(faults_of(&again).len(), 1);
}

#[test]
fn lost_and_doubled_operations_are_found_at_rest() {
    let rest = idle();
    assert!(faults_at_rest(&[], &rest).is_empty());
    let lost = [
        Op::Transfer { id: 1, from: 0, to: 1, n: 3 },
        Op::Send { id: 1, from: 0, to: 1, n: 3 },
        Op::Add { client: 0, seq: 1, counter: "c0".into(), reply: 1 },
        Op::Enqueue { id: 1 },
        Op::Sleep { id: 1, due: 1 },
        Op::Emit { count: 1 },
        Op::Start { run: "r".into() },
    ];
    for op in lost {
        assert!(!faults_at_rest(&[line(1, Kind::Ok, op.clone())], &rest).is_empty(), "{op:?} is gone");
    }
    let mut doubled = idle();
    for (account, change, twice) in [(0, -6, false), (1, 6, true)] {
        doubled.accounts[account].change = change;
        let ledger = vec![(1, 3); 2];
        let account = &mut doubled.accounts[account];
        if twice { account.credits = ledger } else { account.debits = ledger }
    }
    let transfer = line(1, Kind::Ok, Op::Transfer { id: 1, from: 0, to: 1, n: 3 });
    assert_eq!(faults_at_rest(&[transfer], &doubled).len(), 1, "the sum alone does not tell");
}

#[test]
fn a_timer_that_fires_early_late_twice_or_not_is_found() {
    let life = line(1, Kind::Ok, Op::Life);
    let sleep = line(1, Kind::Ok, Op::Sleep { id: 1, due: 2_000 });
    let fired = |times: &[i64]| {
        let mut rest = idle();
        rest.sleeper.fired = times.iter().map(|at| (1, 2_000, *at)).collect();
        faults_at_rest(&[life.clone(), sleep.clone()], &rest).len()
    };
    assert_eq!(fired(&[2_000]), 0);
    assert_eq!(
        (fired(&[1_999]), fired(&[2_001 + LATEST_US]), fired(&[2_000, 2_000]), fired(&[])),
        (1, 1, 1, 1)
    );
}

#[test]
fn a_message_that_is_lost_or_out_of_order_is_found() {
    let emitted = [Kind::Invoke, Kind::Ok].map(|kind| line(1, kind, Op::Emit { count: 2 }));
    let received = |last, wrong: &[(u64, u64)]| {
        let mut rest = idle();
        rest.emitted = 2;
        rest.receivers = vec![Receiver { last, wrong: wrong.to_vec() }; RECEIVERS];
        faults_at_rest(&emitted, &rest).len()
    };
    assert_eq!((received(2, &[]), received(1, &[]), received(2, &[(2, 1)])), (0, RECEIVERS, RECEIVERS));
}
