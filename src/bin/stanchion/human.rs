//! Results as people read them; programs use `--json`.

use serde_json::Value;

/// How lines are shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Human {
    /// As they are.
    Lines,
    /// Runs, one a row; a head comes before the first.
    Runs(bool),
    /// Entities, one a row; a head comes before the first.
    Entities(bool),
    /// Names, one a row; a head comes before the first.
    Names(bool),
    /// A name that was given free.
    Named,
    /// Flags, one a row; a head comes before the first.
    Flags(bool),
    /// A run and its steps.
    Show,
    /// The state of an entity.
    State,
    /// What a run was told.
    Told,
    /// A result of a run.
    Result,
    /// A copy that was made.
    Copy,
    /// What compacting came to.
    Compacted,
    /// An entity that was removed.
    Purged,
    /// What a check found.
    Verify,
    /// Breakers, one a row; a head comes before the first.
    Breakers(bool),
    /// Limiters, one a row; a head comes before the first.
    Limiters(bool),
    /// Queues, one a row; a head comes before the first.
    Queues(bool),
    /// The id of a job.
    Id,
    /// A job.
    Job,
    /// What a job was told.
    JobTold,
    /// Dead letters, one a row; a head comes before the first.
    Dead(bool),
    /// How many dead letters.
    DeadCount,
    /// What the work came to.
    Work,
    /// Nodes, one a row; a head comes before the first.
    Nodes(bool),
    /// A node that leaves.
    Drained,
    /// Where an entity is.
    Where,
}

impl Human {
    /// The text for one line; `None` shows nothing.
    pub(crate) fn show(&mut self, line: &str, value: &Value) -> Option<String> {
        let text = |name: &str| clean(value.get(name));
        Some(match self {
            Self::Lines => line.to_owned(),
            Self::Runs(begun) => {
                let head = row(&["RUN", "STATUS", "STEPS", "DEFINITION", "STARTED"]);
                let steps = format!("{}/{}", text("steps_completed"), text("steps_total"));
                let started = since(value.get("started_us"));
                let cells = [&*text("run_id"), &text("status"), &steps, &text("definition"), &started];
                headed(begun, &head, &row(&cells))
            }
            Self::Entities(begun) => {
                let head = row(&["KIND", "STATUS", "VERSION", "UPDATED", "KEY"]);
                let updated = since(value.get("updated_us"));
                let cells = [&*text("kind"), &text("status"), &text("version"), &updated, &text("key")];
                headed(begun, &head, &row(&cells))
            }
            Self::Flags(begun) => {
                let head = row(&["FLAG", "KIND", "SETTING", "CHANGED BY", "CHANGED"]);
                let changed = since(value.get("changed_us"));
                let cells = [&*text("flag"), &text("kind"), &text("setting"), &text("by"), &changed];
                headed(begun, &head, &row(&cells))
            }
            Self::Names(begun) => {
                let head = row(&["NAME", "STATE", "RESPAWN", "SINCE", "OWNER"]);
                let name = format!("{}/{}", text("namespace"), text("name"));
                let since = since(value.get("since_us"));
                let cells = [&*name, &text("state"), &text("respawn"), &since, &text("owner")];
                headed(begun, &head, &row(&cells))
            }
            Self::Named => format!("{}/{} is {}", text("namespace"), text("name"), text("state")),
            Self::Show => run(value),
            Self::State => {
                let state = value.get("state").cloned().unwrap_or_default();
                serde_json::to_string_pretty(&state).unwrap_or_else(|_| line.to_owned())
            }
            Self::Told => format!("{} is {}", text("run_id"), text("status")),
            Self::Result => result(value),
            Self::Copy => format!("{} ({} bytes)", text("file"), text("bytes")),
            Self::Compacted => {
                format!("{}: {} bytes, {} before", text("file"), text("bytes"), text("bytes_before"))
            }
            Self::Purged => format!("{}/{} is removed", text("kind"), text("key")),
            Self::Verify => verify(value),
            other => return other.show_work(line, value),
        })
    }

