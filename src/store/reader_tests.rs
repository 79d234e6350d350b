//! Readers of what is on disk, fed with random bytes and with valid bytes that were damaged. The checksums are made to
//! hold, for else they alone would be tested.

use bytes::Bytes;
use proptest::prelude::*;
use stanchion_actors::{
    ids::{EntityId, Position, Timestamp, Version},
    store::{
        Chain, Checkpoint, DedupRecord, Effect, Entry, FRAME_BYTES, InboxItem, OriginRecord, OutMessage,
        Table, Timer, Token, encode, key, seal,
    },
    testing::{
        bytes::{cases, damaged},
        fixtures::{event_entry, name, state_entry},
    },
};

use super::{
    chunk::{ChunkBuilder, read_chunk},
    manifest::{FOOTER_BYTES, Footer, Manifest},
    pack::{Item, pack, unpack},
    tables::{ROW_SCHEMA, decode_row},
};

const FIRST: Position = Position(7);

fn config() -> ProptestConfig {
    ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() }
}

fn random() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300)
}

/// `body` in a frame that holds.
fn sealed(key: &[u8], body: &[u8]) -> Bytes {
    let mut framed = vec![0; FRAME_BYTES];
    framed.extend_from_slice(body);
    seal(key, ROW_SCHEMA, &mut framed);
    framed.into()
}

fn body(framed: &[u8]) -> &[u8] {
    framed.get(FRAME_BYTES..).unwrap_or_default()
}

fn entries() -> [Entry; 2] {
    [state_entry(&name("a"), 1, b"state"), event_entry(&name("a"), 2, &[b"one", b"two"], Some(b"both"))]
}

/// A chunk with a record of each sort.
fn chunk() -> Vec<u8> {
    let token = Token { entity: EntityId(3), boot: 1, activation: 1 };
    let mut chain = Chain::new(token, Version(0));
    for entry in entries() {
        chain.push(entry).unwrap();
    }
    let mut chunk = ChunkBuilder::new();
    chunk.chain(&chain);
    chunk.done(EntityId(3), 9);
    chunk.definition(&[7; 32], b"a definition");
    chunk.purge(EntityId(4), b"name", b"index", &[b"due".to_vec(), b"later".to_vec()]);
    body(chunk.seal(FIRST, 2)).to_vec()
}

fn packed() -> Vec<u8> {
    let item = |version| Item {
        version: Version(version),
        at: Timestamp(5),
        encoded: encode(&entries()[0]).unwrap().into(),
    };
    let rows = pack(EntityId(3), &[item(1), item(2), item(3)]);
    body(&rows[0].1).to_vec()
}

fn read_row(bytes: &[u8]) {
    let key = key::history(EntityId(3), Version(1));
    let framed = sealed(&key, bytes);
    let _ = decode_row::<Entry>(Table::History, &key, bytes).is_ok();
    let _ = decode_row::<Entry>(Table::History, &key, &framed).is_ok();
    let _ = decode_row::<Checkpoint>(Table::Entity, &key, &framed).is_ok();
    let _ = decode_row::<DedupRecord>(Table::Entity, &key, &framed).is_ok();
    let _ = decode_row::<OriginRecord>(Table::Entity, &key, &framed).is_ok();
    let _ = decode_row::<Timer>(Table::Entity, &key, &framed).is_ok();
    let _ = decode_row::<EntityId>(Table::Name, &key, &framed).is_ok();
    let _ = decode_row::<OutMessage>(Table::Work, &key, &framed).is_ok();
    let _ = decode_row::<InboxItem>(Table::Work, &key, &framed).is_ok();
    let _ = decode_row::<Effect>(Table::Work, &key, &framed).is_ok();
}

fn read_log(bytes: &[u8]) {
    let at = FIRST.0.to_be_bytes();
    let _ = read_chunk(FIRST, &sealed(&at, bytes)).is_ok();
    let _ = read_chunk(FIRST, &Bytes::copy_from_slice(bytes)).is_ok();
}

fn read_pack(bytes: &[u8]) {
    let key = key::history(EntityId(3), Version(1));
    if let Ok(items) = unpack(&key, &sealed(&key, bytes)) {
        let held: usize = items.iter().map(|item| item.encoded.len()).sum();
        assert!(held <= bytes.len(), "items hold no more than the row brings");
        for item in items {
            let _ = item.entry(EntityId(3)).is_ok();
        }
    }
}

fn read_manifest(bytes: &[u8]) {
    let (body, footer) = bytes.split_at(bytes.len().saturating_sub(FOOTER_BYTES));
    if let Some(footer) = Footer::read(footer)
        && let Some(manifest) = Manifest::read(body, footer)
    {
        assert!(manifest.sums.len() * 4 <= body.len());
    }
}

#[test]
fn what_is_damaged_below_was_readable_before() {
    let at = FIRST.0.to_be_bytes();
    let (_, records) = read_chunk(FIRST, &sealed(&at, &chunk())).unwrap();
    assert_eq!(records.len(), 4);
    let key = key::history(EntityId(3), Version(1));
    assert_eq!(unpack(&key, &sealed(&key, &packed())).unwrap().len(), 3);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_chunk_of_the_log_is_read_or_refused(bytes in random(), seed: u64) {
        read_log(&bytes);
        read_log(&damaged(&chunk(), seed));
    }

    #[test]
    fn a_packed_row_of_history_is_read_or_refused(bytes in random(), seed: u64) {
        read_pack(&bytes);
        read_pack(&damaged(&packed(), seed));
    }

    #[test]
    fn a_stored_value_is_read_or_refused(bytes in random(), seed: u64) {
        read_row(&bytes);
        for entry in entries() {
            read_row(&damaged(&encode(&entry).unwrap(), seed));
            read_row(&damaged(&encode(&entry.head).unwrap(), seed));
        }
    }

    #[test]
    fn the_manifest_of_a_backup_is_read_or_refused(bytes in random(), seed: u64, sums in proptest::collection::vec(any::<u32>(), 0..9)) {
        read_manifest(&bytes);
        let valid = Manifest { id: uuid::Uuid::nil(), position: FIRST, len: 9, sums };
        read_manifest(&damaged(&valid.to_bytes(), seed));
    }
}
