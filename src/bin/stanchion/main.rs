//! The command line program `stanchion`. Outputs, names and exit codes are a contract.

mod args;
mod ask;
mod examples;
mod fault;
mod files;
mod human;
mod launch;
mod node;
mod output;
mod place;
mod policy_args;
mod prepare;
mod progress;
mod queue_args;
mod report;
mod run;
mod signals;
mod work;

use std::{
    ffi::OsString,
    io::IsTerminal,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use stanchion::control::Request;

use self::{
    args::{Cli, Command, NodeCommand},
    fault::Fault,
    output::Out,
};

/// Most threads that work at once.
const THREADS_MAX: usize = 8;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(command) = launch::asked_for(&words) {
        return launch::exec(command);
    }
    // Before the words are understood, an error must already have the right form.
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    fault::quiet_panics();
    let ended = catch_unwind(AssertUnwindSafe(|| start(words, json)));
    match ended.unwrap_or_else(|panic| Err(Fault::of_panic(panic.as_ref()))) {
        Ok(code) => ExitCode::from(code),
        Err(fault) => ExitCode::from(fault.tell(json)),
    }
}

fn start(words: Vec<OsString>, json: bool) -> Result<u8, Fault> {
    let out = Out::new(json);
    let cli = match args::parse(words) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => return out.text(&error.to_string()),
        Err(error) => return Err(Fault::of_usage(&error)),
    };
    log_to_stderr(json);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|error| Fault::internal(&format!("no runtime: {error}"), "its start"))?;
    runtime.block_on(dispatch(cli, out))
}

async fn dispatch(cli: Cli, mut out: Out) -> Result<u8, Fault> {
    signals::outlive_the_file_limit();
    let db = cli.db;
    if cli.node.is_some() && cli.command.is_local() {
        let hint = "leave --node out: this command works on a store of its own";
        return Err(Fault::usage("no other node does that", "--node", hint));
    }
    match cli.command {
        Command::Run(args) => match cli.node {
            Some(node) => place::run(&db, &node, args, &mut out).await,
            None => run::run(&db, args, &mut out).await,
        },
        Command::Node(NodeCommand::Start(args)) => node::start(&db, args, &mut out).await,
        Command::Work(args) => work::work(&db, args, &mut out).await,
        Command::Verify => files::verify(&db, &mut out),
        Command::Restore(args) => files::restore(&db, &args, &mut out),
        Command::Compact => files::compact(&db, &mut out),
        Command::Completions { shell } => out.text(&args::completions(shell)),
        command => {
            let mut requests = command.into_requests()?;
            if let Some(node) = cli.node {
                let on = |request| Request::OnNode { node: node.clone(), request: Box::new(request) };
                requests = requests.into_iter().map(on).collect();
            }
            ask::execute(&db, requests, &mut out).await
        }
    }
}

/// What the libraries say goes to standard error, from the level in `STANCHION_LOG`; default: errors, with `--json`
/// nothing.
fn log_to_stderr(json: bool) {
    let wanted = std::env::var("STANCHION_LOG").ok();
    let level = wanted.as_deref().unwrap_or(if json { "off" } else { "error" });
    let Ok(filter) = tracing_subscriber::EnvFilter::try_new(level) else { return };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    // Set before by nobody.
    let _ = log.try_init();
}
