//! An adapter for tests that does what a script says.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Adapter, AdapterHealth, CallCtx, verdict::Verdict};
use crate::resilience::breaker::FailureClass;

/// Why a stub has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StubError {
    /// The script has no such call at this place; it is a fault of the test as well.
    #[error("stub {stub}: unexpected call {call}, expected {expected}")]
    Unexpected {
        /// The stub.
        stub: Arc<str>,
        /// The request, as it shows itself.
        call: String,
        /// What the script has there.
        expected: String,
    },
    /// The script says that it fails.
    #[error("stub {stub}: scripted {class} failure")]
    Scripted {
        /// The stub.
        stub: Arc<str>,
        /// The failure's class.
        class: FailureClass,
        /// The wait it asks for.
        retry_after: Option<Duration>,
    },
}

/// Where calls and script differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stub {stub}: {} unexpected calls {unexpected:?}, {} expected calls not made {unmet:?}", .unexpected.len(), .unmet.len())]
pub struct StubFaults {
    /// The stub.
    pub stub: Arc<str>,
    /// Calls that the script did not have.
    pub unexpected: Vec<String>,
    /// Calls of the script that were not made.
    pub unmet: Vec<String>,
}

enum Act<R> {
    Answer(R),
    Fail(FailureClass, Option<Duration>),
    Hang,
    Panic,
}

struct Step<Q, R> {
    what: String,
    matches: Box<dyn Fn(&Q) -> bool + Send>,
    latency: Duration,
    act: Act<R>,
}

/// A scripted adapter: expects its calls in order, each once.
///
/// Latencies are tokio's time: under a paused clock they take none. A call that the script does not have gets an
/// error and is remembered: [`verify`](Self::verify) tells it, with what is left of the script. A stub that is dropped
/// unverified with a fault panics, so that the test fails.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use std::time::Duration;
/// use stanchion_actors::{adapter::{Adapter, CallCtx, Stub}, resilience::breaker::FailureClass};
///
/// let stub = Stub::new("billing")
///     .fail("a first try", |q: &u32| *q == 7, FailureClass::Network)
///     .answer("a second", |q| *q == 7, "paid").after(Duration::from_secs(3));
/// assert!(stub.call(7, &CallCtx::default()).await.is_err());
/// assert_eq!(stub.call(7, &CallCtx::default()).await, Ok("paid"));
/// stub.verify().unwrap();
/// # });
/// ```
pub struct Stub<Q, R> {
    name: Arc<str>,
    timeout: Duration,
    state: Mutex<State<Q, R>>,
}

struct State<Q, R> {
    script: VecDeque<Step<Q, R>>,
    unexpected: Vec<String>,
    health: AdapterHealth,
    verified: bool,
}

impl<Q, R> fmt::Debug for Stub<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stub").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<Q, R> Stub<Q, R> {
    /// A stub that expects nothing; its calls may take a minute.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let state = State {
            script: VecDeque::new(),
            unexpected: Vec::new(),
            health: AdapterHealth::Up,
            verified: false,
        };
        Self { name: name.into(), timeout: Duration::from_secs(60), state: Mutex::new(state) }
    }

    /// With another limit for its calls.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Expects a call next, and answers it.
    #[must_use]
    pub fn answer(self, what: &str, matches: impl Fn(&Q) -> bool + Send + 'static, answer: R) -> Self {
        self.step(what, matches, Act::Answer(answer))
    }

    /// Expects a call next, and fails it.
    #[must_use]
    pub fn fail(
        self,
        what: &str,
        matches: impl Fn(&Q) -> bool + Send + 'static,
        class: FailureClass,
    ) -> Self {
        self.step(what, matches, Act::Fail(class, None))
    }

    /// Expects a call next, and fails it with a wait to be kept.
    #[must_use]
    pub fn push_back(
        self,
        what: &str,
        matches: impl Fn(&Q) -> bool + Send + 'static,
        retry_after: Duration,
    ) -> Self {
        self.step(what, matches, Act::Fail(FailureClass::Application, Some(retry_after)))
    }

    /// Expects a call next, and never answers it.
    #[must_use]
    pub fn hang(self, what: &str, matches: impl Fn(&Q) -> bool + Send + 'static) -> Self {
        self.step(what, matches, Act::Hang)
    }

    /// Expects a call next, and panics in it.
    #[must_use]
    pub fn panic(self, what: &str, matches: impl Fn(&Q) -> bool + Send + 'static) -> Self {
        self.step(what, matches, Act::Panic)
    }

    /// The call expected last takes this long.
    #[must_use]
    pub fn after(self, latency: Duration) -> Self {
        if let Some(step) = self.lock().script.back_mut() {
            step.latency = latency;
        }
        self
    }

    /// What `health` says from here on; up at first.
    pub fn set_health(&self, health: AdapterHealth) {
        self.lock().health = health;
    }

    /// Checks that all calls of the script were made, and no others.
    ///
    /// # Errors
    /// [`StubFaults`] names them.
    pub fn verify(&self) -> Result<(), StubFaults> {
        let mut state = self.lock();
        state.verified = true;
        let unmet: Vec<String> = state.script.iter().map(|step| step.what.clone()).collect();
        let unexpected = state.unexpected.clone();
        if unmet.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(StubFaults { stub: Arc::clone(&self.name), unexpected, unmet })
    }

    fn step(self, what: &str, matches: impl Fn(&Q) -> bool + Send + 'static, act: Act<R>) -> Self {
        let step = Step { what: what.to_owned(), matches: Box::new(matches), latency: Duration::ZERO, act };
        self.lock().script.push_back(step);
        self
    }

    fn lock(&self) -> MutexGuard<'_, State<Q, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: fmt::Debug, R> Stub<Q, R> {
    /// The next step, if the request is the one it expects.
    fn next(&self, request: &Q) -> Result<Step<Q, R>, StubError> {
        let mut state = self.lock();
        state.verified = false;
        if let Some(step) = state.script.pop_front() {
            if (step.matches)(request) {
                return Ok(step);
            }
            state.script.push_front(step);
        }
        let call = format!("{request:?}");
        state.unexpected.push(call.clone());
        let expected = state.script.front().map_or("nothing more", |step| step.what.as_str()).to_owned();
        Err(StubError::Unexpected { stub: Arc::clone(&self.name), call, expected })
    }
}

