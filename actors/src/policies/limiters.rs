//! The way to the limiters of a system.

use std::sync::Arc;

use super::{
    PolicyError,
    handle::stored,
    live::Live,
    record::{PolicyName, SavedPolicy},
};
use crate::{
    env::Env,
    error::{CallError, Unavailable},
    resilience::{
        limiter::{Limiter, LimiterNotFound, LimiterOptions, Pressure},
        protected::Protected,
    },
};

/// Limiters by name that survive a restart.
#[derive(Clone)]
pub struct DurableLimiters {
    env: Arc<Env>,
}

impl std::fmt::Debug for DurableLimiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableLimiters")
    }
}

impl DurableLimiters {
    /// The limiters of a system.
    #[must_use]
    pub fn new(env: Arc<Env>) -> Self {
        Self { env }
    }

    /// The limiter of this name with these options: as it was stored, a new one, or the present one reconfigured.
    /// What its keys used stays used, but for the calls of the last second before a crash. Where its state cannot be
    /// read, or was too large to keep, it begins as its `on_error` says.
    ///
    /// # Errors
    /// [`PolicyError`]: `Limiter` when an option is outside its range, `Call` when the store does not answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn register(&self, name: &str, options: LimiterOptions) -> Result<Arc<Limiter>, PolicyError> {
        let table = self.env.policies();
        let policy = PolicyName::Limiter(name.to_owned());
        let _one = table.registering.lock().await;
        let now = self.env.now();
        if let Some(Live::Limiter(limiter)) = table.find(&policy) {
            limiter.reconfigure(options, now)?;
            return Ok(limiter);
        }
        table.has_places(1)?;
        options.validate()?;
        let limiter = match stored(&self.env, &policy).await {
            Ok(None) => Limiter::new(name, options)?,
            Ok(Some(SavedPolicy::Limiter(saved))) => match &saved.snapshot {
                Some(snapshot) => Limiter::restore(name, options, snapshot, now)?,
                None => Limiter::restore_unreadable(name, options, now)?,
            },
            Ok(Some(_)) => Limiter::restore_unreadable(name, options, now)?,
            Err(error) if is_unreadable(&error) => Limiter::restore_unreadable(name, options, now)?,
            Err(error) => return Err(error),
        };
        let limiter = Arc::new(limiter);
        table.enter(policy, Live::Limiter(Arc::clone(&limiter)));
        table.ring(&self.env.services().policies);
        Ok(limiter)
    }

    /// The limiter of this name.
    ///
    /// # Errors
    /// [`LimiterNotFound`]: nobody has registered it in this process.
    pub fn find(&self, name: &str) -> Result<Arc<Limiter>, LimiterNotFound> {
        match self.env.policies().find(&PolicyName::Limiter(name.to_owned())) {
            Some(Live::Limiter(limiter)) => Ok(limiter),
            Some(Live::Breaker(_) | Live::RetryBudget { .. } | Live::Service(_)) | None => {
                Err(LimiterNotFound(name.to_owned()))
            }
        }
    }

    /// Scales every limiter registered in this process, and that of every service, down or up again; those that are
    /// as told already are left alone.
    pub fn set_pressure(&self, pressure: Pressure) {
        let now = self.env.now();
        let services = self.env.protected().list();
        let of_services = services.iter().filter_map(Protected::limiter);
        for limiter in self.list().into_iter().chain(of_services) {
            if limiter.pressure() != pressure {
                limiter.set_pressure(pressure, now);
            }
        }
    }

    /// Every limiter registered in this process, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Limiter>> {
        let entries = self.env.policies().all();
        let limiter = |live: &Live| match live {
            Live::Limiter(limiter) => Some(Arc::clone(limiter)),
            Live::Breaker(_) | Live::RetryBudget { .. } | Live::Service(_) => None,
        };
        entries.iter().filter_map(|entry| limiter(&entry.live)).collect()
    }
}

fn is_unreadable(error: &PolicyError) -> bool {
    let PolicyError::Call(CallError::Unavailable(context)) = error else { return false };
    matches!(context.kind, Unavailable::Quarantined(_))
}
