//! What a request changes of its session's data, so that it can be done again on data that another
//! request has changed meanwhile.
//! Invariant: a change is never made on a value that its request has not seen.

use std::{collections::BTreeSet, rc::Rc};

use serde_json::{Map, Value};

use crate::error::Result;

/// The data of a session.
pub(super) type Data = Map<String, Value>;

/// Makes a value of the one that is there.
pub(super) type Make = Rc<dyn Fn(Option<&Value>) -> Result<Value>>;

/// What becomes of one value.
#[derive(Clone)]
pub(super) enum Change {
    Set(Value),
    Remove,
    /// Made of the value that is there.
    Update(Make),
}

/// What a request changes, in order, and what it has read.
#[derive(Clone, Default)]
pub(super) struct Changes {
    made: Vec<(String, Change)>,
    read: BTreeSet<String>,
}

impl Changes {
    pub(super) fn reads(&mut self, key: &str) {
        if !self.read.contains(key) {
            self.read.insert(key.to_owned());
        }
    }

    pub(super) fn make(&mut self, key: &str, change: Change) {
        if !matches!(change, Change::Update(_)) {
            self.made.retain(|(made, _)| made != key);
        }
        self.made.push((key.to_owned(), change));
    }

    /// The data with everything changed.
    pub(super) fn on(&self, data: &Data) -> Result<Data> {
        let mut data = data.clone();
        for (key, change) in &self.made {
            match change {
                Change::Set(value) => _ = data.insert(key.clone(), value.clone()),
                Change::Remove => _ = data.remove(key),
                Change::Update(update) => {
                    let value = update(data.get(key))?;
                    data.insert(key.clone(), value);
                }
            }
        }
        Ok(data)
    }

    /// A value that was read here and is changed here, and was changed by somebody else in between.
    pub(super) fn conflict(&self, before: &Data, now: &Data) -> Option<&str> {
        let blind = |(key, change): &&(String, Change)| match change {
            Change::Update(_) => false,
            Change::Set(_) | Change::Remove => self.read.contains(key) && before.get(key) != now.get(key),
        };
        self.made.iter().find(blind).map(|(key, _)| key.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(value: Value) -> Data {
        value.as_object().unwrap().clone()
    }

    fn more() -> Change {
        Change::Update(Rc::new(|old| Ok(json!(old.and_then(Value::as_i64).unwrap_or(0) + 1))))
    }

    #[test]
    fn changes_are_made_in_their_order() {
        let mut changes = Changes::default();
        changes.make("n", more());
        changes.make("n", more());
        changes.make("gone", Change::Remove);
        assert_eq!(changes.on(&data(json!({"n": 5, "gone": 1, "x": 0}))).unwrap(), data(json!({"n": 7, "x": 0})));
        changes.make("n", Change::Set(json!(1)));
        changes.make("n", more());
        assert_eq!(changes.on(&data(json!({"n": 5}))).unwrap(), data(json!({"n": 2})));
    }

    #[test]
    fn only_what_was_read_and_is_changed_on_both_sides_is_a_conflict() {
        let (before, now) = (data(json!({"a": 1, "b": 1})), data(json!({"a": 2, "b": 1})));
        let mut changes = Changes::default();
        changes.make("a", Change::Set(json!(3)));
        assert_eq!(changes.conflict(&before, &now), None, "whatever it was, it is to be this");
        changes.reads("a");
        assert_eq!(changes.conflict(&before, &now), Some("a"));
        let mut changes = Changes::default();
        changes.reads("a");
        changes.reads("b");
        changes.make("a", more());
        changes.make("b", Change::Remove);
        assert_eq!(changes.conflict(&before, &now), None);
    }
}
