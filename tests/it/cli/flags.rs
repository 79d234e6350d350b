//! Feature flags on the command line.

use serde_json::json;
use stanchion::{
    System,
    flags::{FlagSetting, Percent},
};

use super::program::Program;

async fn defined(program: &Program, held: bool) -> System {
    let system = System::builder().control_socket(held).open(program.path("stanchion.redb")).await.unwrap();
    let share = FlagSetting::Share(Percent::new(10.0).unwrap());
    system.flags().define("new-ui", share, "program").await.unwrap();
    system.flags().define("queue", FlagSetting::Switch(true), "program").await.unwrap();
    system
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_are_listed_and_set_with_and_without_a_program_that_holds_them() {
    for held in [true, false] {
        let program = Program::new();
        let system = defined(&program, held).await;
        let system = if held {
            Some(system)
        } else {
            let _ = system.stop(std::time::Duration::ZERO).await.unwrap();
            None
        };
        let set = program.lines(&["flag", "set", "new-ui", "12.5%", "--by", "ann", "--reason", "it works"]);
        assert_eq!((&set[0]["setting"], &set[0]["by"]), (&json!(12.5), &json!("ann")));
        program.lines(&["flag", "set", "queue", "off", "--by", "ann"]);
        let listed = program.lines(&["flag", "ls"]);
        let shown: Vec<_> = listed.iter().map(|row| (&row["flag"], &row["kind"], &row["setting"])).collect();
        assert_eq!(
            shown,
            [
                (&json!("new-ui"), &json!("share"), &json!(12.5)),
                (&json!("queue"), &json!("switch"), &json!(false)),
            ]
        );
        assert_eq!(listed[0]["reason"], json!("it works"));
        if let Some(system) = system {
            assert!(!system.flags().is_on("queue").await.unwrap(), "the program sees it at once");
            let _ = system.stop(std::time::Duration::ZERO).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_flag_is_not_is_refused_with_2() {
    let program = Program::new();
    let _ = defined(&program, false).await.stop(std::time::Duration::ZERO).await.unwrap();
    for (words, code) in [
        (["nobody", "on"], "flag.unknown"),
        (["queue", "50%"], "flag.other_kind"),
        (["new-ui", "off"], "flag.other_kind"),
        (["new-ui", "101"], "flag.not_a_percentage"),
        (["new-ui", "perhaps"], "flag.not_a_percentage"),
    ] {
        let ended = program.run(&["flag", "set", words[0], words[1], "--by", "ann", "--json"]);
        assert_eq!(ended.code, Some(2), "{words:?}");
        assert!(ended.err.contains(code), "{words:?}: {}", ended.err);
    }
    assert_eq!(program.lines(&["flag", "ls"])[0]["setting"], json!(10.0), "nothing was changed");
}
