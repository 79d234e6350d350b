//! An actor that holds something, to be killed.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;

pub(super) struct Holder<T>(std::marker::PhantomData<fn(T)>);

pub(super) enum HolderMsg {}

#[cfg(feature = "cluster")]
impl ractor::Message for HolderMsg {}

impl<T: Send + Sync + 'static> Actor for Holder<T> {
    type Msg = HolderMsg;
    type State = T;
    type Arguments = T;

    async fn pre_start(&self, _myself: ActorRef<HolderMsg>, held: T) -> Result<T, ActorProcessingErr> {
        Ok(held)
    }
}

impl<T: Send + Sync + 'static> Holder<T> {
    pub(super) async fn start(held: T) -> (ActorRef<HolderMsg>, JoinHandle<()>) {
        Actor::spawn(None, Self(std::marker::PhantomData), held).await.unwrap()
    }
}
