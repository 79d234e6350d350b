//! The ways to the policies of a system.

use std::{sync::Arc, time::Duration};

use super::{
    PolicyError, PolicyKeeperMsg,
    live::Live,
    record::{BreakerOrder, PolicyCommand, PolicyName, PolicyState, SavedPolicy},
};
use crate::{
    agent::Address,
    env::Env,
    resilience::{
        breaker::{Breaker, BreakerNotFound, BreakerOptions},
        budget::{RetryBudget, RetryBudgetOptions},
    },
};

/// The keeper answers within this time, or is taken not to.
const FLUSH_WITHIN: Duration = Duration::from_secs(10);

/// Breakers by name that survive a restart.
#[derive(Clone)]
pub struct DurableBreakers {
    env: Arc<Env>,
}

impl std::fmt::Debug for DurableBreakers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableBreakers")
    }
}

impl DurableBreakers {
    /// The breakers of a system.
    #[must_use]
    pub fn new(env: Arc<Env>) -> Self {
        Self { env }
    }

    /// The breaker of this name with these options: as it was stored, a new one, or the present one reconfigured,
    /// its state kept. One that was open when its process died is open until its original time.
    ///
    /// # Errors
    /// [`PolicyError`]: `Breaker` when an option is outside its range, `Call` when what is stored cannot be read.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn register(&self, name: &str, options: BreakerOptions) -> Result<Breaker, PolicyError> {
        let table = self.env.policies();
        let policy = PolicyName::Breaker(name.to_owned());
        let _one = table.registering.lock().await;
        if let Some(Live::Breaker(breaker)) = table.find(&policy) {
            breaker.reconfigure(options)?;
            return Ok(breaker);
        }
        table.has_places(1)?;
        let breaker = Breaker::new(name, options)?;
        if let Some(SavedPolicy::Breaker(saved)) = stored(&self.env, &policy).await? {
            breaker.restore(&saved.snapshot, self.env.now());
        }
        self.keep(policy, &breaker);
        Ok(breaker)
    }

    /// Has a breaker survive that was made elsewhere: as the present one of this name is, or as it was stored. Where
    /// there are as many policies as may be it stays as it is, and is not kept.
    ///
    /// # Errors
    /// [`PolicyError`]: `Address` when its name is no name, `Call` when what is stored cannot be read.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn adopt(&self, breaker: &Breaker) -> Result<(), PolicyError> {
        let table = self.env.policies();
        let policy = PolicyName::Breaker(breaker.name().to_string());
        let _one = table.registering.lock().await;
        let now = self.env.now();
        let before = match table.find(&policy) {
            Some(Live::Breaker(present)) => Some(present.snapshot(now)),
            Some(_) | None if table.has_places(1).is_err() => return Ok(()),
            Some(_) | None => match stored(&self.env, &policy).await? {
                Some(SavedPolicy::Breaker(saved)) => Some(saved.snapshot),
                Some(_) | None => None,
            },
        };
        if let Some(before) = before {
            breaker.restore(&before, now);
        }
        self.keep(policy, breaker);
        Ok(())
    }

    fn keep(&self, policy: PolicyName, breaker: &Breaker) {
        rings(&self.env, breaker);
        let table = self.env.policies();
        table.enter(policy, Live::Breaker(breaker.clone()));
        table.ring(&self.env.services().policies);
    }

    /// The breaker of this name.
    ///
    /// # Errors
    /// [`BreakerNotFound`]: nobody has registered it in this process.
    pub fn find(&self, name: &str) -> Result<Breaker, BreakerNotFound> {
        match self.env.policies().find(&PolicyName::Breaker(name.to_owned())) {
            Some(Live::Breaker(breaker)) => Ok(breaker),
            Some(Live::Limiter(_) | Live::RetryBudget { .. } | Live::Service(_)) | None => {
                Err(BreakerNotFound(name.to_owned()))
            }
        }
    }

    /// Every breaker registered in this process, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Breaker> {
        let entries = self.env.policies().all();
        let breaker = |live: &Live| match live {
            Live::Breaker(breaker) => Some(breaker.clone()),
            Live::Limiter(_) | Live::RetryBudget { .. } | Live::Service(_) => None,
        };
        entries.iter().filter_map(|entry| breaker(&entry.live)).collect()
    }

    /// Opens, closes or resets a breaker by hand, and answers once that is durable. One that nobody has registered
    /// in this process begins so when it is.
    ///
    /// # Errors
    /// [`PolicyError`]; `Call` with `Unknown` when nothing is stored of it either. `NotStored`: it obeys, and a
    /// restart may forget that.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the breaker has obeyed or will.
    pub async fn order(&self, name: &str, order: BreakerOrder) -> Result<(), PolicyError> {
        let Ok(breaker) = self.find(name) else {
            let key = PolicyName::Breaker(name.to_owned()).to_string();
            return Ok(Address::<PolicyState>::new(&self.env, &key)?
                .call(PolicyCommand::Order(order))
                .await?);
        };
        let now = self.env.now();
        match order {
            BreakerOrder::Open => breaker.force_open(now),
            BreakerOrder::Close => breaker.reset(now),
            BreakerOrder::Reset => {
                breaker.reset(now);
                breaker.clear_counts();
            }
        }
        flush(&self.env).await
    }

    /// Stores whatever of the system's policies is not stored yet, and waits until that is durable.
    ///
    /// # Errors
    /// [`PolicyError::NotStored`]: it is tried again.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn flush(&self) -> Result<(), PolicyError> {
        flush(&self.env).await
    }
}

