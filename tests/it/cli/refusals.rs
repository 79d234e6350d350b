//! What is refused, with which code and words, and that nothing is stored.

use super::program::Program;

/// Runs; the exit code, and the codes of the errors.
fn refused(program: &Program, words: &[&str]) -> (Option<i32>, Vec<String>) {
    let ended = program.run(&[words, &["--json"]].concat());
    assert_eq!(ended.out, "", "{words:?}");
    let codes = ended.errors().iter().map(|error| error["code"].as_str().unwrap().to_owned()).collect();
    (ended.code, codes)
}

fn one(code: &str) -> (Option<i32>, Vec<String>) {
    (Some(2), vec![code.to_owned()])
}

#[test]
fn bad_usage_ends_with_2() {
    let program = Program::new();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    for words in [
        &["run"] as &[&str],
        &["dance"],
        &["run", "w.yaml", "--workers", "0"],
        &["run", "w.yaml", "--workers", "many"],
        &["run", "w.yaml", "--time-scale", "-1"],
        &["run", "w.yaml", "--time-scale", "nan"],
        &["run", "w.yaml", "--time-scale", "inf"],
        // It has no meaning for a definition.
        &["run", "w.yaml", "--time-scale", "2"],
        &["run", "w.yaml", "--id", "a\u{200B}b"],
        &["run", "w.yaml", "--id", "a\u{202E}b"],
        &["run", "w.yaml", "--drain-timeout", "10"],
        &["run", "w.yaml", "--format", "xml"],
        &["run", "w.yaml", "--id", "a/b"],
        &["run", "w.yaml", "--id", ""],
        &["run", "w.yaml", "--id", "a b"],
        &["list", "--no-such-flag"],
    ] {
        assert_eq!(refused(&program, words), one("usage"), "{words:?}");
        let plain = program.run(words);
        assert_eq!(plain.code, Some(2));
        assert_eq!(plain.err.lines().count(), 1, "{}", plain.err);
        assert!(plain.err.starts_with("error: ") && plain.err.contains(" at "), "{}", plain.err);
    }
    for long in ["x".repeat(129), "é".repeat(129)] {
        assert_eq!(refused(&program, &["run", "w.yaml", "--id", &long]), one("usage"));
    }
    assert!(!program.path("stanchion.redb").exists());
    assert_eq!(program.run(&["run", "w.yaml", "--id", &"é".repeat(128), "--time-scale", "1"]).code, Some(0));
}

#[test]
fn a_missing_store_is_refused_and_not_made() {
    let program = Program::new();
    for words in [
        &["list"] as &[&str],
        &["show", "r"],
        &["history", "r"],
        &["pause", "r"],
        &["resume", "r"],
        &["cancel", "r"],
        &["retry", "r"],
        &["entity", "ls"],
        &["entity", "show", "a/b"],
        &["verify"],
        &["backup", "b"],
    ] {
        assert_eq!(refused(&program, words), one("store.missing"), "{words:?}");
    }
    assert!(!program.path("stanchion.redb").exists());
}

#[test]
fn unreadable_files_and_inputs_are_refused() {
    let program = Program::new();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    assert_eq!(refused(&program, &["run", "nowhere.yaml"]), one("input.unreadable"));
    assert_eq!(refused(&program, &["run", "w.yaml", "--input", "{"]), one("input.no_json"));
    assert_eq!(refused(&program, &["run", "w.yaml", "--input", "@nowhere"]), one("input.unreadable"));
    assert!(!program.path("stanchion.redb").exists());
}

