//! An address as a service: a request is a command, a response its reply.

use std::{
    fmt,
    task::{Context, Poll},
};

use ::tower::Service;
use futures_util::future::BoxFuture;

use crate::{
    agent::{Address, Speaks},
    error::{CallError, Coded, Family},
    resilience::{
        breaker::{FailureClass, Outcome},
        retry::RetryCause,
    },
};

/// Always ready: the mailbox is bounded, and a call that finds it full waits or is refused as its kind says.
impl<A: Speaks> Service<A::Command> for Address<A> {
    type Response = A::Reply;
    type Error = CallError<A::Rejection>;
    type Future = BoxFuture<'static, Result<A::Reply, CallError<A::Rejection>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, command: A::Command) -> Self::Future {
        let address = self.clone();
        Box::pin(async move { Address::call(&address, command).await })
    }
}

/// A rejection says nothing about the agent's health. What may have been applied is not made again: another attempt
/// would be another command.
impl<R: fmt::Display> RetryCause for CallError<R> {
    fn cause_code(&self) -> &str {
        self.code()
    }
    fn may_retry(&self) -> bool {
        self.family() == Family::Unavailable
    }
    fn outcome(&self) -> Outcome {
        match self {
            Self::Rejected(_) | Self::Refused(_) => Outcome::Ignored,
            Self::Unavailable(_) | Self::Fatal(_) => Outcome::Failure(FailureClass::Application),
            Self::Unknown(_) => Outcome::Failure(FailureClass::Timeout),
        }
    }
}
