//! One fetch for all, before and after a refusal.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use futures_util::future::join_all;

use super::*;
use crate::clock::ManualClock;

#[derive(Clone, Default)]
struct Provider(Arc<Counts>);

#[derive(Default)]
struct Counts {
    fetches: AtomicU32,
    fails: AtomicBool,
    hangs: AtomicBool,
    life_s: AtomicU32,
    clock: ManualClock,
}

impl CredentialProvider for Provider {
    async fn fetch(&self) -> Result<Credential, String> {
        let number = self.0.fetches.fetch_add(1, SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if self.0.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.0.fails.load(SeqCst) {
            return Err(format!("no {number}"));
        }
        let life = Duration::from_secs(u64::from(self.0.life_s.load(SeqCst)));
        let expires = (!life.is_zero()).then(|| self.0.clock.now().after(life));
        Ok(Credential { secret: Secret::new(format!("canary-{number}")), expires })
    }
}

fn rig() -> (Credentials, Provider, Arc<ManualClock>) {
    let provider = Provider::default();
    let clock = Arc::new(ManualClock::default());
    let options = CredentialOptions::default();
    (Credentials::new("api", provider.clone(), options, Arc::<ManualClock>::clone(&clock)), provider, clock)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_and_a_thousand_refusals_are_one_fetch_each() {
    let (credentials, provider, _) = rig();
    for lent in join_all((0..1_000).map(|_| credentials.get())).await {
        let lent = lent.unwrap();
        assert_eq!((lent.secret.expose(), lent.fetch), ("canary-1", 1));
    }
    assert_eq!(provider.0.fetches.load(SeqCst), 1);
    for lent in join_all((0..1_000).map(|_| credentials.refused(1))).await {
        assert_eq!(lent.unwrap().secret.expose(), "canary-2");
    }
    // One who comes late with the old one gets the new one as well.
    assert_eq!(credentials.refused(1).await.unwrap().fetch, 2);
    assert_eq!(provider.0.fetches.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_fails_all_who_waited_and_the_next_tries_again() {
    let (credentials, provider, _) = rig();
    provider.0.fails.store(true, SeqCst);
    for lent in join_all((0..100).map(|_| credentials.get())).await {
        let expected = CredentialError::Fetch { name: Arc::from("api"), cause: Arc::from("no 1") };
        assert_eq!(lent.unwrap_err(), expected);
    }
    provider.0.fails.store(false, SeqCst);
    assert_eq!(credentials.get().await.unwrap().secret.expose(), "canary-2");
}

#[tokio::test(start_paused = true)]
async fn one_caller_fetches_early_while_the_others_use_what_holds() {
    let (credentials, provider, clock) = rig();
    provider.0.life_s.store(60, SeqCst);
    credentials.get().await.unwrap();
    clock.advance(Duration::from_secs(29));
    assert_eq!(credentials.get().await.unwrap().fetch, 1);
    clock.advance(Duration::from_secs(1));
    let lent = join_all((0..10).map(|_| credentials.get())).await;
    let fetches: Vec<u64> = lent.into_iter().map(|lent| lent.unwrap().fetch).collect();
    assert_eq!(fetches, [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_fetch_is_no_harm_until_the_credential_expires() {
    let (credentials, provider, clock) = rig();
    provider.0.life_s.store(60, SeqCst);
    credentials.get().await.unwrap();
    // The provider's own clock stands: what it gives from here on has expired.
    provider.0.fails.store(true, SeqCst);
    clock.advance(Duration::from_secs(40));
    assert_eq!(credentials.get().await.unwrap().fetch, 1);
    // Not tried again at once.
    assert_eq!(credentials.get().await.unwrap().fetch, 1);
    assert_eq!(provider.0.fetches.load(SeqCst), 2);
    clock.advance(Duration::from_secs(20));
    assert!(matches!(credentials.get().await, Err(CredentialError::Fetch { .. })));
    provider.0.fails.store(false, SeqCst);
    let expired = CredentialError::Expired { name: Arc::from("api") };
    assert_eq!(credentials.get().await.unwrap_err(), expired);
    assert_eq!(provider.0.fetches.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_failed_early_fetch_fetches_anew() {
    let (credentials, provider, clock) = rig();
    provider.0.life_s.store(60, SeqCst);
    credentials.get().await.unwrap();
    provider.0.fails.store(true, SeqCst);
    clock.advance(Duration::from_secs(40));
    assert_eq!(credentials.get().await.unwrap().fetch, 1);
    provider.0.fails.store(false, SeqCst);
    assert_eq!(credentials.refused(1).await.unwrap().secret.expose(), "canary-3");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_times_out_and_one_that_is_cancelled_passes_its_turn_on() {
    let (credentials, provider, _) = rig();
    provider.0.hangs.store(true, SeqCst);
    let after = CredentialOptions::default().fetch_timeout;
    let expected = CredentialError::FetchTimeout { name: Arc::from("api"), after };
    assert_eq!(credentials.get().await.unwrap_err(), expected);
    let leader = tokio::time::timeout(Duration::from_secs(1), credentials.get());
    let follower = async {
        tokio::task::yield_now().await;
        let waiting = credentials.get();
        tokio::time::sleep(Duration::from_millis(500)).await;
        provider.0.hangs.store(false, SeqCst);
        waiting.await
    };
    let (leader, follower) = tokio::join!(leader, follower);
    assert!(leader.is_err());
    assert_eq!(follower.unwrap().secret.expose(), "canary-3");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_made_once_more_and_then_fails() {
    let (credentials, provider, _) = rig();
    let calls = AtomicU32::new(0);
    let call = |secret: Secret| {
        calls.fetch_add(1, SeqCst);
        async move { secret.expose() == "canary-2" }
    };
    assert_eq!(credentials.authorise(call, |good| !good).await, Ok(true));
    assert_eq!((calls.load(SeqCst), provider.0.fetches.load(SeqCst)), (2, 2));
    let refused = credentials.authorise(|_| async { false }, |good| !good).await.unwrap_err();
    assert_eq!(refused, CredentialError::Refused { name: Arc::from("api") });
    let shown = format!("{refused} {refused:?} {credentials:?} {:?}", credentials.get().await);
    assert!(!shown.contains("canary"), "{shown}");
}
