//! Actors without a store: the addresses, mailboxes and supervision of agents, and nothing on disk.
#![allow(clippy::panic, reason = "a crash is what the example shows")]

use std::time::Duration;

use stanchion::{
    MailboxOptions, Never, System, Volatile, VolatileCtx,
    error::{CallError, Doubt},
};

/// Counts who is in a room.
#[derive(Default)]
struct Room {
    inside: i64,
}

enum Event {
    Enter,
    Leave,
    Count,
    Fire,
}

impl Volatile for Room {
    const KIND: &'static str = "room";
    type Command = Event;
    type Reply = i64;
    type Rejection = Never;

    #[expect(clippy::panic, reason = "to show what follows from one")]
    fn handle(&mut self, event: Event, _: &mut VolatileCtx<'_>) -> Result<i64, Never> {
        match event {
            Event::Enter => self.inside += 1,
            Event::Leave => self.inside -= 1,
            Event::Count => {}
            Event::Fire => panic!("fire"),
        }
        Ok(self.inside)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = System::builder().volatile::<Room>(MailboxOptions::default()).open_memory().await?;
    let hall = system.volatile::<Room>("hall")?;
    for _ in 0..1_000 {
        // A cast does not wait for the answer; the mailbox is bounded and holds up who sends too fast.
        hall.cast(Event::Enter).await?;
    }
    hall.cast(Event::Leave).await?;
    let inside = hall.call(Event::Count).await?;
    assert_eq!(inside, 999, "in the order sent");
    println!("{inside} in the hall");
    assert_eq!(
        system.volatile::<Room>("cellar")?.call(Event::Count).await?,
        0,
        "every key is an actor of its own"
    );

    std::panic::set_hook(Box::new(|_| println!("the actor panics")));
    match hall.call(Event::Fire).await {
        Err(CallError::Unknown(context)) => assert_eq!(context.kind, Doubt::Lost),
        other => return Err(format!("a crash is told to its caller, not {other:?}").into()),
    }
    let _ = std::panic::take_hook();
    let after = hall.call(Event::Count).await?;
    assert_eq!(after, 0, "its supervisor has started it anew, with a fresh state");
    println!("{after} in the hall after the crash: the address is the same, the state was volatile");

    assert_eq!(system.store_stats().commits, 0, "nothing was stored");
    let report = system.stop(Duration::from_secs(5)).await?;
    assert_eq!(report.left_over, 0);
    Ok(())
}
