//! Examples that `--help` shows, for every command.

use clap::Command;

/// A command, without the program's name, and lines that can be typed as they are.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "stanchion run order.yaml",
            "stanchion run order.yaml --id order-7 --input '{\"amount\": 42}' --json",
            "stanchion run trace.json.gz --time-scale 0.01 --workers 64",
            "stanchion run build.json --allow-shell --drain-timeout 1m",
            "stanchion run order.yaml --node auto",
        ],
    ),
    ("list", &["stanchion list", "stanchion list --status parked --json"]),
    ("show", &["stanchion show order-7", "stanchion show order-7 --json"]),
    ("history", &["stanchion history order-7"]),
    ("pause", &["stanchion pause order-7"]),
    ("resume", &["stanchion resume order-7"]),
    ("cancel", &["stanchion cancel order-7"]),
    ("retry", &["stanchion retry order-7", "stanchion retry order-7 --step charge"]),
    ("entity", &["stanchion entity ls", "stanchion entity show counter/visits"]),
    ("entity ls", &["stanchion entity ls", "stanchion entity ls counter"]),
    (
        "entity show",
        &["stanchion entity show counter/visits", "stanchion entity show counter/visits --at 3 --json"],
    ),
    ("entity purge", &["stanchion entity purge run/r1"]),
    ("flag", &["stanchion flag ls", "stanchion flag set checkout 25% --reason \"first quarter\""]),
    ("flag ls", &["stanchion flag ls"]),
    ("flag set", &["stanchion flag set checkout on", "stanchion flag set checkout 12.5% --by ann"]),
    ("breaker", &["stanchion breaker ls", "stanchion breaker open payments"]),
    ("breaker ls", &["stanchion breaker ls --json"]),
    ("breaker open", &["stanchion breaker open payments"]),
    ("breaker close", &["stanchion breaker close payments"]),
    ("breaker reset", &["stanchion breaker reset payments"]),
    ("limiter", &["stanchion limiter ls"]),
    ("limiter ls", &["stanchion limiter ls --json"]),
    ("queue", &["stanchion queue ls", "stanchion queue show mail --json"]),
    ("queue ls", &["stanchion queue ls"]),
    ("queue show", &["stanchion queue show mail --json"]),
    ("queue stats", &["stanchion queue stats mail"]),
    ("queue pause", &["stanchion queue pause mail"]),
    ("queue resume", &["stanchion queue resume mail"]),
    ("queue drain", &["stanchion queue drain mail --deadline 1m"]),
    (
        "queue set",
        &["stanchion queue set mail --max 10000", "stanchion queue set mail --rate 100/1s --per-key 1"],
    ),
    ("job", &["stanchion job add mail '{\"to\": \"ann\"}'"]),
    (
        "job add",
        &[
            "stanchion job add mail '{\"to\": \"ann\"}' --priority 2 --delay 5m",
            "stanchion job add mail --from jobs.ndjson",
            "stanchion job add mail '[1]' --unique invoice-7",
        ],
    ),
    ("job show", &["stanchion job show mail/0-1"]),
    ("job retry", &["stanchion job retry mail/0-1"]),
    ("job cancel", &["stanchion job cancel mail/0-1"]),
    (
        "work",
        &[
            "stanchion work mail --activity echo --agents 8",
            "stanchion work builds --activity shell --allow-shell --lease 2m --until-empty",
        ],
    ),
    ("dead", &["stanchion dead ls mail", "stanchion dead requeue mail --all"]),
    ("dead ls", &["stanchion dead ls mail --code shell.failed"]),
    ("dead show", &["stanchion dead show mail/0-1"]),
    ("dead edit", &["stanchion dead edit mail/0-1 '{\"to\": \"bob\"}'"]),
    ("dead requeue", &["stanchion dead requeue mail/0-1", "stanchion dead requeue mail --all"]),
    ("dead purge", &["stanchion dead purge mail/0-1", "stanchion dead purge mail --kind welcome"]),
    ("name", &["stanchion name ls", "stanchion name show default/printer"]),
    ("name ls", &["stanchion name ls", "stanchion name ls --namespace default --json"]),
    ("name show", &["stanchion name show default/printer"]),
    ("name free", &["stanchion name free default/printer"]),
    ("node", &["stanchion node start --config node.toml", "stanchion node ls"]),
    ("node start", &["stanchion node start --config node.toml --db berlin.redb"]),
    ("node ls", &["stanchion node ls --db berlin.redb --json"]),
    ("node drain", &["stanchion node drain --db berlin.redb", "stanchion node drain --node rome"]),
    ("where", &["stanchion where account/ann", "stanchion where account@berlin/ann --json"]),
    ("compact", &["stanchion compact --db app.redb"]),
    ("verify", &["stanchion verify --db app.redb"]),
    ("backup", &["stanchion backup app-backup.redb", "stanchion backup app-backup.redb --force"]),
    ("restore", &["stanchion restore app-backup.redb --db app.redb"]),
    ("completions", &["stanchion completions bash"]),
];

/// The command with its examples, and those of all below it.
pub(crate) fn with_examples(root: Command) -> Command {
    EXAMPLES.iter().fold(root, |root, (path, lines)| {
        let words: Vec<&str> = path.split(' ').collect();
        let text = lines.iter().fold("Examples:".to_owned(), |text, line| format!("{text}\n  {line}"));
        shown(root, &words, text)
    })
}

fn shown(command: Command, path: &[&str], text: String) -> Command {
    match path.split_first() {
        None => command.after_help(text),
        Some((name, rest)) => command.mut_subcommand(name, |below| shown(below, rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn assert_shown(command: &Command, path: &str) {
        for below in command.get_subcommands() {
            let path = format!("{path} {}", below.get_name());
            let help = below.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{path} shows no examples");
            assert_shown(below, &path);
        }
    }

    #[test]
    fn every_command_shows_examples() {
        assert_shown(&args::command(), "stanchion");
    }

    #[test]
    fn every_example_is_understood() {
        for (path, lines) in EXAMPLES {
            for line in *lines {
                assert!(line.starts_with(&format!("stanchion {path}")), "{line} is none of {path}");
                let words = words(line);
                let parsed = args::parse(words.into_iter().map(Into::into).collect());
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().map_or(String::new(), |e| e.to_string()));
            }
        }
    }

    /// As a shell splits them: quotes keep together what stands between them.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quote) = (vec![String::new()], None);
        for c in line.chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, ' ') => words.push(String::new()),
                (_, c) => words.last_mut().expect("there is always one").push(c),
            }
        }
        words
    }
}
