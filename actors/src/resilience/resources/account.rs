//! [`Resources`]: limits, and what is taken of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use super::{
    Resource, ResourceError, ResourceLevel, ResourceOptions, ResourceStatus,
    options::{check_count, check_name},
};
use crate::resilience::OptionsError;

/// Limits by resource, and what is taken of them. A clone is the same one.
///
/// Tokens together never hold more than the limit that was in force when the last of them was given. A token counts
/// whole; where a resource is measured, what is in use is the measurement and what was taken since, if that is more
/// than what is taken in all.
#[derive(Clone, Debug)]
pub struct Resources(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    accounts: RwLock<BTreeMap<Resource, Arc<Account>>>,
    high_pct: u8,
}

#[derive(Debug)]
struct Account {
    resource: Resource,
    books: Mutex<Books>,
}

/// The pure part: sums.
#[derive(Debug, Default)]
struct Books {
    limit: u64,
    taken: u64,
    tokens: u64,
    measured: Option<u64>,
    /// Taken since the last measurement, and still held: not in it yet.
    since: u64,
    /// Measurements so far: tells the tokens that came before one from those that came after.
    measurements: u64,
    peak: u64,
    refused: u64,
}

impl Books {
    fn used(&self) -> u64 {
        self.measured.unwrap_or(0).saturating_add(self.since).max(self.taken)
    }

    fn take(&mut self, asked: u64) -> bool {
        if self.used().checked_add(asked).is_none_or(|used| used > self.limit) {
            self.refused += 1;
            return false;
        }
        self.taken += asked;
        self.since += asked;
        self.tokens += 1;
        self.peak = self.peak.max(self.used());
        true
    }

    fn give_back(&mut self, amount: u64, measurements: u64) {
        self.taken -= amount;
        self.tokens -= 1;
        if measurements == self.measurements {
            self.since -= amount;
        }
    }

    fn observe(&mut self, used: u64) {
        self.measured = Some(used);
        self.measurements += 1;
        self.since = 0;
        self.peak = self.peak.max(self.used());
    }

    fn level(&self, high_pct: u8) -> ResourceLevel {
        let (used, limit) = (u128::from(self.used()), u128::from(self.limit));
        if used >= limit {
            ResourceLevel::Full
        } else if used * 100 >= limit * u128::from(high_pct) {
            ResourceLevel::High
        } else {
            ResourceLevel::Normal
        }
    }
}

impl Account {
    fn new(resource: Resource, limit: u64) -> Arc<Self> {
        Arc::new(Self { resource, books: Mutex::new(Books { limit, ..Books::default() }) })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing in here panics half-way.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: Arc<Self>, asked: u64) -> Result<ResourceToken, ResourceError> {
        let mut books = self.books();
        if books.take(asked) {
            let measurements = books.measurements;
            drop(books);
            return Ok(ResourceToken { account: self, amount: asked, measurements });
        }
        let (resource, used, limit) = (self.resource.clone(), books.used(), books.limit);
        drop(books);
        let name = self.resource.to_string();
        metrics::counter!("stanchion_resources_refused_total", "resource" => name).increment(1);
        Err(if asked > limit {
            ResourceError::TooLarge { resource, limit, asked }
        } else {
            ResourceError::Exhausted { resource, used, limit, asked }
        })
    }

    fn status(&self, high_pct: u8) -> ResourceStatus {
        let books = self.books();
        ResourceStatus {
            resource: self.resource.clone(),
            limit: books.limit,
            used: books.used(),
            taken: books.taken,
            tokens: books.tokens,
            measured: books.measured,
            peak: books.peak,
            refused: books.refused,
            level: books.level(high_pct),
        }
    }
}

impl Resources {
    /// Limits of which nothing is taken.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is outside its range.
    pub fn new(options: ResourceOptions) -> Result<Self, OptionsError> {
        options.validate()?;
        let accounts = options
            .limits
            .into_iter()
            .map(|(resource, limit)| (resource.clone(), Account::new(resource, limit)))
            .collect();
        Ok(Self(Arc::new(Shared { accounts: RwLock::new(accounts), high_pct: options.high_pct })))
    }

    /// Takes `amount` of a resource. An amount of `0` is a token that holds nothing; it is refused like any other
    /// when more than the limit is in use.
    ///
    /// # Errors
    /// [`ResourceError`]: nothing was taken.
    pub fn try_take(&self, resource: &Resource, amount: u64) -> Result<ResourceToken, ResourceError> {
        self.account(resource)?.take(amount)
    }

    /// Takes of several resources, all or nothing.
    ///
    /// # Errors
    /// [`ResourceError`] of the first that refuses: nothing was taken.
    pub fn try_take_all(&self, amounts: &[(Resource, u64)]) -> Result<Vec<ResourceToken>, ResourceError> {
        amounts.iter().map(|(resource, amount)| self.try_take(resource, *amount)).collect()
    }

    /// Tells how much of a resource is in use, measured from outside: what tokens hold included.
    ///
    /// # Errors
    /// [`ResourceError::Unknown`].
    pub fn observe(&self, resource: &Resource, used: u64) -> Result<(), ResourceError> {
        self.account(resource)?.books().observe(used);
        Ok(())
    }

    /// Puts a limit in force. A lower one takes nothing from tokens that are held: nothing new is given until
    /// enough has come back. A resource without one gets it.
    ///
    /// # Errors
    /// [`OptionsError`]: nothing changed.
    pub fn set_limit(&self, resource: Resource, limit: u64) -> Result<(), OptionsError> {
        let mut accounts = self.0.accounts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(&resource) {
            account.books().limit = limit;
            return Ok(());
        }
        check_name(&resource)?;
        check_count(accounts.len() + 1)?;
        accounts.insert(resource.clone(), Account::new(resource, limit));
        Ok(())
    }

    /// How each resource is, in order of their kinds and names.
    #[must_use]
    pub fn status(&self) -> Vec<ResourceStatus> {
        let accounts = self.0.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.values().map(|account| account.status(self.0.high_pct)).collect()
    }

    /// How one resource is.
    ///
    /// # Errors
    /// [`ResourceError::Unknown`].
    pub fn status_of(&self, resource: &Resource) -> Result<ResourceStatus, ResourceError> {
        Ok(self.account(resource)?.status(self.0.high_pct))
    }

    fn account(&self, resource: &Resource) -> Result<Arc<Account>, ResourceError> {
        let accounts = self.0.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.get(resource).cloned().ok_or_else(|| ResourceError::Unknown(resource.clone()))
    }
}

/// So much of a resource, given back when dropped, whatever ended its holder. It knows where it came from: it cannot
/// be given back twice, nor anywhere else.
///
/// ```compile_fail,E0382
/// # use stanchion_actors::resilience::resources::ResourceToken;
/// fn give_back_twice(token: ResourceToken) {
///     drop(token);
///     drop(token);
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping the token gives back what it holds at once"]
pub struct ResourceToken {
    account: Arc<Account>,
    amount: u64,
    /// How many measurements there were when it was given.
    measurements: u64,
}

impl ResourceToken {
    /// Of what.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.account.resource
    }

    /// How much.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl Drop for ResourceToken {
    fn drop(&mut self) {
        self.account.books().give_back(self.amount, self.measurements);
    }
}
