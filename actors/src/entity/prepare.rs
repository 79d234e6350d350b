//! The part of a transaction that one entity prepares.

use bytes::Bytes;

use super::{
    active::{Active, Broken},
    machine::Input,
    record::Draft,
    transact::Prepare,
};
use crate::{
    error::{FailureKind, Refusal, Unavailable},
    ids::Timestamp,
};

impl Active {
    pub(super) fn handle_prepare(&mut self, prepare: Prepare) -> Result<(), Broken> {
        if prepare.is_given_up() {
            return Ok(());
        }
        let now = self.env.now();
        let mut replies = Vec::with_capacity(prepare.commands.len());
        let version_before = self.version();
        for (index, payload) in prepare.commands.iter().enumerate() {
            if !self.has_room() {
                let what = "transaction".to_owned();
                let (bytes, limit) = (self.gather.bytes(), crate::store::CHAIN_MAX_BYTES);
                prepare.refuse(index, FailureKind::Refused(Refusal::TooLarge { what, bytes, limit }));
                return Err(Broken(FailureKind::Unavailable(Unavailable::Stopped)));
            }
            match self.prepare_one(payload, &prepare.cause, now) {
                Ok(reply) => replies.push(reply),
                Err(PrepareError::Refused(kind)) => {
                    prepare.refuse(index, kind);
                    self.undecided()?;
                    // Earlier commands of the same entity were accepted on speculative state: start over.
                    return if self.version() == version_before {
                        Ok(())
                    } else {
                        Err(Broken(FailureKind::Unavailable(Unavailable::Stopped)))
                    };
                }
                Err(PrepareError::Broken(broken)) => return Err(broken),
            }
        }
        let version = self.gather.version();
        let chain = std::mem::replace(&mut self.gather, crate::store::Chain::new(self.token, version));
        let done = self.pipeline.depart(version, true);
        prepare.prepared(chain, done, replies, &self.cell);
        Ok(())
    }

    fn prepare_one(
        &mut self,
        payload: &[u8],
        cause: &crate::ids::Cause,
        now: Timestamp,
    ) -> Result<Bytes, PrepareError> {
        let (decided, recorder) = self
            .decide(&Input::Command(payload), cause, now)
            .map_err(|error| PrepareError::Refused(error.kind()))?;
        self.check_limits(&decided, &recorder).map_err(PrepareError::Refused)?;
        self.accept().map_err(PrepareError::Broken)?;
        if decided.change.is_some() || !recorder.is_empty() {
            let draft = Draft { cause: cause.clone(), ..Draft::default() };
            self.record(decided.change, recorder, draft, now).map_err(PrepareError::Broken)?;
            self.go_on(decided.more);
        }
        Ok(decided.reply)
    }
}

enum PrepareError {
    Refused(FailureKind),
    Broken(Broken),
}
