//! The launcher of shell steps: this program, which asks to die with its parent and then becomes the command.

use std::{ffi::OsString, process::ExitCode};

use stanchion::{
    Builder,
    activities::{Launcher, Shell},
};

/// The hidden first word.
const WORD: &str = "__launch";
/// As shells do it: the command was not found or could not be run.
const NOT_RUN: u8 = 127;

/// The programs that steps and jobs run, if they may.
pub(crate) struct Programs(Option<Shell>);

impl Programs {
    pub(crate) fn new(allowed: bool) -> Self {
        Self(allowed.then(|| Shell::new(launcher())))
    }

    pub(crate) fn register(&self, builder: Builder) -> Builder {
        match &self.0 {
            Some(shell) => builder.activity(shell.clone()),
            None => builder,
        }
    }

    /// Ends the process without waiting for what runs; programs and what they started end with it.
    pub(crate) fn end_at_once(&self, code: u8) -> ! {
        if let Some(shell) = &self.0 {
            shell.kill_all();
        }
        std::process::exit(i32::from(code))
    }
}

/// What makes a shell step die with this process; nothing where the system has no such signal.
fn launcher() -> Launcher {
    if !cfg!(target_os = "linux") {
        return Launcher::default();
    }
    let parent = std::process::id().to_string();
    match std::env::current_exe() {
        Ok(program) => Launcher(vec![program.into(), WORD.into(), parent.into()]),
        Err(_) => Launcher::default(),
    }
}

/// The process to die with, and the command.
pub(crate) fn asked_for(words: &[OsString]) -> Option<(&OsString, &[OsString])> {
    match words {
        [_, word, parent, command @ ..] if word == WORD => Some((parent, command)),
        _ => None,
    }
}

/// Becomes the command; comes back only when that fails.
#[cfg(target_os = "linux")]
pub(crate) fn exec((parent, command): (&OsString, &[OsString])) -> ExitCode {
    use std::os::unix::process::CommandExt;

    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    let [program, arguments @ ..] = command else { return ExitCode::from(NOT_RUN) };
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return ExitCode::from(NOT_RUN);
    }
    // The parent may have died before the signal was asked for.
    let alive =
        getppid().is_some_and(|pid| pid.as_raw_nonzero().get().to_string().as_str() == parent.as_os_str());
    if !alive {
        return ExitCode::from(NOT_RUN);
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("{}: {error}\n", program.to_string_lossy()).as_bytes(),
    );
    ExitCode::from(NOT_RUN)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn exec(_: (&OsString, &[OsString])) -> ExitCode {
    ExitCode::from(NOT_RUN)
}
