//! count, pingpong, fjcreate and threadring.

use tokio::sync::mpsc::UnboundedSender;

use crate::runtime::{Behaviour, Message, Runtime, World};

/// Counts pings; says the count when told to go.
struct Counter {
    count: u64,
    answer: UnboundedSender<u64>,
}

impl<R: Runtime> Behaviour<R> for Counter {
    fn on(&mut self, message: Message<R>) {
        match message {
            Message::Ping(_) => self.count += 1,
            _ => drop(self.answer.send(self.count)),
        }
    }
}

/// Sends as many pings as it is told.
struct Producer<R: Runtime>(R::Address);

impl<R: Runtime> Behaviour<R> for Producer<R> {
    fn on(&mut self, message: Message<R>) {
        let Message::Go(n) = message else { return };
        for ping in 0..n {
            R::send(&self.0, Message::Ping(ping));
        }
        R::send(&self.0, Message::Go(0));
    }
}

/// One sender, one receiver.
pub async fn count<R: Runtime>(world: &mut World<R>, n: u64) {
    let counter = Counter { count: 0, answer: world.answer.clone() };
    let counter = world.spawn(counter).await;
    let producer = world.spawn(Producer::<R>(counter)).await;
    R::send(&producer, Message::Go(n));
    assert_eq!(world.sum(1).await, n);
}

/// Sends a ping at each pong, until none is left.
struct Pinger<R: Runtime> {
    others: Vec<R::Address>,
    pongs: u64,
    answer: UnboundedSender<u64>,
}

impl<R: Runtime> Behaviour<R> for Pinger<R> {
    fn on(&mut self, message: Message<R>) {
        match message {
            Message::Wire(others) => self.others = others,
            Message::Go(left) => R::send(&self.others[0], Message::From(left, self.others[1].clone())),
            Message::Ping(left) => {
                self.pongs += 1;
                if left == 1 {
                    let _ = self.answer.send(self.pongs);
                } else {
                    R::send(&self.others[0], Message::From(left - 1, self.others[1].clone()));
                }
            }
            _ => {}
        }
    }
}

struct Ponger;

impl<R: Runtime> Behaviour<R> for Ponger {
    fn on(&mut self, message: Message<R>) {
        if let Message::From(left, from) = message {
            R::send(&from, Message::Ping(left));
        }
    }
}

/// Two that alternate.
pub async fn ping_pong<R: Runtime>(world: &mut World<R>, n: u64) {
    let ponger = world.spawn(Ponger).await;
    let pinger = Pinger::<R> { others: Vec::new(), pongs: 0, answer: world.answer.clone() };
    let pinger = world.spawn(pinger).await;
    R::send(&pinger, Message::Wire(vec![ponger, pinger.clone()]));
    R::send(&pinger, Message::Go(n));
    assert_eq!(world.sum(1).await, n);
}

/// Answers its one message with a small piece of work.
struct Once(UnboundedSender<u64>);

impl<R: Runtime> Behaviour<R> for Once {
    fn on(&mut self, message: Message<R>) {
        if let Message::Ping(n) = message {
            let sine = (n as f64).sin();
            let _ = self.0.send(u64::from(sine * sine <= 1.0));
        }
    }
}

/// Actors that live for one message.
pub async fn create<R: Runtime>(world: &mut World<R>, n: u64) {
    for ping in 0..n {
        let once = world.spawn(Once(world.answer.clone())).await;
        R::send(&once, Message::Ping(ping));
    }
    assert_eq!(world.sum(n).await, n);
}

/// Hands on what it gets, one less.
struct Link<R: Runtime> {
    next: Option<R::Address>,
    answer: UnboundedSender<u64>,
}

impl<R: Runtime> Behaviour<R> for Link<R> {
    fn on(&mut self, message: Message<R>) {
        match (message, &self.next) {
            (Message::Wire(mut next), _) => self.next = next.pop(),
            (Message::Ping(0), _) => drop(self.answer.send(1)),
            (Message::Ping(hops), Some(next)) => R::send(next, Message::Ping(hops - 1)),
            _ => {}
        }
    }
}

/// A token round a ring.
pub async fn ring<R: Runtime>(world: &mut World<R>, actors: usize, hops: u64) {
    let mut links = Vec::new();
    for _ in 0..actors {
        let link = Link::<R> { next: None, answer: world.answer.clone() };
        links.push(world.spawn(link).await);
    }
    for (n, link) in links.iter().enumerate() {
        R::send(link, Message::Wire(vec![links[(n + 1) % actors].clone()]));
    }
    R::send(&links[0], Message::Ping(hops));
    assert_eq!(world.sum(1).await, 1);
}
