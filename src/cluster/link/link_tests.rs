use super::*;
use crate::cluster::frame::{Head, Packet};

const SECOND: u64 = 1_000_000;

fn hello(node: &str) -> Hello {
    Hello {
        versions: (1, 1),
        node: node.into(),
        incarnation: (1, 1),
        message_max_bytes: 16 << 20,
        capabilities: vec![],
    }
}

fn pair_of(limits: LinkLimits) -> (Link, Link) {
    let limits = Arc::new(limits);
    let mut pair = (Link::new(limits.clone(), hello("a"), 0), Link::new(limits, hello("b"), 0));
    pair.0.attach(1, 0);
    pair.1.attach(2, 0);
    pair
}

fn pair() -> (Link, Link) {
    pair_of(LinkLimits::default())
}

/// Carries packets both ways until nobody has anything to say; what happened at the second.
fn settle(a: &mut Link, b: &mut Link, now: u64) {
    loop {
        let (to_b, to_a) = (a.transmit(now), b.transmit(now));
        if to_a.is_none() && to_b.is_none() {
            return;
        }
        if let Some(packet) = to_b {
            b.receive(packet, now).unwrap();
        }
        if let Some(packet) = to_a {
            a.receive(packet, now).unwrap();
        }
    }
}

fn events(link: &mut Link) -> Vec<LinkEvent> {
    std::iter::from_fn(|| link.poll_event()).collect()
}

fn requests(link: &mut Link) -> Vec<Request> {
    let requests = events(link).into_iter();
    requests
        .filter_map(|event| if let LinkEvent::Request(request) = event { Some(request) } else { None })
        .collect()
}

fn ends(link: &mut Link) -> Vec<(u64, End)> {
    let ends = events(link).into_iter();
    ends.filter_map(|event| if let LinkEvent::Ended(id, end) = event { Some((id, end)) } else { None })
        .collect()
}

fn call(body: impl Into<Bytes>, deadline_us: u64) -> Outgoing {
    let entity = Some("k/1".into());
    Outgoing {
        kind: Kind::Call,
        entity,
        deadline_us: Some(deadline_us),
        traceparent: None,
        body: body.into(),
    }
}

fn durable(body: impl Into<Bytes>) -> Outgoing {
    Outgoing { kind: Kind::Durable, deadline_us: None, ..call(body, 0) }
}

#[test]
fn a_call_is_delivered_with_what_is_left_of_its_deadline_and_answered() {
    let (mut a, mut b) = pair();
    let id = a.offer(call("hi", 5 * SECOND)).unwrap();
    settle(&mut a, &mut b, 2 * SECOND);
    let got = requests(&mut b);
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].deadline_us, got[0].body.as_ref()), (Some(5 * SECOND), b"hi".as_ref()));
    b.answer(got[0].id, Ok("yes".into()));
    settle(&mut a, &mut b, 2 * SECOND);
    assert_eq!(ends(&mut a), vec![(id, End::Reply("yes".into()))]);
}

#[test]
fn a_call_that_lay_in_a_stopped_peer_past_its_deadline_is_answered_expired_and_not_delivered() {
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    let id = a.offer(call("hi", SECOND)).unwrap();
    let packet = a.transmit(0).unwrap();
    b.receive(packet, 60 * SECOND).unwrap();
    assert_eq!(requests(&mut b), vec![]);
    assert_eq!(b.stats().expired_in, 1);
    settle(&mut a, &mut b, 60 * SECOND);
    let ended = ends(&mut a);
    assert!(matches!(&ended[..], [(i, End::Nack(nack))] if *i == id && nack.reason == NackReason::Expired));
}

#[test]
fn what_was_not_acknowledged_is_sent_again_and_delivered_once() {
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    a.offer(durable("one")).unwrap();
    a.offer(durable("two")).unwrap();
    let packet = a.transmit(0).unwrap();
    b.receive(packet, 0).unwrap();
    // The stream breaks before the acknowledgement.
    a.detach();
    b.detach();
    a.offer(durable("three")).unwrap();
    a.attach(3, SECOND);
    b.attach(4, SECOND);
    settle(&mut a, &mut b, SECOND);
    let bodies: Vec<Bytes> = requests(&mut b).into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, vec![Bytes::from("one"), "two".into(), "three".into()]);
    // The greeting of the new stream acknowledges what had arrived, so nothing had to be sent twice.
    assert_eq!(a.stats().frames_resent, 0);
}

