//! Resources (RL-7).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    error::{Coded, Family},
    resilience::holder::Holder,
};

fn resources(limits: impl IntoIterator<Item = (Resource, u64)>) -> Resources {
    let limits = limits.into_iter().collect();
    Resources::new(ResourceOptions { limits, ..ResourceOptions::default() }).unwrap()
}

fn status(resources: &Resources) -> ResourceStatus {
    resources.status_of(&Resource::Memory).unwrap()
}

#[test]
fn what_is_not_there_is_refused_before_it_is_exhausted_and_comes_back_on_drop() {
    let resources = resources([(Resource::Memory, 100)]);
    let token = resources.try_take(&Resource::Memory, 60).unwrap();
    assert_eq!((token.amount(), token.resource()), (60, &Resource::Memory));
    let refused = resources.try_take(&Resource::Memory, 41).unwrap_err();
    let expected = ResourceError::Exhausted { resource: Resource::Memory, used: 60, limit: 100, asked: 41 };
    assert_eq!(
        (&refused, refused.code(), refused.family()),
        (&expected, "resource.exhausted", Family::Unavailable)
    );
    let rest = resources.try_take(&Resource::Memory, 40).unwrap();
    assert_eq!(status(&resources).level, ResourceLevel::Full);
    drop(token);
    drop(rest);
    let after = status(&resources);
    assert_eq!((after.used, after.tokens, after.peak, after.refused), (0, 0, 100, 1));
}

#[test]
fn more_than_there_is_in_all_and_unknown_resources_are_refused_by_name() {
    let resources = resources([(Resource::Memory, 100)]);
    let large = resources.try_take(&Resource::Memory, u64::MAX).unwrap_err();
    assert_eq!((large.code(), large.family()), ("resource.too_large", Family::Rejected));
    let unknown = Resource::from("licences");
    let error = resources.try_take(&unknown, 1).unwrap_err();
    assert_eq!(error.to_string(), "there is no resource licences: give it a limit first");
    assert_eq!(resources.observe(&unknown, 1).unwrap_err().code(), "resource.unknown");
    resources.set_limit(unknown.clone(), 1).unwrap();
    assert!(resources.try_take(&unknown, 1).is_ok());
}

#[test]
fn what_is_measured_counts_with_what_was_taken_since() {
    let resources = resources([(Resource::Memory, 100)]);
    let before = resources.try_take(&Resource::Memory, 30).unwrap();
    resources.observe(&Resource::Memory, 70).unwrap();
    assert_eq!(status(&resources).used, 70);
    let since = resources.try_take(&Resource::Memory, 20).unwrap();
    assert_eq!((status(&resources).used, status(&resources).level), (90, ResourceLevel::High));
    assert!(resources.try_take(&Resource::Memory, 11).is_err());
    drop(before);
    assert_eq!(status(&resources).used, 90, "what it held is in the measurement until the next one");
    drop(since);
    assert_eq!(status(&resources).used, 70);
    resources.observe(&Resource::Memory, 120).unwrap();
    assert!(resources.try_take(&Resource::Memory, 0).is_err());
    resources.observe(&Resource::Memory, 10).unwrap();
    assert_eq!((status(&resources).level, status(&resources).peak), (ResourceLevel::Normal, 120));
}

#[test]
fn several_resources_are_taken_all_or_nothing() {
    let resources = resources([(Resource::Memory, 100), (Resource::Tasks, 1)]);
    let both = [(Resource::Memory, 40), (Resource::Tasks, 1)];
    let tokens = resources.try_take_all(&both).unwrap();
    assert!(resources.try_take_all(&both).is_err());
    assert_eq!(status(&resources).taken, 40);
    drop(tokens);
    assert!(resources.status().iter().all(|status| status.taken == 0));
}

#[test]
fn a_lower_limit_takes_nothing_from_tokens_and_gives_nothing_until_enough_is_back() {
    let resources = resources([(Resource::Memory, 100)]);
    let tokens: Vec<_> = (0..5).map(|_| resources.try_take(&Resource::Memory, 20).unwrap()).collect();
    resources.set_limit(Resource::Memory, 50).unwrap();
    assert_eq!((status(&resources).used, status(&resources).limit), (100, 50));
    let mut tokens = tokens.into_iter();
    drop((tokens.next(), tokens.next()));
    assert!(resources.try_take(&Resource::Memory, 1).is_err());
    drop(tokens.next());
    assert!(resources.try_take(&Resource::Memory, 10).is_ok());
    resources.set_limit(Resource::Memory, 0).unwrap();
    drop(tokens);
    assert_eq!(resources.try_take(&Resource::Memory, 1).unwrap_err().code(), "resource.too_large");
}

#[test]
fn threads_together_never_take_more_than_the_limit() {
    let resources = resources([(Resource::Memory, 10)]);
    let (held, given) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (resources, held, given) = (&resources, &held, &given);
            scope.spawn(move || {
                for round in 0..2_000_u64 {
                    let amount = (thread + round) % 5 + 1;
                    let Ok(token) = resources.try_take(&Resource::Memory, amount) else { continue };
                    let before = held.fetch_add(amount, Ordering::SeqCst);
                    assert!(before + amount <= 10, "over-committed");
                    given.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    held.fetch_sub(amount, Ordering::SeqCst);
                    drop(token);
                }
            });
        }
    });
    let after = status(&resources);
    assert_eq!((after.used, after.tokens), (0, 0));
    assert_eq!(given.load(Ordering::SeqCst) + after.refused, 16_000);
}

#[tokio::test]
async fn a_killed_holder_gives_its_token_back_within_a_second() {
    let resources = resources([(Resource::Memory, 1)]);
    let token = resources.try_take(&Resource::Memory, 1).unwrap();
    let (holder, ended) = Holder::start(token).await;
    assert!(resources.try_take(&Resource::Memory, 1).is_err());
    holder.kill();
    tokio::time::timeout(Duration::from_secs(1), ended).await.unwrap().unwrap();
    assert!(resources.try_take(&Resource::Memory, 1).is_ok());
}

#[test]
fn options_are_read_by_name_and_refused_by_name() {
    let read = |text: &str| serde_json::from_str::<ResourceOptions>(text).map_err(|error| error.to_string());
    let options =
        read(r#"{"limits": {"memory_bytes": 5, "tasks": 6, "store_bytes": 7, "licences": 8}}"#).unwrap();
    let custom = Resource::Custom("licences".into());
    let limits = [(Resource::Memory, 5), (Resource::Tasks, 6), (Resource::Store, 7), (custom, 8)];
    assert_eq!(options, ResourceOptions { limits: limits.into(), high_pct: 80 });
    assert_eq!(read(&serde_json::to_string(&options).unwrap()), Ok(options));
    assert!(read(r#"{"limit": {}}"#).is_err_and(|error| error.contains("limit")));
    let many = (0..1_001).map(|n| (Resource::from(n.to_string().as_str()), 1)).collect();
    for (limits, high_pct, field) in [
        (Default::default(), 0, "high_pct"),
        (Default::default(), 101, "high_pct"),
        ([(Resource::from(""), 1)].into(), 80, "limits"),
        ([(Resource::from("a b"), 1)].into(), 80, "limits"),
        (many, 80, "limits"),
    ] {
        let error = Resources::new(ResourceOptions { limits, high_pct }).unwrap_err();
        assert_eq!(
            (error.policy, error.field.as_str(), error.code()),
            ("resources", field, "resilience.options")
        );
    }
    assert_eq!(resources([]).set_limit(Resource::from(""), 1).unwrap_err().field, "limits");
}
