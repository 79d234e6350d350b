//! Calls a start function so that its panic stays its own.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use ractor::ActorStatus;

use crate::child::{StartContext, StartFn, Started};
use crate::error::StartError;

/// Starts one life of a child, and makes sure that it is linked.
pub(crate) async fn call_start(start: &StartFn, context: StartContext) -> Result<Started, StartError> {
    let (link, start) = (context.link.clone(), Arc::clone(start));
    let outcome = AssertUnwindSafe(async move { start(context).await }).catch_unwind().await;
    let started = outcome.map_err(|payload| StartError::Panicked(panic_message(payload.as_ref())))??;
    if let Started::Running(cell) = &started
        && cell.get_status() < ActorStatus::Stopping
        && cell.try_get_supervisor().is_none_or(|parent| parent != link)
    {
        cell.link(link);
    }
    Ok(started)
}

fn panic_message(payload: &(dyn Any + Send)) -> Arc<str> {
    let text = payload.downcast_ref::<&str>().map(|text| Arc::from(*text));
    text.or_else(|| payload.downcast_ref::<String>().map(|text| Arc::from(text.as_str())))
        .unwrap_or_else(|| Arc::from("not a text"))
}
