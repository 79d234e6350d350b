//! Feature flags: durable, audited, answered at once.

use stanchion::{
    error::Coded,
    flags::{FlagError, FlagRejection, FlagSetting, Percent},
    port::memory::MemoryStore,
};

use crate::kit::{crash, open, stop};

fn share(percent: f64) -> FlagSetting {
    FlagSetting::Share(Percent::new(percent).unwrap())
}

#[tokio::test]
async fn a_flag_that_was_set_is_seen_at_once_and_after_a_crash_with_who_and_why() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let flags = system.flags();
    flags.define("breaker", FlagSetting::Switch(true), "program").await.unwrap();
    assert!(flags.is_on("breaker").await.unwrap());
    flags.set("breaker", FlagSetting::Switch(false), "ann", "it opens too often").await.unwrap();
    assert!(!flags.is_on("breaker").await.unwrap());
    let reopened = store.reopen();
    crash(system).await;
    let system = open(&reopened).await;
    let flags = system.flags();
    let kept = flags.define("breaker", FlagSetting::Switch(true), "program").await.unwrap();
    assert_eq!(kept, FlagSetting::Switch(false), "a default never changes what was set");
    let flag = flags.flag("breaker").await.unwrap();
    let changes: Vec<_> = flag.changes().map(|c| (c.from, c.to, c.by.as_str(), c.reason.as_str())).collect();
    let (on, off) = (FlagSetting::Switch(true), FlagSetting::Switch(false));
    assert_eq!(changes, [(None, on, "program", "defined"), (Some(on), off, "ann", "it opens too often"),]);
    stop(system).await;
}

#[tokio::test]
async fn a_share_that_grows_keeps_whoever_was_in() {
    let system = open(&MemoryStore::new()).await;
    let flags = system.flags();
    flags.define("new-ui", share(10.0), "program").await.unwrap();
    let mut inside = Vec::new();
    for n in 0..300 {
        if flags.is_on_for("new-ui", &format!("user-{n}")).await.unwrap() {
            inside.push(n);
        }
    }
    assert!(!inside.is_empty() && inside.len() < 100, "{inside:?}");
    flags.set("new-ui", share(20.0), "ann", "").await.unwrap();
    for n in inside {
        assert!(flags.is_on_for("new-ui", &format!("user-{n}")).await.unwrap(), "user-{n}");
    }
    stop(system).await;
}

#[tokio::test]
async fn what_a_flag_is_not_is_refused_and_changes_nothing() {
    let system = open(&MemoryStore::new()).await;
    let flags = system.flags();
    flags.define("share", share(50.0), "program").await.unwrap();
    flags.define("switch", FlagSetting::Switch(true), "program").await.unwrap();
    let code = |result: Result<_, FlagError>| result.map(|_: ()| ()).unwrap_err().code();
    assert_eq!(code(flags.is_on("nobody").await.map(drop)), "flag.unknown");
    assert_eq!(code(flags.set("nobody", share(1.0), "ann", "").await), "flag.unknown");
    assert_eq!(code(flags.is_on("share").await.map(drop)), "flag.other_kind");
    assert_eq!(code(flags.is_on_for("switch", "id").await.map(drop)), "flag.other_kind");
    assert_eq!(code(flags.set("share", FlagSetting::Switch(true), "ann", "").await), "flag.other_kind");
    assert_eq!(
        code(flags.define("share", FlagSetting::Switch(true), "ann").await.map(drop)),
        "flag.other_kind"
    );
    assert_eq!(code(flags.set("share", share(1.0), "", "").await), "flag.text");
    assert_eq!(code(flags.set("share", share(1.0), "ann", &"x".repeat(1_025)).await), "flag.text");
    assert_eq!(code(flags.is_on("").await.map(drop)), "name.key");
    assert!(matches!(Percent::new(101.0), Err(FlagRejection::NotAPercentage(_))));
    assert_eq!(flags.flag("share").await.unwrap().setting(), Some(share(50.0)));
    stop(system).await;
}

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Mine;

impl stanchion::Agent for Mine {
    const KIND: &'static str = "flag";
    type Command = ();
    type Reply = ();
    type Rejection = stanchion::Never;
    fn handle(&mut self, (): (), _: &mut stanchion::Ctx<'_>) -> Result<(), stanchion::Never> {
        Ok(())
    }
}

#[tokio::test]
async fn a_kind_that_the_system_has_itself_is_refused_by_name() {
    let refused = stanchion::System::builder().agent::<Mine>().open_memory().await.unwrap_err();
    assert_eq!(refused.code(), "kind.duplicate");
    assert!(refused.to_string().contains("\"flag\""), "{refused}");
}
