//! A supervision tree as in OTP: when one child crashes, those started after it are started anew with it; when it
//! crashes too often, the supervisor gives up.
use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use stanchion::supervisors::{
    ChildSpec, Intensity, Shutdown, Strategy, Supervisor, SupervisorEvent, SupervisorSpec,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a worker can be told.
enum Tell {
    Crash,
}

#[cfg(feature = "cluster")]
impl ractor::Message for Tell {}

/// A worker that tells when it starts.
struct Worker;

type Starts = UnboundedSender<(&'static str, ActorRef<Tell>)>;

impl Actor for Worker {
    type Msg = Tell;
    type State = ();
    type Arguments = (&'static str, Starts);

    async fn pre_start(
        &self,
        me: ActorRef<Tell>,
        (name, starts): Self::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        starts.send((name, me))?;
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Tell>, message: Tell, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match message {
            Tell::Crash => Err("told to crash".into()),
        }
    }
}

fn child(name: &'static str, starts: &Starts) -> ChildSpec {
    let starts = starts.clone();
    ChildSpec::actor(name, move || (Worker, (name, starts.clone())))
}

/// The next worker that starts, which must be this one.
async fn started(
    starts: &mut UnboundedReceiver<(&'static str, ActorRef<Tell>)>,
    wanted: &str,
) -> Result<ActorRef<Tell>, Box<dyn std::error::Error>> {
    let (name, worker) = starts.recv().await.ok_or("nobody starts any more")?;
    println!("  {name} starts");
    assert_eq!(name, wanted);
    Ok(worker)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (tell, mut starts) = unbounded_channel();
    let (gave_up, mut given_up) = unbounded_channel();
    let spec = SupervisorSpec::new(Strategy::RestForOne)
        .intensity(Intensity::new(2, Duration::from_secs(60)))
        .observe(move |event| {
            if let SupervisorEvent::GaveUp { id, .. } = event {
                // Nobody may listen any more.
                let _ = gave_up.send(Arc::clone(id));
            }
        })
        .child(child("database", &tell))
        .child(child("cache", &tell))
        .child(child("web", &tell));

    println!("the tree starts in order:");
    let supervisor = Supervisor::start(spec, None, None).await?;
    let database = started(&mut starts, "database").await?;
    let mut cache = started(&mut starts, "cache").await?;
    started(&mut starts, "web").await?;

    for crash in 1..=2 {
        println!("crash {crash} of the cache takes along what was started after it:");
        cache.cast(Tell::Crash)?;
        cache = started(&mut starts, "cache").await?;
        started(&mut starts, "web").await?;
    }
    assert_eq!(database.get_status(), ractor::ActorStatus::Running, "the database never noticed");

    println!("one crash more than two in a minute:");
    cache.cast(Tell::Crash)?;
    supervisor.ended().await;
    assert_eq!(given_up.recv().await.as_deref(), Some("cache"));
    assert_eq!(database.get_status(), ractor::ActorStatus::Stopped, "all children end with it");
    println!("  the supervisor gave up and stopped the others in reverse order");
    let _ = supervisor.stop(Shutdown::Infinity).await;
    Ok(())
}
