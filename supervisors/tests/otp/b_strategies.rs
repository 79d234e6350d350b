//! B. Strategies: children a, b, c, d.

use stanchion_supervisors::{Restart, Strategy};

use crate::support::{World, list};

const ALL: [&str; 4] = ["a", "b", "c", "d"];

#[tokio::test(start_paused = true)]
async fn s09_one_for_one_touches_nobody_else() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::OneForOne, &ALL)).await;
    let before = ["a", "c", "d"].map(|id| world.identity(id));
    world.crash("b");
    world.expect(&["end b boom", "start b"]).await;
    assert_eq!(["a", "c", "d"].map(|id| world.identity(id)), before);
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s10_one_for_all_stops_in_reverse_and_starts_in_order() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::OneForAll, &ALL)).await;
    world.crash("b");
    let stops = ["end b boom", "end d shutdown", "end c shutdown", "end a shutdown"];
    world.expect(&[&stops[..], &["start a", "start b", "start c", "start d"]].concat()).await;
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s11_rest_for_one_leaves_earlier_children_alone() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::RestForOne, &ALL)).await;
    let before = world.identity("a");
    world.crash("b");
    let events = ["end b boom", "end d shutdown", "end c shutdown", "start b", "start c", "start d"];
    world.expect(&events).await;
    assert_eq!(world.identity("a"), before);
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s12_rest_for_one_does_not_start_a_temporary_child_again() {
    let world = World::new();
    let spec = world.spec(Strategy::RestForOne, &["a", "b", "c"]);
    let supervisor = world.started(spec.child(world.child_with("d", Restart::Temporary))).await;
    world.crash("b");
    world.expect(&["end b boom", "end d shutdown", "end c shutdown", "start b", "start c"]).await;
    assert_eq!(list(&supervisor).await, ["c up", "b up", "a up"]);
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s14_one_for_all_ignores_the_crash_of_a_temporary_child() {
    let world = World::new();
    let spec = world.empty_spec(Strategy::OneForAll).child(world.child_with("a", Restart::Temporary));
    let supervisor = world.started(spec.child(world.child("b")).child(world.child("c"))).await;
    world.crash("a");
    world.expect(&["end a boom"]).await;
    assert_eq!(list(&supervisor).await, ["c up", "b up"]);
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s17_one_for_all_ignores_the_normal_exit_of_a_transient_child() {
    let world = World::new();
    let spec = world.empty_spec(Strategy::OneForAll).child(world.child_with("a", Restart::Transient));
    let supervisor = world.started(spec.child(world.child("b")).child(world.child("c"))).await;
    world.exit("a", "normal");
    world.expect(&["end a normal"]).await;
    assert_eq!(list(&supervisor).await, ["c up", "b up", "a undefined"]);
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s18_children_are_listed_newest_first() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::OneForOne, &ALL)).await;
    assert_eq!(list(&supervisor).await, ["d up", "c up", "b up", "a up"]);
    world.finish(supervisor).await;
}
