//! Volatile actors against raw ractor ones: in turns, both unbounded in effect, both with a deadline on calls.

use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use stanchion::{MailboxOptions, Never, System, Volatile, VolatileAddress, VolatileCtx};

use crate::Lab;

const CASTS: u64 = 200_000;
const CALLS: u64 = 40_000;
const ROUNDS: usize = 9;
const DEADLINE: Duration = Duration::from_secs(30);

/// Counts, and says the count.
#[derive(Default)]
struct Tally(u64);

impl Volatile for Tally {
    const KIND: &'static str = "tally";
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    fn handle(&mut self, add: u64, _: &mut VolatileCtx<'_>) -> Result<u64, Never> {
        self.0 += add;
        Ok(self.0)
    }
}

/// The same on ractor alone.
struct Raw;

enum RawMsg {
    Add(u64),
    Ask(u64, RpcReplyPort<u64>),
}

#[cfg(feature = "cluster")]
impl ractor::Message for RawMsg {}

impl Actor for Raw {
    type Msg = RawMsg;
    type State = u64;
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<RawMsg>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }
    async fn handle(
        &self,
        _: ActorRef<RawMsg>,
        message: RawMsg,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RawMsg::Add(add) => *count += add,
            RawMsg::Ask(add, reply) => {
                *count += add;
                let _ = reply.send(*count);
            }
        }
        Ok(())
    }
}

/// Nanoseconds of each of `count` things.
fn nanos(began: Instant, count: u64) -> f64 {
    began.elapsed().as_nanos() as f64 / count as f64
}

async fn raw_casts(raw: &ActorRef<RawMsg>) -> f64 {
    let began = Instant::now();
    for _ in 0..CASTS {
        raw.cast(RawMsg::Add(1)).expect("a cast");
    }
    let _ = raw.call(|reply| RawMsg::Ask(0, reply), Some(DEADLINE)).await.expect("an answer");
    nanos(began, CASTS)
}

async fn raw_calls(raw: &ActorRef<RawMsg>) -> f64 {
    let began = Instant::now();
    for _ in 0..CALLS {
        let _ = raw.call(|reply| RawMsg::Ask(1, reply), Some(DEADLINE)).await.expect("an answer");
    }
    nanos(began, CALLS)
}

async fn casts(tally: &VolatileAddress<Tally>) -> f64 {
    let began = Instant::now();
    for _ in 0..CASTS {
        tally.cast(1).await.expect("a cast");
    }
    tally.call(0).await.expect("an answer");
    nanos(began, CASTS)
}

async fn calls(tally: &VolatileAddress<Tally>) -> f64 {
    let began = Instant::now();
    for _ in 0..CALLS {
        tally.call(1).await.expect("an answer");
    }
    nanos(began, CALLS)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Rows "volatile".
pub async fn run(lab: &Lab) {
    if !lab.wants("volatile") {
        return;
    }
    for (name, capacity, is_target) in [("", 1_000_000, true), ("_default_mailbox", 1_024, false)] {
        let mailbox = MailboxOptions { capacity, ..MailboxOptions::default() };
        let system = System::builder().volatile::<Tally>(mailbox).open_memory().await.expect("a system");
        let tally = system.volatile::<Tally>("t").expect("an address");
        // The callers run on the runtime's threads, as callers do.
        let [casts, calls] = tokio::spawn(rounds(tally)).await.expect("rounds");
        for (what, (ratio, ours, raw), target) in [("cast", casts, 1.5), ("call", calls, 1.3)] {
            let figures = [("ratio", ratio), ("stanchion_ns", ours), ("ractor_ns", raw)];
            let name = format!("volatile_{what}{name}_vs_ractor");
            if is_target {
                lab.report.at_most(&name, ratio, target, &figures);
            } else {
                lab.report.figure(&name, &figures);
            }
        }
        let _ = system.stop(Duration::from_secs(5)).await.expect("a clean stop");
    }
}

/// Ratio, ours, ractor's; of casts and of calls, each the median.
async fn rounds(tally: VolatileAddress<Tally>) -> [(f64, f64, f64); 2] {
    let (raw, ended) = Actor::spawn(None, Raw, ()).await.expect("an actor");
    let mut all = [(Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new())];
    for round in 0..=ROUNDS {
        let cast = (casts(&tally).await, raw_casts(&raw).await);
        let call = (calls(&tally).await, raw_calls(&raw).await);
        // The first round warms up.
        for ((ours, theirs), kept) in [cast, call].into_iter().zip(&mut all).filter(|_| round > 0) {
            kept.0.push(ours / theirs);
            kept.1.push(ours);
            kept.2.push(theirs);
        }
    }
    raw.stop(None);
    ended.await.expect("an end");
    all.map(|(mut ratios, mut ours, mut raws)| (median(&mut ratios), median(&mut ours), median(&mut raws)))
}
