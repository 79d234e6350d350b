//! The way to durable names.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::{
    AfterEnd, DurableName, DurableNamesError, Exit, Metadata, NameAsk, NameCommand, NameFound, NameKey,
    NameRecord, NameRef, NameReply, NameSearch, NameSpec, NameState, NamesError, Namespace, Stopped,
};
use crate::{
    agent::{Address, Agent},
    balance::InstanceId,
    env::Env,
    ids::Name,
    store::ListQuery,
};

/// Names read from the store at a time.
const PAGE: usize = 1_000;
/// Names asked at a time.
const ASKED_AT_ONCE: usize = 64;

/// The way to names that outlive their owners and the process: each is an agent of its own.
///
/// What is answered is on disk. An owner lives in one process: once that has died, the name recovers as its policy
/// says, and references of before are refused, whether or not anybody called [`recover`](Self::recover).
#[derive(Clone)]
pub struct DurableNames {
    env: Arc<Env>,
}

impl std::fmt::Debug for DurableNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableNames")
    }
}

impl DurableNames {
    /// The names of a system.
    #[must_use]
    pub fn new(env: Arc<Env>) -> Self {
        Self { env }
    }

    /// Gives a name to an owner in this process.
    ///
    /// # Errors
    /// [`DurableNamesError`]; `AlreadyRegistered` with its owner, also while that is to be started anew.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the name may be registered.
    pub async fn register(
        &self,
        key: NameKey,
        spec: NameSpec,
        owner: InstanceId,
    ) -> Result<NameRef, DurableNamesError> {
        let reply = self.ask(&key, NameAsk::Register { key: key.clone(), spec, owner }).await?;
        match reply {
            NameReply::Registered(reference) => Ok(reference),
            NameReply::Respawn(_) | NameReply::Done | NameReply::Dropped(_) => {
                Err(NamesError::NotRegistered { key }.into())
            }
        }
    }

