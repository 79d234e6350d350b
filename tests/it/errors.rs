//! Errors: every code is documented, and code, family and context survive encoding.

use std::{collections::BTreeSet, path::Path};

use proptest::prelude::*;
use stanchion::{
    error::{CallFailure, Coded, Doubt, FailureKind, Refusal, Unavailable},
    ids::{CommandId, EntityId, Name, Origin},
};

/// Codes as the sources give them: literals in `fn code`, and constants that look like codes.
fn codes_in(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in(&path, codes);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for body in text.split("fn code(&self) -> &'static str {").skip(1) {
                let body = body.split("\n    }").next().unwrap();
                codes.extend(body.split('"').skip(1).step_by(2).filter(|c| is_code(c)).map(str::to_owned));
            }
            let constants = text.lines().filter(|line| {
                // Names of activities look like codes.
                line.contains("const ") && !line.contains("const NAME:") && line.contains("str = \"")
            });
            codes.extend(
                constants.filter_map(|line| line.split('"').nth(1)).filter(|c| is_code(c)).map(str::to_owned),
            );
        }
    }
}

fn is_code(text: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.split_once('.').is_some_and(|(area, kind)| word(area) && word(kind))
}

#[test]
fn every_code_is_documented_and_every_documented_code_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut codes = BTreeSet::new();
    for folder in ["src", "actors/src", "supervisors/src"] {
        codes_in(&root.join(folder), &mut codes);
    }
    assert!(codes.contains("call.fenced") && codes.contains("activity.panicked"), "the search finds codes");
    let text = std::fs::read_to_string(root.join("docs/ERRORS.md")).unwrap();
    let listed: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(codes.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "not in docs/ERRORS.md");
    assert_eq!(
        listed.difference(&codes).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "in docs/ERRORS.md only"
    );
}

#[test]
fn documented_families_are_those_of_the_code() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ERRORS.md")).unwrap();
    for kind in kinds() {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.code())));
        let family = row.and_then(|row| row.split('|').nth(2)).map(str::trim).unwrap();
        assert_eq!(family, format!("{:?}", kind.family()), "{}", kind.code());
    }
}

fn kinds() -> Vec<FailureKind> {
    let text = || "why".to_owned();
    let refused = [
        Refusal::Expired,
        Refusal::IdConflict,
        Refusal::TooLarge { what: text(), bytes: 2, limit: 1 },
        Refusal::Poisoned(text()),
        Refusal::Malformed(text()),
        Refusal::Invalid(text()),
        Refusal::UnknownKind(text()),
        Refusal::WouldDeadlock,
    ];
    let unavailable = [
        Unavailable::Full { capacity: 1 },
        Unavailable::Dropped,
        Unavailable::Draining,
        Unavailable::DeadlinePassed,
        Unavailable::Store(text()),
        Unavailable::Stopped,
        Unavailable::Quarantined(text()),
        Unavailable::CrashLoop(text()),
        Unavailable::Fenced,
        Unavailable::OutboxFull(3),
    ];
    let unknown = [Doubt::DeadlinePassed, Doubt::Store(text()), Doubt::Lost];
    let mut kinds = vec![FailureKind::Rejected(bytes::Bytes::from_static(b"r")), FailureKind::Fatal(text())];
    kinds.extend(refused.map(FailureKind::Refused));
    kinds.extend(unavailable.map(FailureKind::Unavailable));
    kinds.extend(unknown.map(FailureKind::Unknown));
    kinds
}

proptest! {
    #[test]
    fn code_family_and_context_survive_encoding(
        which in 0..kinds().len(),
        key in "[a-z0-9 ]{1,40}",
        seq: u64,
        origin: Option<u128>,
    ) {
        let kind = kinds().swap_remove(which);
        let origin = match origin {
            Some(uuid) => Origin::Session(uuid::Uuid::from_u128(uuid)),
            None => Origin::Entity(EntityId(seq)),
        };
        let entity = Name::new("ledger", key).unwrap();
        let failure = CallFailure { entity, id: Some(CommandId { origin, seq }), kind };
        let encoded = rmp_serde::to_vec_named(&failure).unwrap();
        let decoded: CallFailure = rmp_serde::from_slice(&encoded).unwrap();
        prop_assert_eq!(decoded.code(), failure.code());
        prop_assert_eq!(decoded.family(), failure.family());
        prop_assert_eq!(decoded.to_string(), failure.to_string());
        prop_assert_eq!(decoded, failure);
    }
}
