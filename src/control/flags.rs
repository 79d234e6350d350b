//! Feature flags, listed and set.

use stanchion_actors::{
    agent::Agent,
    error::{CallError, Coded},
    flags::{Flag, FlagError, FlagSetting, Percent},
    ids::Name,
    store::{ListQuery, decode},
};

use super::{
    desk::{Desk, PAGE, Sink, Stop, put},
    problem::Problem,
    rows::FlagRow,
};

/// Lists flags by name.
pub(super) async fn list(desk: &Desk, sink: &mut impl Sink) -> Result<(), Stop> {
    let mut after: Option<Name> = None;
    loop {
        let query = ListQuery { kind: Some(Flag::KIND.to_owned()), status: None, after };
        let store = desk.store();
        let page = store.list(query, PAGE).await?;
        for listed in &page {
            let loaded = store.load(listed.entity).await?;
            let Some(checkpoint) = loaded.and_then(|loaded| loaded.checkpoint) else { continue };
            let flag = decode::<Flag>(&checkpoint.state).map_err(|error| {
                let place = format!("flag {:?}", listed.head.name.key);
                Problem::fatal("flag.unreadable", error.to_string(), place, "use the program that wrote it")
            })?;
            if let Some(row) = row(&listed.head.name.key, &flag) {
                put(sink, &row).await?;
            }
        }
        after = page.last().map(|listed| listed.head.name.clone());
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

/// Sets a flag and shows it.
pub(super) async fn set(
    desk: &Desk,
    flag: &str,
    to: &str,
    by: &str,
    reason: &str,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let setting = setting(to)?;
    let flags = desk.flags()?;
    flags.set(flag, setting, by, reason).await.map_err(|error| problem(&error, flag))?;
    let found = flags.flag(flag).await.map_err(|error| problem(&error, flag))?;
    match row(flag, &found) {
        Some(row) => put(sink, &row).await,
        None => Ok(()),
    }
}

/// `on`, `off`, or a percentage with or without its sign.
fn setting(text: &str) -> Result<FlagSetting, Problem> {
    let wrong = || {
        let hint = "give on, off, or a percentage such as 12.5%";
        Problem::rejected("flag.not_a_percentage", format!("{text:?} is no setting"), "SETTING", hint)
    };
    match text {
        "on" => Ok(FlagSetting::Switch(true)),
        "off" => Ok(FlagSetting::Switch(false)),
        number => {
            let number = number.strip_suffix('%').unwrap_or(number);
            let percent = number.parse::<f64>().map_err(|_| wrong())?;
            Percent::new(percent).map(FlagSetting::Share).map_err(|_| wrong())
        }
    }
}

fn row(name: &str, flag: &Flag) -> Option<FlagRow> {
    let (setting, last) = (flag.setting()?, flag.changes().last()?);
    Some(FlagRow {
        flag: name.to_owned(),
        kind: setting.kind().to_owned(),
        setting: match setting {
            FlagSetting::Switch(on) => on.into(),
            FlagSetting::Share(percent) => f64::from(percent).into(),
        },
        by: last.by.clone(),
        reason: last.reason.clone(),
        changed_us: last.at.0,
    })
}

fn problem(error: &FlagError, flag: &str) -> Problem {
    let hint = match error {
        FlagError::Call(CallError::Unavailable(_)) => "nothing was changed: try again",
        FlagError::Call(CallError::Unknown(_)) => "it may have been set: look with \"stanchion flag ls\"",
        _ => "see \"stanchion flag ls\"",
    };
    let problem = Problem::rejected(error.code(), error.to_string(), format!("flag {flag:?}"), hint);
    Problem { family: error.family(), ..problem }
}
