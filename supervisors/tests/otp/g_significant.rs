//! G. Significant children and automatic shutdown.

use stanchion_supervisors::{AutoShutdown, Restart, Strategy, Supervisor};

use crate::support::{World, list};

/// A significant child a, and a plain one.
async fn any(world: &World, restart: Restart) -> Supervisor {
    let spec = world.empty_spec(Strategy::OneForOne).auto_shutdown(AutoShutdown::AnySignificant);
    world.started(spec.child(world.child_with("a", restart).significant()).child(world.child("b"))).await
}

#[tokio::test(start_paused = true)]
async fn s50_the_normal_end_of_any_significant_child_shuts_down() {
    let world = World::new();
    let supervisor = any(&world, Restart::Transient).await;
    world.exit("a", "normal");
    world.expect(&["end a normal", "auto a", "end b shutdown", "end sup shutdown"]).await;
    supervisor.ended().await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn s51_a_significant_child_that_is_restarted_does_not_shut_down() {
    let world = World::new();
    let supervisor = any(&world, Restart::Transient).await;
    world.crash("a");
    world.expect(&["end a boom", "start a"]).await;
    assert_eq!(list(&supervisor).await, ["b up", "a up"]);
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s52_the_crash_of_a_temporary_significant_child_shuts_down() {
    let world = World::new();
    let supervisor = any(&world, Restart::Temporary).await;
    world.crash("a");
    world.expect(&["end a boom", "auto a", "end b shutdown", "end sup shutdown"]).await;
    supervisor.ended().await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn s53_all_significant_waits_for_the_last_one() {
    let world = World::new();
    let spec = world.empty_spec(Strategy::OneForOne).auto_shutdown(AutoShutdown::AllSignificant);
    let significant = |id| world.child_with(id, Restart::Transient).significant();
    let spec = spec.child(significant("a")).child(significant("b")).child(world.child("c"));
    let supervisor = world.started(spec).await;
    world.exit("a", "normal");
    world.expect(&["end a normal"]).await;
    assert_eq!(list(&supervisor).await, ["c up", "b up", "a undefined"]);
    world.exit("b", "normal");
    world.expect(&["end b normal", "auto b", "end c shutdown", "end sup shutdown"]).await;
    supervisor.ended().await;
    world.assert_nobody_lives().await;
}
