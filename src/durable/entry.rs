//! What a journal holds: everything a command did or met that must be the same when it is run again.
//! Stored as JSON, one entry each, so its field names are an interface with the past.
//!
//! Invariant: the order of entries is the order in which the handler got to know of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    address::Address,
    envelope::Position,
    error::{Error, Failure, Result},
};

/// How a step or a call ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Ok(Box<RawValue>),
    Err(Failure),
}

/// One entry. `op` numbers what the handler does, from 0, in the order in which it begins it; times
/// are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The first write; what the idempotency keys of its steps begin with, and which build it was.
    Began { key: String, build: String, at: i64 },
    /// A time, a random number or an id that was asked for.
    Value { op: u32, name: String, value: Box<RawValue> },
    /// The handler went the new way at this change.
    Changed { name: String },
    /// A sleep has begun.
    Slept { op: u32, until: i64, at: i64 },
    /// Another actor was asked.
    Called {
        op: u32,
        to: Address,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<i64>,
        at: i64,
    },
    /// The handler began to wait for a signal.
    Listened { op: u32, name: String, until: Option<i64>, at: i64 },
    /// A step failed and will be called again.
    Retried { op: u32, name: String, attempt: u32, failure: Failure, until: i64 },
    /// A step ended.
    Ran { op: u32, name: String, outcome: Outcome, attempts: u32, began: i64, at: i64 },
    /// A sleep ended.
    Woke { op: u32, at: i64 },
    /// An answer came, of this message.
    Answered { op: u32, outcome: Outcome, from: Position, at: i64 },
    /// A signal came.
    Signalled { name: String, value: Box<RawValue>, at: i64 },
    /// No signal came in time.
    Expired { op: u32, at: i64 },
    /// Somebody wants the command to end.
    Cancelled { at: i64 },
    /// The command failed; what it registered is being undone.
    Undoing { failure: Failure, at: i64 },
    /// The state that a shared command began with, as a BSON document.
    #[serde(skip)]
    Snapshot(Arc<[u8]>),
}

/// What a snapshot begins with; no JSON does.
const SNAPSHOT: u8 = 0;

impl Entry {
    /// The stored bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Entry::Snapshot(doc) => [&[SNAPSHOT], &**doc].concat(),
            // Strings, numbers and JSON that was parsed before always serialise.
            entry => serde_json::to_vec(entry).unwrap_or_default(),
        }
    }

    /// Reads stored bytes. Terminal error when they are no entry.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&SNAPSHOT, doc)) => Ok(Entry::Snapshot(doc.into())),
            _ => serde_json::from_slice(bytes).map_err(|e| {
                Error::from(e).into_terminal().code("journal_unreadable").context("an entry of the journal is none")
            }),
        }
    }

    /// What was begun: its number, what it is, and its name.
    pub(crate) fn begins(&self) -> Option<(u32, &'static str, String)> {
        Some(match self {
            Entry::Value { op, name, .. } => (*op, "value", name.clone()),
            Entry::Slept { op, .. } => (*op, "sleep", String::new()),
            Entry::Called { op, to, .. } => (*op, "ask", to.to_string()),
            Entry::Listened { op, name, .. } => (*op, "signal", name.clone()),
            Entry::Retried { op, name, .. } | Entry::Ran { op, name, .. } => (*op, "run", name.clone()),
            _ => return None,
        })
    }

    /// The number of what ended, if this ends something.
    pub(crate) fn ends(&self) -> Option<u32> {
        match self {
            Entry::Ran { op, .. } | Entry::Woke { op, .. } | Entry::Answered { op, .. } | Entry::Expired { op, .. } => {
                Some(*op)
            }
            _ => None,
        }
    }

    /// Whether the handler gets to know of it.
    pub(crate) fn tells(&self) -> bool {
        self.ends().is_some() || matches!(self, Entry::Signalled { .. } | Entry::Cancelled { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_never_change() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let failure = Error::terminal("no").code("declined").failure(1, 9);
        let entries = [
            Entry::Began { key: "k".into(), build: "1".into(), at: 1 },
            Entry::Value { op: 0, name: "now".into(), value: raw("7") },
            Entry::Changed { name: "v2".into() },
            Entry::Slept { op: 1, until: 5, at: 1 },
            Entry::Called { op: 2, to: "stock/7".parse().unwrap(), until: None, at: 1 },
            Entry::Listened { op: 3, name: "go".into(), until: None, at: 1 },
            Entry::Ran { op: 4, name: "charge".into(), outcome: Outcome::Ok(raw("{}")), attempts: 1, began: 1, at: 2 },
            Entry::Answered { op: 2, outcome: Outcome::Err(failure), from: Position::new(0, 3), at: 2 },
            Entry::Signalled { name: "go".into(), value: raw("true"), at: 3 },
            Entry::Cancelled { at: 4 },
        ];
        let text: Vec<String> = entries.iter().map(|e| String::from_utf8(e.encode()).unwrap()).collect();
        assert_eq!(
            text,
            [
                r#"{"Began":{"key":"k","build":"1","at":1}}"#,
                r#"{"Value":{"op":0,"name":"now","value":7}}"#,
                r#"{"Changed":{"name":"v2"}}"#,
                r#"{"Slept":{"op":1,"until":5,"at":1}}"#,
                r#"{"Called":{"op":2,"to":{"kind":"stock","key":"7"},"at":1}}"#,
                r#"{"Listened":{"op":3,"name":"go","until":null,"at":1}}"#,
                r#"{"Ran":{"op":4,"name":"charge","outcome":{"Ok":{}},"attempts":1,"began":1,"at":2}}"#,
                r#"{"Answered":{"op":2,"outcome":{"Err":{"code":"declined","message":"no","terminal":true,"attempt":1,"at":9}},"from":3,"at":2}}"#,
                r#"{"Signalled":{"name":"go","value":true,"at":3}}"#,
                r#"{"Cancelled":{"at":4}}"#,
            ]
        );
        for (entry, text) in entries.iter().zip(text) {
            assert_eq!(Entry::decode(text.as_bytes()).unwrap().encode(), entry.encode());
        }
        let snapshot = Entry::Snapshot(vec![1, 2].into());
        assert!(matches!(Entry::decode(&snapshot.encode()).unwrap(), Entry::Snapshot(doc) if *doc == [1, 2]));
        assert!(Entry::decode(b"{}").unwrap_err().has_code("journal_unreadable"));
    }
}
