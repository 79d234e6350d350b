//! The words of the command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use stanchion::{activities::AllowedHosts, balance::Strategy, control::Request, documents::Format};

use super::{
    examples::with_examples,
    fault::Fault,
    policy_args::{BreakerCommand, LimiterCommand},
    queue_args::{DeadCommand, JobCommand, QueueCommand},
};

const EXAMPLES: &str = "\
Examples:
  stanchion run order.yaml                          run a workflow, keep everything in ./stanchion.redb
  stanchion run order.yaml --id order-7 --json      the same under an id; run it again to resume it
  stanchion run trace.json.gz --time-scale 0.01     replay a wfformat trace, a hundred times faster
  stanchion run order.yaml --node auto              on a node of the cluster, chosen by capability and load
  stanchion list --status failed                    which runs failed
  stanchion show order-7                            a run and its steps
  stanchion history order-7                         everything it did, one JSON object a line
  stanchion retry order-7 --step charge             go on after a fix
  stanchion job add mail '[1, 2]'                   enqueue a job, and print its id once it is on disk
  stanchion work mail --activity echo --agents 8    do the jobs of a queue, eight at a time
  stanchion dead requeue mail --all                 try the dead letters again
  stanchion backup backup.redb                      a consistent copy, also while the store is in use

Exit codes:
  0 done; 1 the run ended otherwise; 2 bad usage or input; 3 the store; 4 interrupted, can be resumed";

