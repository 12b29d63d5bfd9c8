//! From the entries of a journal to lines that people read: what began and what ended are one line.

use std::collections::HashMap;

use super::{Line, Progress, What, shown};
use crate::{
    durable::entry::{Entry, Outcome},
    error::Error,
};

/// What a journal says.
#[derive(Default)]
pub(super) struct Read {
    pub(super) build: Option<String>,
    pub(super) began: Option<i64>,
    pub(super) lines: Vec<Line>,
    /// The line of each operation.
    ops: HashMap<u32, usize>,
    /// The time of the last entry that has one.
    last: Option<i64>,
    undoes: bool,
}

/// Reads a journal.
pub(super) fn read(entries: &[Vec<u8>]) -> Read {
    let mut read = Read::default();
    for bytes in entries {
        match Entry::decode(bytes) {
            Ok(entry) => read.take(entry),
            Err(error) => {
                let at = read.last.unwrap_or(0);
                let line = read.line(None, What::Unreadable, String::new(), read.last);
                line.status = Progress::Failed;
                line.failure = Some(error.failure(0, at));
            }
        }
    }
    // What began first comes first, though a step is only written when it ends.
    read.lines.sort_by_key(|line| line.began_at);
    read
}

impl Read {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Began { build, at, .. } => {
                (self.build, self.began) = (Some(build), Some(at));
                self.last = Some(at);
            }
            Entry::Value { op, name, value } => {
                let value = shown(&value);
                let line = self.line(Some(op), What::Value, name, self.last);
                (line.status, line.result) = (Progress::Done, Some(value));
            }
            Entry::Changed { name } => {
                self.line(None, What::Version, name, self.last).status = Progress::Done;
            }
            Entry::Slept { op, until, at } => {
                self.line(Some(op), What::Sleep, String::new(), Some(at)).until = Some(until);
            }
            Entry::Called { op, to, until, at } => {
                self.line(Some(op), What::Ask, to.to_string(), Some(at)).until = until;
            }
            Entry::Listened { op, name, until, at } => {
                self.line(Some(op), What::Signal, name, Some(at)).until = until;
            }
            Entry::Retried { op, name, attempt, failure, until } => {
                let at = Some(failure.at);
                let line = self.begun(op, What::Step, name, at);
                (line.status, line.attempts, line.until) = (Progress::Retrying, Some(attempt), Some(until));
                line.failure = Some(failure);
            }
            Entry::Ran { op, name, outcome, attempts, began, at } => {
                let line = self.begun(op, What::Step, name, Some(began));
                (line.attempts, line.until, line.failure) = (Some(attempts), None, None);
                line.began_at = line.began_at.min(Some(began));
                line.end(outcome, at);
                self.last = Some(at);
            }
            Entry::Answered { op, outcome, from, at } => {
                let line = self.begun(op, What::Ask, String::new(), Some(at));
                line.answered = Some(from);
                line.end(outcome, at);
                self.last = Some(at);
            }
            Entry::Woke { op, at } => {
                self.begun(op, What::Sleep, String::new(), Some(at)).over(Progress::Done, at);
                self.last = Some(at);
            }
            Entry::Expired { op, at } => {
                let line = self.begun(op, What::Signal, String::new(), Some(at));
                line.failure = Some(Error::terminal("it did not come in time").code("deadline").failure(1, at));
                line.over(Progress::Failed, at);
                self.last = Some(at);
            }
            Entry::Signalled { name, value, at } => self.signalled(name, shown(&value), at),
            Entry::Cancelled { at } => {
                self.line(None, What::Cancel, String::new(), Some(at)).status = Progress::Done;
            }
            Entry::Undoing { failure, at } => {
                let line = self.line(None, What::Undo, String::new(), Some(at));
                (line.status, line.failure) = (Progress::Done, Some(failure));
                self.undoes = true;
            }
            Entry::Snapshot(_) => {}
        }
    }

    /// The first that waits for it gets it; one that comes before is a line of its own.
    fn signalled(&mut self, name: String, value: serde_json::Value, at: i64) {
        let waits = |line: &Line| line.kind == What::Signal && line.name == name && line.status == Progress::Waiting;
        let line = match self.lines.iter().position(waits) {
            Some(index) => &mut self.lines[index],
            None => self.line(None, What::Signal, name, Some(at)),
        };
        line.result = Some(value);
        line.over(Progress::Done, at);
        self.last = Some(at);
    }

    /// The line of an operation, which may have begun before.
    fn begun(&mut self, op: u32, kind: What, name: String, began: Option<i64>) -> &mut Line {
        match self.ops.get(&op) {
            Some(index) => &mut self.lines[*index],
            None => self.line(Some(op), kind, name, began),
        }
    }

    fn line(&mut self, op: Option<u32>, kind: What, name: String, began_at: Option<i64>) -> &mut Line {
        let index = self.lines.len();
        if let Some(op) = op {
            self.ops.insert(op, index);
        }
        self.last = began_at.or(self.last);
        self.lines.push(Line {
            kind,
            name,
            status: Progress::Waiting,
            began_at,
            ended_at: None,
            ms: None,
            until: None,
            attempts: None,
            result: None,
            failure: None,
            undoes: self.undoes,
            from: None,
            calls: None,
            answered: None,
        });
        &mut self.lines[index]
    }
}

