//! Dynamic supervisors: whose crashes count, limits, many children.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use stanchion_supervisors::{
    Backoff, ControlError, DynamicChild, DynamicSpec, DynamicSupervisor, GiveUp, Pacing, Restart, Shutdown,
};

use support::{Script, World};

async fn start(world: &World, spec: DynamicSpec) -> DynamicSupervisor {
    let parent = Some(world.probe().await);
    DynamicSupervisor::start(spec.observe(world.observer()), None, parent).await.unwrap()
}

async fn add(supervisor: &DynamicSupervisor, world: &World, label: &str) -> stanchion_supervisors::ChildKey {
    supervisor.start_child(world.dynamic(label)).await.unwrap().unwrap().key
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_child_is_given_up_alone() {
    let world = World::new();
    let supervisor = start(&world, DynamicSpec::default()).await;
    add(&supervisor, &world, "good").await;
    add(&supervisor, &world, "bad").await;
    world.expect(&["start good", "start bad"]).await;
    for _ in 0..3 {
        world.crash("bad");
        world.expect(&["end bad boom", "start bad"]).await;
        world.crash("good");
        world.expect(&["end good boom", "start good"]).await;
    }
    world.crash("bad");
    world.expect(&["end bad boom", "giveup bad"]).await;
    assert_eq!(supervisor.count_children().await, Ok(1));
    supervisor.stop(Shutdown::Infinity).await;
    world.expect(&["end good shutdown", "end sup shutdown"]).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn the_classical_mode_counts_all_children_together() {
    let world = World::new();
    let supervisor = start(&world, DynamicSpec::default().give_up(GiveUp::Supervisor)).await;
    for label in ["a", "b", "c"] {
        add(&supervisor, &world, label).await;
    }
    world.expect(&["start a", "start b", "start c"]).await;
    for label in ["a", "b", "a"] {
        world.crash(label);
        world.expect(&[&*format!("end {label} boom"), &*format!("start {label}")]).await;
    }
    world.crash("a");
    world.settle().await;
    let events = world.take();
    assert_eq!(events[..2], ["end a boom", "giveup a"]);
    let mut rest = events[2..4].to_vec();
    rest.sort();
    assert_eq!(rest, ["end b shutdown", "end c shutdown"]);
    assert_eq!(events[4..], ["end sup shutdown"]);
    supervisor.ended().await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn failed_starts_count_for_the_child_that_failed() {
    let world = World::new();
    let supervisor = start(&world, DynamicSpec::default()).await;
    world.script("a", &[Script::Error("oops")]);
    let refused = supervisor.start_child(world.dynamic("a")).await.unwrap_err();
    assert_eq!(refused.to_string(), "child `a` did not start: oops");
    assert_eq!(supervisor.count_children().await, Ok(0));
    add(&supervisor, &world, "a").await;
    world.script("a", &[Script::PreStartError("oops"); 9]);
    world.crash("a");
    let failed = ["startfail a"; 3];
    world.expect(&[&["startfail a", "start a", "end a boom"][..], &failed, &["giveup a"]].concat()).await;
    supervisor.stop(Shutdown::Infinity).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn finished_and_unneeded_children_leave_the_list() {
    let world = World::new();
    let supervisor = start(&world, DynamicSpec::default().restart(Restart::Transient)).await;
    world.script("no", &[Script::Ignore]);
    assert!(supervisor.start_child(world.dynamic("no")).await.unwrap().is_none());
    add(&supervisor, &world, "a").await;
    world.exit("a", "normal");
    world.expect(&["ignore no", "start a", "end a normal"]).await;
    assert_eq!(supervisor.count_children().await, Ok(0));
    supervisor.stop(Shutdown::Infinity).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn children_above_the_limit_are_refused_until_one_has_ended() {
    let world = World::new();
    let supervisor = start(&world, DynamicSpec::default().max_children(1)).await;
    let key = add(&supervisor, &world, "a").await;
    let refused = supervisor.start_child(world.dynamic("b")).await.unwrap_err();
    assert_eq!(refused, ControlError::TooManyChildren { limit: 1 });
    supervisor.terminate_child(key).await.unwrap();
    world.settle().await;
    add(&supervisor, &world, "b").await;
    supervisor.stop(Shutdown::Infinity).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn a_stubborn_child_is_killed_while_others_are_served() {
    let world = World::new();
    let spec = DynamicSpec::default().shutdown(Shutdown::Deadline(Duration::from_secs(1)));
    let supervisor = start(&world, spec).await;
    world.stubborn("slow", Duration::from_secs(100));
    let key = add(&supervisor, &world, "slow").await;
    let before = tokio::time::Instant::now();
    let (terminated, ()) = tokio::join!(supervisor.terminate_child(key), async {
        add(&supervisor, &world, "b").await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    });
    terminated.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    world.expect(&["start slow", "start b", "told slow", "end slow killed"]).await;
    supervisor.stop(Shutdown::Infinity).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn a_back_off_delays_restarts() {
    let world = World::new();
    let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
    let pacing = Pacing::new(backoff, world.root.child("delays"), || 0.0);
    let supervisor = start(&world, DynamicSpec::default().pacing(pacing)).await;
    add(&supervisor, &world, "a").await;
    let before = tokio::time::Instant::now();
    world.crash("a");
    world.expect(&["start a", "end a boom", "start a"]).await;
    assert!(before.elapsed() >= Duration::from_millis(500));
    assert!(before.elapsed() < Duration::from_millis(510));
    supervisor.stop(Shutdown::Infinity).await;
    world.assert_nobody_lives().await;
}

/// ractor does not kill a child that is in its `post_stop`; a killed supervisor must.
#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_kills_children_that_are_cleaning_up() {
    let world = World::new();
    let supervisor = start(&world, DynamicSpec::default()).await;
    world.stubborn("slow", Duration::from_secs(100));
    add(&supervisor, &world, "slow").await;
    world.exit("slow", "normal");
    world.expect(&["start slow", "told slow"]).await;
    supervisor.cell().kill();
    world.expect(&["end sup killed"]).await;
    world.assert_nobody_lives().await;
}

async fn many(count: usize) -> Duration {
    let world = World::new();
    let supervisor = DynamicSupervisor::start(DynamicSpec::default(), None, None).await.unwrap();
    let before = std::time::Instant::now();
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        let child: DynamicChild = world.dynamic("x");
        children.push(supervisor.start_child(child).await.unwrap().unwrap().actor);
    }
    for child in &children {
        child.kill();
    }
    for child in children {
        child.wait(None).await.unwrap();
    }
    assert_eq!(supervisor.count_children().await, Ok(count));
    supervisor.stop(Shutdown::Infinity).await;
    world.assert_nobody_lives().await;
    before.elapsed()
}

#[tokio::test]
async fn two_thousand_children_killed_at_once_are_all_restarted() {
    many(2_000).await;
}

#[tokio::test]
#[ignore = "campaign: takes seconds; run with --release"]
async fn a_hundred_thousand_children_cost_no_more_each_than_ten_thousand() {
    let (few, lots) = (many(10_000).await, many(100_000).await);
    println!("10 000: {few:?}, 100 000: {lots:?}");
    assert!(lots < few * 30, "ten times the children, {few:?} -> {lots:?}");
}
