//! Activities: what runs outside, at least once.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Data;
use crate::{
    entity::{ActivityCtx, DynActivity, Failure},
    store::{decode, encode},
};

/// Work outside the entity: I/O, waiting, computing. It may run more than once; its idempotency key is the same
/// each time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an activity",
    note = "implement `stanchion::Activity` for it: a NAME, the types Input and Output, and `run`"
)]
pub trait Activity: Send + Sync + 'static {
    /// Registered name; stored.
    const NAME: &'static str;
    /// What it is given.
    type Input: Data;
    /// What it gives back.
    type Output: Data;

    /// Runs one attempt.
    fn run(
        &self,
        ctx: ActivityCtx,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// Code of an input that does not decode.
const BAD_INPUT: &str = "activity.bad_input";
/// Code of an output that does not encode.
const BAD_OUTPUT: &str = "activity.bad_output";

struct Typed<V>(Arc<V>);

/// Puts an activity behind bytes.
pub fn dyn_activity<V: Activity>(activity: V) -> Arc<dyn DynActivity> {
    Arc::new(Typed(Arc::new(activity)))
}

impl<V: Activity> DynActivity for Typed<V> {
    fn run(&self, ctx: ActivityCtx, input: Bytes) -> BoxFuture<'static, Result<Bytes, Failure>> {
        let activity = Arc::clone(&self.0);
        Box::pin(async move {
            let input = decode(&input).map_err(|e| Failure::permanent(BAD_INPUT, e.to_string()))?;
            let output = activity.run(ctx, input).await?;
            encode(&output).map(Bytes::from).map_err(|e| Failure::permanent(BAD_OUTPUT, e.to_string()))
        })
    }
}
