//! big: everybody talks to everybody.

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    Random,
    runtime::{Behaviour, Message, Runtime, World},
};

/// Pings a random other at each pong it gets, and answers pings.
struct Talker<R: Runtime> {
    me: usize,
    all: Vec<R::Address>,
    random: Random,
    left: u64,
    answer: UnboundedSender<u64>,
}

impl<R: Runtime> Talker<R> {
    fn ping(&mut self) {
        let to = self.random.below(self.all.len());
        R::send(&self.all[to], Message::From(0, self.all[self.me].clone()));
    }
}

impl<R: Runtime> Behaviour<R> for Talker<R> {
    fn on(&mut self, message: Message<R>) {
        match message {
            Message::Wire(all) => self.all = all,
            Message::From(_, from) => R::send(&from, Message::Ping(0)),
            Message::Go(pings) => {
                self.left = pings;
                self.ping();
            }
            Message::Ping(_) => {
                self.left -= 1;
                if self.left == 0 {
                    let _ = self.answer.send(1);
                } else {
                    self.ping();
                }
            }
            _ => {}
        }
    }
}

/// `pings` pings of each actor.
pub async fn talk<R: Runtime>(world: &mut World<R>, actors: u64, pings: u64) {
    let mut all = Vec::new();
    for me in 0..actors as usize {
        let random = Random::new(me as u64);
        let talker = Talker::<R> { me, all: Vec::new(), random, left: 0, answer: world.answer.clone() };
        all.push(world.spawn(talker).await);
    }
    for talker in &all {
        R::send(talker, Message::Wire(all.clone()));
    }
    for talker in &all {
        R::send(talker, Message::Go(pings));
    }
    assert_eq!(world.sum(actors).await, actors);
}
