//! What the tests of entities share: agents that do what they are told, and a system on a store in memory.

#[cfg(feature = "testing")]
mod late_loads;
mod ledger;

use std::{future::Future, time::Duration};

use stanchion::{
    Address, Builder, EntityOptions, System,
    error::CallError,
    port::{Loaded, memory::MemoryStore},
    supervisors::Shutdown,
};

#[cfg(feature = "testing")]
pub(crate) use self::late_loads::{Late, LateLoads};
pub(crate) use self::ledger::{Answer, Command, Echo, Ledger, Refusal};

/// The outcome of a call of a [`Ledger`].
pub(crate) type Outcome = Result<Answer, CallError<Refusal>>;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A builder that knows the ledger.
pub(crate) fn builder() -> Builder {
    with(EntityOptions::default())
}

/// A builder that knows the ledger with these limits.
pub(crate) fn with(options: EntityOptions) -> Builder {
    System::builder().agent_with::<Ledger>(options)
}

/// A system on `store`.
pub(crate) async fn open(store: &MemoryStore) -> System {
    builder().open_on(store.clone()).await.unwrap()
}

/// The ledger of this key.
pub(crate) fn ledger(system: &System, key: &str) -> Address<Ledger> {
    system.agent::<Ledger>(key).unwrap()
}

/// Ends the system at once, as kill -9 would; what it runs on stays.
pub(crate) async fn crash(system: System) {
    let _ended = system.root().stop(Shutdown::BrutalKill).await;
    system.env().tasks().end();
}

/// Stops the system in order, and sees that nothing is left.
pub(crate) async fn stop(system: System) {
    let report = system.stop(Duration::from_secs(10)).await.unwrap();
    assert_eq!(report.left_over, 0, "no live actors, no tasks");
}

/// Waits until `look` says yes.
pub(crate) async fn until(what: &str, mut look: impl FnMut() -> bool) {
    until_async(what, || std::future::ready(look())).await;
}

/// Waits until what `look` gives says yes.
pub(crate) async fn until_async<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let began = std::time::Instant::now();
    while !look().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}

/// Kills the actor of an entity, once one is in charge.
pub(crate) async fn kill(address: &Address<Ledger>) {
    let cell = address.untyped().cell().unwrap();
    until("an actor is in charge", || cell.owner().is_some()).await;
    let (generation, actor) = cell.owner().unwrap();
    actor.kill();
    until("the killed actor is gone", || cell.owner().is_none_or(|(now, _)| now > generation)).await;
}

/// What the store has of an entity.
pub(crate) async fn stored(system: &System, address: &Address<Ledger>) -> Loaded {
    let store = system.store();
    let entity = store.resolve(address.untyped().name()).await.unwrap().unwrap();
    store.load(entity).await.unwrap().unwrap()
}

/// Runs the future in a task; the test fails when it panics.
#[expect(clippy::disallowed_methods, reason = "a test owns its tasks and joins them")]
pub(crate) fn task<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}
