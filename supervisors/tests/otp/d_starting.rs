//! D. Starting.

use std::time::Duration;

use stanchion_supervisors::{
    AutoShutdown, ChildCounts, ControlError, Init, Intensity, Restart, SpecError, StartError, Strategy,
    Supervisor, SupervisorSpec, SupervisorStartError,
};

use crate::support::{Script, World, list};

async fn refused(spec: SupervisorSpec) -> SpecError {
    match Supervisor::start(spec, None, None).await {
        Err(SupervisorStartError::Spec(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn s31_a_failed_initial_start_is_rolled_back_in_reverse() {
    let world = World::new();
    world.script("c", &[Script::Error("oops")]);
    let error = world.start(world.spec(Strategy::OneForOne, &["a", "b", "c", "d"])).await.unwrap_err();
    assert_eq!(error, SupervisorStartError::Child { id: "c".into(), error: StartError::failed("oops") });
    assert_eq!(error.to_string(), "shutdown: failed to start child `c`: oops");
    world.expect(&["start a", "start b", "startfail c", "end b shutdown", "end a shutdown"]).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn s31b_a_start_function_that_panics_is_a_failed_start() {
    let world = World::new();
    world.script("b", &[Script::Panic("bang")]);
    let error = world.start(world.spec(Strategy::OneForOne, &["a", "b", "c"])).await.unwrap_err();
    assert_eq!(
        error,
        SupervisorStartError::Child { id: "b".into(), error: StartError::Panicked("bang".into()) }
    );
    world.expect(&["start a", "startfail b", "end a shutdown"]).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn s32_a_child_that_is_not_needed_stays_listed() {
    let world = World::new();
    world.script("a", &[Script::Ignore]);
    let supervisor = world.start(world.spec(Strategy::OneForOne, &["a", "b"])).await.unwrap();
    world.expect(&["ignore a", "start b"]).await;
    assert_eq!(list(&supervisor).await, ["b up", "a undefined"]);
    let counts = ChildCounts { specs: 2, active: 1, supervisors: 0, workers: 2 };
    assert_eq!(supervisor.count_children().await, Ok(counts));
    assert!(supervisor.restart_child("a").await.unwrap().is_some());
    world.expect(&["start a"]).await;
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s34_a_known_id_is_not_started_again() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::OneForOne, &["a"])).await;
    let actor = world.actor("a").get_cell();
    let again = supervisor.start_child(world.child("a")).await.unwrap_err();
    assert_eq!(again, ControlError::AlreadyStarted { id: "a".into(), actor });
    supervisor.terminate_child("a").await.unwrap();
    let again = supervisor.start_child(world.child("a")).await.unwrap_err();
    assert_eq!(again, ControlError::AlreadyPresent { id: "a".into() });
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s35_a_supervisor_that_is_not_needed_starts_nothing() {
    let world = World::new();
    assert!(Supervisor::start_init(|| Init::Ignore, None, None).await.unwrap().is_none());
    let inner = Supervisor::child_spec("inner", None, || Init::Ignore);
    let supervisor = world.start(world.empty_spec(Strategy::OneForOne).child(inner)).await.unwrap();
    world.expect(&["ignore inner"]).await;
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s56_a_significant_child_needs_auto_shutdown() {
    let world = World::new();
    let child = world.child_with("a", Restart::Transient).significant();
    let error = refused(world.empty_spec(Strategy::OneForOne).child(child.clone())).await;
    assert_eq!(error, SpecError::SignificantWithoutAutoShutdown { id: "a".into() });
    let supervisor = world.started(world.empty_spec(Strategy::OneForOne)).await;
    let late = supervisor.start_child(child).await.unwrap_err();
    assert_eq!(late, ControlError::Spec(error));
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s57_a_permanent_child_cannot_be_significant() {
    let world = World::new();
    let spec = world.empty_spec(Strategy::OneForOne).auto_shutdown(AutoShutdown::AnySignificant);
    let error = refused(spec.child(world.child("a").significant())).await;
    assert_eq!(error, SpecError::SignificantPermanent { id: "a".into() });
}

/// Intensity -1 cannot be written as a `u32`; what stands in its place is 0 without `Intensity::never()`. An unknown
/// strategy can only be met where one is read from text.
#[tokio::test(start_paused = true)]
async fn s63_each_bad_flag_has_its_own_reason() {
    let world = World::new();
    let with = |intensity| world.spec(Strategy::OneForOne, &["a"]).intensity(intensity);
    assert_eq!(refused(with(Intensity::new(0, Duration::from_secs(5)))).await, SpecError::InvalidIntensity);
    assert_eq!(refused(with(Intensity::new(1, Duration::ZERO))).await, SpecError::InvalidPeriod);
    let strategy = "one_for_none".parse::<Strategy>().unwrap_err();
    assert_eq!(strategy, SpecError::InvalidStrategy { name: "one_for_none".into() });
    let twice = refused(world.spec(Strategy::OneForOne, &["a", "b", "a"])).await;
    assert_eq!(twice, SpecError::DuplicateChild { id: "a".into() });
    world.expect(&[]).await;
}