/// Retry budgets by name that survive a restart.
#[derive(Clone)]
pub struct DurableBudgets {
    env: Arc<Env>,
}

impl std::fmt::Debug for DurableBudgets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableBudgets")
    }
}

impl DurableBudgets {
    /// The retry budgets of a system.
    #[must_use]
    pub fn new(env: Arc<Env>) -> Self {
        Self { env }
    }

    /// The retry budget of this name: as it was stored at most a second before its process died, a new one, or the
    /// present one.
    ///
    /// # Errors
    /// [`PolicyError`]: `Budget` when an option is outside its range, `Differs` when the present one has others,
    /// `Call` when what is stored cannot be read.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn register(
        &self,
        name: &str,
        options: RetryBudgetOptions,
    ) -> Result<Arc<RetryBudget>, PolicyError> {
        let table = self.env.policies();
        let policy = PolicyName::RetryBudget(name.to_owned());
        let _one = table.registering.lock().await;
        if let Some(Live::RetryBudget { budget, options: present }) = table.find(&policy) {
            return if present == options { Ok(budget) } else { Err(PolicyError::Differs(name.to_owned())) };
        }
        table.has_places(1)?;
        options.validate()?;
        let budget = match stored(&self.env, &policy).await? {
            Some(SavedPolicy::RetryBudget(saved)) => RetryBudget::restore(options.clone(), &saved.snapshot)?,
            Some(_) | None => RetryBudget::new(options.clone())?,
        };
        let budget = Arc::new(budget);
        table.enter(policy, Live::RetryBudget { budget: Arc::clone(&budget), options });
        table.ring(&self.env.services().policies);
        Ok(budget)
    }
}

pub(super) async fn stored(env: &Arc<Env>, name: &PolicyName) -> Result<Option<SavedPolicy>, PolicyError> {
    let address = Address::<PolicyState>::new(env, &name.to_string())?;
    Ok(address.read(|state: &PolicyState| state.saved().cloned()).await?)
}

async fn flush(env: &Env) -> Result<(), PolicyError> {
    let away = || PolicyError::NotStored("the keeper of policies does not answer at the moment".to_owned());
    let keeper = env.services().policies.actor().ok_or_else(away)?;
    let limit = Some(FLUSH_WITHIN);
    match keeper.call(PolicyKeeperMsg::Flush, limit).await {
        Ok(ractor::rpc::CallResult::Success(stored)) => stored.map_err(PolicyError::NotStored),
        Ok(ractor::rpc::CallResult::Timeout | ractor::rpc::CallResult::SenderError) | Err(_) => Err(away()),
    }
}

/// Has the keeper hear of each change of state of a breaker.
pub(super) fn rings(env: &Arc<Env>, breaker: &Breaker) {
    let env = Arc::downgrade(env);
    breaker.observe(move || {
        if let Some(env) = env.upgrade() {
            env.policies().ring(&env.services().policies);
        }
    });
}
