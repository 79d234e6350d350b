//! A. Restart types: one_for_one, a single child a.

use stanchion_supervisors::{Restart, Strategy, Supervisor};

use crate::support::{World, list};

async fn single(restart: Restart) -> (World, Supervisor) {
    let world = World::new();
    let spec = world.empty_spec(Strategy::OneForOne).child(world.child_with("a", restart));
    let supervisor = world.started(spec).await;
    (world, supervisor)
}

/// Ends a by `end`, expects `end a .., start a` and a new identity.
async fn restarted(restart: Restart, end: impl FnOnce(&World), expected: &str) {
    let (world, supervisor) = single(restart).await;
    let before = world.identity("a");
    end(&world);
    world.expect(&[expected, "start a"]).await;
    assert_ne!(world.identity("a"), before);
    assert_eq!(list(&supervisor).await, ["a up"]);
    world.finish(supervisor).await;
}

/// Ends a by `end`, expects no restart and this child list.
async fn not_restarted(restart: Restart, end: impl FnOnce(&World), expected: &str, listed: &[&str]) {
    let (world, supervisor) = single(restart).await;
    end(&world);
    world.expect(&[expected]).await;
    assert_eq!(list(&supervisor).await, listed);
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn s01_permanent_exits_normal_and_is_restarted() {
    restarted(Restart::Permanent, |world| world.exit("a", "normal"), "end a normal").await;
    restarted(Restart::Permanent, |world| world.actor("a").stop(None), "end a normal").await;
}

#[tokio::test(start_paused = true)]
async fn s02_permanent_exits_shutdown_and_is_restarted() {
    restarted(Restart::Permanent, |world| world.exit("a", "shutdown"), "end a shutdown").await;
}

#[tokio::test(start_paused = true)]
async fn s03_permanent_crashes_and_is_restarted() {
    restarted(Restart::Permanent, |world| world.crash("a"), "end a boom").await;
}

#[tokio::test(start_paused = true)]
async fn s04_transient_exits_normal_and_stays_listed() {
    not_restarted(Restart::Transient, |world| world.exit("a", "normal"), "end a normal", &["a undefined"])
        .await;
}

/// `{shutdown, x}` is the stop reason `shutdown: x`.
#[tokio::test(start_paused = true)]
async fn s05_transient_exits_shutdown_with_detail_and_stays_listed() {
    let end = |world: &World| world.exit("a", "shutdown: x");
    not_restarted(Restart::Transient, end, "end a shutdown: x", &["a undefined"]).await;
}

#[tokio::test(start_paused = true)]
async fn s06_transient_crashes_and_is_restarted() {
    restarted(Restart::Transient, |world| world.crash("a"), "end a boom").await;
}

#[tokio::test(start_paused = true)]
async fn s07_temporary_crashes_and_is_forgotten() {
    not_restarted(Restart::Temporary, |world| world.crash("a"), "end a boom", &[]).await;
}

#[tokio::test(start_paused = true)]
async fn s08_transient_is_killed_and_restarted() {
    restarted(Restart::Transient, |world| world.kill("a"), "end a killed").await;
}
