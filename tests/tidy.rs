//! The house rules as tests: who imports whom, what stays pure, how large files and functions get, and that the
//! documents name tests that exist. Each check is a function from text to faults, so that it can be shown to fail.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a check that cannot read the tree shall fail loudly"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Longest file, and length that nine of ten stay within; lines before the unit tests.
const FILE_LINES: (usize, usize) = (500, 350);
/// Longest function, and length that nine of ten stay within.
const FN_LINES: (usize, usize) = (70, 30);

/// One text of the tree; `path` is relative to the root, with `/`.
#[derive(Clone, Debug)]
struct Text {
    path: String,
    text: String,
}

impl Text {
    fn planted(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The crate's own code: not tests, examples or benchmarks.
    fn is_library(&self) -> bool {
        self.path.ends_with(".rs")
            && ["src/", "actors/src/", "supervisors/src/", "sync/src/"]
                .iter()
                .any(|dir| self.path.starts_with(dir))
    }

    /// Code without comments, literals and unit tests.
    fn code(&self) -> String {
        let mut code = strip(&self.text);
        let mut from = 0;
        while let Some(at) = code[from..].find("#[cfg(test)]").map(|at| from + at) {
            from = at + "#[cfg(test)]".len();
            if let Some(length) = body_end(&code[from..]) {
                code.replace_range(at..from + length, "");
                from = at;
            }
        }
        code
    }

    /// Files and folders of the modules that are compiled for unit tests only.
    fn test_modules(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
            Some(_) => self.path.trim_end_matches(".rs").to_owned(),
            None => String::new(),
        };
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let marked = lines.iter().enumerate().filter(|(_, line)| line.starts_with("#[cfg(test)]"));
        let modules = marked.flat_map(|(at, _)| {
            let rest = lines[at + 1..].iter().take(3);
            let name = rest.clone().find_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
            let path = rest.clone().find_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
            let named = name.map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")]);
            let beside = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            named.into_iter().flatten().chain(path.map(|path| format!("{beside}/{path}")))
        });
        modules.collect()
    }
}

/// The crates' own code, without what is compiled for tests only.
fn library(mut texts: Vec<Text>) -> Vec<Text> {
    texts.retain(Text::is_library);
    let tests: Vec<String> = texts.iter().flat_map(Text::test_modules).collect();
    texts.retain(|text| {
        !tests
            .iter()
            .any(|test| text.path == *test || (test.ends_with('/') && text.path.starts_with(test.as_str())))
    });
    texts
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text of the tree with one of these endings.
fn tree(endings: &[&str]) -> Vec<Text> {
    let mut texts = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" && name != "proptest-regressions" {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                texts.push(Text { path: relative, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    texts
}

fn rust() -> Vec<Text> {
    tree(&[".rs"])
}

fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Blanks comments, strings and characters; line ends stay.
fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied().unwrap_or(' ');
    let before = if at == 0 { ' ' } else { chars[at - 1] };
    let within_word = before.is_alphanumeric() || before == '_';
    match chars[at] {
        '/' if next == '/' => find(chars, at, &['\n']).unwrap_or(chars.len()),
        '/' if next == '*' => block_end(chars, at),
        '"' => string_end(chars, at + 1),
        'r' if !within_word || before == 'b' => raw_end(chars, at),
        '\'' => char_end(chars, at),
        _ => at,
    }
}

fn find(chars: &[char], from: usize, what: &[char]) -> Option<usize> {
    (from..=chars.len().checked_sub(what.len())?).find(|at| chars[*at..*at + what.len()] == *what)
}

fn block_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut at) = (0_usize, at);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', hashes));
    find(chars, at + 2 + hashes, &close).map_or(chars.len(), |end| end + close.len())
}

/// A character literal, not a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), Some(_)) => find(chars, at + 3, &['\'']).map_or(chars.len(), |end| end + 1),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

// Who imports whom.

