//! A handler that calls its own entity and waits would wait for ever: it is refused.

use std::sync::OnceLock;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use stanchion::{Address, Agent, Ctx, Never, System, error::CallError, error::Coded};

use crate::kit::stop;

/// The addresses that handlers call, as a program would keep them.
static OWN: OnceLock<Address<Loner>> = OnceLock::new();
static OTHER: OnceLock<Address<Loner>> = OnceLock::new();

#[derive(Clone, Default, Serialize, Deserialize)]
struct Loner;

#[derive(Serialize, Deserialize)]
enum Ask {
    Nothing,
    Itself,
    Another,
}

impl Agent for Loner {
    const KIND: &'static str = "loner";
    type Command = Ask;
    type Reply = Option<String>;
    type Rejection = Never;

    fn handle(&mut self, command: Ask, _: &mut Ctx<'_>) -> Result<Option<String>, Never> {
        let address = match command {
            Ask::Nothing => return Ok(None),
            Ask::Itself => &OWN,
            Ask::Another => &OTHER,
        };
        // The first step of what blocking on the call would do.
        let answered = address.get().unwrap().call(Ask::Nothing).now_or_never();
        Ok(answered.and_then(Result::err).map(|error: CallError<Never>| error.code().to_owned()))
    }
}

#[tokio::test]
async fn a_call_from_inside_the_same_entity_is_refused_and_one_to_another_is_not() {
    let system = System::builder().agent::<Loner>().open_memory().await.unwrap();
    let own = OWN.get_or_init(|| system.agent::<Loner>("own").unwrap());
    OTHER.get_or_init(|| system.agent::<Loner>("other").unwrap());
    assert_eq!(own.call(Ask::Itself).await.unwrap().as_deref(), Some("call.would_deadlock"));
    assert_eq!(own.call(Ask::Another).await.unwrap(), None);
    assert_eq!(own.call(Ask::Nothing).await.unwrap(), None, "it goes on");
    stop(system).await;
}