    /// Queues, jobs and nodes.
    fn show_work(&mut self, line: &str, value: &Value) -> Option<String> {
        let text = |name: &str| clean(value.get(name));
        Some(match self {
            Self::Breakers(begun) => {
                let head = ["BREAKER", "CALLS", "OK", "FAILED", "REFUSED", "SLOW", "IN USE", "STATE"];
                let counts = ["allowed", "successes", "failures", "rejected", "slow_calls"];
                headed(begun, &wide(&head), &policy(value, counts, "state"))
            }
            Self::Limiters(begun) => {
                let head = ["LIMITER", "KEYS", "ALLOWED", "REFUSED", "FREE", "WAIT", "IN USE", "PRESSURE"];
                let counts = ["keys", "allowed", "denied", "unchecked", "waiting"];
                headed(begun, &wide(&head), &policy(value, counts, "pressure"))
            }
            Self::Queues(begun) => {
                let head =
                    wide(&["QUEUE", "PENDING", "DELAYED", "RUNNING", "DONE", "DEAD", "OLDEST", "STATE"]);
                let state = match (value.get("paused"), value.get("draining")) {
                    (Some(Value::Bool(true)), _) => "paused",
                    (_, Some(Value::Bool(true))) => "draining",
                    _ => "open",
                };
                let counts = ["pending", "delayed", "in_flight", "done", "dead"].map(text);
                let [pending, delayed, running, done, dead] = &counts;
                let oldest = format!("{} s", text("oldest_s"));
                let cells = [&*text("name"), pending, delayed, running, done, dead, &oldest, state];
                headed(begun, &head, &wide(&cells))
            }
            Self::Nodes(begun) => {
                let head = row(&["NODE", "STATE", "SILENT", "ADDRESS", "LIFE"]);
                let silent = match value.get("silent_ms").and_then(Value::as_u64) {
                    Some(ms) => format!("{ms} ms"),
                    None => "-".to_owned(),
                };
                let cells = [&*text("node"), &text("state"), &silent, &text("address"), &text("life")];
                headed(begun, &head, &row(&cells))
            }
            Self::Drained => format!("{} is draining", text("node")),
            Self::Where => {
                let there = match value.get("exists") {
                    Some(Value::Bool(true)) => "there",
                    Some(Value::Bool(false)) => "nothing is stored of it",
                    _ => "its node does not say",
                };
                format!("{} is on node {} ({}): {there}", text("entity"), text("node"), text("state"))
            }
            Self::Id => text("id"),
            Self::Job => serde_json::to_string_pretty(value).unwrap_or_else(|_| line.to_owned()),
            Self::JobTold => format!("{} is {}", text("id"), text("status")),
            Self::Dead(begun) => {
                let head = row(&["JOB", "KIND", "ATTEMPTS", "CODE", "MESSAGE"]);
                let fault = value.get("last_error");
                let of = |name: &str| clean(fault.and_then(|fault| fault.get(name)));
                let cells = [&*text("id"), &text("kind"), &text("attempts"), &of("code"), &of("message")];
                headed(begun, &head, &row(&cells))
            }
            Self::DeadCount => format!("{} of queue {}", text("count"), text("queue")),
            Self::Work => format!(
                "queue {} is {}: {} done, {} failed, {} cancelled, {} lost",
                text("queue"),
                text("status"),
                text("done"),
                text("failed"),
                text("cancelled"),
                text("lost")
            ),
            // Shown by the caller.
            _ => return None,
        })
    }
}

/// A value without quotes; control characters cannot reach the terminal.
fn clean(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn policy(value: &Value, counts: [&str; 5], state: &str) -> String {
    let text = |name: &str| clean(value.get(name));
    let [first, second, third, fourth, fifth] = counts.map(text);
    let live = if value.get("live") == Some(&Value::Bool(true)) { "yes" } else { "no" };
    wide(&[&*text("name"), &first, &second, &third, &fourth, &fifth, live, &text(state)])
}

fn headed(begun: &mut bool, head: &str, row: &str) -> String {
    if std::mem::replace(begun, true) { row.to_owned() } else { format!("{head}\n{row}") }
}

fn row(cells: &[&str; 5]) -> String {
    let [first, second, third, fourth, fifth] = cells;
    format!("{first:<38} {second:<12} {third:>11}  {fourth:<24} {fifth}").trim_end().to_owned()
}

fn wide(cells: &[&str; 8]) -> String {
    let [name, pending, delayed, running, done, dead, oldest, state] = cells;
    format!("{name:<30} {pending:>8} {delayed:>8} {running:>8} {done:>8} {dead:>6} {oldest:>10}  {state}")
}

fn since(us: Option<&Value>) -> String {
    let Some(us) = us.and_then(Value::as_i64) else { return "-".to_owned() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
    let seconds = now.saturating_sub(us) / 1_000_000;
    match seconds {
        ..0 => "in the future".to_owned(),
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn run(value: &Value) -> String {
    let text = |name: &str| clean(value.get(name));
    let mut lines = vec![format!(
        "{}  {}  {} of {} steps completed  ({})",
        text("run_id"),
        text("status"),
        text("steps_completed"),
        text("steps_total"),
        text("definition")
    )];
    for step in value.get("steps").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| clean(step.get(name));
        let mut line = format!("  {:<30} {:<12} attempts {}", text("id"), text("status"), text("attempts"));
        if let Some(what) = step.get("waiting_for").filter(|what| !what.is_null()) {
            line += &format!("  waiting for the {}", clean(Some(what)));
        }
        if let Some(error) = step.get("last_error").filter(|error| !error.is_null()) {
            line += &format!("  {} ({})", clean(error.get("message")), clean(error.get("code")));
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn result(value: &Value) -> String {
    let text = |name: &str| clean(value.get(name));
    let mut lines = vec![
        format!("run      {}", text("run_id")),
        format!("status   {}", text("status")),
        format!(
            "steps    {} of {} completed, {} failed, {} skipped, {} attempts",
            text("steps_completed"),
            text("steps_total"),
            text("steps_failed"),
            text("steps_skipped"),
            text("attempts")
        ),
        format!(
            "time     {} s, from the first start to the last end {} s",
            text("elapsed_s"),
            text("makespan_s")
        ),
    ];
    if value.get("lower_bound_s").is_some_and(|bound| !bound.is_null()) {
        lines.push(format!("bounds   {} s to {} s", text("lower_bound_s"), text("upper_bound_s")));
    }
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        let place = error.get("step").filter(|step| !step.is_null());
        let place = place.map_or_else(String::new, |step| format!(" at step {}", clean(Some(step))));
        lines.push(format!("error    {} ({}){place}", clean(error.get("message")), clean(error.get("code"))));
    }
    lines.push(format!("output   {}", text("output")));
    lines.join("\n")
}

fn verify(value: &Value) -> String {
    let text = |name: &str| clean(value.get(name));
    let faults = value.get("faults").and_then(Value::as_array).cloned().unwrap_or_default();
    let verdict = if faults.is_empty() { "sound".to_owned() } else { format!("{} faults", faults.len()) };
    let mut lines = vec![format!("{verdict}: {} entities, {} entries", text("entities"), text("entries"))];
    for fault in &faults {
        let text = |name: &str| clean(fault.get(name));
        lines.push(format!("  {} {}: {}", text("table"), text("key"), text("cause")));
    }
    lines.join("\n")
}