/// What each crate must not know: other crates of the house that stand above it, and what the house keeps out of it.
const UNKNOWN: [(&str, &[&str]); 3] = [
    (
        "sync/",
        &[
            "stanchion",
            "stanchion_actors",
            "stanchion_supervisors",
            "tokio",
            "ractor",
            "redb",
            "futures_util",
        ],
    ),
    ("actors/", &["stanchion", "stanchion_supervisors", "redb", "axum", "reqwest", "hyper"]),
    ("supervisors/", &["stanchion", "redb", "axum", "reqwest", "hyper"]),
];

fn import_faults(text: &Text) -> Vec<String> {
    let Some((_, unknown)) = UNKNOWN.iter().find(|(dir, _)| text.path.starts_with(dir)) else {
        return vec![];
    };
    let code = strip(&text.text);
    let faults = unknown.iter().filter(|name| imports(&code, name));
    faults.map(|name| format!("{}: must not know `{name}`", text.path)).collect()
}

fn imports(code: &str, name: &str) -> bool {
    let path = code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        !(before.is_alphanumeric() || before == '_' || before == ':')
    });
    path || code.contains(&format!("use {name};")) || code.contains(&format!("extern crate {name}"))
}

fn manifest_faults(text: &Text) -> Vec<String> {
    let Some((_, unknown)) = UNKNOWN.iter().find(|(dir, _)| text.path == format!("{dir}Cargo.toml")) else {
        return vec![];
    };
    let lines = text.text.lines().map(str::trim_start);
    let named =
        lines.filter_map(|line| line.split(['.', ' ', '=']).next()).map(|name| name.replace('-', "_"));
    let faults = named.filter(|name| unknown.contains(&name.as_str()));
    faults.map(|name| format!("{}: must not depend on `{name}`", text.path)).collect()
}

#[test]
fn nobody_imports_who_starts_it() {
    none(rust().iter().flat_map(import_faults).collect());
    none(tree(&["Cargo.toml"]).iter().flat_map(manifest_faults).collect());
}

#[test]
fn an_import_upwards_is_found() {
    let found = |path, text| import_faults(&Text::planted(path, text)).len();
    assert_eq!(found("actors/src/a.rs", "use stanchion_supervisors::Supervisor;"), 1);
    assert_eq!(found("actors/src/a.rs", "fn f() { redb::Database::open(p) }"), 1);
    assert_eq!(found("sync/src/a.rs", "use tokio::sync::Notify;"), 1);
    assert_eq!(found("actors/src/a.rs", "// redb::Database keeps it\nuse stanchion_sync::Gate;"), 0);
    assert_eq!(found("src/a.rs", "use stanchion_supervisors::Supervisor;"), 0);
    let manifest =
        Text::planted("actors/Cargo.toml", "[dependencies]\nstanchion-supervisors.workspace = true\n");
    assert_eq!(manifest_faults(&manifest).len(), 1);
}

// What is pure.

