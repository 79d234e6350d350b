//! The replaying side.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stanchion_actors::adapter::AdapterHealth;

use super::{
    error::{CassetteError, CassetteMismatch},
    line::{Line, RequestKey},
    redact::Redaction,
};
use crate::connect::http::{HttpRequest, HttpResponse, Transport};

/// Answers requests from a cassette, each recorded answer once; equal requests get theirs in the recorded order.
#[derive(Debug)]
pub struct Replay {
    redaction: Redaction,
    left: Mutex<Vec<(RequestKey, HttpResponse)>>,
}

impl Replay {
    /// Reads a cassette.
    ///
    /// # Errors
    /// - [`CassetteError::Io`]: the file cannot be read.
    /// - [`CassetteError::Malformed`]: a line is no recorded answer.
    pub fn open(path: &Path, redaction: Redaction) -> Result<Self, CassetteError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| CassetteError::Io { path: path.to_owned(), cause: error.to_string() })?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = lines.map(|(number, line)| {
            let malformed =
                |cause| CassetteError::Malformed { path: path.to_owned(), line: number + 1, cause };
            let line: Line = serde_json::from_str(line).map_err(|error| malformed(error.to_string()))?;
            let response = line.response().map_err(malformed)?;
            Ok((line.key, response))
        });
        Ok(Self { redaction, left: Mutex::new(read.collect::<Result<_, CassetteError>>()?) })
    }

    /// Checks that each recorded request was made.
    ///
    /// # Errors
    /// [`CassetteError::Unmet`] names those that were not.
    pub fn verify(&self) -> Result<(), CassetteError> {
        let unmet: Vec<RequestKey> = self.lock().iter().map(|(key, _)| key.clone()).collect();
        if unmet.is_empty() { Ok(()) } else { Err(CassetteError::Unmet(unmet)) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(RequestKey, HttpResponse)>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Replay {
    type Error = CassetteError;

    fn name(&self) -> &str {
        "cassette"
    }
    fn timeout(&self) -> Duration {
        Duration::from_secs(60)
    }
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, CassetteError> {
        let got = RequestKey::of(&request, &self.redaction);
        let mut left = self.lock();
        match left.iter().position(|(key, _)| *key == got) {
            Some(at) => Ok(left.remove(at).1),
            None => {
                let expected = left.first().map(|(key, _)| key.clone());
                Err(Box::new(CassetteMismatch { expected, got }).into())
            }
        }
    }
    fn health(&self) -> AdapterHealth {
        AdapterHealth::Up
    }
}
