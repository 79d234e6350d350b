use proptest::prelude::*;
use stanchion_actors::testing::bytes::{cases, damaged};

use super::*;

fn greeting(name: &str) -> Greeting {
    let node =
        NodeId { name: NodeName::new(name).unwrap(), incarnation: NodeIncarnation { life: 1, nonce: 2 } };
    Greeting::new(node, 7).unwrap()
}

fn cookie(byte: u8) -> Cookie {
    Cookie::new(&[byte; 32]).unwrap()
}

type Outcome = Result<Greeting, HandshakeError>;

async fn meet(
    client: (&Cookie, &[u8]),
    server: (&Cookie, &[u8]),
    verdict: Result<(), Refusal>,
) -> (Outcome, Outcome) {
    let (mut near, mut far) = tokio::io::duplex(4_096);
    let (ours, theirs) = (greeting("client"), greeting("server"));
    let one = async { as_client(&mut near, &ours, client.1, client.0, |_| Ok(())).await };
    let two = async { as_server(&mut far, &theirs, server.1, server.0, |_| verdict).await };
    tokio::join!(one, two)
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let cookie = cookie(1);
    let (client, server) = meet((&cookie, b"s"), (&cookie, b"s"), Ok(())).await;
    assert_eq!(client.unwrap().node.name.as_str(), "server");
    assert_eq!(server.unwrap().node.name.as_str(), "client");
}

#[tokio::test]
async fn another_cookie_is_refused_on_both_sides() {
    let (client, server) = meet((&cookie(1), b"s"), (&cookie(2), b"s"), Ok(())).await;
    assert!(matches!(client, Err(HandshakeError::Cookie)), "{client:?}");
    assert!(matches!(server, Err(HandshakeError::Cookie)), "{server:?}");
}

#[tokio::test]
async fn a_relay_between_two_tls_sessions_is_refused() {
    let cookie = cookie(1);
    let (client, server) = meet((&cookie, b"session one"), (&cookie, b"session two"), Ok(())).await;
    assert!(matches!(client, Err(HandshakeError::Cookie)));
    assert!(matches!(server, Err(HandshakeError::Cookie)));
}

#[tokio::test]
async fn a_refusal_is_told_by_name() {
    let cookie = cookie(1);
    let (client, server) = meet((&cookie, b""), (&cookie, b""), Err(Refusal::Stale)).await;
    assert!(matches!(client, Err(HandshakeError::Refused(Refusal::Stale))));
    assert!(matches!(server, Err(HandshakeError::Refused(Refusal::Stale))));
}

#[tokio::test]
async fn a_server_without_the_cookie_is_found_by_the_client() {
    let (mut near, mut far) = tokio::io::duplex(4_096);
    let (ours, theirs) = (greeting("client"), greeting("server"));
    let cookie = cookie(1);
    let client = async { as_client(&mut near, &ours, b"", &cookie, |_| Ok(())).await };
    let server = async {
        read_greeting(&mut far).await.unwrap();
        write_greeting(&mut far, &theirs.encode()).await.unwrap();
        let mut proof = [0; 32];
        far.read_exact(&mut proof).await.unwrap();
        // It sends the client's own proof back.
        far.write_all(&[&[0], proof.as_slice()].concat()).await.unwrap();
    };
    let (client, ()) = tokio::join!(client, server);
    assert!(matches!(client, Err(HandshakeError::Cookie)));
}

#[tokio::test]
async fn what_one_handshake_said_is_of_no_use_in_another() {
    let cookie = cookie(1);
    let (mut near, mut far) = tokio::io::duplex(4_096);
    let ours = greeting("client");
    // Record a client.
    let client = async { as_client(&mut near, &ours, b"", &cookie, |_| Ok(())).await };
    let record = async {
        let mut said = vec![0; 2 + ours.encode().len()];
        far.read_exact(&mut said).await.unwrap();
        write_greeting(&mut far, &greeting("server").encode()).await.unwrap();
        let mut proof = [0; 32];
        far.read_exact(&mut proof).await.unwrap();
        drop(far);
        (said, proof)
    };
    let (_, (said, proof)) = tokio::join!(client, record);
    // Play it to a server.
    let (mut near, mut far) = tokio::io::duplex(4_096);
    let theirs = greeting("server");
    let server = async move { as_server(&mut far, &theirs, b"", &cookie, |_| Ok(())).await };
    let replay = async {
        near.write_all(&[said, proof.to_vec()].concat()).await.unwrap();
        let mut rest = vec![];
        near.read_to_end(&mut rest).await.ok();
    };
    let (server, ()) = tokio::join!(server, replay);
    assert!(matches!(server, Err(HandshakeError::Cookie)));
}

#[tokio::test]
async fn a_peer_of_a_later_version_is_told_the_versions() {
    let (mut near, mut far) = tokio::io::duplex(4_096);
    let later = Greeting { versions: (7, 9), ..greeting("client") };
    let theirs = greeting("server");
    let cookie = cookie(1);
    let server = async { as_server(&mut far, &theirs, b"", &cookie, |_| Ok(())).await };
    let client = async {
        write_greeting(&mut near, &later.encode()).await.unwrap();
        read_greeting(&mut near).await.unwrap().0.versions
    };
    let (server, told) = tokio::join!(server, client);
    assert!(matches!(server, Err(HandshakeError::Version { theirs: (7, 9) })));
    assert_eq!(told, (FORMAT_VERSION_MIN, FORMAT_VERSION));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_and_mutated_greetings_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        seed: u64,
    ) {
        let _ = Greeting::decode(&bytes);
        let _ = Cookie::from_hex(&String::from_utf8_lossy(&bytes)).is_ok();
        let _ = Cookie::from_hex(&String::from_utf8_lossy(&damaged(&b"0a".repeat(20), seed))).is_ok();
        let mut mutated = greeting("node").encode();
        let at = at.index(mutated.len());
        mutated[at] = value;
        let _ = Greeting::decode(&mutated);
        mutated.truncate(at);
        let _ = Greeting::decode(&mutated);
        let _ = Greeting::decode(&damaged(&greeting("node").encode(), seed));
    }

    #[test]
    fn a_server_survives_whatever_a_client_sends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ended = runtime.block_on(async {
            let (mut near, mut far) = tokio::io::duplex(4_096);
            near.write_all(&bytes).await.unwrap();
            near.shutdown().await.unwrap();
            as_server(&mut far, &greeting("server"), b"", &cookie(1), |_| Ok(())).await
        });
        prop_assert!(ended.is_err());
    }
}
