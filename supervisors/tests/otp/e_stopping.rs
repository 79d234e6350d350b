//! E. Stopping. A child that traps the signal and needs time is one whose `post_stop` takes that time.

use std::time::Duration;

use ractor::ActorStatus;
use stanchion_supervisors::{DynamicSpec, DynamicSupervisor, Shutdown, Stopped, Strategy};
use tokio::time::Instant;

use crate::support::World;

const MS_200: Shutdown = Shutdown::Deadline(Duration::from_millis(200));

#[tokio::test(start_paused = true)]
async fn s37_stubborn_children_are_killed_one_after_another() {
    let world = World::new();
    let spec = ["a", "b", "c"].iter().fold(world.empty_spec(Strategy::OneForOne), |spec, id| {
        world.stubborn(id, Duration::from_secs(3));
        spec.child(world.child(id).shutdown(MS_200))
    });
    let supervisor = world.started(spec).await;
    let before = Instant::now();
    assert_eq!(supervisor.stop(Shutdown::Infinity).await, Stopped::InOrder);
    assert_eq!(before.elapsed(), Duration::from_millis(600));
    let events = ["told c", "end c killed", "told b", "end b killed", "told a", "end a killed"];
    world.expect(&[&events[..], &["end sup shutdown"]].concat()).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn s38_brutal_kill_gives_no_chance_to_clean_up() {
    let world = World::new();
    world.stubborn("a", Duration::from_secs(3));
    let child = world.child("a").shutdown(Shutdown::BrutalKill);
    let supervisor = world.started(world.empty_spec(Strategy::OneForOne).child(child)).await;
    let before = Instant::now();
    supervisor.stop(Shutdown::Infinity).await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    world.expect(&["end a killed", "end sup shutdown"]).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn s39_infinity_waits() {
    let world = World::new();
    world.stubborn("a", Duration::from_millis(700));
    let child = world.child("a").shutdown(Shutdown::Infinity);
    let supervisor = world.started(world.empty_spec(Strategy::OneForOne).child(child)).await;
    let before = Instant::now();
    supervisor.stop(Shutdown::Infinity).await;
    assert_eq!(before.elapsed(), Duration::from_millis(700));
    world.expect(&["told a", "end a shutdown", "end sup shutdown"]).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn s40_children_stop_in_reverse_start_order() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::OneForOne, &["a", "b", "c", "d"])).await;
    supervisor.stop(Shutdown::Infinity).await;
    let ends = ["end d shutdown", "end c shutdown", "end b shutdown", "end a shutdown", "end sup shutdown"];
    world.expect(&ends).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn s42_dynamic_children_are_told_together() {
    let world = World::new();
    world.stubborn("x", Duration::from_secs(3));
    let spec = DynamicSpec::default().shutdown(Shutdown::Deadline(Duration::from_millis(300)));
    let supervisor = DynamicSupervisor::start(spec.observe(world.observer()), None, None).await.unwrap();
    for _ in 0..5 {
        supervisor.start_child(world.dynamic("x")).await.unwrap();
    }
    world.expect(&["start x"; 5]).await;
    let before = Instant::now();
    supervisor.stop(Shutdown::Infinity).await;
    assert_eq!(before.elapsed(), Duration::from_millis(300));
    world.expect(&[["told x"; 5], ["end x killed"; 5]].concat()).await;
    world.assert_nobody_lives().await;
}

/// ractor's kill cannot be trapped; what cleans up in a killed child is the drop of its state, here its guard.
#[tokio::test(start_paused = true)]
async fn s43b_a_killed_supervisor_leaves_no_orphan() {
    let world = World::new();
    world.stubborn("b", Duration::from_secs(3));
    let supervisor = world.started(world.spec(Strategy::OneForOne, &["a", "b"])).await;
    assert_eq!(world.root.census().actors.len(), 2);
    supervisor.cell().kill();
    supervisor.ended().await;
    world.expect(&["end sup killed"]).await;
    for id in ["a", "b"] {
        assert_eq!(world.actor(id).get_status(), ActorStatus::Stopped);
    }
    world.assert_nobody_lives().await;
}
