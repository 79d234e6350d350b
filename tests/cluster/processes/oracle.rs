//! What must hold at rest, by what clients were told and what the nodes have.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stanchion::System;

use super::{
    agents::{Account, Move, Say, Sink, sink_of},
    clients::{ACCOUNTS, Answer, Line, Made, account, at},
    fleet::name_of,
};

/// An answer may come this much after its deadline: the machine is shared.
const GRACE_MS: u64 = 2_000;

/// Kinds of faults; none may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An acknowledged effect, or a message, is not there.
    Lost,
    /// An effect is there twice, or one that nobody asked for.
    Twice,
    /// Messages of one sender came in another order, or not all; or commands that one client had stored.
    Order,
    /// A call had no answer at its deadline.
    Unanswered,
    /// What was answered as not applied is applied.
    Applied,
    /// Money came from nowhere, or went there.
    Sum,
}

pub(crate) type Fault = (Kind, String);

/// What the nodes have.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct States {
    /// By node and key.
    #[serde(with = "pairs")]
    pub(crate) accounts: BTreeMap<(String, String), Account>,
    /// By node.
    pub(crate) sinks: BTreeMap<String, Sink>,
}

/// A map whose keys are no texts.
mod pairs {
    use super::*;

    type Accounts = BTreeMap<(String, String), Account>;

    pub(super) fn serialize<S: serde::Serializer>(map: &Accounts, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Accounts, D::Error> {
        Vec::deserialize(from).map(|pairs: Vec<((String, String), Account)>| pairs.into_iter().collect())
    }
}

impl States {
    /// Asks every entity of so many nodes, from wherever `system` is.
    pub(crate) async fn look(system: &System, nodes: usize) -> Result<Self, String> {
        let mut states = Self::default();
        for node in (0..nodes).map(name_of) {
            for key in (0..ACCOUNTS).map(account) {
                let seen = at::<Account>(system, &node, &key).call(Move::Look).await;
                let seen = seen.map_err(|error| format!("{key} of {node}: {error}"))?;
                states.accounts.insert((node.clone(), key), seen.unwrap());
            }
            let seen = at::<Sink>(system, &node, &sink_of(&node)).call(Say::Look).await;
            let seen = seen.map_err(|error| format!("sink of {node}: {error}"))?;
            states.sinks.insert(node, seen.unwrap());
        }
        Ok(states)
    }

    /// What is still under way: nothing, when all has come to rest.
    pub(crate) fn under_way(&self, lines: &[Line]) -> Vec<String> {
        let ended: BTreeSet<u64> = self
            .accounts
            .values()
            .flat_map(|account| account.credits.iter().chain(&account.returned).map(|(id, _)| *id))
            .collect();
        let debits =
            self.accounts.iter().flat_map(|(at, account)| account.debits.iter().map(move |d| (at, d)));
        let open = debits.filter(|(_, (id, _))| !ended.contains(id));
        let mut found: Vec<String> = open.map(|(at, debit)| format!("{debit:?} of {at:?}")).collect();
        for (from, to, sent, got) in self.pairs().filter(|(.., sent, got)| sent > got) {
            found.push(format!("{from} sent {sent} to {to}, which has {got}"));
        }
        let stored = lines.iter().filter(|line| line.made == Made::Enqueue && line.answer == Answer::Done);
        found.extend(stored.filter(|line| self.times(line) == 0).map(|line| format!("stored: {line:?}")));
        found
    }

    /// Sender, receiver, the last number sent and the last one that came.
    fn pairs(&self) -> impl Iterator<Item = (&String, &String, u64, u64)> {
        self.sinks.iter().flat_map(move |(from, sender)| {
            let others = self.sinks.iter().filter(move |(to, _)| *to != from);
            others.map(move |(to, sink)| {
                (from, to, sender.sent, sink.got.get(&sink_of(from)).copied().unwrap_or(0))
            })
        })
    }

    fn times(&self, line: &Line) -> usize {
        let account = self.accounts.get(&(line.node.clone(), line.key.clone()));
        let count = |ids: &mut dyn Iterator<Item = u64>| ids.filter(|id| *id == line.id).count();
        match (line.made, account) {
            (Made::Add | Made::Enqueue | Made::Cast, Some(account)) => {
                count(&mut account.added.iter().copied())
            }
            (Made::Send, Some(account)) => count(&mut account.debits.iter().map(|(id, _)| *id)),
            (Made::Emit, _) => {
                self.sinks.get(&line.node).map_or(0, |sink| count(&mut sink.emitted.iter().copied()))
            }
            (_, None) => 0,
        }
    }

