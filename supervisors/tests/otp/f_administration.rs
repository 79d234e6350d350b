//! F. Administration.

use stanchion_supervisors::{
    ControlError, DynamicSpec, DynamicSupervisor, GiveUp, Restart, Shutdown, Strategy,
};

use crate::support::{World, list};

#[tokio::test(start_paused = true)]
async fn s44_orders_on_a_permanent_child() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::OneForOne, &["a"])).await;
    let running = ControlError::Running { id: "a".into() };
    assert_eq!(supervisor.delete_child("a").await.unwrap_err(), running);
    assert_eq!(supervisor.restart_child("a").await.unwrap_err(), running);
    supervisor.terminate_child("a").await.unwrap();
    assert_eq!(list(&supervisor).await, ["a undefined"]);
    supervisor.terminate_child("a").await.unwrap();
    supervisor.restart_child("a").await.unwrap();
    supervisor.terminate_child("a").await.unwrap();
    supervisor.delete_child("a").await.unwrap();
    let not_found = ControlError::NotFound { id: "a".into() };
    assert_eq!(supervisor.delete_child("a").await.unwrap_err(), not_found);
    assert_eq!(supervisor.terminate_child("a").await.unwrap_err(), not_found);
    assert_eq!(supervisor.restart_child("a").await.unwrap_err(), not_found);
    world.expect(&["end a shutdown", "start a", "end a shutdown"]).await;
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s45_a_terminated_temporary_child_is_forgotten() {
    let world = World::new();
    let spec = world.empty_spec(Strategy::OneForOne).child(world.child_with("a", Restart::Temporary));
    let supervisor = world.started(spec).await;
    supervisor.terminate_child("a").await.unwrap();
    let not_found = ControlError::NotFound { id: "a".into() };
    assert_eq!(supervisor.restart_child("a").await.unwrap_err(), not_found);
    assert!(list(&supervisor).await.is_empty());
    world.finish(supervisor).await;
}

/// Dynamic children have a key instead of an id. To terminate, delete or restart one by id is no run-time error here:
/// the handle has no such method, so it does not compile.
#[tokio::test(start_paused = true)]
async fn s47_dynamic_children_are_terminated_by_identity() {
    let world = World::new();
    let spec = DynamicSpec::default().give_up(GiveUp::Supervisor).observe(world.observer());
    let supervisor = DynamicSupervisor::start(spec, None, None).await.unwrap();
    let first = supervisor.start_child(world.dynamic("x")).await.unwrap().unwrap();
    let second = supervisor.start_child(world.dynamic("x")).await.unwrap().unwrap();
    let keys: Vec<_> = supervisor.list_children().await.unwrap().iter().map(|child| child.key).collect();
    assert_eq!(keys, [second.key, first.key]);
    supervisor.terminate_child(first.key).await.unwrap();
    supervisor.terminate_child(first.key).await.unwrap();
    assert_eq!(supervisor.count_children().await, Ok(1));
    world.expect(&["start x", "start x", "end x shutdown"]).await;
    supervisor.stop(Shutdown::Infinity).await;
    world.assert_nobody_lives().await;
}
