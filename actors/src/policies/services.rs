//! The way to the services outside of a system, their layers kept.

use std::sync::Arc;

use super::{
    PolicyError,
    handle::{rings, stored},
    live::Live,
    record::{PolicyName, SavedPolicy},
};
use crate::{
    env::Env,
    resilience::protected::{Protected, ProtectedOptions, ProtectedSettings, ProtectedSnapshot},
};

/// Services outside whose layers survive a restart: what the breaker, the limiter and the budget know, and how long
/// `Retry-After` says to wait.
#[derive(Clone)]
pub struct DurableServices {
    env: Arc<Env>,
}

impl std::fmt::Debug for DurableServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableServices")
    }
}

impl DurableServices {
    /// The services of a system.
    #[must_use]
    pub fn new(env: Arc<Env>) -> Self {
        Self { env }
    }

    /// The service of this name with these options: as it was stored, a new one, or the present one reconfigured, what
    /// its layers know kept. From here on it is found among the system's services.
    ///
    /// # Errors
    /// As [`Self::configure`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn set(&self, name: &str, options: ProtectedOptions) -> Result<Protected, PolicyError> {
        let mut settings = ProtectedSettings::default();
        settings.insert(name, options)?;
        self.configure(&settings).await?;
        Ok(self.env.protected().get(name)?)
    }

    /// Sets every service of a document, or none. Each that is new in this process begins as it was stored: a breaker
    /// that died open is open until its original time, what keys have used stays used, what was paid into a budget is
    /// there, and who was asked to wait waits.
    ///
    /// # Errors
    /// [`PolicyError`]: `Services` when a name or an option is refused, `TooMany`, `Call` when what is stored cannot be
    /// read. Nothing changed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn configure(&self, settings: &ProtectedSettings) -> Result<(), PolicyError> {
        let table = self.env.policies();
        let _one = table.registering.lock().await;
        let mut kept = Vec::new();
        for (name, _) in settings.iter() {
            let policy = PolicyName::Service(name.to_owned());
            if table.find(&policy).is_none() {
                table.has_places(kept.len() + 1)?;
                kept.push((policy.clone(), snapshot(stored(&self.env, &policy).await?)));
            }
        }
        let now = self.env.now();
        self.env.protected().configure_with(settings, |service| {
            let name = |(policy, _): &&(PolicyName, _)| policy.name() == &**service.name();
            if let Some((_, Some(saved))) = kept.iter().find(name) {
                service.restore(saved, now);
            }
        })?;
        for (policy, _) in kept {
            let service = self.env.protected().get(policy.name())?;
            table.enter(policy, Live::Service(service));
        }
        for (name, _) in settings.iter() {
            // Another breaker may have come with the options; one that is known has its observer.
            if let Some(breaker) = self.env.protected().get(name)?.breaker() {
                rings(&self.env, &breaker);
            }
        }
        table.ring(&self.env.services().policies);
        Ok(())
    }
}

fn snapshot(stored: Option<SavedPolicy>) -> Option<ProtectedSnapshot> {
    match stored {
        Some(SavedPolicy::Service(saved)) => Some(*saved),
        Some(_) | None => None,
    }
}
