//! Answers of a server that writes whatever comes: each is read or refused, within its limits.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
};

use proptest::prelude::*;
use stanchion::{
    adapter::{Bounded, CallCtx},
    clock::SystemClock,
    connect::http::{Http, HttpAdapter, HttpRequest, UpstreamOptions},
    task::TaskScope,
};
use stanchion_actors::testing::bytes::{cases, damaged};

const REPLIES: [&str; 4] = [
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\": 1}\n",
    "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n3;ext=1\r\nbit\r\n0\r\nTrailer: x\r\n\r\n",
    "HTTP/1.1 429 Slow\r\nRetry-After: Fri, 07 Nov 2025 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 302 Found\r\nLocation: /b/../c?d=%20#e\r\nContent-Length: 0\r\n\r\n",
];
const BODY_MAX_BYTES: u64 = 4_096;

/// Answers every request by what `reply` holds, and closes.
fn serve(listener: &TcpListener, reply: &Mutex<Vec<u8>>) {
    while let Ok((mut stream, _)) = listener.accept() {
        let (mut head, mut block) = (Vec::new(), [0; 1_024]);
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut block) {
                Ok(1..) => head.extend(block.iter().copied().take_while(|byte| *byte != 0)),
                _ => break,
            }
            block = [0; 1_024];
        }
        // The other side may have gone.
        let _ = stream.write_all(&reply.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[test]
fn any_bytes_are_an_answer_or_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let reply = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&reply);
    std::thread::spawn(move || serve(&listener, &shared));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let root = TaskScope::root("test");
    let http = Http::new(&root);
    let options = UpstreamOptions { body_max_bytes: BODY_MAX_BYTES, ..UpstreamOptions::of(url) };
    let upstream = runtime.block_on(async { http.register("a", &options).unwrap() });
    let clock = Arc::new(SystemClock);
    let adapter = Bounded::new(HttpAdapter::new(upstream, clock.clone()), clock).unwrap();
    let ask = |bytes: Vec<u8>| {
        *reply.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        runtime.block_on(async {
            let called = adapter.call(HttpRequest::get("x"), &CallCtx::default()).await;
            let _ = adapter.verdict(&called);
            called.map(|answer| answer.body.len() as u64)
        })
    };
    assert_eq!(ask(REPLIES[0].into()).unwrap(), 9);
    assert_eq!(ask(REPLIES[1].into()).unwrap(), 7);
    let config = ProptestConfig { cases: cases(100), failure_persistence: None, ..ProptestConfig::default() };
    let drawn = (proptest::collection::vec(any::<u8>(), 0..300), any::<u64>(), 0..REPLIES.len());
    let ran = proptest::test_runner::TestRunner::new(config).run(&drawn, |(bytes, seed, which)| {
        for bytes in [bytes, damaged(REPLIES[which].as_bytes(), seed)] {
            prop_assert!(ask(bytes).unwrap_or(0) <= BODY_MAX_BYTES);
        }
        Ok(())
    });
    ran.unwrap();
}