/// Files that decide and never perform. Each must exist: a file that moves takes its rule along.
const PURE: [&str; 43] = [
    "actors/src/ids.rs",
    "actors/src/agent/context.rs",
    "actors/src/agent/machine.rs",
    "actors/src/agent/sourced.rs",
    "actors/src/entity/ctx.rs",
    "actors/src/entity/dedup.rs",
    "actors/src/entity/machine.rs",
    "actors/src/entity/policy.rs",
    "actors/src/entity/record.rs",
    "actors/src/entity/session.rs",
    "actors/src/queue/command.rs",
    "actors/src/queue/config.rs",
    "actors/src/queue/dead.rs",
    "actors/src/queue/decide.rs",
    "actors/src/queue/job.rs",
    "actors/src/queue/lease.rs",
    "actors/src/queue/partition.rs",
    "actors/src/queue/ready.rs",
    "actors/src/queue/rows.rs",
    "actors/src/queue/stats.rs",
    "actors/src/resilience/limiter/alert.rs",
    "actors/src/resilience/limiter/backoff.rs",
    "actors/src/resilience/limiter/cell.rs",
    "actors/src/resilience/limiter/core.rs",
    "actors/src/resilience/limiter/key.rs",
    "actors/src/resilience/limiter/keys.rs",
    "actors/src/resilience/limiter/law.rs",
    "actors/src/resilience/limiter/options.rs",
    "actors/src/resilience/limiter/registry.rs",
    "actors/src/resilience/limiter/ring.rs",
    "actors/src/resilience/limiter/settings.rs",
    "actors/src/resilience/limiter/snapshot.rs",
    "actors/src/store/codec.rs",
    "actors/src/store/entry.rs",
    "actors/src/store/project.rs",
    "actors/src/store/record.rs",
    "actors/src/workflow/condition.rs",
    "actors/src/workflow/graph.rs",
    "actors/src/workflow/template.rs",
    "supervisors/src/backoff.rs",
    "supervisors/src/intensity.rs",
    "supervisors/src/order.rs",
    "supervisors/src/strategy.rs",
];
/// Folders that are pure as a whole.
const PURE_FOLDERS: [&str; 10] = [
    "actors/src/balance/",
    "actors/src/discovery/",
    "actors/src/names/",
    "actors/src/resilience/budget/",
    "actors/src/resilience/retry/",
    "actors/src/workflow/condition/",
    "actors/src/workflow/definition/",
    "actors/src/workflow/run/",
    "actors/src/workflow/template/",
    "src/cluster/link/",
];

fn is_pure(path: &str) -> bool {
    PURE.contains(&path) || PURE_FOLDERS.iter().any(|folder| path.starts_with(folder))
}

fn purity_faults(text: &Text) -> Vec<String> {
    if !is_pure(&text.path) {
        return vec![];
    }
    let code = text.code();
    let clocks = ["Instant::now", "SystemTime::now"].iter().filter(|clock| code.contains(*clock));
    // A time given as an argument is data.
    let rest = code.replace("tokio::time::Instant", "");
    let outside = ["ractor", "tokio", "redb"].iter().filter(|name| imports(&rest, name));
    outside
        .chain(clocks)
        .map(|name| format!("{}: decides, so it must not know `{name}`", text.path))
        .collect()
}

#[test]
fn what_decides_knows_neither_actors_nor_a_runtime() {
    let texts = library(rust());
    none(texts.iter().flat_map(purity_faults).collect());
    let paths: BTreeSet<&str> = texts.iter().map(|text| text.path.as_str()).collect();
    none(PURE.iter().filter(|path| !paths.contains(*path)).map(|path| format!("{path}: is gone")).collect());
}

#[test]
fn an_impure_decision_is_found() {
    let found = |path, text| purity_faults(&Text::planted(path, text)).len();
    assert_eq!(found("actors/src/store/project.rs", "use ractor::ActorRef;"), 1);
    assert_eq!(
        found("actors/src/workflow/run/plan.rs", "fn f() { let _ = tokio::time::Instant::now(); }"),
        1
    );
    assert_eq!(found("actors/src/workflow/run/plan.rs", "use tokio::time::Instant;"), 0);
    assert_eq!(found("actors/src/workflow/run/plan.rs", "use tokio::{sync::Notify, time::Instant};"), 1);
    assert_eq!(found("actors/src/workflow/coordinator.rs", "use ractor::ActorRef;"), 0);
    let tested = "fn f() {}\n#[cfg(test)]\nmod tests { use tokio::sync::Notify; }";
    assert_eq!(found("actors/src/store/project.rs", tested), 0);
}

// Who spawns.

fn spawn_faults(text: &Text) -> Vec<String> {
    if text.path.starts_with("actors/src/task/") {
        return vec![];
    }
    let code = text.code();
    let ways = ["tokio::spawn", "tokio::task::", "spawn_blocking", "spawn_local", "JoinSet"];
    let faults = ways.iter().filter(|way| code.contains(*way) && !code.contains("tokio::task::yield_now"));
    faults.map(|way| format!("{}: `{way}` makes a task without an owner: use TaskScope", text.path)).collect()
}

#[test]
fn every_task_has_an_owner() {
    none(library(rust()).iter().flat_map(spawn_faults).collect());
}

