//! A bar on the terminal while a run is on its way.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use stanchion::workflow::Workflows;

/// How often the bar is drawn anew.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A bar, if standard error is a terminal.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(crate) fn new(json: bool, steps: u32) -> Self {
        if json || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(u64::from(steps));
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} steps  {elapsed}") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// Draws until dropped.
    pub(crate) async fn follow(&self, workflows: &Workflows, id: &str) {
        let Some(bar) = &self.0 else { return std::future::pending().await };
        loop {
            if let Ok(run) = workflows.read(id).await {
                bar.set_position(u64::from(run.state.counts(&run.definition).completed));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