impl Line {
    fn end(&mut self, outcome: Outcome, at: i64) {
        match outcome {
            Outcome::Ok(value) => {
                self.result = Some(shown(&value));
                self.over(Progress::Done, at);
            }
            Outcome::Err(failure) => {
                self.failure = Some(failure);
                self.over(Progress::Failed, at);
            }
        }
    }

    fn over(&mut self, status: Progress, at: i64) {
        (self.status, self.ended_at) = (status, Some(at));
        self.ms = self.began_at.map(|began| (at - began).max(0));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;
    use crate::{Secret, envelope::Position};

    fn raw(value: impl serde::Serialize) -> Box<serde_json::value::RawValue> {
        to_raw_value(&value).unwrap()
    }

    fn told(entries: &[Entry]) -> Vec<Line> {
        read(&entries.iter().map(Entry::encode).collect::<Vec<_>>()).lines
    }

    #[test]
    fn what_began_and_what_ended_are_one_line_in_the_order_of_beginning() {
        let failure = Error::new("busy").code("busy").failure(1, 20);
        let lines = told(&[
            Entry::Began { key: "k".into(), build: "1.2".into(), at: 10 },
            Entry::Called { op: 0, to: "risk/7".parse().unwrap(), until: None, at: 10 },
            Entry::Retried { op: 1, name: "charge".into(), attempt: 1, failure, until: 30 },
            Entry::Answered { op: 0, outcome: Outcome::Ok(raw(3)), from: Position::new(1, 2), at: 40 },
            Entry::Ran {
                op: 1,
                name: "charge".into(),
                outcome: Outcome::Ok(raw(json!({ "card": Secret::new("4242") }))),
                attempts: 2,
                began: 12,
                at: 50,
            },
            Entry::Slept { op: 2, until: 90, at: 50 },
        ]);
        let kinds: Vec<_> = lines.iter().map(|line| (line.kind, line.status, line.ms)).collect();
        assert_eq!(
            kinds,
            [
                (What::Ask, Progress::Done, Some(30)),
                (What::Step, Progress::Done, Some(38)),
                (What::Sleep, Progress::Waiting, None),
            ]
        );
        assert_eq!(lines[1].result, Some(json!({ "card": "[redacted]" })));
        assert_eq!((lines[1].attempts, lines[1].until, lines[2].until), (Some(2), None, Some(90)));
    }

    #[test]
    fn a_signal_goes_to_the_first_that_waits_for_it_or_waits_itself() {
        let came = |name: &str, value: u8, at| Entry::Signalled { name: name.into(), value: raw(value), at };
        let listened = |op, at| Entry::Listened { op, name: "go".into(), until: Some(9), at };
        let lines = told(&[came("early", 1, 1), listened(0, 2), listened(1, 3), came("go", 2, 4)]);
        let lines: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.status)).collect();
        assert_eq!(lines, [("early", Progress::Done), ("go", Progress::Done), ("go", Progress::Waiting)]);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_rest_is_told() {
        let read = read(&[b"{}".to_vec(), Entry::Cancelled { at: 3 }.encode()]);
        let kinds: Vec<What> = read.lines.iter().map(|line| line.kind).collect();
        assert_eq!(kinds, [What::Unreadable, What::Cancel]);
    }
}
