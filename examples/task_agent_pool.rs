//! A pool of task agents: jobs of two kinds in one durable queue, shared out by key, one agent paused meanwhile, and what
//! the queue says of it in numbers.
//!
//! Jobs of one customer go to one agent (consistent hash), in their order; a charge that fails once is tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    balance::Strategy,
    queue::{NewJob, Queue, QueueConfig},
    resilience::retry::RetryPolicy,
    task_agent::{TaskPoolConfig, TaskType},
};

const CUSTOMERS: [&str; 5] = ["ann", "bob", "cleo", "dan", "eve"];
const ORDERS: u32 = 8;

/// One piece of work for a customer.
#[derive(Clone, Serialize, Deserialize)]
struct Order {
    customer: String,
    number: u32,
}

/// What was done, in its order.
type Ledger = Arc<Mutex<BTreeMap<String, Vec<u32>>>>;

/// Charges a customer; the first attempt at order 3 fails.
#[derive(Clone)]
struct Charge(Ledger);

impl Activity for Charge {
    const NAME: &'static str = "charge";
    type Input = Order;
    type Output = u32;

    async fn run(&self, ctx: ActivityCtx, order: Order) -> Result<u32, Failure> {
        if order.number == 3 && ctx.attempt == 1 {
            return Err(Failure::retryable("charge.declined", "try again"));
        }
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(order.customer)
            .or_default()
            .push(order.number);
        Ok(order.number)
    }
}

/// Writes a receipt.
#[derive(Clone)]
struct Receipt;

impl Activity for Receipt {
    const NAME: &'static str = "receipt";
    type Input = Order;
    type Output = String;

    async fn run(&self, _: ActivityCtx, order: Order) -> Result<String, Failure> {
        Ok(format!("receipt {} for {}", order.number, order.customer))
    }
}

fn orders() -> Result<Vec<NewJob>, Box<dyn std::error::Error>> {
    let mut jobs = Vec::new();
    for number in 1..=ORDERS {
        for customer in CUSTOMERS {
            let order = Order { customer: customer.to_owned(), number };
            for kind in ["charge", "receipt"] {
                let job = NewJob::with_input(kind, &order)?;
                // A key of its own for each kind: a charge that waits for its second attempt holds no receipt up.
                jobs.push(NewJob { key: Some(Arc::from(format!("{customer}/{kind}"))), ..job });
            }
        }
    }
    Ok(jobs)
}

async fn until_done(queue: &Queue, jobs: u64) -> Result<(), Box<dyn std::error::Error>> {
    while queue.stats().await?.done < jobs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn pool() -> TaskPoolConfig {
    let mut pool = TaskPoolConfig::new("tills", "orders", "charge", 4, Strategy::ConsistentHash);
    let task = |kind: &str| TaskType {
        kind: Some(kind.to_owned()),
        activity: kind.to_owned(),
        timeout_ms: 5_000,
        retry: None,
        breaker: None,
    };
    pool.types = vec![task("charge"), task("receipt")];
    pool.members.iter_mut().for_each(|member| member.concurrency = 8);
    pool
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ledger = Ledger::default();
    let system =
        System::builder().activity(Charge(Arc::clone(&ledger))).activity(Receipt).open("pool.redb").await?;
    let queue = system.queue("orders")?;
    let retry = RetryPolicy { initial_interval_ms: 10, ..RetryPolicy::default() };
    // One job of a key at a time, in order, whatever the number of agents.
    queue.configure(QueueConfig { per_key_limit: 1, retry, ..QueueConfig::default() }).await?;

    let agents = system.task_agents().start_pool(pool()).await?;
    let held = agents.first().ok_or("a pool has agents")?;
    held.pause("operator", "its printer is out of paper").await?;

    let jobs = orders()?;
    let count = jobs.len() as u64;
    queue.enqueue(jobs).await?;
    until_done(&queue, count).await?;
    assert_eq!(held.status().counts.done, 0, "a paused agent gets nothing; the others do its share");

    held.resume().await?;
    queue.enqueue(orders()?).await?;
    until_done(&queue, 2 * count).await?;
    let counted = || agents.iter().map(|agent| agent.status().counts.done).sum::<u64>();
    while counted() < 2 * count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let twice: Vec<u32> = (1..=ORDERS).chain(1..=ORDERS).collect();
    for (customer, charged) in ledger.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        assert_eq!(*charged, twice, "{customer} was charged once for each order, in order");
    }
    let metrics = queue.metrics().await?;
    let flow = &metrics.flow.all;
    assert!(metrics.stats.is_conserved() && metrics.stats.dead == 0);
    assert_eq!((flow.done, flow.failed, flow.retried), (2 * count, 10, 10), "order 3 of five, twice");
    let keys: BTreeSet<&str> = metrics.flow.keys.keys().map(|key| &**key).collect();
    assert_eq!(keys.len(), 2 * CUSTOMERS.len(), "{keys:?}");
    assert!(flow.wait.count() == flow.started && flow.run.count() == 2 * count + 10);
    println!("{} jobs done by {} agents; {} attempts were repeated", flow.done, agents.len(), flow.retried);
    system.task_agents().stop_pool("tills", Duration::from_secs(5)).await?;
    let _ = system.stop(Duration::from_secs(5)).await?;
    Ok(())
}
