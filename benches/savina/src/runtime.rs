//! What a benchmark needs of a runtime: actors that take messages one by one.

use std::future::Future;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// An actor runtime.
pub trait Runtime: Sized + Send + Sync + 'static {
    const NAME: &'static str;
    type Address: Clone + Send + 'static;
    fn open() -> impl Future<Output = Self>;
    fn spawn(&self, part: Part<Self>) -> impl Future<Output = Self::Address>;
    fn send(to: &Self::Address, message: Message<Self>);
    fn close(self) -> impl Future<Output = ()>;
}

/// Messages of all benchmarks, so that they are of one size in all runtimes.
pub enum Message<R: Runtime> {
    /// Whom it will talk to.
    Wire(Vec<R::Address>),
    Go(u64),
    Ping(u64),
    From(u64, R::Address),
    /// An amount to be taken here, put there, and then told to the third.
    Transfer(u64, R::Address, R::Address),
    /// The actor ends.
    End,
}

/// What an actor does.
pub trait Behaviour<R: Runtime>: Send + 'static {
    fn on(&mut self, message: Message<R>);
}

/// What an actor holds; dropped when it ends.
pub struct Part<R: Runtime> {
    behaviour: Box<dyn Behaviour<R>>,
    _lives: UnboundedSender<()>,
}

impl<R: Runtime> Part<R> {
    /// Takes a message; whether the actor goes on.
    pub fn on(&mut self, message: Message<R>) -> bool {
        if matches!(message, Message::End) {
            return false;
        }
        self.behaviour.on(message);
        true
    }
}

/// One round: the actors of one benchmark, and what they answer.
pub struct World<R: Runtime> {
    runtime: R,
    actors: Vec<R::Address>,
    lives: UnboundedSender<()>,
    ends: UnboundedReceiver<()>,
    pub answer: UnboundedSender<u64>,
    answers: UnboundedReceiver<u64>,
}

impl<R: Runtime> World<R> {
    pub async fn open() -> Self {
        let ((lives, ends), (answer, answers)) = (unbounded_channel(), unbounded_channel());
        Self { runtime: R::open().await, actors: Vec::new(), lives, ends, answer, answers }
    }

    pub async fn spawn(&mut self, behaviour: impl Behaviour<R>) -> R::Address {
        let part = Part { behaviour: Box::new(behaviour), _lives: self.lives.clone() };
        let address = self.runtime.spawn(part).await;
        self.actors.push(address.clone());
        address
    }

    /// Sum of the next `count` answers.
    pub async fn sum(&mut self, count: u64) -> u64 {
        let mut sum = 0;
        for _ in 0..count {
            sum += self.answers.recv().await.expect("an answer");
        }
        sum
    }

    /// Ends every actor and waits for all ends.
    pub async fn close(mut self) {
        for actor in &self.actors {
            R::send(actor, Message::End);
        }
        drop((self.actors, self.lives));
        self.runtime.close().await;
        while self.ends.recv().await.is_some() {}
    }
}
