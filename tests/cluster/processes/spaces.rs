//! Network namespaces: each process has an address of its own, and packets of the kernel's TCP are what is lost.
//!
//! A bridge in a namespace of its own joins them; nothing is changed in the machine's own network.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::plan::Split;

static MADE: AtomicU32 = AtomicU32::new(0);
/// Nobody has this address on the bridge: what is sent there is gone.
const NOBODY: &str = "02:00:00:00:00:fe";
pub(crate) const PORT: u16 = 7100;

/// Namespaces of processes, taken away at the end.
pub(crate) struct Spaces {
    prefix: String,
    count: usize,
}

fn ip(words: &str) -> Result<(), String> {
    run("ip", words)
}

fn run(program: &str, words: &str) -> Result<(), String> {
    let output = Command::new(program).args(words.split_whitespace()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(format!("{program} {words}: {said}"))
}

impl Spaces {
    /// One for each of `count` processes, or why this machine does not allow it.
    pub(crate) fn make(count: usize) -> Result<Self, String> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let spaces = Self { prefix: format!("st{}x{number}", std::process::id()), count };
        let hub = spaces.hub();
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add name hub0 type bridge"))?;
        ip(&format!("-n {hub} link set hub0 up"))?;
        for at in 0..count {
            let (space, port) = (spaces.name(at), format!("p{at}"));
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {hub} link add {port} type veth peer name eth0 netns {space}"))?;
            ip(&format!("-n {hub} link set {port} master hub0 up"))?;
            ip(&format!("-n {space} addr add {}/24 dev eth0", spaces.host(at)))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
        }
        Ok(spaces)
    }

    fn hub(&self) -> String {
        format!("{}hub", self.prefix)
    }

    fn name(&self, at: usize) -> String {
        format!("{}n{at}", self.prefix)
    }

    fn host(&self, at: usize) -> String {
        format!("10.77.0.{}", at + 1)
    }

    pub(crate) fn address(&self, at: usize) -> String {
        format!("{}:{PORT}", self.host(at))
    }

    /// Runs `program` in the namespace of a process: the same process, so signals reach it.
    pub(crate) fn command(&self, at: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(at)]).arg(program);
        command
    }

    /// Packets from one to another are lost from now on, or no longer.
    fn lose(&self, from: usize, to: usize, lost: bool) {
        let (space, host) = (self.name(from), self.host(to));
        let changed = if lost {
            ip(&format!("-n {space} neigh replace {host} lladdr {NOBODY} dev eth0 nud permanent"))
        } else {
            // Another event may have healed it.
            ip(&format!("-n {space} neigh del {host} dev eth0")).or(Ok(()))
        };
        changed.unwrap();
    }

    fn plug(&self, at: usize, how: &str) {
        ip(&format!("-n {} link set p{at} {how}", self.hub())).unwrap();
    }

    /// Narrows everything that a process sends, or no longer.
    fn narrow(&self, at: usize, narrow: bool) {
        let space = self.name(at);
        let words = if narrow { "replace" } else { "del" };
        let rate = if narrow { "tbf rate 400kbit burst 4k latency 300ms" } else { "" };
        let changed = run("ip", &format!("netns exec {space} tc qdisc {words} dev eth0 root {rate}"));
        assert!(changed.is_ok() || !narrow, "{changed:?}");
    }

    /// Cuts two off from each other for a while.
    pub(crate) async fn split(&self, (one, other): (usize, usize), how: Split, lasts: Duration) {
        match how {
            // Without a packet filter nobody can break a connection from outside: they are silent, too.
            Split::Silent | Split::Lost | Split::Refused => {
                self.lose(one, other, true);
                self.lose(other, one, true);
            }
            Split::OneWay => self.lose(one, other, true),
            Split::Slow => self.narrow(one, true),
            Split::Reconnect => {
                for _ in 0..5 {
                    self.plug(one, "down");
                    tokio::time::sleep(lasts / 10).await;
                    self.plug(one, "up");
                    tokio::time::sleep(lasts / 10).await;
                }
                return;
            }
        }
        tokio::time::sleep(lasts).await;
        match how {
            Split::Slow => self.narrow(one, false),
            _ => {
                self.lose(one, other, false);
                self.lose(other, one, false);
            }
        }
    }

    /// Unplugs one from everybody for a while.
    pub(crate) async fn island(&self, node: usize, lasts: Duration) {
        self.plug(node, "down");
        tokio::time::sleep(lasts).await;
        self.plug(node, "up");
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in (0..self.count).map(|at| self.name(at)).chain([self.hub()]) {
            // One that was never made is not there.
            let _deleted = ip(&format!("netns del {name}"));
        }
    }
}