#[test]
fn a_task_without_an_owner_is_found() {
    let found = |path| spawn_faults(&Text::planted(path, "fn f() { tokio::spawn(async {}); }")).len();
    assert_eq!(found("actors/src/entity/actor.rs"), 1);
    assert_eq!(found("src/system/wake.rs"), 1);
    assert_eq!(found("actors/src/task/scope.rs"), 0);
}

// How large things get.

/// Name and lines of each function.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let name = words(&code[at + 3..]).next().unwrap_or_default();
        if before.is_alphanumeric() || before == '_' || !code[at + 3..].starts_with(name) || name.is_empty() {
            continue;
        }
        if let Some(length) = body_end(&code[at..]) {
            found.push((name.to_owned(), code[at..at + length].lines().count()));
        }
    }
    found
}

/// Bytes to the end of the function's body; `None` for one without a body.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.checked_sub(1)?,
            ';' | '}' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && others == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn percentile_90(mut sizes: Vec<usize>) -> usize {
    sizes.sort_unstable();
    sizes.get((sizes.len() * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or(0)
}

fn size_faults(texts: &[Text]) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut file_sizes, mut fn_sizes) = (Vec::new(), Vec::new());
    for text in texts {
        let code = text.code();
        let lines = code.lines().count();
        if lines > FILE_LINES.0 {
            faults.push(format!("{}: {lines} lines, at most {}", text.path, FILE_LINES.0));
        }
        file_sizes.push(lines);
        for (name, lines) in functions(&code) {
            if lines > FN_LINES.0 {
                faults.push(format!("{}: fn {name} has {lines} lines, at most {}", text.path, FN_LINES.0));
            }
            fn_sizes.push(lines);
        }
    }
    for (what, sizes, limit) in [("files", file_sizes, FILE_LINES.1), ("functions", fn_sizes, FN_LINES.1)] {
        let reached = percentile_90(sizes);
        if reached > limit {
            faults.push(format!("nine of ten {what} have at most {reached} lines; the budget is {limit}"));
        }
    }
    faults
}

#[test]
fn files_and_functions_stay_within_the_budget() {
    none(size_faults(&library(rust())));
}

#[test]
fn what_is_too_long_is_found() {
    let lines = |count: usize| "    let a = \"}\"; // {\n".repeat(count);
    let planted = |text: String| size_faults(&[Text::planted("src/a.rs", &text)]);
    assert!(planted(format!("fn f<'a>(b: &'a str) {{\n{}}}\n", lines(20))).is_empty());
    let long = planted(format!("fn f<'a>(b: &'a str) {{\n{}}}\n", lines(69)));
    assert!(long.iter().any(|fault| fault.contains("fn f has 71 lines")), "{long:?}");
    assert!(planted("struct A;\n".repeat(501)).iter().any(|fault| fault.contains("501 lines")));
    assert!(planted("struct A;\n".repeat(400)).iter().any(|fault| fault.contains("nine of ten files")));
    assert!(planted(format!("#[cfg(test)]\nmod tests {{\n{}}}", "struct A;\n".repeat(600))).is_empty());
}

// What is not written.

fn unfinished_faults(text: &Text) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
    let macros = [concat!("to", "do!"), concat!("unimpl", "emented!")];
    let mut faults = Vec::new();
    for (number, line) in text.text.lines().enumerate() {
        let marked = words(line).any(|word| marks.contains(&word));
        if marked || macros.iter().any(|name| line.contains(name)) {
            faults.push(format!("{}:{}: unfinished: {}", text.path, number + 1, line.trim()));
        }
    }
    faults
}

#[test]
fn nothing_is_left_unfinished() {
    none(tree(&[".rs", ".md", ".toml", "run"]).iter().flat_map(unfinished_faults).collect());
}

