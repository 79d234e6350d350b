//! Standard output: results, and nothing else.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use stanchion::control::{Gone, Problem, Sink};

use super::{fault::Fault, human::Human};

/// Writes results to standard output. A reader that goes away ends the output, not the command.
pub(crate) struct Out {
    json: bool,
    gone: bool,
    failed: Option<io::Error>,
    human: Human,
    status: Option<String>,
    told: bool,
    names_nodes: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            gone: false,
            failed: None,
            human: Human::Lines,
            status: None,
            told: false,
            names_nodes: false,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether any result was told.
    pub(crate) fn has_told(&self) -> bool {
        self.told
    }

    /// The status in the last line shown to people.
    pub(crate) fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Lines that follow are shown to people this way.
    pub(crate) fn shows(&mut self, human: Human) {
        self.human = human;
    }

    /// Lines that follow come from several nodes: people are told from which.
    pub(crate) fn names_nodes(&mut self) {
        self.names_nodes = true;
    }

    /// Prints text as it is.
    pub(crate) fn text(mut self, text: &str) -> Result<u8, Fault> {
        self.print(text.trim_end());
        self.end(0)
    }

    /// Prints one result.
    pub(crate) fn line(&mut self, line: &impl Serialize) -> Result<(), Fault> {
        let text = serde_json::to_string(line);
        let text = text.map_err(|error| Fault::internal(&error.to_string(), "the result"))?;
        self.show(&text);
        Ok(())
    }

    /// Prints to standard error, for people only.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// The exit code; an error when the results could not be written.
    pub(crate) fn end(&mut self, code: u8) -> Result<u8, Fault> {
        match self.failed.take() {
            None => Ok(code),
            Some(error) => {
                let what = format!("results cannot be written ({error})");
                let hint = "give it a place with room";
                Err(Problem::fatal("output.io", what, "standard output", hint).into())
            }
        }
    }

    fn show(&mut self, line: &str) {
        self.told = true;
        if self.json {
            return self.print(line);
        }
        let Ok(value) = serde_json::from_str::<Value>(line) else { return self.print(line) };
        self.status = value.get("status").and_then(Value::as_str).map(str::to_owned);
        if let Some(text) = self.human.show(line, &value) {
            match value.get("node").and_then(Value::as_str).filter(|_| self.names_nodes) {
                Some(node) => self.print(&format!("{text}  @{node}")),
                None => self.print(&text),
            }
        }
    }

    fn print(&mut self, text: &str) {
        if self.gone {
            return;
        }
        let mut out = io::stdout().lock();
        if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
            self.gone = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.failed = Some(error);
            }
        }
    }
}

impl Sink for Out {
    async fn put(&mut self, line: String) -> Result<(), Gone> {
        self.show(&line);
        if self.gone { Err(Gone) } else { Ok(()) }
    }
}
