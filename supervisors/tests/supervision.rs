//! Our own promises of static supervisors: defaults, the restart table, dependencies, delays, the root tree.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanchion_supervisors::{
    Backoff, ChildSpec, ControlError, Intensity, Pacing, Restart, Shutdown, SpecError, StartFn, Started,
    Stopped, Strategy, SupervisorSpec, SupervisorStartError, root,
};
use tokio::time::Instant;

use support::{Script, World, list};

#[tokio::test(start_paused = true)]
#[should_panic(expected = "left == right")]
async fn the_comparison_of_events_can_fail() {
    let world = World::new();
    let _supervisor = world.started(world.spec(Strategy::OneForOne, &["a"])).await;
    world.crash("a");
    world.expect(&["start a", "end a boom"]).await;
}

/// SUP-4: the customer's "3 restarts/5 s", with nothing set.
#[tokio::test(start_paused = true)]
async fn default_intensity_is_three_in_five_seconds() {
    let world = World::new();
    let spec = SupervisorSpec::new(Strategy::OneForOne).observe(world.observer()).child(world.child("a"));
    let supervisor = world.started(spec).await;
    for _ in 0..3 {
        world.crash("a");
        world.expect(&["end a boom", "start a"]).await;
    }
    world.crash("a");
    world.expect(&["end a boom", "giveup a", "end sup shutdown"]).await;
    supervisor.ended().await;
    world.assert_nobody_lives().await;
}

/// SUP-4.
#[tokio::test(start_paused = true)]
async fn crashes_two_seconds_apart_never_escalate() {
    let world = World::new();
    let spec = SupervisorSpec::new(Strategy::OneForOne).observe(world.observer()).child(world.child("a"));
    let supervisor = world.started(spec).await;
    for _ in 0..50 {
        world.crash("a");
        world.expect(&["end a boom", "start a"]).await;
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    world.finish(supervisor).await;
}

/// How the middle one of a, b, c ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Normal,
    Error,
    Panic,
    Kill,
    /// It fails, and its first start after that fails, too.
    Init,
}

impl End {
    fn perform(self, world: &World) -> &'static str {
        match self {
            Self::Normal => world.exit("b", "normal"),
            Self::Error => world.crash("b"),
            Self::Panic => world.panic("b"),
            Self::Kill => world.kill("b"),
            Self::Init => {
                world.script("b", &[Script::PreStartError("no")]);
                world.crash("b");
            }
        }
        match self {
            Self::Normal => "end b normal",
            Self::Error | Self::Panic | Self::Init => "end b boom",
            Self::Kill => "end b killed",
        }
    }
}

/// OTP's table, written out by hand: what follows the end of b.
fn otp_table(restart: Restart, end: End, strategy: Strategy) -> &'static [&'static str] {
    let restarted = match restart {
        Restart::Permanent => true,
        Restart::Transient => end != End::Normal,
        Restart::Temporary => false,
    };
    match (restarted, strategy, end) {
        (false, _, _) => &[],
        (true, Strategy::OneForOne, End::Init) => &["startfail b", "start b"],
        (true, Strategy::OneForOne, _) => &["start b"],
        (true, Strategy::OneForAll, End::Init) => &[
            "end c shutdown",
            "end a shutdown",
            "start a",
            "startfail b",
            "end a shutdown",
            "start a",
            "start b",
            "start c",
        ],
        (true, Strategy::OneForAll, _) => {
            &["end c shutdown", "end a shutdown", "start a", "start b", "start c"]
        }
        (true, Strategy::RestForOne, End::Init) => &["end c shutdown", "startfail b", "start b", "start c"],
        (true, Strategy::RestForOne, _) => &["end c shutdown", "start b", "start c"],
    }
}

/// SUP-5.
#[tokio::test(start_paused = true)]
async fn restarted_set_and_order_match_the_otp_table() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for end in [End::Normal, End::Error, End::Panic, End::Kill, End::Init] {
            for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
                println!("{restart:?} {end:?} {strategy:?}");
                let world = World::new();
                let spec = world.empty_spec(strategy).child(world.child("a"));
                let spec = spec.child(world.child_with("b", restart)).child(world.child("c"));
                let supervisor = world.started(spec).await;
                let ended = end.perform(&world);
                world.expect(&[&[ended][..], otp_table(restart, end, strategy)].concat()).await;
                let left = list(&supervisor).await;
                supervisor.stop(Shutdown::Infinity).await;
                let ups: Vec<_> = left.iter().filter_map(|child| child.strip_suffix(" up")).collect();
                let mut stops: Vec<_> = ups.iter().map(|id| format!("end {id} shutdown")).collect();
                stops.push("end sup shutdown".to_owned());
                world.expect(&stops.iter().map(String::as_str).collect::<Vec<_>>()).await;
                world.assert_nobody_lives().await;
            }
        }
    }
}

/// SUP-5.
#[tokio::test(start_paused = true)]
async fn children_start_after_what_they_depend_on_and_circles_are_refused() {
    let world = World::new();
    let spec = world.empty_spec(Strategy::OneForOne).child(world.child("a").depends_on("b"));
    let supervisor = world.start(spec.child(world.child("b"))).await.unwrap();
    world.expect(&["start b", "start a"]).await;
    let late = supervisor.start_child(world.child("c").depends_on("nobody")).await.unwrap_err();
    let unknown = SpecError::UnknownDependency { id: "c".into(), on: "nobody".into() };
    assert_eq!(late, ControlError::Spec(unknown));
    world.finish(supervisor).await;

    let spec = world.empty_spec(Strategy::OneForOne).child(world.child("a").depends_on("b"));
    let refused = world.start(spec.child(world.child("b").depends_on("a"))).await.unwrap_err();
    let circle = vec!["a".into(), "b".into(), "a".into()];
    assert_eq!(refused, SupervisorStartError::Spec(SpecError::DependencyCycle { circle }));
}

