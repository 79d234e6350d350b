//! The feed: which entry was committed at which position, for kinds that ask for it.

use super::{
    codec::{CodecError, frame, unframe},
    entry::Head,
    project::{ROW_SCHEMA, key},
};
use crate::ids::{EntityId, Position, Version};

/// Which entries of the feed to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedFilter {
    /// Of this kind only.
    pub kind: Option<String>,
}

impl FeedFilter {
    /// Entries of one kind.
    #[must_use]
    pub fn of_kind(kind: &str) -> Self {
        Self { kind: Some(kind.to_owned()) }
    }

    /// Whether it lets this one through.
    #[must_use]
    pub fn admits(&self, item: &FeedItem) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == item.kind)
    }
}

/// One place of the feed. The entry itself is in the entity's history, for as long as the kind keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedItem {
    /// Where it was committed.
    pub position: Position,
    /// Whose entry. The entity may have been removed since.
    pub entity: EntityId,
    /// Version of the entry.
    pub version: Version,
    /// Kind of the entity.
    pub kind: String,
}

/// What was read of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// Ascending by position.
    pub items: Vec<FeedItem>,
    /// Everything up to here was looked at, and nothing will come at or before it: the place to go on after.
    pub until: Position,
}

/// The row of the entry of `head`, committed at `position`: entity u64, version u64, kind.
pub(super) fn feed_row(position: Position, entity: EntityId, head: &Head) -> (Vec<u8>, Vec<u8>) {
    let kind = head.name.kind.as_bytes();
    let mut body = Vec::with_capacity(16 + kind.len());
    body.extend_from_slice(&entity.0.to_be_bytes());
    body.extend_from_slice(&head.version.0.to_be_bytes());
    body.extend_from_slice(kind);
    let key = key::feed(position);
    let value = frame(&key, ROW_SCHEMA, &body);
    (key, value)
}

/// Reads a row of the feed back.
///
/// # Errors
/// [`CodecError`] naming what does not hold.
pub fn parse_feed(key: &[u8], value: &[u8]) -> Result<FeedItem, CodecError> {
    let short = || CodecError::Decode("a feed row is short".into());
    let (_, body) = unframe(key, value)?;
    let position = key.try_into().map_err(|_| CodecError::Decode("a feed key is no position".into()))?;
    let (entity, rest) = body.split_first_chunk::<8>().ok_or_else(short)?;
    let (version, kind) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let kind = std::str::from_utf8(kind).map_err(|_| CodecError::Decode("a kind is no text".into()))?;
    Ok(FeedItem {
        position: Position(u64::from_be_bytes(position)),
        entity: EntityId(u64::from_be_bytes(*entity)),
        version: Version(u64::from_be_bytes(*version)),
        kind: kind.to_owned(),
    })
}