#[test]
fn what_is_unfinished_is_found() {
    for line in [concat!("// TO", "DO: later"), concat!("to", "do!()"), concat!("/* FIX", "ME */")] {
        assert_eq!(unfinished_faults(&Text::planted("src/a.rs", line)).len(), 1, "{line}");
    }
    assert!(unfinished_faults(&Text::planted("src/a.rs", "let method = 1;")).is_empty());
}

fn name_faults(text: &Text) -> Vec<String> {
    let code = strip(&text.text);
    let declared = words(&code).zip(words(&code).skip(1));
    let types = declared.filter(|(keyword, _)| ["struct", "enum", "trait", "type", "mod"].contains(keyword));
    let vague = types.filter(|(_, name)| is_vague(name));
    let mut faults: Vec<String> =
        vague.map(|(_, name)| format!("{}: `{name}` says nothing: name what it does", text.path)).collect();
    let file = Path::new(&text.path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if is_vague(&file) {
        faults.push(format!("{}: the file's name says nothing", text.path));
    }
    faults
}

fn is_vague(name: &str) -> bool {
    let modules = ["util", "utils", "helper", "helpers", "manager", "misc", "common"];
    let parts = ["Manager", "Helper", "Util", "Handler2", "Simplified"];
    modules.contains(&name) || parts.iter().any(|part| name.contains(part))
}

#[test]
fn names_say_what_things_do() {
    none(rust().iter().flat_map(name_faults).collect());
}

#[test]
fn a_vague_name_is_found() {
    let found = |path, text| name_faults(&Text::planted(path, text)).len();
    assert_eq!(found("src/a.rs", concat!("pub struct Connection", "Manager;")), 1);
    assert_eq!(found("src/a.rs", concat!("mod ut", "ils;")), 1);
    assert_eq!(found("src/helpers.rs", ""), 1);
    assert_eq!(found("src/a.rs", "struct Supervisor; // no Manager"), 0);
}

// What the documents promise.

/// Lines of the first example that a reader has to write: no imports, comments, blank lines.
fn written_lines(example: &str) -> usize {
    let skipped = ["//", "use "];
    example
        .lines()
        .filter(|line| !line.is_empty() && !skipped.iter().any(|start| line.starts_with(start)))
        .count()
}

fn shows(document: &str, example: &str) -> bool {
    let body: Vec<&str> = example.lines().skip_while(|line| line.starts_with("//!")).collect();
    document.contains(&body.join("\n"))
}

#[test]
fn the_readme_shows_the_first_example_as_it_is() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let example = fs::read_to_string(root().join("examples/first_agent.rs")).unwrap();
    assert!(shows(&readme, &example), "README.md shows another program than examples/first_agent.rs");
    assert!(written_lines(&example) <= 20, "the first agent has {} lines", written_lines(&example));
}

#[test]
fn a_readme_that_shows_something_else_is_found() {
    assert!(shows("text\nfn a() {}\nfn b() {}\ntext", "//! doc\nfn a() {}\nfn b() {}\n"));
    assert!(!shows("text\nfn a() {}\ntext", "//! doc\nfn a() {}\nfn b() {}\n"));
    assert_eq!(written_lines("//! doc\nuse a;\n\nfn a() {\n    1\n}\n"), 3);
}

fn decision_faults(decisions: &[Text]) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, decision) in decisions.iter().enumerate() {
        let number = format!("{:03}", index + 1);
        let file = decision.path.rsplit('/').next().unwrap_or_default();
        if !file.starts_with(&format!("{number}-")) {
            faults.push(format!("{}: the next number is {number}", decision.path));
        }
        if !decision.text.starts_with(&format!("# {number}: ")) {
            faults.push(format!("{}: begins with `# {number}: title`", decision.path));
        }
    }
    faults
}

#[test]
fn every_decision_has_its_number() {
    let mut decisions = tree(&[".md"]);
    decisions.retain(|text| text.path.starts_with("docs/decisions/"));
    assert!(!decisions.is_empty());
    none(decision_faults(&decisions));
}