#[test]
fn a_large_message_comes_in_pieces_and_small_ones_for_others_pass_it() {
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    let body = Bytes::from(vec![7; 10 << 20]);
    a.offer(Outgoing { entity: Some("big".into()), ..durable(body.clone()) }).unwrap();
    a.offer(Outgoing { entity: Some("big".into()), ..durable("after") }).unwrap();
    a.offer(Outgoing { entity: Some("other".into()), ..durable("small") }).unwrap();
    settle(&mut a, &mut b, 0);
    let got: Vec<(Arc<str>, Bytes)> =
        requests(&mut b).into_iter().map(|r| (r.entity.unwrap(), r.body)).collect();
    assert_eq!(got[0], ("other".into(), "small".into()));
    assert_eq!(got[1].1.len(), body.len());
    assert_eq!(got[2], ("big".into(), "after".into()));
}

#[test]
fn a_message_over_the_limit_is_refused_by_name() {
    let (mut a, _) = pair();
    let (bytes, limit) = (20 << 20, 16 << 20);
    assert_eq!(a.offer(durable(vec![0; bytes])), Err(Refused::TooLarge { bytes, limit }));
}

#[test]
fn a_peer_that_takes_nothing_fills_the_queue_and_then_it_is_overloaded() {
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    let mut taken = 0;
    while a.offer(durable(vec![0; 60_000])).is_ok() {
        taken += 1;
        while a.transmit(0).is_some() {}
    }
    assert!(a.held_bytes() <= LinkLimits::default().queue_max_bytes, "{}", a.held_bytes());
    assert!(taken > 500, "{taken}");
    assert_eq!(a.stats().overloaded, 1);
}

#[test]
fn a_receiver_that_does_not_finish_is_sent_no_more_than_its_window() {
    let limits = LinkLimits { window_frames: 8, ..LinkLimits::default() };
    let (mut a, mut b) = pair_of(limits);
    for _ in 0..20 {
        a.offer(call("x", SECOND)).unwrap();
    }
    settle(&mut a, &mut b, 0);
    let got = requests(&mut b);
    assert_eq!(got.len(), 8);
    for request in got {
        b.answer(request.id, Ok(Bytes::new()));
    }
    settle(&mut a, &mut b, 0);
    assert_eq!(requests(&mut b).len(), 8);
}

#[test]
fn answers_flow_while_both_windows_of_requests_are_full() {
    let limits = LinkLimits { window_frames: 4, ..LinkLimits::default() };
    let (mut a, mut b) = pair_of(limits);
    for _ in 0..8 {
        a.offer(call("x", SECOND)).unwrap();
        b.offer(call("x", SECOND)).unwrap();
    }
    settle(&mut a, &mut b, 0);
    let (at_a, at_b) = (requests(&mut a), requests(&mut b));
    assert_eq!((at_a.len(), at_b.len()), (4, 4));
    b.answer(at_b[0].id, Ok(Bytes::new()));
    settle(&mut a, &mut b, 0);
    assert_eq!(ends(&mut a).len(), 1);
}

#[test]
fn a_withdrawn_call_says_whether_it_was_sent_and_gives_its_credit_back() {
    let limits = LinkLimits { window_frames: 2, ..LinkLimits::default() };
    let (mut a, mut b) = pair_of(limits);
    settle(&mut a, &mut b, 0);
    let ids: Vec<u64> = (0..4).map(|_| a.offer(call("x", SECOND)).unwrap()).collect();
    // Two are sent and lost with the stream, two wait for credit.
    while a.transmit(0).is_some() {}
    assert_eq!(a.withdraw(ids[0]), End::Lost);
    assert_eq!(a.withdraw(ids[3]), End::NotSent);
    a.detach();
    b.detach();
    a.attach(3, 0);
    b.attach(4, 0);
    settle(&mut a, &mut b, 0);
    // The withdrawn one gave its place in the window to the next.
    assert_eq!(requests(&mut b).iter().map(|r| r.id).collect::<Vec<_>>(), vec![ids[1], ids[2]]);
}

