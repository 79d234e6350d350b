//! A peer in a process of its own that is stopped by the system, and goes on later.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use stanchion::{
    cluster::{CallEnd, GatewayOptions, LinkLimits, Outbound, PeerState},
    error::{Coded, Family},
};

use crate::kit::{Node, Seen, name, options, quick};

/// Set for the process that is stopped.
const CHILD: &str = "STANCHION_CLUSTER_CHILD";

fn limits() -> LinkLimits {
    LinkLimits { queue_max_bytes: 2 << 20, message_max_bytes: 1 << 20, ..quick() }
}

/// The other process; does nothing when it is run as a test. It tells on its output what it ran.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_is_stopped() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut node = Node::start(GatewayOptions { limits: limits(), ..options("b", 1) }).await;
    println!("\naddress {}", node.gateway.address().unwrap());
    while let Some(seen) = node.seen.recv().await {
        if let Seen::Call(_, body) = seen {
            println!("ran {}", String::from_utf8_lossy(&body[..4]));
        }
    }
}

/// The other process.
pub(crate) struct Stopped {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Stopped {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stopped::the_process_that_is_stopped", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.try_for_each(|line| told.send(line).ok())
        });
        Self { child, lines }
    }

    /// The rest of the next line that begins so.
    pub(crate) fn line(&self, start: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(crate::kit::PATIENCE).unwrap();
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_is_noticed_in_time_and_once_it_goes_on_nothing_too_late_runs() {
    let stopped = Stopped::start();
    let address = stopped.line("address ");
    let a = Node::start(GatewayOptions { limits: limits(), ..options("a", 1) }).await;
    a.gateway.dial(address);
    let b = name("b");
    a.sees(&b, PeerState::Up).await;
    assert!(a.call(&b, "echo", "before").await.is_ok());
    assert_eq!(stopped.line("ran "), "befo");

    stopped.signal(Signal::STOP);
    let began = Instant::now();
    let lost = async {
        a.sees(&b, PeerState::Lost).await;
        began.elapsed()
    };
    let load = async {
        let deadline = Duration::from_millis(200);
        let (mut ends, mut most) = (vec![], 0);
        while !ends.contains(&CallEnd::Unreachable) {
            let body = [b"late".as_slice(), &[0; 30_000]].concat();
            let calls = (0..40).map(|_| async {
                let asked = Instant::now();
                let end =
                    a.gateway.call(&b, Outbound::new("echo", body.clone()), deadline).await.unwrap_err();
                (end, asked.elapsed())
            });
            for (end, took) in join_all(calls).await {
                assert!(took < deadline + Duration::from_secs(1), "{end} after {took:?}");
                ends.push(end);
            }
            most = most.max(a.gateway.peers()[0].held_bytes);
        }
        (ends, most)
    };
    let (noticed, (ends, most)) = tokio::join!(lost, load);
    assert!(noticed < Duration::from_secs(3), "noticed after {noticed:?}");
    assert!(most <= 2 << 20, "{most} bytes were held");
    assert!(ends.contains(&CallEnd::Deadline), "nothing was under way");
    assert!(ends.iter().all(|end| matches!(end.family(), Family::Unavailable | Family::Unknown)));

    stopped.signal(Signal::CONT);
    a.sees(&b, PeerState::Up).await;
    assert!(a.call(&b, "echo", "after").await.is_ok());
    assert_eq!(stopped.line("ran "), "afte", "a call past its deadline ran");
    a.stop().await;
}