#[test]
fn a_decision_without_its_number_is_found() {
    let decision = |path: &str, text: &str| Text::planted(&format!("docs/decisions/{path}"), text);
    assert!(decision_faults(&[decision("001-a.md", "# 001: a\n")]).is_empty());
    assert_eq!(
        decision_faults(&[decision("001-a.md", "# 001: a\n"), decision("001-b.md", "# 001: b\n")]).len(),
        2
    );
    assert_eq!(decision_faults(&[decision("notes.md", "# Notes\n")]).len(), 2);
}

/// Tests that a text names, as `path/to/file.rs::name_of_the_test`.
fn named_tests(text: &str) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for (at, _) in text.match_indices(".rs::") {
        let is_path = |c: char| c.is_alphanumeric() || "_-/.".contains(c);
        let before: String = text[..at].chars().rev().take_while(|c| is_path(*c)).collect();
        let path: String = before.chars().rev().chain(".rs".chars()).collect();
        let name = words(&text[at + 5..]).next().unwrap_or_default();
        named.push((path, name.to_owned()));
    }
    named
}

fn named_test_faults(document: &Text, code: &[Text]) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, name) in named_tests(&document.text) {
        let file = code.iter().find(|text| text.path == path);
        if !file.is_some_and(|text| has_test(&text.text, &name)) {
            faults.push(format!("{}: names the test {path}::{name}, which does not exist", document.path));
        }
    }
    faults
}

/// Whether a function of this name exists, with the attribute of a test within the lines before it.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let here = lines.iter().position(|line| strip(line).contains(&format!("fn {name}(")));
    here.is_some_and(|at| {
        let attributes = lines[at.saturating_sub(6)..at].iter().rev();
        let mut own = attributes.take_while(|line| !line.trim().is_empty() && !line.starts_with('}'));
        let ignored = own.clone().any(|line| line.contains("#[ignore"));
        !ignored && own.any(|line| line.contains("#[test]") || line.contains("::test"))
    })
}

/// Files in a folder of tests that no `mod` line takes in: their tests never run.
fn orphan_faults(texts: &[Text]) -> Vec<String> {
    let mut faults = Vec::new();
    for text in texts.iter().filter(|text| text.path.contains("tests/")) {
        let Some((folder, file)) = text.path.rsplit_once('/') else { continue };
        let name = file.trim_end_matches(".rs");
        let beside: Vec<&Text> = texts.iter().filter(|other| is_root_of(&other.path, folder)).collect();
        // A file right under `tests/` is a test of its own.
        if folder.ends_with("tests") && !folder.ends_with("src/tests") || ["main", "mod"].contains(&name) {
            continue;
        }
        if !beside.iter().any(|root| strip(&root.text).contains(&format!("mod {name};"))) {
            faults.push(format!("{}: no `mod {name};` takes it in", text.path));
        }
    }
    faults
}

/// Whether a file may declare the modules in `folder`.
fn is_root_of(path: &str, folder: &str) -> bool {
    path == format!("{folder}/main.rs")
        || path == format!("{folder}/mod.rs")
        || path == format!("{folder}.rs")
}

#[test]
fn every_file_of_tests_is_run() {
    none(orphan_faults(&rust()));
}

#[test]
fn a_file_of_tests_that_nobody_takes_in_is_found() {
    let root = Text::planted("tests/it/main.rs", "mod a;\n// mod b;\n");
    let file = |path| Text::planted(path, "");
    assert!(orphan_faults(&[root.clone(), file("tests/it/a.rs"), file("tests/other.rs")]).is_empty());
    assert_eq!(orphan_faults(&[root, file("tests/it/b.rs")]).len(), 1);
}

#[test]
fn every_test_that_a_document_names_exists() {
    let code = rust();
    none(tree(&[".md"]).iter().flat_map(|document| named_test_faults(document, &code)).collect());
}

fn guarantee_ids(text: &str) -> Vec<usize> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| G"));
    rows.filter_map(|row| row.split(' ').next()?.parse().ok()).collect()
}

