//! A durable agent: what `call` answers is on disk. Run it twice: it goes on counting.
use serde::{Deserialize, Serialize};
use stanchion::{Agent, Ctx, Never, System};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter(u64);

impl Agent for Counter {
    const KIND: &'static str = "counter";
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    fn handle(&mut self, add: u64, _: &mut Ctx<'_>) -> Result<u64, Never> {
        self.0 += add;
        Ok(self.0)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "first_agent.redb".into());
    let system = System::builder().agent::<Counter>().open(&path).await?;
    println!("counted to {}", system.agent::<Counter>("visits")?.call(1).await?);
    let _ = system.stop(std::time::Duration::from_secs(5)).await?;
    Ok(())
}