    /// Every fault, at rest.
    pub(crate) fn faults(&self, lines: &[Line]) -> Vec<Fault> {
        let mut faults: Vec<Fault> = lines.iter().flat_map(|line| self.faults_of(line)).collect();
        self.transfers(&mut faults);
        self.unasked(lines, &mut faults);
        self.overtaken(lines, &mut faults);
        for (node, sink) in &self.sinks {
            for (from, came, expected) in &sink.wrong {
                faults.push((Kind::Order, format!("{node} got {came} instead of {expected} from {from}")));
            }
        }
        for (from, to, sent, got) in self.pairs().filter(|(.., sent, got)| sent != got) {
            let kind = if sent > got { Kind::Lost } else { Kind::Twice };
            faults.push((kind, format!("{from} sent {sent} to {to}, which has {got}")));
        }
        let sum: i64 = self.accounts.values().map(|account| account.change).sum();
        if sum != 0 {
            faults.push((Kind::Sum, format!("all accounts together changed by {sum}")));
        }
        faults
    }

    fn faults_of(&self, line: &Line) -> Vec<Fault> {
        let mut faults = Vec::new();
        let times = self.times(line);
        if times > 1 {
            faults.push((Kind::Twice, format!("{times} times: {line:?}")));
        }
        match line.answer {
            Answer::Done if times == 0 => faults.push((Kind::Lost, format!("{line:?}"))),
            Answer::Refused | Answer::Unavailable if times > 0 => {
                faults.push((Kind::Applied, format!("{line:?}")));
            }
            _ => {}
        }
        if line.took_ms > line.deadline_ms + GRACE_MS {
            faults.push((Kind::Unanswered, format!("{line:?}")));
        }
        faults
    }

    /// Effects that nobody asked for.
    fn unasked(&self, lines: &[Line], faults: &mut Vec<Fault>) {
        let asked: BTreeSet<u64> = lines.iter().map(|line| line.id).collect();
        let of_accounts = self.accounts.values().flat_map(|account| {
            account.added.iter().copied().chain(account.debits.iter().map(|(id, _)| *id))
        });
        let there = of_accounts.chain(self.sinks.values().flat_map(|sink| sink.emitted.iter().copied()));
        for id in there.filter(|id| !asked.contains(id)) {
            faults.push((Kind::Twice, format!("nobody asked for {id}")));
        }
    }

    /// What one client has stored for one account, each after the other was acknowledged, is done in that order.
    fn overtaken(&self, lines: &[Line], faults: &mut Vec<Fault>) {
        let stored = lines
            .iter()
            .filter(|line| line.made == Made::Enqueue && line.answer == Answer::Done && !line.again);
        let clients: BTreeMap<u64, (usize, u64)> =
            stored.map(|line| (line.id, (line.life(), line.client))).collect();
        for (at, account) in &self.accounts {
            let mut last: BTreeMap<(usize, u64), u64> = BTreeMap::new();
            for id in &account.added {
                let Some(client) = clients.get(id) else { continue };
                let before = last.insert(*client, *id).unwrap_or(0);
                if before > *id {
                    faults.push((Kind::Order, format!("{at:?} did {before} before {id}, stored earlier")));
                }
            }
        }
    }

