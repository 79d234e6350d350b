//! Kills itself with SIGKILL in the middle of a workflow, is started again, and goes on where it was.
//!
//! Without arguments it plays both lives: it starts itself twice on the same store. With a directory it lives one life
//! there: the first kills itself, the next one finishes.
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    workflow::{Definition, RunStatus, StartRun, Step},
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Writes a line into the book; the third page kills the process the first time.
struct WritePage {
    dir: PathBuf,
}

impl Activity for WritePage {
    const NAME: &'static str = "write_page";
    type Input = u64;
    type Output = u64;

    async fn run(&self, ctx: ActivityCtx, page: u64) -> Result<u64, Failure> {
        if page == 3 && ctx.attempt == 1 {
            println!("page 3: kill -9");
            kill_myself();
        }
        let io = |error: std::io::Error| Failure::retryable("book.io", error.to_string());
        let mut book =
            OpenOptions::new().append(true).create(true).open(self.dir.join("book.txt")).map_err(io)?;
        writeln!(book, "{} page {page}", ctx.idempotency_key).map_err(io)?;
        book.sync_all().map_err(io)?;
        println!("page {page}: written in attempt {}", ctx.attempt);
        Ok(page)
    }
}

/// No destructor runs, nothing is flushed: as when the power fails, but for the operating system.
fn kill_myself() -> ! {
    let me = std::process::id().to_string();
    let _ = Command::new("kill").args(["-KILL", &me]).status();
    loop {
        std::thread::park();
    }
}

fn book() -> Definition {
    let page = |n: u64| {
        let step = Step::new(format!("page-{n}")).activity(WritePage::NAME).input(json!(n));
        if n > 1 { step.needs([format!("page-{}", n - 1)]) } else { step }
    };
    Definition::builder("book").steps((1..=5).map(page)).output(json!("${steps.page-5.output}")).build()
}

async fn live(dir: &Path) -> Outcome {
    let activity = WritePage { dir: dir.to_path_buf() };
    let system = System::builder().activity(activity).open(dir.join("book.redb")).await?;
    let workflows = system.workflows();
    let definition = workflows.define(book().validate()?);
    // The same words start the run and find it again.
    let started = workflows.start(StartRun::new("my-book", definition)).await?;
    println!("{}", if started.known { "found the run, going on" } else { "started the run" });
    let run = workflows.wait("my-book").await?;
    assert_eq!(run.state.status(), RunStatus::Completed);
    assert_eq!(run.output(system.store().as_ref()).await?, Value::from(5));
    let steps = run.state.steps(&run.definition);
    let attempts: Vec<u32> = steps.map(|step| step.attempts).collect();
    assert_eq!(attempts, [1, 1, 2, 1, 1], "only the page that was being written is tried again");
    let written = std::fs::read_to_string(dir.join("book.txt"))?;
    let expected: String = (1..=5).map(|n| format!("my-book/page-{n} page {n}\n")).collect();
    assert_eq!(written, expected, "each page once");
    println!("finished: 5 pages, each written once");
    let _ = system.stop(Duration::from_secs(5)).await?;
    Ok(())
}

fn both_lives() -> Outcome {
    let dir = tempfile::tempdir()?;
    let life = || Command::new(std::env::current_exe()?).arg(dir.path()).status();
    let first = life()?;
    assert!(!first.success(), "the first life ends in a crash");
    #[cfg(unix)]
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&first), Some(9), "killed by SIGKILL");
    println!("--- the process is dead; the same program again:");
    let second = life()?;
    assert!(second.success(), "the second life finishes the run");
    Ok(())
}

fn main() -> Outcome {
    match std::env::args_os().nth(1) {
        Some(dir) => tokio::runtime::Runtime::new()?.block_on(live(Path::new(&dir))),
        None => both_lives(),
    }
}
