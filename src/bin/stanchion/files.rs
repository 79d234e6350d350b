//! Commands on the files of a store that nobody holds.

use std::path::{Path, PathBuf};

use serde_json::json;
use stanchion::{
    control::Problem,
    store::{OpenError, RestoreError, StoreOptions, VerifyReport},
};

use super::{args::CopyArgs, fault::Fault, human::Human, output::Out};

/// Exit code of a store with faults.
const STORE: u8 = 3;

pub(crate) fn verify(db: &Path, out: &mut Out) -> Result<u8, Fault> {
    out.shows(Human::Verify);
    match stanchion::store::verify(db, &StoreOptions::default()) {
        Ok(report) => found(&report, db, out),
        Err(OpenError::Locked { pid, .. }) => {
            let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            let what = format!("the store is held by {holder}");
            let hint = "take a copy with \"stanchion backup COPY\", then \"stanchion verify --db COPY\"";
            Err(Problem::fatal("store.locked", what, db.display().to_string(), hint).into())
        }
        Err(error) => match verify_backup(db)? {
            Some(report) => found(&report, db, out),
            None => Err(Fault::of_store(&error, db)),
        },
    }
}

pub(crate) fn compact(db: &Path, out: &mut Out) -> Result<u8, Fault> {
    out.shows(Human::Compacted);
    let done = stanchion::store::compact(db, &StoreOptions::default());
    let done = done.map_err(|error| Fault::of_compact(&error, db))?;
    out.line(&json!({
        "file": db.display().to_string(), "bytes": done.after, "bytes_before": done.before, "rows": done.rows,
    }))?;
    out.end(0)
}

/// A backup is no store by itself, for its checksums lie behind the data: it is checked as what would be restored
/// from it. `None`: it is no backup.
fn verify_backup(file: &Path) -> Result<Option<VerifyReport>, Fault> {
    let mut scratch = file.as_os_str().to_owned();
    scratch.push(".verify");
    let scratch = PathBuf::from(scratch);
    let checked = match stanchion::store::restore(file, &scratch, true) {
        Ok(_) => stanchion::store::verify(&scratch, &StoreOptions::default())
            .map(Some)
            .map_err(|error| Fault::of_store(&error, file)),
        Err(RestoreError::NotABackup(_) | RestoreError::Io { .. }) => Ok(None),
        Err(error) => Err(Fault::of_restore(&error, file)),
    };
    let _ = std::fs::remove_file(&scratch);
    checked
}

fn found(report: &VerifyReport, db: &Path, out: &mut Out) -> Result<u8, Fault> {
    let faults = report.faults.iter();
    let faults: Vec<_> =
        faults.map(|fault| json!({"table": fault.table, "key": fault.key, "cause": fault.cause})).collect();
    let count = faults.len();
    out.line(&json!({
        "ok": count == 0, "entries": report.entries, "entities": report.entities, "faults": faults,
    }))?;
    if count == 0 {
        return out.end(0);
    }
    let code = out.end(STORE)?;
    let what = format!("the store has {count} faults");
    let told: Fault =
        Problem::fatal("store.faults", what, db.display().to_string(), "restore a backup").into();
    told.tell(out.is_json());
    Ok(code)
}

pub(crate) fn restore(db: &Path, args: &CopyArgs, out: &mut Out) -> Result<u8, Fault> {
    let restored = stanchion::store::restore(&args.file, db, args.force);
    let restored = restored.map_err(|error| Fault::of_restore(&error, db))?;
    out.shows(Human::Copy);
    out.line(&json!({"file": db.display().to_string(), "bytes": restored.bytes}))?;
    out.end(0)
}
