//! A pipeline over real files: one step per file counts its words, one merges the counts into a report.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    workflow::{Definition, RunStatus, StartRun, Step},
};

type Counts = BTreeMap<String, u64>;

fn io(error: std::io::Error) -> Failure {
    Failure::retryable("pipeline.io", error.to_string())
}

fn words(text: &str) -> Counts {
    let mut counts = Counts::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    counts
}

/// Counts the words of a file.
struct CountWords;

impl Activity for CountWords {
    const NAME: &'static str = "count_words";
    type Input = PathBuf;
    type Output = Counts;

    async fn run(&self, _: ActivityCtx, file: PathBuf) -> Result<Counts, Failure> {
        Ok(words(&fs::read_to_string(file).map_err(io)?))
    }
}

/// Adds counts up and writes them as a table.
struct Report;

#[derive(Serialize, Deserialize)]
struct ReportInput {
    counts: Vec<Counts>,
    to: PathBuf,
}

impl Activity for Report {
    const NAME: &'static str = "report";
    type Input = ReportInput;
    type Output = u64;

    async fn run(&self, ctx: ActivityCtx, input: ReportInput) -> Result<u64, Failure> {
        let mut total = Counts::new();
        for (word, count) in input.counts.into_iter().flatten() {
            *total.entry(word).or_default() += count;
        }
        let mut rows: Vec<(&String, &u64)> = total.iter().collect();
        rows.sort_by_key(|(word, count)| (std::cmp::Reverse(**count), word.as_str()));
        let table: String = rows.iter().map(|(word, count)| format!("{word},{count}\n")).collect();
        // Written beside and renamed: whoever reads the report never meets half of one, and an attempt that is
        // repeated after a crash gives the same file.
        let draft = input.to.with_extension(format!("draft-{}", ctx.attempt));
        fs::write(&draft, table).map_err(io)?;
        fs::rename(&draft, &input.to).map_err(io)?;
        Ok(total.values().sum())
    }
}

fn pipeline(files: &[PathBuf], to: &Path) -> Definition {
    let ids: Vec<String> = (1..=files.len()).map(|n| format!("count-{n}")).collect();
    let counting =
        ids.iter().zip(files).map(|(id, file)| Step::new(id).activity(CountWords::NAME).input(json!(file)));
    let outputs: Vec<Value> = ids.iter().map(|id| json!(format!("${{steps.{id}.output}}"))).collect();
    let report = Step::new("report")
        .activity(Report::NAME)
        .needs(ids.iter())
        .input(json!({"counts": outputs, "to": to}));
    Definition::builder("word-count")
        .steps(counting)
        .step(report)
        .output(json!("${steps.report.output}"))
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let texts = [
        "The post bears the load; the load rests on the post.",
        "A post that falls takes the load along.",
        "Put a second post beside the first: the load stays.",
    ];
    let mut files = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let file = dir.path().join(format!("text-{number}.txt"));
        fs::write(&file, text)?;
        files.push(file);
    }
    let report = dir.path().join("report.csv");
    let store = dir.path().join("pipeline.redb");
    let system = System::builder().activity(CountWords).activity(Report).open(store).await?;
    let workflows = system.workflows();
    let definition = workflows.define(pipeline(&files, &report).validate()?);
    workflows.start(StartRun::new("today", definition)).await?;
    let run = workflows.wait("today").await?;
    assert_eq!(run.state.status(), RunStatus::Completed);
    let total: u64 = words(&texts.join(" ")).values().sum();
    assert_eq!(run.output(system.store().as_ref()).await?, json!(total));
    let table = fs::read_to_string(&report)?;
    assert_eq!(table.lines().take(3).collect::<Vec<_>>(), ["the,7", "load,4", "post,4"]);
    println!(
        "{} files, {total} words; most frequent: {}",
        files.len(),
        table.lines().next().unwrap_or_default()
    );
    let _ = system.stop(Duration::from_secs(5)).await?;
    Ok(())
}