#[test]
fn every_fault_of_a_definition_is_told_and_nothing_is_stored() {
    let program = Program::new();
    program.write(
        "w.yaml",
        "name: w\nsteps:\n  - {id: a, activity: noop, needs: [b]}\n  - {id: b, activity: noop, needs: [a]}\n  - {id: c, activity: noop, needs: [nobody]}\n  - {id: c, activity: noop}\n",
    );
    let ended = program.run(&["run", "w.yaml", "--json"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let errors = ended.errors();
    assert!(errors.len() >= 3, "{errors:?}");
    let told = ended.err.clone();
    assert!(["nobody", "\\\"c\\\"", "cycle"].iter().all(|word| told.contains(word)), "{told}");
    assert!(!program.path("stanchion.redb").exists());
}

#[test]
fn inputs_over_the_limit_are_refused_before_the_store_is_made() {
    let program = Program::new();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    program.write("over.json", &text((1 << 20) + 1));
    program.write("dense.json", &format!("[{}0.5]", "0.5,".repeat(260_000)));
    program.write("most.json", &text(1 << 20));
    for input in ["@over.json", "@dense.json"] {
        assert_eq!(refused(&program, &["run", "w.yaml", "--input", input]), one("input.too_large"));
    }
    assert!(!program.path("stanchion.redb").exists());
    assert_eq!(program.run(&["run", "w.yaml", "--input", "@most.json"]).code, Some(0));
}

#[test]
fn every_fault_of_a_trace_is_told_and_nothing_is_stored() {
    let program = Program::new();
    program.write("t.json", include_str!("../../fixtures/documents/trace_faults.json"));
    program.write("old.json", include_str!("../../fixtures/documents/trace_1_4.json"));
    let ended = program.run(&["run", "t.json", "--json"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.errors().len() >= 5 && ended.errors().iter().all(|error| error["code"] == "document.trace")
    );
    assert_eq!(refused(&program, &["run", "old.json"]), one("document.schema"));
    assert!(!program.path("stanchion.redb").exists());
}

#[test]
fn a_refused_document_leaves_a_store_as_it_is() {
    let program = Program::new();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    program.write("bad.yaml", "name: w\nsteps: []\n");
    assert_eq!(program.run(&["run", "w.yaml", "--id", "r"]).code, Some(0));
    let before = std::fs::read(program.path("stanchion.redb")).unwrap();
    assert_eq!(program.run(&["run", "bad.yaml"]).code, Some(2));
    assert_eq!(std::fs::read(program.path("stanchion.redb")).unwrap(), before);
}

#[test]
fn activities_the_program_lacks_are_told_beside_other_faults() {
    let program = Program::new();
    program
        .write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: nope, needs: [b]}\n  - {id: c, tries: 1}\n");
    let ended = program.run(&["run", "w.yaml", "--json"]);
    let codes: Vec<_> = ended.errors().iter().map(|error| error["code"].clone()).collect();
    let definition = "document.definition";
    assert_eq!(codes, [definition, "document.activity", definition, definition], "{ended:?}");
    assert!(ended.errors().iter().all(|error| error["where"].as_str().unwrap().starts_with("steps[")));
    assert!(!program.path("stanchion.redb").exists());
}

#[test]
fn activities_the_program_lacks_are_refused_before_anything_runs() {
    let program = Program::new();
    program.write(
        "w.yaml",
        "name: w\nsteps:\n  - {id: a, activity: charge_card}\n  - {id: b, activity: noop, compensation: {activity: refund}}\n  - {id: c, activity: shell, input: {argv: [\"true\"]}}\n",
    );
    let ended = program.run(&["run", "w.yaml", "--json"]);
    assert_eq!(ended.code, Some(2));
    let errors = ended.errors();
    assert_eq!(errors.len(), 3);
    assert!(errors[2]["hint"].as_str().unwrap().contains("--allow-shell"));
    assert!(!program.path("stanchion.redb").exists());
}

#[test]
fn unknown_runs_and_commands_out_of_place_are_refused() {
    let program = Program::new();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    assert_eq!(program.run(&["run", "w.yaml", "--id", "r"]).code, Some(0));
    for command in ["show", "history", "pause", "resume", "cancel", "retry"] {
        assert_eq!(refused(&program, &[command, "nobody"]), one("run.unknown"), "{command}");
    }
    for command in ["pause", "resume", "cancel", "retry"] {
        assert_eq!(refused(&program, &[command, "r"]), one("run.already_terminal"), "{command}");
    }
    assert_eq!(refused(&program, &["list", "--status", "happy"]), one("usage"));
    let told = program.run(&["pause", "r"]).err;
    assert_eq!(
        told,
        "error: the run has ended as completed at run \"r\": start a new run under another id\n"
    );
}

#[test]
fn a_file_that_is_no_store_ends_with_3() {
    let program = Program::new();
    program.write("stanchion.redb", "something else entirely");
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    for words in [&["list"] as &[&str], &["verify"], &["run", "w.yaml", "--id", "r"]] {
        let (code, told) = refused(&program, words);
        assert_eq!((code, told.len()), (Some(3), 1), "{words:?} {told:?}");
    }
    assert_eq!(program.read("stanchion.redb"), "something else entirely");
}

#[test]
fn help_and_version_go_to_standard_output() {
    let program = Program::new();
    let help = program.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    assert!(help.out.contains("Examples:") && help.out.contains("Exit codes:"));
    let version = program.run(&["--version"]);
    assert_eq!(version.code, Some(0));
    assert!(version.out.contains("store format 2"), "{}", version.out);
    let completions = program.run(&["completions", "bash"]);
    assert!(completions.code == Some(0) && completions.out.contains("_stanchion"));
}
