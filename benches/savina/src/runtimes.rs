//! The four runtimes.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use stanchion::{MailboxOptions, Never, System, Volatile, VolatileAddress, VolatileCtx};

use crate::runtime::{Message, Part, Runtime};

/// Raw ractor: unbounded mailboxes.
pub struct Ractor;

struct RactorActor;

impl ractor::Actor for RactorActor {
    type Msg = Message<Ractor>;
    type State = Part<Ractor>;
    type Arguments = Part<Ractor>;

    async fn pre_start(
        &self,
        _: ractor::ActorRef<Self::Msg>,
        part: Part<Ractor>,
    ) -> Result<Part<Ractor>, ractor::ActorProcessingErr> {
        Ok(part)
    }

    async fn handle(
        &self,
        myself: ractor::ActorRef<Self::Msg>,
        message: Self::Msg,
        part: &mut Part<Ractor>,
    ) -> Result<(), ractor::ActorProcessingErr> {
        if !part.on(message) {
            myself.stop(None);
        }
        Ok(())
    }
}

impl Runtime for Ractor {
    const NAME: &'static str = "ractor";
    type Address = ractor::ActorRef<Message<Self>>;

    async fn open() -> Self {
        Self
    }

    async fn spawn(&self, part: Part<Self>) -> Self::Address {
        ractor::Actor::spawn(None, RactorActor, part).await.expect("an actor").0
    }

    fn send(to: &Self::Address, message: Message<Self>) {
        // One that has ended has nothing to be told.
        let _ = to.cast(message);
    }

    async fn close(self) {}
}

/// Volatile actors of stanchion: mailboxes of the largest bound. They end with their system.
pub struct Stanchion {
    system: System,
    next: AtomicU64,
}

/// Begins as nothing: its first command says what it is.
#[derive(Default)]
pub struct Player(Option<Part<Stanchion>>);

pub enum Order {
    Become(Part<Stanchion>),
    Take(Message<Stanchion>),
}

impl Volatile for Player {
    const KIND: &'static str = "player";
    type Command = Order;
    type Reply = ();
    type Rejection = Never;

    fn handle(&mut self, order: Order, _: &mut VolatileCtx<'_>) -> Result<(), Never> {
        match order {
            Order::Become(part) => self.0 = Some(part),
            Order::Take(message) => {
                if !self.0.as_mut().is_none_or(|part| part.on(message)) {
                    self.0 = None;
                }
            }
        }
        Ok(())
    }
}

impl Runtime for Stanchion {
    const NAME: &'static str = "stanchion_volatile";
    type Address = VolatileAddress<Player>;

    async fn open() -> Self {
        let mailbox = MailboxOptions { capacity: 1_000_000, ..MailboxOptions::default() };
        let system = System::builder().volatile::<Player>(mailbox).open_memory().await.expect("a system");
        Self { system, next: AtomicU64::new(0) }
    }

    async fn spawn(&self, part: Part<Self>) -> Self::Address {
        let key = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let address = self.system.volatile::<Player>(&key).expect("an address");
        address.cast(Order::Become(part)).await.expect("a place");
        address
    }

    fn send(to: &Self::Address, message: Message<Self>) {
        let sent = to.cast(Order::Take(message)).now_or_never();
        sent.expect("the mailbox is not full").expect("a place");
    }

    async fn close(self) {
        let _ = self.system.stop(Duration::from_secs(30)).await.expect("a clean stop");
    }
}

/// kameo: unbounded mailboxes.
pub struct Kameo;

pub struct KameoActor(Part<Kameo>);

impl kameo::Actor for KameoActor {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(actor: Self, _: kameo::actor::ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(actor)
    }
}

impl kameo::message::Message<Message<Kameo>> for KameoActor {
    type Reply = ();

    async fn handle(&mut self, message: Message<Kameo>, ctx: &mut kameo::message::Context<Self, ()>) {
        if !self.0.on(message) {
            ctx.stop();
        }
    }
}

impl Runtime for Kameo {
    const NAME: &'static str = "kameo";
    type Address = kameo::actor::ActorRef<KameoActor>;

    async fn open() -> Self {
        Self
    }

    async fn spawn(&self, part: Part<Self>) -> Self::Address {
        kameo::actor::Spawn::spawn_with_mailbox(KameoActor(part), kameo::mailbox::unbounded())
    }

    fn send(to: &Self::Address, message: Message<Self>) {
        let _ = to.tell(message).try_send();
    }

    async fn close(self) {}
}

/// actix: two arbiters, each a thread; mailboxes that refuse nobody (`do_send`).
pub struct Actix {
    arbiters: [actix::Arbiter; 2],
    next: AtomicUsize,
}

pub struct ActixActor(Part<Actix>);

impl actix::Actor for ActixActor {
    type Context = actix::Context<Self>;
}

impl actix::Message for Message<Actix> {
    type Result = ();
}

impl actix::Handler<Message<Actix>> for ActixActor {
    type Result = ();

    fn handle(&mut self, message: Message<Actix>, ctx: &mut actix::Context<Self>) {
        if !self.0.on(message) {
            actix::ActorContext::stop(ctx);
        }
    }
}

impl Runtime for Actix {
    const NAME: &'static str = "actix";
    type Address = actix::Addr<ActixActor>;

    async fn open() -> Self {
        Self { arbiters: [actix::Arbiter::new(), actix::Arbiter::new()], next: AtomicUsize::new(0) }
    }

    async fn spawn(&self, part: Part<Self>) -> Self::Address {
        let arbiter = &self.arbiters[self.next.fetch_add(1, Ordering::Relaxed) % 2];
        actix::Actor::start_in_arbiter(&arbiter.handle(), |_| ActixActor(part))
    }

    fn send(to: &Self::Address, message: Message<Self>) {
        to.do_send(message);
    }

    async fn close(self) {
        let [first, second] = self.arbiters;
        for arbiter in [first, second] {
            // Actors that have not ended yet end with their thread.
            arbiter.stop();
            let joined = tokio::task::spawn_blocking(move || arbiter.join());
            joined.await.expect("a thread").expect("an arbiter that ended well");
        }
    }
}