#[tokio::test(start_paused = true)]
async fn a_back_off_delays_each_restart_longer_and_a_child_terminated_meanwhile_stays_down() {
    let world = World::new();
    let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
    let pacing = Pacing::new(backoff, world.root.child("delays"), || 1.0);
    let supervisor = world.started(world.spec(Strategy::OneForOne, &["a", "b"]).pacing(pacing)).await;
    for seconds in [1, 2, 4] {
        let before = Instant::now();
        world.crash("a");
        world.settle().await;
        assert_eq!(list(&supervisor).await, ["b up", "a restarting"]);
        let busy = supervisor.restart_child("a").await.unwrap_err();
        assert_eq!(busy, ControlError::Restarting { id: "a".into() });
        world.expect(&["end a boom", "start a"]).await;
        assert!(before.elapsed() >= Duration::from_secs(seconds));
        assert!(before.elapsed() < Duration::from_millis(seconds * 1_000 + 10));
    }
    world.crash("a");
    world.settle().await;
    supervisor.terminate_child("a").await.unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    world.expect(&["end a boom"]).await;
    assert_eq!(list(&supervisor).await, ["b up", "a undefined"]);
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn the_root_tree_starts_the_foundation_first_and_restarts_all_above_it() {
    let world = World::new();
    let runtime = world.spec(Strategy::OneForOne, &["x", "y"]);
    let spec = root::root_spec([world.child("persistence")], runtime).observe(world.observer());
    let supervisor = world.start(spec).await.unwrap();
    world.expect(&["start persistence", "start x", "start y", "start runtime"]).await;
    world.crash("x");
    world.expect(&["end x boom", "start x"]).await;
    world.crash("persistence");
    let stops = ["end persistence boom", "end y shutdown", "end x shutdown", "end runtime shutdown"];
    let starts = ["start persistence", "start x", "start y", "start runtime"];
    world.expect(&[stops, starts].concat()).await;
    supervisor.stop(Shutdown::Infinity).await;
    let ends = ["end y shutdown", "end x shutdown", "end runtime shutdown", "end persistence shutdown"];
    world.expect(&[&ends[..], &["end sup shutdown"]].concat()).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_exit_is_under_way_is_not_told_again_and_keeps_its_own_exit() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::OneForAll, &["a", "b"])).await;
    world.crash("b");
    world.kill("a");
    let before = Instant::now();
    world.settle().await;
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits for the end of a child that has ended");
    world.expect(&["end b boom", "end a killed", "start a", "start b"]).await;
    world.finish(supervisor).await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_whose_link_is_killed_ends_with_its_children() {
    let world = World::new();
    let supervisor = world.started(world.spec(Strategy::OneForOne, &["a", "b"])).await;
    let [link] = &supervisor.cell().get_children()[..] else { panic!("one link") };
    link.kill();
    supervisor.ended().await;
    world.expect(&["end sup the supervisor's link ended: killed"]).await;
    world.assert_nobody_lives().await;
}

/// ractor does not kill a child that is in its `post_stop`; a killed supervisor must.
#[tokio::test(start_paused = true)]
async fn a_stop_with_a_deadline_kills_a_supervisor_that_is_too_slow() {
    let world = World::new();
    world.stubborn("a", Duration::from_secs(100));
    let child = world.child("a").shutdown(Shutdown::Infinity);
    let supervisor = world.started(world.empty_spec(Strategy::OneForOne).child(child)).await;
    let how = Shutdown::Deadline(Duration::from_secs(1));
    assert_eq!(supervisor.stop(how).await, Stopped::Killed);
    world.expect(&["told a", "end sup killed"]).await;
    world.assert_nobody_lives().await;
    assert_eq!(supervisor.which_children().await.unwrap_err(), ControlError::NotRunning);
}

/// Children are known by id and life, never by name: a child may take its old name again in its next life.
#[tokio::test(start_paused = true)]
async fn a_named_child_gets_its_name_back_in_its_next_life() {
    struct Named;
    impl ractor::Actor for Named {
        type Msg = support::ChildMsg;
        type State = ();
        type Arguments = ();
        async fn pre_start(
            &self,
            _: ractor::ActorRef<support::ChildMsg>,
            (): (),
        ) -> Result<(), ractor::ActorProcessingErr> {
            Ok(())
        }
    }
    let world = World::new();
    let latest = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&latest);
    let start: StartFn = Arc::new(move |context| {
        let keep = Arc::clone(&keep);
        Box::pin(async move {
            let name = Some("a named child of the supervision test".to_owned());
            let (child, _) = context.link.spawn_linked(name, Named, ()).await?;
            *keep.lock().unwrap() = Some(child.get_cell());
            Ok(Started::Running(child.get_cell()))
        })
    });
    let spec = world.empty_spec(Strategy::OneForOne).intensity(Intensity::default());
    let supervisor = world.started(spec.child(ChildSpec::worker("n", start))).await;
    let first = latest.lock().unwrap().clone().unwrap();
    first.kill();
    world.expect(&["end n killed", "start n"]).await;
    let second = latest.lock().unwrap().clone().unwrap();
    assert_ne!(first, second);
    assert_eq!(ractor::registry::where_is("a named child of the supervision test"), Some(second));
    world.finish(supervisor).await;
}
