//! Built-in activities: what the binary runs, and what a program may register.
//!
//! | name | input | output |
//! |---|---|---|
//! | `noop` | anything | null |
//! | `echo` | anything | its input |
//! | `sleep` | `{ms}`, fractions allowed | null |
//! | `fail` | `{times, message}` | `{attempt}` of the first attempt that does not fail |
//! | `append` | `{path, line}` | null |
//! | `http.request` | `{method, url, headers, body, timeout_ms}` | `{status, headers, body}` |
//! | `shell` | `{argv, env, stdin}` | `{exit_code, signal, stdout, stdout_truncated}` |
//!
//! `shell` runs programs: register it only where documents are trusted. `http.request` (feature `http`) reaches hosts
//! that were allowed by name: it is registered with their list.

mod append;
#[cfg(feature = "http")]
mod http;
mod plain;
#[cfg(unix)]
mod shell;

#[cfg(feature = "http")]
pub use self::http::{
    AllowedHosts, BODY_MAX_BYTES, HOSTS_MAX, HostError, HttpInput, HttpOutput, HttpRequests, REDIRECTS_MAX,
};
#[cfg(unix)]
pub use self::shell::{Launcher, STDOUT_MAX_BYTES, Shell, ShellInput, ShellOutput};
pub use self::{
    append::{Append, AppendInput},
    plain::{Echo, Fail, FailInput, Noop, Sleep, SleepInput},
};

use crate::Builder;

/// Code of an input that an activity cannot work with.
const BAD_INPUT: &str = "activity.bad_input";

/// Names of the built-in activities, those that must be allowed excepted.
pub const NAMES: [&str; 5] = ["noop", "echo", "sleep", "fail", "append"];

/// Registers the built-in activities, those that must be allowed excepted.
pub fn register(builder: Builder) -> Builder {
    builder.activity(Noop).activity(Echo).activity(Sleep).activity(Fail).activity(Append)
}

/// Registers one of [`NAMES`].
///
/// # Errors
/// The name, when it is none of them.
pub fn register_one(builder: Builder, name: &str) -> Result<Builder, &str> {
    match name {
        "noop" => Ok(builder.activity(Noop)),
        "echo" => Ok(builder.activity(Echo)),
        "sleep" => Ok(builder.activity(Sleep)),
        "fail" => Ok(builder.activity(Fail)),
        "append" => Ok(builder.activity(Append)),
        unknown => Err(unknown),
    }
}
