//! An address as a `tower` service, alone and behind layers.

use std::sync::Arc;

use stanchion::{
    clock::SystemClock,
    error::CallError,
    resilience::{
        breaker::{Breaker, BreakerOptions, StateName},
        limiter::{LimitKey, Limiter, LimiterOptions},
    },
    tower::{BreakerLayer, LimiterLayer, PolicyError},
};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::kit::{Answer, Command, Refusal, builder, ledger, stop};

#[tokio::test]
async fn an_address_is_a_service_whose_responses_are_replies() {
    let system = builder().open_memory().await.unwrap();
    let mut service = ledger(&system, "a");
    let added = service.ready().await.unwrap().call(Command::Add(5)).await.unwrap();
    assert_eq!(added, Answer::Balance(5));
    let rejected = service.oneshot(Command::Take(9)).await.unwrap_err();
    assert_eq!(rejected, CallError::Rejected(Refusal::TooLow(5)));
    stop(system).await;
}

#[tokio::test]
async fn layers_stand_around_an_address_and_rejections_open_no_breaker() {
    let system = builder().open_memory().await.unwrap();
    let options =
        BreakerOptions { minimum_number_of_calls: 1, sliding_window_size: 1, ..BreakerOptions::default() };
    let breaker = Breaker::new("ledger", options).unwrap();
    let limiter = Arc::new(Limiter::new("ledger", LimiterOptions::sliding(3, 3_600_000)).unwrap());
    let service = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker.clone(), Arc::new(SystemClock)))
        .layer(LimiterLayer::new(limiter, LimitKey::new("test", "call"), Arc::new(SystemClock)))
        .service(ledger(&system, "a"));
    assert_eq!(service.clone().oneshot(Command::Add(1)).await, Ok(Answer::Balance(1)));
    for _ in 0..2 {
        let rejected = service.clone().oneshot(Command::Take(9)).await.unwrap_err();
        assert!(matches!(rejected, PolicyError::Inner(PolicyError::Inner(CallError::Rejected(_)))));
    }
    let refused = service.oneshot(Command::Add(1)).await.unwrap_err();
    assert!(matches!(refused, PolicyError::Inner(PolicyError::Refused(_))));
    assert_eq!(breaker.state().name(), StateName::Closed);
    stop(system).await;
}
