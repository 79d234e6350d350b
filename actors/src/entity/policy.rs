//! Mailbox policies: what happens to a command that finds its mailbox full.

use std::time::Duration;

/// What happens when the mailbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MailboxPolicy {
    /// The caller waits for a place, first come first served, at most this long.
    Block(Duration),
    /// The caller is refused at once.
    Reject,
    /// The oldest waiting command is dropped in favour of the new one.
    DropOldest,
    /// The new command is dropped.
    DropNewest,
    /// The waiting command of lowest priority is dropped if its priority is below the new one's, else the new one.
    Shed,
}

impl MailboxPolicy {
    /// Whether commands that were accepted, or never refused to their caller, may be dropped.
    #[must_use]
    pub fn drops(self) -> bool {
        matches!(self, Self::DropOldest | Self::DropNewest | Self::Shed)
    }
}

/// Bound and policy of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxOptions {
    /// Places: 1..=1 000 000; default 1 024.
    pub capacity: usize,
    /// What happens when all are taken; default: wait up to 5 s.
    pub policy: MailboxPolicy,
    /// Commands of this kind must not be lost: refuses the policies that drop.
    pub critical: bool,
}

/// Most places a mailbox may have.
pub const MAILBOX_CAPACITY_MAX: usize = 1_000_000;

/// Why mailbox options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MailboxError {
    /// Capacity 0 or over the limit.
    #[error("mailbox capacity {0} is outside 1..={MAILBOX_CAPACITY_MAX}")]
    Capacity(usize),
    /// A critical mailbox with a policy that drops.
    #[error("policy {0:?} drops commands, and the mailbox is critical: use Block or Reject")]
    CriticalDrops(MailboxPolicy),
}

impl Default for MailboxOptions {
    fn default() -> Self {
        Self { capacity: 1_024, policy: MailboxPolicy::Block(Duration::from_secs(5)), critical: false }
    }
}

impl MailboxOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// [`MailboxError`] naming the fault.
    pub fn validate(&self) -> Result<(), MailboxError> {
        if !(1..=MAILBOX_CAPACITY_MAX).contains(&self.capacity) {
            return Err(MailboxError::Capacity(self.capacity));
        }
        if self.critical && self.policy.drops() {
            return Err(MailboxError::CriticalDrops(self.policy));
        }
        Ok(())
    }
}
