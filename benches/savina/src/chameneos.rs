//! chameneos: many meet two by two at one place.

use tokio::sync::mpsc::UnboundedSender;

use crate::runtime::{Behaviour, Message, Runtime, World};

/// Colour after two met: the same when they are equal, else the third.
fn complement(mine: u64, other: u64) -> u64 {
    if mine == other { mine } else { 3 - mine - other }
}

/// Where they meet.
struct Mall<R: Runtime> {
    waiting: Option<(u64, R::Address)>,
    left: u64,
}

impl<R: Runtime> Behaviour<R> for Mall<R> {
    fn on(&mut self, message: Message<R>) {
        let Message::From(colour, from) = message else { return };
        if self.left == 0 {
            // No more meetings.
            return R::send(&from, Message::Go(0));
        }
        match self.waiting.take() {
            None => self.waiting = Some((colour, from)),
            Some((other, first)) => {
                self.left -= 1;
                R::send(&first, Message::Ping(colour));
                R::send(&from, Message::Ping(other));
            }
        }
    }
}

/// Meets until there are no more meetings.
struct Creature<R: Runtime> {
    colour: u64,
    meetings: u64,
    wires: Vec<R::Address>,
    answer: UnboundedSender<u64>,
}

impl<R: Runtime> Behaviour<R> for Creature<R> {
    fn on(&mut self, message: Message<R>) {
        match message {
            Message::Wire(wires) => self.wires = wires,
            Message::Ping(other) => {
                self.meetings += 1;
                self.colour = complement(self.colour, other);
            }
            Message::Go(_) => {
                let _ = self.answer.send(self.meetings);
                return;
            }
            _ => return,
        }
        R::send(&self.wires[0], Message::From(self.colour, self.wires[1].clone()));
    }
}

/// `meetings` meetings among `creatures`.
pub async fn meet<R: Runtime>(world: &mut World<R>, creatures: u64, meetings: u64) {
    let mall = world.spawn(Mall::<R> { waiting: None, left: meetings }).await;
    for n in 0..creatures {
        let answer = world.answer.clone();
        let creature = Creature::<R> { colour: n % 3, meetings: 0, wires: Vec::new(), answer };
        let creature = world.spawn(creature).await;
        R::send(&creature, Message::Wire(vec![mall.clone(), creature.clone()]));
    }
    assert_eq!(world.sum(creatures).await, 2 * meetings);
}