    /// The present reference of a name and its owner; `None`: nobody has it now.
    ///
    /// # Errors
    /// [`DurableNamesError`] when its entity does not answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn whereis(&self, key: &NameKey) -> Result<Option<(NameRef, InstanceId)>, DurableNamesError> {
        let record = self.record(key).await?;
        let NameState::Live { owner, .. } = record.state() else { return Ok(None) };
        Ok(Some((NameRef { key: key.clone(), epoch: record.epoch() }, owner.clone())))
    }

    /// The owner that a reference names, asked from within a namespace.
    ///
    /// # Errors
    /// [`DurableNamesError`]: the reference is of another namespace, its owner has ended, or nobody has the name.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn resolve(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
    ) -> Result<InstanceId, DurableNamesError> {
        reference.check_within(namespace)?;
        Ok(self.record(&reference.key).await?.owner(reference)?.clone())
    }

    /// An owner has ended.
    ///
    /// # Errors
    /// [`DurableNamesError`]; that was said before, or the reference is of another namespace.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may have been said: say it again.
    pub async fn ended(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
        exit: Exit,
    ) -> Result<AfterEnd, DurableNamesError> {
        let ask = NameAsk::Ended { reference: reference.clone(), exit };
        match self.ask_within(namespace, reference, ask).await? {
            NameReply::Respawn(next) => Ok(AfterEnd::Respawn(next)),
            NameReply::Registered(_) | NameReply::Done | NameReply::Dropped(_) => Ok(AfterEnd::Free),
        }
    }

    /// An owner was started anew in this process, as [`AfterEnd::Respawn`] or [`Self::recover`] asked.
    ///
    /// # Errors
    /// [`DurableNamesError`] as [`NameRecord::respawned`]: stop the owner again.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may have been said.
    pub async fn respawned(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
        owner: InstanceId,
    ) -> Result<(), DurableNamesError> {
        let ask = NameAsk::Respawned { reference: reference.clone(), owner };
        self.ask_within(namespace, reference, ask).await.map(drop)
    }

    /// Gives a name free, whether its owner lives or is awaited.
    ///
    /// # Errors
    /// [`DurableNamesError`] as [`NameRecord::unregister`]: nothing is left to do.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the name may be free.
    pub async fn unregister(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
    ) -> Result<(), DurableNamesError> {
        let ask = NameAsk::Unregister { reference: reference.clone() };
        self.ask_within(namespace, reference, ask).await.map(drop)
    }

    /// Sets the metadata of a name whose owner lives.
    ///
    /// # Errors
    /// [`DurableNamesError`] as [`Self::resolve`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be set.
    pub async fn set_metadata(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
        metadata: Metadata,
    ) -> Result<(), DurableNamesError> {
        let ask = NameAsk::SetMetadata { reference: reference.clone(), metadata };
        self.ask_within(namespace, reference, ask).await.map(drop)
    }

    /// What is to be started anew, by key: owners that died with the process before, and those whose start was asked
    /// for and not done. Looks at every name there is, and changes none: asked again, it answers what is still awaited.
    ///
    /// # Errors
    /// [`DurableNamesError`] when the store or an entity does not answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn recover(&self) -> Result<Vec<(NameRef, NameSpec)>, DurableNamesError> {
        let names = self.look_at_all("").await?;
        let awaited =
            names.into_iter().filter(|(_, record)| matches!(record.state(), NameState::Recovering { .. }));
        let started =
            awaited.map(|(key, record)| (NameRef { key, epoch: record.epoch() }, record.spec().clone()));
        Ok(started.collect())
    }

    /// Drops every name of a namespace, one by one; answers whom to stop, by key. What is registered meanwhile may be
    /// among them or not.
    ///
    /// # Errors
    /// [`DurableNamesError`]: some may be dropped, and whom to stop is not told again.
    ///
    /// # Cancel safety
    /// Dropped while it waits, some may be dropped.
    pub async fn drop_namespace(&self, namespace: &Namespace) -> Result<Vec<Stopped>, DurableNamesError> {
        let names = self.look_at_all(&format!("{namespace}/")).await?;
        let held = names.into_iter().filter(|(_, record)| *record.state() != NameState::Gone);
        let drop_one = |(key, _): (NameKey, NameRecord)| async move { self.ask(&key, NameAsk::Drop).await };
        let replies: Vec<_> = stream::iter(held).map(drop_one).buffered(ASKED_AT_ONCE).try_collect().await?;
        let stopped = replies.into_iter().filter_map(|reply| match reply {
            NameReply::Dropped(stopped) => stopped,
            NameReply::Registered(_) | NameReply::Respawn(_) | NameReply::Done => None,
        });
        Ok(stopped.collect())
    }

    /// The names of a namespace that are as the search says, by key. Looks at every name of the namespace.
    ///
    /// # Errors
    /// [`DurableNamesError`] when the store or an entity does not answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn search(
        &self,
        namespace: &Namespace,
        search: &NameSearch,
    ) -> Result<Vec<NameFound>, DurableNamesError> {
        let names = self.look_at_all(&format!("{namespace}/")).await?;
        Ok(names.into_iter().filter_map(|(key, record)| search.found(key, &record)).collect())
    }

    /// The record of a name as this process sees it; one that nobody had is gone.
    ///
    /// # Errors
    /// [`DurableNamesError`] when its entity does not answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn record(&self, key: &NameKey) -> Result<NameRecord, DurableNamesError> {
        let (life, now) = (self.life(), self.env.now());
        Ok(self.address(key)?.read(move |name| name.seen_in(life, now)).await?)
    }

    async fn ask_within(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
        ask: NameAsk,
    ) -> Result<NameReply, DurableNamesError> {
        reference.check_within(namespace)?;
        self.ask(&reference.key, ask).await
    }

    async fn ask(&self, key: &NameKey, ask: NameAsk) -> Result<NameReply, DurableNamesError> {
        Ok(self.address(key)?.call(NameCommand { life: self.life(), ask }).await?)
    }

    /// Every name whose stored key begins so, as this process sees it, by key.
    async fn look_at_all(&self, prefix: &str) -> Result<Vec<(NameKey, NameRecord)>, DurableNamesError> {
        let (life, now) = (self.life(), self.env.now());
        let look = |stored: Arc<str>| async move {
            let look = move |name: &DurableName| Some((name.key()?.clone(), name.seen_in(life, now)));
            let address = Address::<DurableName>::new(&self.env, &stored)?;
            Ok::<_, DurableNamesError>(address.read(look).await?)
        };
        let keys = self.keys(prefix).await?;
        let names: Vec<_> = stream::iter(keys).map(look).buffered(ASKED_AT_ONCE).try_collect().await?;
        let mut names: Vec<_> = names.into_iter().flatten().collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(names)
    }

    /// Stored keys of names that begin so.
    async fn keys(&self, prefix: &str) -> Result<Vec<Arc<str>>, DurableNamesError> {
        let kind: Arc<str> = Arc::from(<DurableName as Agent>::KIND);
        let name = |key: Arc<str>| Some(Name { kind: Arc::clone(&kind), key });
        let (mut keys, mut after) = (Vec::new(), name(Arc::from(prefix)));
        loop {
            let query = ListQuery { kind: Some(kind.to_string()), status: None, after };
            let page = self.env.store().current().list(query, PAGE).await?;
            let listed = page.len();
            let mine = page.into_iter().map(|listed| listed.head.name.key);
            let before = keys.len();
            keys.extend(mine.take_while(|key| key.starts_with(prefix)));
            if listed < PAGE || keys.len() - before < listed {
                return Ok(keys);
            }
            after = keys.last().and_then(|key| name(Arc::clone(key)));
        }
    }

    fn address(&self, key: &NameKey) -> Result<Address<DurableName>, DurableNamesError> {
        Ok(Address::new(&self.env, &stored_key(key))?)
    }

    fn life(&self) -> u64 {
        self.env.incarnation().0
    }
}

/// Longest key that holds a name as it is, in bytes.
const SHOWN_MAX_BYTES: usize = 255;

/// The key of the entity: the name as it is shown, or the digest of one that is too long for a key. What begins with
/// `/` is a digest always, so that no name is taken for the digest of another.
fn stored_key(key: &NameKey) -> String {
    let shown = key.to_string();
    if shown.len() <= SHOWN_MAX_BYTES && !key.name().starts_with('/') {
        return shown;
    }
    let digest = Sha256::digest(key.name().as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}//{digits}", key.namespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_have_stored_keys_of_their_own() {
        let namespace = Namespace::new("n".repeat(64)).unwrap();
        let stored = |name: String| stored_key(&NameKey::new(namespace.clone(), name).unwrap());
        assert_eq!(stored("x".repeat(190)).len(), 255);
        let (long, other) = (stored("x".repeat(191)), stored("x".repeat(192)));
        assert!(long != other && long.len() <= 255, "{long}");
        assert!(long.starts_with(namespace.as_str()));
        let shop = Namespace::new("shop").unwrap();
        let stored = |name: &str| stored_key(&NameKey::new(shop.clone(), name).unwrap());
        assert_eq!(stored("till-1"), "shop/till-1");
        let digest = stored(&"x".repeat(255));
        let forged = digest.strip_prefix("shop/").unwrap();
        assert!(forged.starts_with('/') && stored(forged) != digest, "no name is taken for another's digest");
    }
}
