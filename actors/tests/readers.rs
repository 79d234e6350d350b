//! Readers of what comes from outside: settings, names, stored states and commands. Random bytes and damaged valid ones
//! are read or refused; nothing panics.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

use std::str::FromStr;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::json;
use stanchion_actors::{
    adapter::Secret,
    discovery::{Capability, Criteria},
    ids::{CommandId, Name},
    policies::{PolicyCommand, PolicyState, SavedPolicy},
    queue::{Job, JobId, QueueCommand, QueueConfig, QueueReply},
    resilience::{
        breaker::{BreakerOptions, BreakerSnapshot},
        limiter::{LimitStrategy, LimiterOptions},
        protected::{FallbackRoute, ProtectedOptions},
        retry::RetryPolicy,
    },
    store::{DEPTH_MAX, decode, encode, frame, memory::MemoryStore, unframe},
    testing::bytes::{cases, damaged},
    workflow::definition::Definition,
};

fn config() -> ProptestConfig {
    ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() }
}

fn random() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300)
}

/// Settings with every layer.
fn settings() -> ProtectedOptions {
    ProtectedOptions {
        fallback: Some(FallbackRoute { service: "other".into() }),
        timeout: Some(Default::default()),
        retry: Some(Default::default()),
        budget: Some(Default::default()),
        breaker: Some(Default::default()),
        ignored_codes: ["a.b".to_owned()].into(),
        limiter: Some(LimiterOptions::new(LimitStrategy::SlidingWindow { limit: 3, window_ms: 1_000 })),
        limiter_wait_ms: Some(5),
        bulkhead: Some(Default::default()),
    }
}

/// One type from JSON text, from a JSON value, and as stored.
fn one<T: DeserializeOwned>(bytes: &[u8]) {
    let _ = serde_json::from_slice::<T>(bytes).is_ok();
    let _ = decode::<T>(bytes).is_ok();
}

fn read_settings(bytes: &[u8]) {
    one::<BreakerOptions>(bytes);
    one::<LimiterOptions>(bytes);
    one::<RetryPolicy>(bytes);
    one::<QueueConfig>(bytes);
    one::<Secret>(bytes);
    if let Ok(options) = serde_json::from_slice::<ProtectedOptions>(bytes) {
        let _ = options.validate("a").is_ok();
    }
    if let Ok(definition) = serde_json::from_slice::<Definition>(bytes) {
        let _ = definition.validate().is_ok();
    }
}

fn read_stored(bytes: &[u8]) {
    let _ = unframe(b"key", bytes).is_ok();
    one::<Name>(bytes);
    one::<CommandId>(bytes);
    one::<serde_json::Value>(bytes);
    one::<PolicyCommand>(bytes);
    one::<PolicyState>(bytes);
    one::<SavedPolicy>(bytes);
    one::<BreakerSnapshot>(bytes);
    one::<QueueCommand>(bytes);
    one::<QueueReply>(bytes);
    one::<Job>(bytes);
}

fn read_text(text: &str) {
    let _ = Capability::from_str(text).is_ok();
    let _ = Criteria::from_str(text).is_ok();
    let _ = JobId::from_str(text).is_ok();
    let _ = Name::new(text, text).is_ok();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn settings_are_read_or_refused(bytes in random(), seed: u64) {
        read_settings(&bytes);
        read_settings(&damaged(&serde_json::to_vec(&settings()).unwrap(), seed));
        read_settings(&damaged(&encode(&settings()).unwrap(), seed));
        for (_, part) in serde_json::to_value(settings()).unwrap().as_object().unwrap() {
            read_settings(&damaged(&serde_json::to_vec(part).unwrap(), seed));
        }
    }

    #[test]
    fn stored_values_are_read_or_refused(bytes in random(), seed: u64) {
        read_stored(&bytes);
        let state = encode(&json!({"a": [1, -2.5, null, true], "b": {"c": "text"}})).unwrap();
        read_stored(&damaged(&state, seed));
        read_stored(&damaged(&frame(b"key", 1, &state), seed));
    }

    #[test]
    fn words_are_read_or_refused(text in ".{0,40}", near in "[a-z0-9@.:<>=!&|()*, -]{0,40}", seed: u64) {
        read_text(&text);
        read_text(&near);
        for valid in ["gpu@1.2.3-rc.1", "gpu@>=1.0.0, load<5 & zone=eu | (a.b>1)", "agent-1-77"] {
            read_text(&String::from_utf8_lossy(&damaged(valid.as_bytes(), seed)));
        }
    }

    #[test]
    fn a_backup_of_the_memory_store_is_restored_or_refused(bytes in random()) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        assert!(MemoryStore::restore(file.path()).is_err());
    }
}

fn nested(depth: usize) -> serde_json::Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn values_nested_beyond_reason_are_refused_before_the_stack_is_full() {
    for open in [vec![0x91], vec![0x81, 0xa1, b'a'], vec![b'[']] {
        let bytes = open.repeat(100_000);
        read_settings(&bytes);
        read_stored(&bytes);
    }
    let deepest = nested(DEPTH_MAX - 1);
    assert_eq!(decode::<serde_json::Value>(&encode(&deepest).unwrap()), Ok(deepest));
    assert!(decode::<serde_json::Value>(&encode(&nested(DEPTH_MAX + 1)).unwrap()).is_err());
}