impl<Q, R> Drop for Stub<Q, R> {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.lock().verified {
            let faults = self.verify();
            assert!(faults.is_ok(), "dropped unverified: {faults:?}");
        }
    }
}

impl<Q, R> Adapter for Stub<Q, R>
where
    Q: fmt::Debug + Send + 'static,
    R: Send + Sync + 'static,
{
    type Request = Q;
    type Response = R;
    type Error = StubError;

    fn name(&self) -> &str {
        &self.name
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn call(&self, request: Q, _: &CallCtx) -> Result<R, StubError> {
        let step = self.next(&request)?;
        let (latency, act) = (step.latency, step.act);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let stub = || Arc::clone(&self.name);
        match act {
            Act::Answer(answer) => Ok(answer),
            Act::Fail(class, retry_after) => Err(StubError::Scripted { stub: stub(), class, retry_after }),
            Act::Hang => std::future::pending().await,
            #[expect(clippy::panic, reason = "the script says so")]
            Act::Panic => panic!("stub {}: scripted panic", self.name),
        }
    }

    fn classify(&self, result: Result<&R, &StubError>) -> Verdict {
        match result {
            Ok(_) => Verdict::SUCCESS,
            Err(StubError::Unexpected { .. }) => Verdict::ignored(false),
            Err(StubError::Scripted { class, retry_after, .. }) => {
                Verdict::failure(*class).after(*retry_after)
            }
        }
    }

    async fn health(&self) -> AdapterHealth {
        self.lock().health.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ctx() -> CallCtx {
        CallCtx::default()
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_is_played_in_its_order_with_its_latencies_and_faults() {
        let any = |_: &u32| true;
        let stub = Stub::new("s")
            .answer("one", |q| *q == 1, "a")
            .after(Duration::from_secs(5))
            .push_back("two", any, Duration::from_secs(9))
            .hang("three", any)
            .panic("four", any);
        let began = tokio::time::Instant::now();
        assert_eq!(stub.call(1, &ctx()).await, Ok("a"));
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        let error = stub.call(2, &ctx()).await.unwrap_err();
        assert_eq!(stub.classify(Err(&error)).retry_after, Some(Duration::from_secs(9)));
        assert!(stub.call(3, &ctx()).now_or_never().is_none());
        let panicked = std::panic::AssertUnwindSafe(stub.call(4, &ctx())).catch_unwind().await;
        assert!(panicked.is_err());
        assert_eq!(stub.verify(), Ok(()));
    }

    #[tokio::test]
    async fn unexpected_and_unmet_calls_are_faults() {
        let stub = Stub::new("s").answer("one", |q: &u32| *q == 1, "a").answer("two", |q| *q == 2, "b");
        let error = stub.call(2, &ctx()).await.unwrap_err();
        assert_eq!(error.to_string(), "stub s: unexpected call 2, expected one");
        stub.call(1, &ctx()).await.unwrap();
        let faults = stub.verify().unwrap_err();
        assert_eq!((faults.unexpected, faults.unmet), (vec!["2".to_owned()], vec!["two".to_owned()]));
    }

    #[test]
    #[should_panic(expected = "dropped unverified")]
    fn a_stub_dropped_with_a_fault_fails_the_test() {
        drop(Stub::new("s").answer("one", |q: &u32| *q == 1, "a"));
    }
}