fn guarantee_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, id) in guarantee_ids(text).iter().enumerate() {
        if *id != index + 1 {
            faults.push(format!(
                "G{id}: numbers are unique and ascend without a gap; here comes G{}",
                index + 1
            ));
        }
    }
    for row in text.lines().filter(|line| line.starts_with("| G")) {
        if named_tests(row).is_empty() {
            faults.push(format!("no test: {row}"));
        }
    }
    faults
}

/// Guarantees that comments refer to.
fn referred_guarantees(text: &Text) -> Vec<usize> {
    let comments = text.text.lines().filter_map(|line| line.trim_start().strip_prefix("//"));
    let ids = comments.flat_map(|line| words(line).filter_map(|word| word.strip_prefix('G')?.parse().ok()));
    ids.collect()
}

#[test]
fn every_guarantee_names_its_test() {
    let text = fs::read_to_string(root().join("docs/GUARANTEES.md")).unwrap();
    assert!(!guarantee_ids(&text).is_empty());
    none(guarantee_faults(&text));
    let known = guarantee_ids(&text);
    for text in library(rust()) {
        for id in referred_guarantees(&text) {
            assert!(known.contains(&id), "{}: G{id} is not in docs/GUARANTEES.md", text.path);
        }
    }
}

#[test]
fn a_promise_without_a_test_is_found() {
    assert_eq!(guarantee_faults("| G1 | we are careful | trust us |\n").len(), 1);
    assert_eq!(guarantee_faults("| G1 | a | `a.rs::b` |\n| G1 | c | `a.rs::d` |\n").len(), 1);
    assert!(guarantee_faults("| G1 | a | `a.rs::b` |\n| G2 | c | `a.rs::d` |\n").is_empty());
    let text = "#[test]\nfn it_holds() {}\n\nfn aid() {}\n\n#[test]\n#[ignore]\nfn it_sleeps() {}\n";
    let code = [Text::planted("tests/a.rs", text)];
    let found = |text: &str| named_test_faults(&Text::planted("docs/a.md", text), &code).len();
    assert_eq!(found("`tests/a.rs::it_holds`"), 0);
    assert_eq!(found("`tests/a.rs::it_does_not`"), 1);
    assert_eq!(found("`tests/b.rs::it_holds`"), 1);
    assert_eq!(found("`tests/a.rs::it_sleeps`"), 1);
    assert_eq!(found("`tests/a.rs::aid`"), 1, "a function that is no test proves nothing");
    assert_eq!(
        referred_guarantees(&Text::planted("src/a.rs", "/// # Guarantees\n/// G12.\nstruct G3;")),
        [12]
    );
}

#[test]
fn what_is_compiled_for_tests_only_is_told_apart() {
    let texts = vec![
        Text::planted(
            "src/a/mod.rs",
            "mod b;\n#[cfg(test)]\nmod model;\n#[cfg(test)]\n#[path = \"d.rs\"]\nmod e;\n",
        ),
        Text::planted("src/a/b.rs", ""),
        Text::planted("src/a/model.rs", ""),
        Text::planted("src/a/model/c.rs", ""),
        Text::planted("src/a/d.rs", ""),
        Text::planted("tests/a.rs", ""),
    ];
    let kept: Vec<String> = library(texts).into_iter().map(|text| text.path).collect();
    assert_eq!(kept, ["src/a/mod.rs", "src/a/b.rs"]);
    let code =
        Text::planted("src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n").code();
    assert_eq!(functions(&code), [("a".to_owned(), 1), ("c".to_owned(), 1)]);
}

#[test]
fn comments_and_literals_are_not_code() {
    assert_eq!(strip("a // b\nc").trim_end(), "a     \nc");
    assert_eq!(strip("a /* b /* c */ d */ e"), format!("a{}e", " ".repeat(19)));
    assert_eq!(strip("f(\"a \\\" {\")"), format!("f({})", " ".repeat(8)));
    assert_eq!(strip("r#\"a\"b\"# c"), format!("{} c", " ".repeat(8)));
    assert_eq!(strip("'{' &'a str '\\n'"), format!("{} &'a str {}", " ".repeat(3), " ".repeat(4)));
}
