//! An order as a workflow: when a step fails for good, the completed ones are undone in reverse order.
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    workflow::{Definition, RetryPolicy, RunStatus, StartRun, Step, definition::FailurePolicy},
};

/// What happened outside, in order.
type Diary = Arc<Mutex<Vec<String>>>;

fn write(diary: &Diary, line: impl Into<String>) {
    diary.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
}

#[derive(Serialize, Deserialize)]
struct Payment {
    amount: u64,
}

/// Charges a card.
struct Charge(Diary);

impl Activity for Charge {
    const NAME: &'static str = "charge";
    type Input = Payment;
    type Output = Payment;

    async fn run(&self, ctx: ActivityCtx, payment: Payment) -> Result<Payment, Failure> {
        // The key is the same for every attempt: the bank recognises a repeated charge by it.
        write(&self.0, format!("charge {} ({})", payment.amount, ctx.idempotency_key));
        Ok(payment)
    }
}

/// Gives the money back.
struct Refund(Diary);

impl Activity for Refund {
    const NAME: &'static str = "refund";
    type Input = Payment;
    type Output = ();

    async fn run(&self, _: ActivityCtx, payment: Payment) -> Result<(), Failure> {
        write(&self.0, format!("refund {}", payment.amount));
        Ok(())
    }
}

/// Takes an article off the shelf, or puts it back.
struct Shelf(Diary);

impl Activity for Shelf {
    const NAME: &'static str = "shelf";
    type Input = String;
    type Output = ();

    async fn run(&self, _: ActivityCtx, what: String) -> Result<(), Failure> {
        write(&self.0, what);
        Ok(())
    }
}

/// Ships a parcel. The carrier is busy at first, and does not go everywhere.
struct Ship(Diary);

impl Activity for Ship {
    const NAME: &'static str = "ship";
    type Input = String;
    type Output = String;

    async fn run(&self, ctx: ActivityCtx, to: String) -> Result<String, Failure> {
        if ctx.attempt == 1 {
            return Err(Failure::retryable("carrier.busy", "no van before noon"));
        }
        if to == "the moon" {
            return Err(Failure::permanent("carrier.no_route", "no van goes there"));
        }
        write(&self.0, format!("ship to {to}"));
        Ok(format!("parcel for {to}"))
    }
}

fn order() -> Definition {
    let retry = RetryPolicy { max_attempts: 3, initial_interval_ms: 20, ..RetryPolicy::default() };
    Definition::builder("order")
        .on_failure(FailurePolicy::Compensate)
        .step(
            Step::new("charge")
                .activity(Charge::NAME)
                .input(json!({"amount": "${input.amount}"}))
                .compensation(Refund::NAME, json!("${steps.charge.output}")),
        )
        .step(
            Step::new("reserve")
                .activity(Shelf::NAME)
                .needs(["charge"])
                .input(json!("take off the shelf"))
                .compensation(Shelf::NAME, json!("put back on the shelf")),
        )
        .step(
            Step::new("ship")
                .activity(Ship::NAME)
                .needs(["reserve"])
                .input(json!("${input.to}"))
                .retry(retry),
        )
        .output(json!("${steps.ship.output}"))
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let diary = Diary::default();
    let system = System::builder()
        .activity(Charge(Arc::clone(&diary)))
        .activity(Refund(Arc::clone(&diary)))
        .activity(Shelf(Arc::clone(&diary)))
        .activity(Ship(Arc::clone(&diary)))
        .open(dir.path().join("orders.redb"))
        .await?;
    let workflows = system.workflows();
    let definition = workflows.define(order().validate()?);
    for (id, to) in [("order-1", "the harbour"), ("order-2", "the moon")] {
        let input = json!({"amount": 42, "to": to});
        let start = StartRun { input, ..StartRun::new(id, Arc::clone(&definition)) };
        workflows.start(start).await?;
        let run = workflows.wait(id).await?;
        println!("{id} to {to}: {}", run.state.status());
        for line in diary.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            println!("  {line}");
        }
        let lines = std::mem::take(&mut *diary.lock().unwrap_or_else(PoisonError::into_inner));
        let done = ["charge 42", "take off the shelf"];
        if id == "order-1" {
            assert_eq!(run.state.status(), RunStatus::Completed);
            assert_eq!(run.output(system.store().as_ref()).await?, json!("parcel for the harbour"));
            assert_eq!(lines, ["charge 42 (order-1/charge)", done[1], "ship to the harbour"]);
        } else {
            assert_eq!(run.state.status(), RunStatus::Compensated);
            let error = run.state.error().ok_or("the reason is kept")?;
            println!("  because: {}", error.message);
            let undone = ["put back on the shelf", "refund 42"];
            assert_eq!(lines, ["charge 42 (order-2/charge)", done[1], undone[0], undone[1]]);
        }
    }
    let _ = system.stop(Duration::from_secs(5)).await?;
    Ok(())
}
