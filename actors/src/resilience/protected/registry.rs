//! [`ProtectedServices`]: services by name.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{
    Attempt, PROTECTED_MAX, Protected, ProtectedCtx, ProtectedError, ProtectedOptions, ProtectedOptionsError,
    ProtectedSettings, ProtectedStats, ProtectedValue, settings::checked_name,
};
use crate::{
    clock::Clock,
    error::{Coded, Family},
    resilience::{
        fallback::{FallbackLoop, check_routes},
        retry::RetryCause,
    },
};

/// No service has this name: nothing ran.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no service is named {0:?}: configure it first")]
pub struct ServiceNotFound(pub String);

impl Coded for ServiceNotFound {
    fn code(&self) -> &'static str {
        "protected.not_found"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// A service does not get its name or its options: nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServicesError {
    /// The options are not valid.
    #[error(transparent)]
    Options(#[from] ProtectedOptionsError),
    /// A service falls back to one that is not there.
    #[error("service {service:?} falls back to {other:?}, which is not configured")]
    NoSuchFallback {
        /// The service.
        service: String,
        /// The other one.
        other: String,
    },
    /// A fallback leads back to its service.
    #[error(transparent)]
    Loop(#[from] FallbackLoop),
    /// The name comes twice.
    #[error("two services are named {0:?}")]
    Duplicate(String),
    /// The name is empty or too long.
    #[error("{0:?} is no name of a service: use 1..={max} bytes", max = super::PROTECTED_NAME_MAX_BYTES)]
    Name(String),
    /// There are too many.
    #[error("more than {PROTECTED_MAX} services")]
    Full,
}

impl Coded for ServicesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Options(error) => error.code(),
            Self::NoSuchFallback { .. } => "protected.no_such_fallback",
            Self::Loop(error) => error.code(),
            Self::Duplicate(_) => "protected.duplicate",
            Self::Name(_) => "protected.name",
            Self::Full => "protected.full",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

type Table = BTreeMap<Arc<str>, Protected>;

/// Services by name. Look one up once and keep it: a clone is the same service.
pub struct ProtectedServices {
    clock: Arc<dyn Clock>,
    table: RwLock<Table>,
    /// Held by who configures, through all of its services.
    configuring: Mutex<()>,
}

impl fmt::Debug for ProtectedServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.table().keys()).finish()
    }
}

impl ProtectedServices {
    /// Makes a registry without services.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, table: RwLock::default(), configuring: Mutex::default() }
    }

    /// The service of this name with these options: a new one, or the present one reconfigured, what its layers know
    /// kept.
    ///
    /// # Errors
    /// [`ServicesError`]: nothing changed.
    pub fn set(&self, name: &str, options: ProtectedOptions) -> Result<Protected, ServicesError> {
        let mut settings = ProtectedSettings::default();
        settings.insert(name, options)?;
        self.configure(&settings)?;
        // It was set a moment ago, and nobody takes services out.
        self.get(name).map_err(|_| ServicesError::Name(name.to_owned()))
    }

    /// Sets every service of a document, or none; others stay as they are.
    ///
    /// # Errors
    /// [`ServicesError`]: nothing changed.
    pub fn configure(&self, settings: &ProtectedSettings) -> Result<(), ServicesError> {
        self.configure_with(settings, |_| ())
    }

    /// As [`Self::configure`]; `ready` is given each service that is new, under its options, before anybody finds it.
    pub(crate) fn configure_with(
        &self,
        settings: &ProtectedSettings,
        ready: impl Fn(&Protected),
    ) -> Result<(), ServicesError> {
        let _configuring = self.configuring.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.table();
        let mut table = known.clone();
        for (name, options) in settings.iter() {
            checked_name(name)?;
            options.validate(name)?;
            if !table.contains_key(name) {
                let name: Arc<str> = Arc::from(name);
                table.insert(Arc::clone(&name), Protected::bare(name, Arc::clone(&self.clock))?);
            }
        }
        if table.len() > PROTECTED_MAX {
            return Err(ServicesError::Full);
        }
        check(&table, settings)?;
        for (name, options) in settings.iter() {
            let other = options.fallback.as_ref().and_then(|route| table.get(&*route.service)).cloned();
            if let Some(service) = table.get(name) {
                service.put(options.clone(), other)?;
            }
            if let Some(service) = table.get(name).filter(|_| !known.contains_key(name)) {
                ready(service);
            }
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    /// The service of this name.
    ///
    /// # Errors
    /// [`ServiceNotFound`]: do not run the call.
    pub fn get(&self, name: &str) -> Result<Protected, ServiceNotFound> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(name).cloned().ok_or_else(|| ServiceNotFound(name.to_owned()))
    }

    /// Calls through the service of this name.
    ///
    /// # Errors
    /// [`ServiceNotFound`], outside: nothing ran. [`ProtectedError`], inside.
    ///
    /// # Cancel safety
    /// As [`Protected::call`].
    pub async fn call<T, E: RetryCause, F: Future<Output = Result<T, E>>>(
        &self,
        name: &str,
        ctx: &ProtectedCtx<'_>,
        attempt: impl FnMut(Attempt) -> F,
    ) -> Result<Result<ProtectedValue<T>, ProtectedError<E>>, ServiceNotFound> {
        Ok(self.get(name)?.call(ctx, attempt).await)
    }

    /// Every service, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Protected> {
        self.table().into_values().collect()
    }

    /// What became of the calls of every service, by name.
    #[must_use]
    pub fn stats(&self) -> Vec<ProtectedStats> {
        self.list().iter().map(Protected::stats).collect()
    }

    /// The options in force, as a document has them.
    #[must_use]
    pub fn settings(&self) -> ProtectedSettings {
        let mut settings = ProtectedSettings::default();
        for service in self.list() {
            // Names and options were checked when they were set.
            let _ = settings.insert(service.name().to_string(), service.options());
        }
        settings
    }

    fn table(&self) -> Table {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Checks where fallbacks lead once the settings hold.
fn check(table: &Table, settings: &ProtectedSettings) -> Result<(), ServicesError> {
    let mut routes: BTreeMap<&str, String> = BTreeMap::new();
    for (name, service) in table {
        routes.extend(service.options().fallback.map(|route| (&**name, route.service)));
    }
    for (name, options) in settings.iter() {
        match &options.fallback {
            Some(route) => routes.insert(name, route.service.clone()),
            None => routes.remove(name),
        };
    }
    check_routes(routes.iter().map(|(from, to)| (*from, to.as_str())))?;
    let missing = routes.into_iter().find(|(_, to)| !table.contains_key(to.as_str()));
    missing.map_or(Ok(()), |(service, other)| {
        Err(ServicesError::NoSuchFallback { service: service.to_owned(), other })
    })
}