#[test]
fn half_a_large_message_is_withdrawn_as_not_sent_and_forgotten_by_the_peer() {
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    let id = a.offer(durable(vec![1; 3 << 20])).unwrap();
    b.receive(a.transmit(0).unwrap(), 0).unwrap();
    assert!(b.held_bytes() > 0);
    assert_eq!(a.withdraw(id), End::NotSent);
    a.offer(durable("next")).unwrap();
    settle(&mut a, &mut b, 0);
    assert_eq!(
        requests(&mut b).iter().map(|r| r.body.clone()).collect::<Vec<_>>(),
        vec![Bytes::from("next")]
    );
    assert_eq!(b.held_bytes(), 0);
}

#[test]
fn silence_makes_a_peer_suspect_and_then_lost_and_ends_what_was_not_sent() {
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    events(&mut a);
    a.offer(call("sent", 9 * SECOND)).unwrap();
    let sent = a.offer(durable("sent")).unwrap();
    a.transmit(0).unwrap();
    a.tick(2 * SECOND);
    assert_eq!(events(&mut a), vec![LinkEvent::State(LinkState::Suspect)]);
    let waits = a.offer(call("waits", 9 * SECOND)).unwrap();
    a.tick(5 * SECOND);
    let expected = [
        LinkEvent::State(LinkState::Lost),
        LinkEvent::Ended(waits, End::NotSent),
        LinkEvent::Ended(sent, End::Lost),
    ];
    assert_eq!(events(&mut a), expected);
    assert_eq!(a.offer(call("late", 9 * SECOND)), Err(Refused::Unreachable));
}

#[test]
fn another_life_of_the_peer_ends_every_request_once() {
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    let sent = a.offer(call("sent", SECOND)).unwrap();
    a.transmit(0).unwrap();
    let waits = a.offer(call("waits", SECOND)).unwrap();
    events(&mut a);
    a.close();
    assert_eq!(
        events(&mut a),
        vec![LinkEvent::Ended(waits, End::NotSent), LinkEvent::Ended(sent, End::Lost)]
    );
    assert_eq!(a.held_bytes(), 0);
}

#[test]
fn a_quiet_link_says_one_packet_a_heartbeat() {
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    let mut said = 0;
    for now in (0..10 * SECOND).step_by(10_000) {
        while let Some(packet) = a.transmit(now) {
            said += 1;
            b.receive(packet, now).unwrap();
        }
        b.tick(now);
    }
    assert_eq!(said, 19);
    assert_eq!(b.state(), LinkState::Up);
}

#[test]
fn a_peer_that_breaks_the_rules_is_a_fault() {
    let head = Head { token: 1, ..Head::default() };
    let frame = |seq| Frame { seq, ..Frame::new(Kind::Cast, 1, Bytes::new()) };
    let (mut a, _) = pair();
    assert_eq!(a.receive(Packet { head, frames: vec![frame(1)] }, 0), Err(Fault::Greeting));
    let (mut a, mut b) = pair();
    settle(&mut a, &mut b, 0);
    assert_eq!(a.receive(Packet { head, frames: vec![frame(2)] }, 0), Err(Fault::Gap));
    assert_eq!(a.receive(Packet { head: Head { ack: 9, ..head }, frames: vec![] }, 0), Err(Fault::Ack));
    let huge = Frame { body: vec![0; 5 << 20].into(), ..frame(1) };
    assert_eq!(a.receive(Packet { head, frames: vec![huge] }, 0), Err(Fault::Credit));
    let piece = Frame { more: true, total: Some(1 << 40), ..frame(1) };
    assert_eq!(a.receive(Packet { head, frames: vec![piece] }, 0), Err(Fault::Size));
}

#[test]
fn limits_that_cannot_work_are_refused() {
    assert_eq!(LinkLimits::default().validate(), Ok(()));
    let small = LinkLimits { window_bytes: 1_000, ..LinkLimits::default() };
    assert!(small.validate().is_err());
    let deaf = LinkLimits { suspect_after: std::time::Duration::ZERO, ..LinkLimits::default() };
    assert!(deaf.validate().is_err());
}
