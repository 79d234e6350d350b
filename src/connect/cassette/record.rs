//! The recording side.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use stanchion_actors::adapter::AdapterHealth;

use super::{
    error::{CassetteError, RecordError},
    line::{Line, RequestKey},
    redact::Redaction,
};
use crate::connect::http::{HttpRequest, HttpResponse, Transport};

/// Sends requests to a real service and records its answers.
#[derive(Debug)]
pub struct Recorder<T> {
    transport: T,
    redaction: Redaction,
    path: PathBuf,
    file: Mutex<File>,
}

impl<T: Transport> Recorder<T> {
    /// Records into a new file; one that is there is replaced.
    ///
    /// # Errors
    /// [`CassetteError::Io`].
    pub fn create(transport: T, path: &Path, redaction: Redaction) -> Result<Self, CassetteError> {
        let file = File::create(path)
            .map_err(|error| CassetteError::Io { path: path.to_owned(), cause: error.to_string() })?;
        Ok(Self { transport, redaction, path: path.to_owned(), file: Mutex::new(file) })
    }

    fn record(&self, key: RequestKey, response: &HttpResponse) -> Result<(), CassetteError> {
        let faulty = |cause: String| CassetteError::Io { path: self.path.clone(), cause };
        let line = Line::of(key, response, &self.redaction);
        let mut text = serde_json::to_string(&line).map_err(|error| faulty(error.to_string()))?;
        text.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).map_err(|error| faulty(error.to_string()))
    }
}

impl<T: Transport> Transport for Recorder<T> {
    type Error = RecordError<T::Error>;

    fn name(&self) -> &str {
        self.transport.name()
    }
    fn timeout(&self) -> Duration {
        self.transport.timeout()
    }
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Self::Error> {
        let key = RequestKey::of(&request, &self.redaction);
        let response = self.transport.send(request).await.map_err(RecordError::Transport)?;
        self.record(key, &response).map_err(RecordError::Cassette)?;
        Ok(response)
    }
    fn health(&self) -> AdapterHealth {
        self.transport.health()
    }
}
