//! Money moves between agents, in two ways: in one commit (`transact`), or by a message that is delivered at least
//! once, handled once, and comes back when it is refused. Whatever happens, no money appears or vanishes.
use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use stanchion::{Address, Agent, Completion, Ctx, System, Transact, port};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    balance: u64,
    closed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Deposit(u64),
    Withdraw(u64),
    /// Takes the money from here and sends it there.
    Send {
        to: String,
        amount: u64,
    },
    Close,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum Refused {
    #[error("only {0} left")]
    TooLittle(u64),
    #[error("the account is closed")]
    Closed,
}

impl Account {
    fn take(&mut self, amount: u64) -> Result<(), Refused> {
        self.balance = self.balance.checked_sub(amount).ok_or(Refused::TooLittle(self.balance))?;
        Ok(())
    }
}

impl Agent for Account {
    const KIND: &'static str = "account";
    type Command = Order;
    type Reply = u64;
    type Rejection = Refused;

    fn handle(&mut self, order: Order, ctx: &mut Ctx<'_>) -> Result<u64, Refused> {
        match order {
            Order::Deposit(_) if self.closed => return Err(Refused::Closed),
            Order::Deposit(amount) => self.balance += amount,
            Order::Withdraw(amount) => self.take(amount)?,
            Order::Send { to, amount } => {
                self.take(amount)?;
                // In the same entry as the new balance: both are stored, or neither.
                ctx.send::<Account>(&to, &Order::Deposit(amount)).map_err(|_| Refused::Closed)?;
            }
            Order::Close => self.closed = true,
        }
        Ok(self.balance)
    }

    /// A message that was refused comes back: the money, too.
    fn completed(&mut self, done: Completion, _: &mut Ctx<'_>) {
        if let Completion::Returned { payload, .. } = done
            && let Ok(Order::Deposit(amount)) = port::decode(&payload)
        {
            self.balance += amount;
        }
    }
}

async fn open(path: &Path) -> Result<System, Box<dyn std::error::Error>> {
    Ok(System::builder().agent::<Account>().open(path).await?)
}

async fn balance(of: &Address<Account>) -> Result<u64, Box<dyn std::error::Error>> {
    Ok(of.read(|account| account.balance).await?)
}

/// Waits until a message has arrived, or come back.
async fn await_balance(of: &Address<Account>, wanted: u64) -> Result<(), Box<dyn std::error::Error>> {
    for _ in 0..2_000 {
        if balance(of).await? == wanted {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("the balance is {}, not {wanted}", balance(of).await?).into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("bank.redb");
    let system = open(&path).await?;
    let [ada, bob, carl] =
        [system.agent::<Account>("ada")?, system.agent("bob")?, system.agent::<Account>("carl")?];
    ada.call(Order::Deposit(100)).await?;
    carl.call(Order::Close).await?;

    let mut move_30 = Transact::new();
    move_30.add(&ada, &Order::Withdraw(30));
    let there = move_30.add(&bob, &Order::Deposit(30));
    let replies = system.transact(move_30).await?;
    assert_eq!(replies.get(&there), Some(30));
    println!("moved 30 in one commit: ada {}, bob {}", balance(&ada).await?, balance(&bob).await?);

    let mut move_500 = Transact::new();
    move_500.add(&bob, &Order::Deposit(500));
    move_500.add(&ada, &Order::Withdraw(500));
    assert!(system.transact(move_500).await.is_err(), "ada has not got 500");
    assert_eq!((balance(&ada).await?, balance(&bob).await?), (70, 30), "all or none");
    println!("moved 500: refused, ada {}, bob {}", balance(&ada).await?, balance(&bob).await?);

    ada.call(Order::Send { to: "bob".into(), amount: 20 }).await?;
    await_balance(&bob, 50).await?;
    println!("sent 20 by message: ada {}, bob {}", balance(&ada).await?, balance(&bob).await?);

    ada.call(Order::Send { to: "carl".into(), amount: 50 }).await?;
    await_balance(&ada, 50).await?;
    println!("sent 50 to a closed account: it came back, ada {}", balance(&ada).await?);

    let _ = system.stop(Duration::from_secs(5)).await?;
    let system = open(&path).await?;
    let mut total = 0;
    for name in ["ada", "bob", "carl"] {
        total += balance(&system.agent::<Account>(name)?).await?;
    }
    assert_eq!(total, 100, "no money appears or vanishes");
    println!("after a restart the bank still holds {total}");
    let _ = system.stop(Duration::from_secs(5)).await?;
    Ok(())
}
