//! What a client asked for and what it was told, on disk before it goes on: it may be killed at any time.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Mutex,
};

use super::clients::{Answer, Line};

/// The file of a client's process, shared by its clients.
pub(crate) struct Journal(Mutex<File>);

impl Journal {
    pub(crate) fn open(path: &Path) -> Self {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        // The last life may have ended in the middle of a line.
        file.write_all(b"\n").unwrap();
        Self(Mutex::new(file))
    }

    /// Before a call: without this line nobody would know of it when the process is killed.
    pub(crate) fn asks(&self, line: &Line) {
        self.write(line);
    }

    /// After its answer: on disk when this returns.
    pub(crate) fn told(&self, line: &Line) {
        self.write(line).sync_data().unwrap();
    }

    fn write(&self, line: &Line) -> File {
        let text = format!("{}\n", serde_json::to_string(line).unwrap());
        let mut file = self.0.lock().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.try_clone().unwrap()
    }
}

/// The last line of each command. One without an answer is in doubt, and took until `ended_ms` of its client's life.
pub(crate) fn read(text: &str, ended_ms: &[u64]) -> Vec<Line> {
    let mut lines: BTreeMap<u64, Line> = BTreeMap::new();
    // A torn line is of a client that was killed while it wrote.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        lines.insert(line.id, line);
    }
    for line in lines.values_mut().filter(|line| line.answer == Answer::None) {
        let ended = ended_ms.get(line.life()).copied().unwrap_or_else(super::child::now_ms);
        line.took_ms = ended.saturating_sub(line.began_ms);
    }
    lines.into_values().collect()
}

#[test]
fn the_journal_keeps_the_last_word_of_each_command_and_says_how_long_it_waits_for_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = Journal::open(&path);
    let line = super::clients::Line { began_ms: 100, ..super::oracle::line_of(2_000_001) };
    journal.asks(&Line { answer: Answer::None, ..line.clone() });
    journal.asks(&Line { id: 2_000_002, answer: Answer::None, ..line.clone() });
    journal.told(&line);
    let text = std::fs::read_to_string(&path).unwrap() + "{\"id\":3";
    let read = read(&text, &[0, 0, 900]);
    assert_eq!(read.len(), 2);
    assert_eq!(read[0], line);
    assert_eq!((read[1].answer, read[1].took_ms), (Answer::None, 800));
}
