//! Runs on nodes of a cluster from the command line, over restarts of the nodes.

use serde_json::{Value, json};

use super::{
    nodes::{Place, ports},
    program::{Program, Running},
};

/// A chain of lines in a file, each after a short sleep.
fn chain(steps: usize) -> String {
    let mut text = "name: chain\nsteps:\n".to_owned();
    for step in 0..steps {
        let before = if step == 0 { String::new() } else { format!("\n    needs: [line{}]", step - 1) };
        text += &format!("  - id: nap{step}\n    activity: sleep\n    input: {{ ms: 20 }}{before}\n");
        text += &format!(
            "  - id: line{step}\n    activity: append\n    input: {{ path: \"${{input.path}}\", line: x }}\n    needs: [nap{step}]\n"
        );
    }
    text
}

fn three(more: [&str; 3]) -> [Place; 3] {
    let [a, b, c] = ports();
    let [of_a, of_b, of_c] = more;
    [Place::new("a", a, a, of_a), Place::new("b", b, a, of_b), Place::new("c", c, a, of_c)]
}

fn end(running: impl IntoIterator<Item = Running>) {
    for node in running {
        node.signal("-TERM");
        let ended = node.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn run_on_a_node_prints_what_run_prints_and_ends_with_its_codes() {
    let places = three(["activities = [\"noop\"]", "", "activities = [\"noop\"]\nbalance = \"round_robin\""]);
    let running: Vec<Running> = places.iter().map(Place::start).collect();
    places.iter().for_each(|place| place.until_up(3));
    let [a, b, c] = &places;
    a.program.write(
        "good.yaml",
        "name: good\nsteps:\n  - id: s\n    activity: echo\n    input: 7\noutput: \"${steps.s.output}\"\n",
    );
    a.program.write("bad.yaml", "name: bad\nsteps:\n  - id: s\n    activity: fail\n");
    a.program
        .write("long.yaml", "name: long\nsteps:\n  - id: s\n    activity: sleep\n    input: { ms: 60000 }\n");
    a.program.write("gpu.yaml", "name: gpu\nsteps:\n  - id: s\n    activity: noop\n    requires: [{ capability: gpu, version: '>=1.2, <2' }]\n");

    // Chosen by what it needs: only b has all of it.
    let ended = a.program.run(&["run", "good.yaml", "--node", "auto", "--id", "g", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.last();
    assert_eq!(
        (&result["status"], &result["output"], &result["resumed"]),
        (&json!("completed"), &json!(7), &json!(false))
    );
    assert_eq!(b.lines(&["show", "g"])[0]["status"], json!("completed"), "it is on b");
    let local = Program::new();
    local.write("good.yaml", &a.program.read("good.yaml"));
    let here = local.run(&["run", "good.yaml", "--id", "g", "--json"]).last();
    let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&result), keys(&here), "the same fields in the same order");
    let again = a.program.run(&["run", "good.yaml", "--node", "auto", "--id", "g", "--json"]);
    assert_eq!((again.code, again.last()["resumed"].clone()), (Some(0), json!(true)));
    let failed = a.program.run(&["run", "bad.yaml", "--node", "b", "--json"]);
    assert_eq!((failed.code, failed.last()["status"].clone()), (Some(1), json!("failed")), "{failed:?}");

    // A signal leaves the run where it is.
    let waits = a.program.start(&["run", "long.yaml", "--node", "b", "--id", "long", "--json"]);
    a.program.until("it runs on b", || {
        b.program.run(&["show", "long", "--json"]).out.contains("\"status\":\"running\"")
    });
    waits.signal("-INT");
    let ended = waits.end();
    assert_eq!((ended.code, ended.last()["status"].clone()), (Some(4), json!("interrupted")), "{ended:?}");
    assert_eq!(a.lines(&["cancel", "long", "--node", "b"])[0]["status"], json!("cancelled"));

    // What no node has is waited for, and seen.
    let waits = a.program.start(&["run", "gpu.yaml", "--node", "c", "--id", "gpu", "--json"]);
    a.program.until("it waits", || {
        let shown = c.program.run(&["show", "gpu", "--json"]);
        shown.code == Some(0) && shown.json()[0]["steps"][0]["waiting_for"] == json!("capability")
    });
    assert_eq!(c.lines(&["list", "--status", "waiting"])[0]["run_id"], json!("gpu"));
    assert_eq!(b.lines(&["cancel", "gpu", "--node", "c"])[0]["status"], json!("cancelled"));
    assert_eq!(waits.end().code, Some(1));

    for (words, code, exit) in [
        (&["run", "good.yaml", "--node", "*"][..], "usage", 2),
        (&["run", "good.yaml", "--node", "b", "--key", "k"], "usage", 2),
        (&["run", "good.yaml", "--key", "k"], "usage", 2),
        (&["run", "good.yaml", "--node", "auto", "--balance", "random"], "usage", 2),
        (&["run", "good.yaml", "--node", "auto", "--balance", "sticky"], "balance.key_missing", 2),
        (&["run", "bad.yaml", "--node", "auto", "--id", "g"], "run.already_exists", 2),
        (&["run", "good.yaml", "--node", "nobody"], "call.unreachable", 3),
    ] {
        let ended = a.program.run(&[words, &["--json"]].concat());
        assert_eq!((ended.code, ended.err.contains(code)), (Some(exit), true), "{words:?}: {ended:?}");
    }
    local.write("node.yaml", &a.program.read("good.yaml"));
    let nobody = local.run(&["run", "node.yaml", "--node", "b", "--json"]);
    assert_eq!((nobody.code, nobody.err.contains("node.not_running")), (Some(3), true), "{nobody:?}");
    end(running);
}

#[test]
fn three_nodes_are_restarted_one_after_another_under_load_and_nothing_is_lost_or_done_twice() {
    const STEPS: usize = 60;
    let places = three(["", "", ""]);
    let mut running: Vec<Option<Running>> = places.iter().map(|place| Some(place.start())).collect();
    places.iter().for_each(|place| place.until_up(3));
    let lines = Program::new();
    let input = json!({ "path": lines.path("lines") }).to_string();
    let mut runs = Vec::new();
    // Each run is waited for at one node and is on another one.
    for (at, on) in [(0, "b"), (1, "c"), (2, "a"), (0, "a"), (1, "auto")] {
        let program = &places[at].program;
        program.write("chain.yaml", &chain(STEPS));
        let id = format!("r{}", runs.len());
        runs.push(program.start(&[
            "run",
            "chain.yaml",
            "--node",
            on,
            "--id",
            &id,
            "--input",
            &input,
            "--json",
        ]));
    }
    lines.until("every run is under way", || {
        let text = lines.read("lines");
        (0..runs.len()).all(|run| text.contains(&format!("r{run}/")))
    });
    for (number, place) in places.iter().enumerate() {
        let node = running[number].take().unwrap();
        node.signal("-TERM");
        let ended = node.end();
        assert_eq!(ended.code, Some(0), "it has ended what it had begun: {ended:?}");
        running[number] = Some(place.start());
        places.iter().for_each(|place| place.until_up(3));
    }
    for run in runs {
        let ended = run.end();
        assert_eq!((ended.code, ended.last()["status"].clone()), (Some(0), json!("completed")), "{ended:?}");
    }
    let text = lines.read("lines");
    for run in 0..5 {
        for step in 0..STEPS {
            let line = format!("r{run}/line{step} x");
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line}");
        }
    }
    assert_eq!(text.lines().count(), 5 * STEPS);
    end(running.into_iter().flatten());
}
