//! banking: an account asks another within a transfer, and takes its next transfer when that has answered.

use std::collections::VecDeque;

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    Random,
    runtime::{Behaviour, Message, Runtime, World},
};

/// Balance at the start; integers, so that nothing can get lost in rounding.
const BALANCE: u64 = 1_000_000;

/// An account. `Transfer`: take here, put there, tell the teller. `From`: put here, answer.
struct Account<R: Runtime> {
    balance: u64,
    me: Option<R::Address>,
    /// The teller of the transfer under way.
    teller: Option<R::Address>,
    waiting: VecDeque<(u64, R::Address, R::Address)>,
    answer: UnboundedSender<u64>,
}

impl<R: Runtime> Account<R> {
    fn begin(&mut self, (amount, to, teller): (u64, R::Address, R::Address)) {
        let Some(me) = &self.me else { return };
        self.balance -= amount;
        self.teller = Some(teller);
        R::send(&to, Message::From(amount, me.clone()));
    }
}

impl<R: Runtime> Behaviour<R> for Account<R> {
    fn on(&mut self, message: Message<R>) {
        match message {
            Message::Wire(mut me) => self.me = me.pop(),
            Message::Transfer(amount, to, teller) if self.teller.is_some() => {
                self.waiting.push_back((amount, to, teller));
            }
            Message::Transfer(amount, to, teller) => self.begin((amount, to, teller)),
            Message::From(amount, from) => {
                self.balance += amount;
                R::send(&from, Message::Ping(amount));
            }
            Message::Ping(_) => {
                if let Some(teller) = self.teller.take() {
                    R::send(&teller, Message::Ping(1));
                }
                if let Some(next) = self.waiting.pop_front() {
                    self.begin(next);
                }
            }
            Message::Go(_) => drop(self.answer.send(self.balance)),
            Message::End => {}
        }
    }
}

/// Orders all transfers, and waits for them.
struct Teller<R: Runtime> {
    accounts: Vec<R::Address>,
    me: Option<R::Address>,
    left: u64,
    answer: UnboundedSender<u64>,
}

impl<R: Runtime> Behaviour<R> for Teller<R> {
    fn on(&mut self, message: Message<R>) {
        match message {
            Message::Wire(mut accounts) => {
                self.me = accounts.pop();
                self.accounts = accounts;
            }
            Message::Go(transfers) => {
                let (Some(me), count) = (&self.me, self.accounts.len()) else { return };
                let mut random = Random::new(0);
                self.left = transfers;
                for _ in 0..transfers {
                    let (from, step) = (random.below(count), 1 + random.below(count - 1));
                    let to = self.accounts[(from + step) % count].clone();
                    // Small enough that no account can run out of money.
                    let amount = random.below(BALANCE as usize / 60_000) as u64 + 1;
                    R::send(&self.accounts[from], Message::Transfer(amount, to, me.clone()));
                }
            }
            Message::Ping(_) => {
                self.left -= 1;
                if self.left == 0 {
                    let _ = self.answer.send(0);
                }
            }
            _ => {}
        }
    }
}

/// `transfers` transfers among `accounts` accounts.
pub async fn transfer<R: Runtime>(world: &mut World<R>, accounts: u64, transfers: u64) {
    let mut all = Vec::new();
    for _ in 0..accounts {
        let (waiting, answer) = (VecDeque::new(), world.answer.clone());
        let account = Account::<R> { balance: BALANCE, me: None, teller: None, waiting, answer };
        let account = world.spawn(account).await;
        R::send(&account, Message::Wire(vec![account.clone()]));
        all.push(account);
    }
    let teller = Teller::<R> { accounts: Vec::new(), me: None, left: 0, answer: world.answer.clone() };
    let teller = world.spawn(teller).await;
    R::send(&teller, Message::Wire(all.iter().cloned().chain([teller.clone()]).collect()));
    R::send(&teller, Message::Go(transfers));
    let _ = world.sum(1).await;
    for account in &all {
        R::send(account, Message::Go(0));
    }
    assert_eq!(world.sum(accounts).await, accounts * BALANCE, "no money is lost");
}
