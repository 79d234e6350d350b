use proptest::prelude::*;

use super::*;

fn kinds() -> impl Strategy<Value = Kind> {
    (1_u8..=9).prop_filter_map("a kind", Kind::of)
}

fn frames() -> impl Strategy<Value = Frame> {
    (
        kinds(),
        1_u64..,
        any::<u64>(),
        proptest::option::of("[a-z/0-9é]{0,200}"),
        proptest::option::of("[a-z0-9-]{0,64}"),
        any::<(Option<u64>, Option<u64>, bool)>(),
        proptest::collection::vec(any::<u8>(), 0..200),
    )
        .prop_map(|(kind, seq, id, entity, trace, (deadline_us, total, more), body)| Frame {
            kind,
            seq: if kind.is_sequenced() { seq } else { 0 },
            id,
            entity: entity.map(Arc::from),
            deadline_us,
            traceparent: trace.map(Arc::from),
            total,
            more,
            body: body.into(),
        })
}

fn credits() -> impl Strategy<Value = Credit> {
    any::<(u64, u64)>().prop_map(|(bytes, frames)| Credit { bytes, frames })
}

fn packets() -> impl Strategy<Value = Packet> {
    let head = (any::<(u128, u64, u64)>(), credits(), credits());
    (head, proptest::collection::vec(frames(), 0..6)).prop_map(|(((token, sent_us, ack), a, b), frames)| {
        Packet { head: Head { token, sent_us, ack, requests: a, answers: b }, frames }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: stanchion_actors::testing::bytes::cases(1_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_encoded_decodes_to_the_same(packet in packets()) {
        prop_assert_eq!(decode(encode(&packet).into()), Ok(packet));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(bytes.clone().into());
        let mut versioned = vec![0, 1];
        versioned.extend(bytes);
        let _ = decode(versioned.into());
    }

    #[test]
    fn mutated_packets_never_panic_and_hold_no_more_than_they_bring(
        packet in packets(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encode(&packet);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let length = bytes.len();
        if let Ok(read) = decode(bytes.into()) {
            let held: usize = read.frames.iter().map(|frame| frame.body.len()).sum();
            prop_assert!(held <= length);
        }
    }

    #[test]
    fn a_truncated_packet_is_refused_or_holds_fewer_frames(packet in packets(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&packet);
        bytes.truncate(cut.index(bytes.len()));
        if let Ok(read) = decode(bytes.into()) {
            prop_assert!(read.frames.len() < packet.frames.len());
        }
    }
}

#[test]
fn a_packet_of_a_later_format_is_refused_by_name() {
    let mut bytes = encode(&Packet::default());
    bytes[1] = 9;
    assert_eq!(decode(bytes.into()), Err(DecodeError::Version(9)));
}

#[test]
fn a_packet_over_the_limit_is_refused() {
    let bytes = vec![0; PACKET_MAX_BYTES + 1];
    assert_eq!(decode(bytes.into()), Err(DecodeError::TooLarge(PACKET_MAX_BYTES + 1)));
}

#[test]
fn the_bytes_of_format_one_do_not_change() {
    let frame = Frame {
        seq: 7,
        entity: Some("a/b".into()),
        deadline_us: Some(5),
        ..Frame::new(Kind::Call, 3, "hi".into())
    };
    let head = Head { token: 1, sent_us: 2, ack: 3, ..Head::default() };
    let bytes = encode(&Packet { head, frames: vec![frame] });
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = concat!(
        "0001",
        "00000000000000000000000000000001",
        "0000000000000002",
        "0000000000000003",
        "0000000000000000",
        "0000000000000000",
        "0000000000000000",
        "0000000000000000",
        "02",
        "06",
        "0000000000000007",
        "0000000000000003",
        "0003",
        "612f62",
        "0000000000000005",
        "00000002",
        "6869",
    );
    assert_eq!(hex, expected);
}