/// Durable workflows: what has been done is on disk. Kill it at any moment, start it again, and it goes on.
#[derive(Debug, Parser)]
#[command(name = "stanchion", version = version(), after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// The store
    #[arg(long, global = true, value_name = "PATH", env = "STANCHION_DB", default_value = "stanchion.redb")]
    pub(crate) db: PathBuf,
    /// Print JSON Lines on standard output, and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Ask this node of the cluster, through the one whose store it is; * asks every node within reach
    #[arg(long, global = true, value_name = "NODE")]
    pub(crate) node: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn version() -> String {
    format!("{} (store format {})", env!("CARGO_PKG_VERSION"), stanchion::store::FILE_FORMAT)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a workflow document to its end; resumes an unfinished run of the same id
    Run(RunArgs),
    /// List runs
    List {
        /// Only runs with this status
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
    },
    /// Show a run and its steps
    Show {
        /// Id of the run
        run: String,
    },
    /// Print what a run did, one JSON object a line
    History {
        /// Id of the run
        run: String,
    },
    /// Start no further steps
    Pause {
        /// Id of the run
        run: String,
    },
    /// Go on with a paused run
    Resume {
        /// Id of the run
        run: String,
    },
    /// End a run
    Cancel {
        /// Id of the run
        run: String,
    },
    /// Go on with a failed or parked run
    Retry {
        /// Id of the run
        run: String,
        /// Only this failed step
        #[arg(long, value_name = "ID")]
        step: Option<String>,
    },
    /// Look at agents and other entities
    #[command(subcommand)]
    Entity(EntityCommand),
    /// Look at feature flags, and set them
    #[command(subcommand)]
    Flag(FlagCommand),
    /// Look at durable names, and give them free
    #[command(subcommand)]
    Name(NameCommand),
    /// Look at circuit breakers, open and close them
    #[command(subcommand)]
    Breaker(BreakerCommand),
    /// Look at rate limiters
    #[command(subcommand)]
    Limiter(LimiterCommand),
    /// Look at queues, and control them
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Add jobs to queues, look at them, and control them
    #[command(subcommand)]
    Job(JobCommand),
    /// Work a queue: a pool of task agents over the built-in activities
    Work(WorkArgs),
    /// Look at dead letters, and settle them
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Join a cluster, and look at its nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Where an entity is
    Where {
        /// Its name
        #[arg(value_name = "KIND/KEY|KIND@NODE/KEY")]
        entity: String,
    },
    /// Check every checksum of a store that nobody holds
    Verify,
    /// Write a consistent copy, also while the store is in use
    Backup(CopyArgs),
    /// Make the store from a backup
    Restore(CopyArgs),
    /// Rewrite a store that nobody holds without the place that removed rows have left
    Compact,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EntityCommand {
    /// List entities
    Ls {
        /// Only of this kind
        kind: Option<String>,
    },
    /// Show the state of an entity
    Show {
        /// Kind and key
        #[arg(value_name = "KIND/KEY")]
        name: String,
        /// As it was at this version
        #[arg(long, value_name = "VERSION")]
        at: Option<u64>,
    },
    /// Remove an entity, or a run that has ended, with its history
    Purge {
        /// Kind and key
        #[arg(value_name = "KIND/KEY")]
        name: String,
    },
}

/// The kind and key that a word names.
fn entity(name: &str) -> Result<(String, String), Fault> {
    let Some((kind, key)) = name.split_once('/') else {
        let what = format!("{name:?} names no entity");
        return Err(Fault::usage(&what, "KIND/KEY", "give kind and key, such as counter/visits"));
    };
    Ok((kind.to_owned(), key.to_owned()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum FlagCommand {
    /// List flags
    Ls,
    /// Set a flag that the program has defined
    Set {
        /// Its name
        name: String,
        /// on, off, or a percentage such as 12.5%
        setting: String,
        /// Who sets it
        #[arg(long, value_name = "NAME", env = "USER", default_value = "cli", hide_env_values = true)]
        by: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NameCommand {
    /// List the names that somebody has
    Ls {
        /// Only of this namespace
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
    },
    /// Show a name
    Show {
        /// NAMESPACE/NAME
        name: String,
    },
    /// Give a name free; its owner is not stopped, and is refused from here on
    Free {
        /// NAMESPACE/NAME
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run a node: holds the store, works what is in it, and is reached by the others
    Start(NodeArgs),
    /// List the nodes of the cluster
    Ls,
    /// End what this node has begun, and leave the cluster
    Drain,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Its settings, see docs/CLUSTER.md
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// How long running work may go on after SIGINT, SIGTERM or a drain
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// Allow steps and jobs to run programs
    #[arg(long)]
    pub(crate) allow_shell: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Name of the queue; it need not be there yet
    pub(crate) queue: String,
    /// The built-in activity that does the jobs; a job's payload is its input
    #[arg(long, value_name = "NAME")]
    pub(crate) activity: String,
    /// Jobs at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) agents: u32,
    /// How long a job is leased; extended while it runs
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) lease: Duration,
    /// End when the queue holds no job that is pending, delayed or running
    #[arg(long)]
    pub(crate) until_empty: bool,
    /// How long running jobs may go on after SIGINT or SIGTERM
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// Allow jobs to run programs
    #[arg(long)]
    pub(crate) allow_shell: bool,
    /// Allow jobs to reach a host over HTTP; may be given several times
    #[arg(long = "allow-host", value_name = "HOST[:PORT]", value_parser = host)]
    pub(crate) allow_hosts: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A workflow definition (YAML, JSON) or a wfformat trace, packed with gz or not; - reads standard input
    pub(crate) file: PathBuf,
    /// What the document is: auto, definition or wfformat
    #[arg(long, default_value = "auto", value_parser = str::parse::<Format>)]
    pub(crate) format: Format,
    /// Id of the run; default: a new one, printed on standard error
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Most steps at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) workers: u32,
    /// Factor on the runtimes of a trace; 0 = no waiting
    #[arg(long, value_name = "X", default_value = "1", value_parser = scale, allow_negative_numbers = true)]
    pub(crate) time_scale: f64,
    /// Input of the run, as JSON or from a file
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) input: Option<String>,
    /// With --node auto: how the node is chosen; default: as the node is set that chooses
    #[arg(long, value_name = "STRATEGY", value_parser = strategy)]
    pub(crate) balance: Option<Strategy>,
    /// With --node auto: what belongs together, for consistent_hash and sticky
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// How long running steps may go on after SIGINT or SIGTERM
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// Allow steps to run programs
    #[arg(long)]
    pub(crate) allow_shell: bool,
    /// Allow steps to reach a host over HTTP; may be given several times
    #[arg(long = "allow-host", value_name = "HOST[:PORT]", value_parser = host)]
    pub(crate) allow_hosts: Vec<String>,
}

/// Everything that can be typed.
pub(crate) fn command() -> clap::Command {
    with_examples(Cli::command())
}

pub(crate) fn parse(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

pub(crate) fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "stanchion", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn strategy(text: &str) -> Result<Strategy, String> {
    let all = [Strategy::PowerOfTwoChoices, Strategy::RoundRobin, Strategy::ConsistentHash, Strategy::Sticky];
    let names = || all.map(Strategy::name).join(", ");
    all.into_iter().find(|strategy| strategy.name() == text).ok_or_else(|| format!("use {}", names()))
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale.is_finite() && scale >= 0.0 => Ok(scale),
        _ => Err("use a number of at least 0".to_owned()),
    }
}

fn host(text: &str) -> Result<String, String> {
    AllowedHosts::parse([text]).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Longest time that can be given: ten years of 365 days.
const TIME_MAX_S: f64 = 3_650.0 * 24.0 * 3_600.0;

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit.trim() {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ if number == "0" && unit.is_empty() => 1.0,
        _ => return Err("use a number with a unit: ms, s, m or h".to_owned()),
    };
    match number.parse::<f64>().map(|number| number * unit) {
        Ok(seconds) if (0.0..=TIME_MAX_S).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("use a time up to ten years, such as 10s".to_owned()),
    }
}

impl Command {
    /// Whether it works on a store of its own, and is no request.
    pub(crate) fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Work(_)
                | Self::Verify
                | Self::Restore(_)
                | Self::Compact
                | Self::Completions { .. }
                | Self::Node(NodeCommand::Start(_))
        )
    }

    /// The requests that the command stands for, in order; none for those that are something else.
    pub(crate) fn into_requests(self) -> Result<Vec<Request>, Fault> {
        Ok(vec![match self {
            Self::List { status } => Request::List { status },
            Self::Show { run } => Request::Show { run },
            Self::History { run } => Request::History { run },
            Self::Pause { run } => Request::Pause { run },
            Self::Resume { run } => Request::Resume { run },
            Self::Cancel { run } => Request::Cancel { run },
            Self::Retry { run, step } => Request::Retry { run, step },
            Self::Entity(EntityCommand::Ls { kind }) => Request::EntityList { kind },
            Self::Entity(EntityCommand::Show { name, at }) => {
                let (kind, key) = entity(&name)?;
                Request::EntityShow { kind, key, at }
            }
            Self::Entity(EntityCommand::Purge { name }) => {
                let (kind, key) = entity(&name)?;
                Request::EntityPurge { kind, key }
            }
            Self::Name(NameCommand::Ls { namespace }) => Request::NameList { namespace },
            Self::Name(NameCommand::Show { name }) => Request::NameShow { name },
            Self::Name(NameCommand::Free { name }) => Request::NameFree { name },
            Self::Flag(FlagCommand::Ls) => Request::FlagList,
            Self::Flag(FlagCommand::Set { name, setting, by, reason }) => {
                Request::FlagSet { flag: name, to: setting, by, reason }
            }
            Self::Backup(CopyArgs { file, force }) => {
                let path = std::path::absolute(&file).ok();
                let Some(to) = path.and_then(|path| path.to_str().map(str::to_owned)) else {
                    let what = format!("{} cannot be named", file.display());
                    return Err(Fault::usage(&what, "FILE", "give a path in UTF-8"));
                };
                Request::Backup { to, force }
            }
            Self::Breaker(command) => command.into_request(),
            Self::Limiter(command) => command.into_request(),
            Self::Queue(command) => command.into_request(),
            Self::Job(command) => return command.into_requests(),
            Self::Dead(command) => command.into_request()?,
            Self::Node(NodeCommand::Ls) => Request::NodeList,
            Self::Node(NodeCommand::Drain) => Request::NodeDrain,
            Self::Where { entity } => Request::Where { name: entity },
            Self::Node(NodeCommand::Start(_))
            | Self::Run(_)
            | Self::Work(_)
            | Self::Verify
            | Self::Restore(_)
            | Self::Compact
            | Self::Completions { .. } => {
                return Ok(Vec::new());
            }
        }])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "10", "s", "-1s", "1e9h", "10 parsec", "1.2.3s", "99999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000), ..ProptestConfig::default() })]

        #[test]
        fn random_words_never_panic(words in proptest::collection::vec(".{0,12}", 0..6)) {
            let words = std::iter::once("stanchion".to_owned()).chain(words).map(OsString::from);
            if let Ok(cli) = parse(words.collect()) {
                drop(cli.command.into_requests());
            }
        }

        #[test]
        fn random_times_never_panic(text in ".{0,20}") {
            let _ = (duration(&text), scale(&text));
        }
    }
}
