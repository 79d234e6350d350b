//! Resources of the process, measured: memory, tasks, size of the store.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use stanchion_actors::{
    env::Env,
    policies::DurableLimiters,
    resilience::{
        OptionsError,
        limiter::Pressure,
        resources::{Resource, ResourceLevel, ResourceOptions, Resources},
    },
};

/// Bytes of a page, as `/proc/self/statm` counts.
const PAGE_BYTES: u64 = 4_096;
/// Nobody measures more often.
const LEAST: Duration = Duration::from_millis(10);

/// What is measured, against which limits, and how often.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResourceWatch {
    /// Limits; a resource without one is not measured. Those of [`Resource::Custom`] are the caller's to observe.
    pub options: ResourceOptions,
    /// The store's file, to measure [`Resource::Store`]: with its log and whatever else lies beside it under its name.
    pub store: Option<PathBuf>,
    /// Time between two looks: at least 10 ms; default one second.
    pub every: Duration,
}

impl ResourceWatch {
    /// Looks each second, at memory and tasks only.
    #[must_use]
    pub fn new(options: ResourceOptions) -> Self {
        Self { options, store: None, every: Duration::from_secs(1) }
    }

    /// Measures the store, too, whose file this is.
    #[must_use]
    pub fn store(self, file: impl Into<PathBuf>) -> Self {
        Self { store: Some(file.into()), ..self }
    }

    /// Looks so often.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every: every.max(LEAST), ..self }
    }
}

/// Starts measuring; the first measurement is taken before it answers.
pub(super) fn watch(env: &Arc<Env>, watch: ResourceWatch) -> Result<Resources, OptionsError> {
    let resources = Resources::new(watch.options.clone())?;
    let mut scales = look(env, &watch, &resources, false);
    // It does not keep alive the system that owns it.
    let (owner, measured) = (Arc::downgrade(env), resources.clone());
    let spawned = env.tasks().spawn("resources", async move {
        loop {
            tokio::time::sleep(watch.every).await;
            let Some(env) = owner.upgrade() else { return };
            scales = look(&env, &watch, &measured, scales);
        }
    });
    // The system ends: nobody asks any more.
    drop(spawned);
    Ok(resources)
}

/// Measures once, and scales the limiters of the system; whether it has scaled them down.
fn look(env: &Arc<Env>, watch: &ResourceWatch, resources: &Resources, scaled: bool) -> bool {
    let measured = [
        (Resource::Memory, memory_bytes()),
        (Resource::Tasks, u64::try_from(env.tasks().live()).ok()),
        (Resource::Store, watch.store.as_deref().map(store_bytes)),
    ];
    for (resource, used) in measured {
        if let Some(used) = used {
            // Without a limit it is not among them.
            let _ = resources.observe(&resource, used);
        }
    }
    let is_high = resources.status().iter().any(|status| status.level != ResourceLevel::Normal);
    let limiters = DurableLimiters::new(Arc::clone(env));
    if is_high {
        limiters.set_pressure(Pressure::Degraded);
    } else if scaled {
        limiters.set_pressure(Pressure::Normal);
    }
    is_high
}

/// Memory of this process that is in use; `None` where the system does not say.
fn memory_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(PAGE_BYTES))
}

/// Size of a store's file and of those whose names begin with its own.
fn store_bytes(file: &Path) -> u64 {
    let Some(name) = file.file_name().map(|name| name.to_string_lossy().into_owned()) else { return 0 };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let its = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&name));
    its.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
}