    /// Every debit is one credit, or came back once.
    fn transfers(&self, faults: &mut Vec<Fault>) {
        let mut ends: BTreeMap<(u64, i64), (usize, usize)> = BTreeMap::new();
        for account in self.accounts.values() {
            for debit in &account.debits {
                ends.entry(*debit).or_default().0 += 1;
            }
            for end in account.credits.iter().chain(&account.returned) {
                ends.entry(*end).or_default().1 += 1;
            }
        }
        for (transfer, (debits, ended)) in ends.into_iter().filter(|(_, (debits, ended))| debits != ended) {
            let kind = if debits > ended { Kind::Lost } else { Kind::Twice };
            faults.push((kind, format!("transfer {transfer:?}: {debits} debits, {ended} ends")));
        }
    }
}

/// A line of a test.
pub(crate) fn line_of(id: u64) -> Line {
    Line {
        id,
        client: 0,
        made: Made::Add,
        node: "n0".into(),
        key: "a0".into(),
        answer: Answer::Done,
        again: false,
        began_ms: 0,
        took_ms: 10,
        deadline_ms: 1_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster at rest, and what its clients were told.
    fn sound() -> (States, Vec<Line>) {
        let mut states = States::default();
        let sends =
            Account { change: -5, added: vec![1, 7, 8], debits: vec![(2, 5), (3, 7)], ..Account::default() };
        let sends = Account { returned: vec![(3, 7)], ..sends };
        let takes = Account { change: 5, credits: vec![(2, 5)], ..Account::default() };
        states.accounts.insert(("n0".into(), "a0".into()), sends);
        states.accounts.insert(("n1".into(), "a0".into()), takes);
        let emits = Sink { sent: 9, emitted: vec![4], ..Sink::default() };
        let got = Sink { got: [(sink_of("n0"), 9)].into(), ..Sink::default() };
        states.sinks.insert("n0".into(), emits);
        states.sinks.insert("n1".into(), got);
        let line = |id, made, key: &str, answer| Line { made, key: key.into(), answer, ..line_of(id) };
        let lines = vec![
            line(1, Made::Add, "a0", Answer::Done),
            line(2, Made::Send, "a0", Answer::Done),
            line(3, Made::Send, "a0", Answer::Unknown),
            line(4, Made::Emit, &sink_of("n0"), Answer::Done),
            line(5, Made::Add, "a0", Answer::Unavailable),
            line(6, Made::Send, "a0", Answer::Refused),
            line(7, Made::Enqueue, "a0", Answer::Done),
            line(8, Made::Enqueue, "a0", Answer::Done),
            line(9, Made::Cast, "a0", Answer::Unknown),
            line(10, Made::Cast, "a0", Answer::Unavailable),
        ];
        (states, lines)
    }

    fn kinds(change: impl FnOnce(&mut States, &mut Vec<Line>)) -> BTreeSet<Kind> {
        let (mut states, mut lines) = sound();
        change(&mut states, &mut lines);
        states.faults(&lines).into_iter().map(|(kind, _)| kind).collect()
    }

    fn n0(states: &mut States) -> &mut Account {
        states.accounts.get_mut(&("n0".to_owned(), "a0".to_owned())).unwrap()
    }

    #[test]
    fn a_sound_history_has_no_fault() {
        assert_eq!(kinds(|_, _| {}), [].into());
        assert_eq!(sound().0.under_way(&sound().1), Vec::<String>::new());
    }

    #[test]
    fn every_planted_fault_is_found() {
        // Negative controls: one for each kind, each found as what it is.
        assert_eq!(kinds(|states, _| n0(states).added.clear()), [Kind::Lost].into());
        assert_eq!(kinds(|states, _| n0(states).added.push(1)), [Kind::Twice].into());
        assert_eq!(kinds(|states, _| n0(states).added.push(5)), [Kind::Applied].into());
        assert_eq!(kinds(|_, lines| lines[4].took_ms = 9_000), [Kind::Unanswered].into());
        let killed = kinds(|_, lines| {
            lines[2].answer = Answer::None;
            lines[2].took_ms = 9_000;
        });
        assert_eq!(killed, [Kind::Unanswered].into(), "its client lived long after the deadline");
        assert_eq!(kinds(|states, _| n0(states).added.retain(|id| *id != 7)), [Kind::Lost].into(), "stored");
        assert_eq!(kinds(|states, _| n0(states).added.swap(1, 2)), [Kind::Order].into(), "stored");
        assert_eq!(kinds(|states, _| n0(states).added.extend([9, 9])), [Kind::Twice].into(), "cast");
        assert_eq!(kinds(|states, _| n0(states).added.push(10)), [Kind::Applied].into(), "cast");
        assert_eq!(kinds(|states, _| n0(states).added.push(99)), [Kind::Twice].into(), "nobody asked");
        let lost = kinds(|states, _| n0(states).returned.clear());
        assert_eq!(lost, [Kind::Lost].into());
        let both = kinds(|states, _| {
            let takes = states.accounts.get_mut(&("n1".to_owned(), "a0".to_owned())).unwrap();
            takes.credits.push((3, 7));
            takes.change += 7;
        });
        assert_eq!(both, [Kind::Twice, Kind::Sum].into(), "given back and credited");
        assert_eq!(kinds(|states, _| n0(states).change += 1), [Kind::Sum].into());
        let sink = |change: fn(&mut Sink)| kinds(|states, _| change(states.sinks.get_mut("n1").unwrap()));
        assert_eq!(sink(|sink| sink.wrong.push((sink_of("n0"), 4, 3))), [Kind::Order].into(), "a gap");
        assert_eq!(sink(|sink| sink.wrong.push((sink_of("n0"), 3, 4))), [Kind::Order].into(), "again");
        assert_eq!(sink(|sink| assert!(sink.got.insert(sink_of("n0"), 8).is_some())), [Kind::Lost].into());
        assert_eq!(sink(|sink| assert!(sink.got.insert(sink_of("n0"), 10).is_some())), [Kind::Twice].into());
    }

    #[test]
    fn what_is_under_way_is_not_at_rest() {
        let (mut states, lines) = sound();
        n0(&mut states).returned.clear();
        n0(&mut states).added.pop();
        states.sinks.get_mut("n1").unwrap().got.clear();
        assert_eq!(states.under_way(&lines).len(), 3);
    }
}
