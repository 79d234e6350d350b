//! Resources of the process: measured, refused before they are used up, and what that does to limiters.

use std::{sync::Arc, time::Duration};

use stanchion::{
    ResourceWatch, System,
    error::Coded,
    resilience::{
        limiter::{LimitKey, LimiterOptions, Pressure},
        resources::{Resource, ResourceLevel, ResourceOptions, Resources},
    },
};

use tokio::sync::Semaphore;

use crate::kit::{stop, until};

const KEY: LimitKey<'static> = LimitKey::new("ann", "search");
const EVERY: Duration = Duration::from_millis(10);

fn limits(limits: &[(Resource, u64)]) -> ResourceOptions {
    ResourceOptions { limits: limits.iter().cloned().collect(), ..ResourceOptions::default() }
}

fn used(resources: &Resources, resource: &Resource) -> u64 {
    resources.status_of(resource).unwrap().used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_tasks_and_the_store_are_measured_and_refused_before_they_are_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let system = System::builder().open(&path).await.unwrap();
    let huge = 1 << 50;
    let all = [(Resource::Memory, huge), (Resource::Tasks, huge), (Resource::Store, huge)];
    let watch = ResourceWatch::new(limits(&all)).store(&path).every(EVERY);
    let resources = system.watch_resources(watch).unwrap();
    for (resource, _) in &all {
        let status = resources.status_of(resource).unwrap();
        assert!(status.used > 0 || *resource == Resource::Tasks, "{status:?}");
        assert_eq!(status.level, ResourceLevel::Normal);
        assert_eq!(status.measured, Some(status.used), "the first look was taken at once");
    }
    assert!(used(&resources, &Resource::Store) >= std::fs::metadata(&path).unwrap().len());
    // A limit a little above what is in use: what would go beyond it is refused, and a token comes back when dropped.
    for (resource, _) in &all {
        resources.set_limit(resource.clone(), used(&resources, resource) + (1 << 40)).unwrap();
        let token = resources.try_take(resource, 1 << 39).unwrap();
        let refused = resources.try_take(resource, 1 << 40).unwrap_err();
        assert_eq!(refused.code(), "resource.exhausted", "{refused}");
        drop(token);
        assert!(resources.try_take(resource, 1 << 39).is_ok());
    }
    // Tasks that come and go are seen.
    let before = used(&resources, &Resource::Tasks);
    let gate = Arc::new(Semaphore::new(0));
    for _ in 0..50 {
        let gate = Arc::clone(&gate);
        let waits = system.env().tasks().spawn("waits", async move { drop(gate.acquire().await) });
        drop(waits.unwrap());
    }
    until("they are counted", || used(&resources, &Resource::Tasks) >= before + 50).await;
    gate.add_permits(50);
    until("they are gone", || used(&resources, &Resource::Tasks) < before + 50).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_resource_is_high_limiters_admit_at_their_factor() {
    let system = System::builder().open_memory().await.unwrap();
    let options = LimiterOptions { pressure_factor: 0.5, ..LimiterOptions::sliding(10, 3_600_000) };
    let limiter = system.limiters().register("api", options).await.unwrap();
    let document =
        r#"{"mail": {"limiter": {"strategy": {"sliding_window": {"limit": 10, "window_ms": 1000}}}}}"#;
    system.services().configure(&serde_json::from_str(document).unwrap()).unwrap();
    let of_service = system.protected("mail").unwrap().limiter().unwrap();
    let watch = ResourceWatch::new(limits(&[(Resource::Memory, 1)])).every(EVERY);
    let resources = system.watch_resources(watch).unwrap();
    assert_eq!(resources.status_of(&Resource::Memory).unwrap().level, ResourceLevel::Full);
    assert_eq!((limiter.pressure(), of_service.pressure()), (Pressure::Degraded, Pressure::Degraded));
    let now = system.env().now();
    assert_eq!((0..20).filter(|_| limiter.acquire(KEY, 1, now).is_ok()).count(), 5);
    assert!(resources.try_take(&Resource::Memory, 0).is_err(), "nothing is given");
    // One that is registered meanwhile is scaled with the next look.
    let late = system.limiters().register("late", LimiterOptions::sliding(10, 1_000)).await.unwrap();
    until("it is scaled", || late.pressure() == Pressure::Degraded).await;
    resources.set_limit(Resource::Memory, 1 << 50).unwrap();
    until("the rate is whole again", || limiter.pressure() == Pressure::Normal).await;
    until("of all of them", || of_service.pressure() == Pressure::Normal).await;
    assert_eq!(
        (0..20).filter(|_| limiter.acquire(KEY, 1, now).is_ok()).count(),
        5,
        "what is used stays used"
    );
    stop(system).await;
}
