//! What a journal knew of each operation when its handler was started.

use std::collections::HashMap;

use super::entry::Entry;

/// What the journal knew of an operation when the handler was started.
#[derive(Default)]
pub(super) struct Known {
    pub(super) what: &'static str,
    pub(super) name: String,
    /// Where it is written that it began.
    pub(super) begun: Option<usize>,
    /// Where its last failed attempt is written.
    pub(super) retried: Option<usize>,
    pub(super) ended: bool,
}

/// What is known of the operations of a journal, by their numbers, and the changes it went the new way at.
pub(super) fn index(written: &[Entry]) -> (HashMap<u32, Known>, Vec<String>) {
    let (mut known, mut changes) = (HashMap::<u32, Known>::new(), Vec::new());
    for (index, entry) in written.iter().enumerate() {
        if let Some((op, what, name)) = entry.begins() {
            let known = known.entry(op).or_default();
            (known.what, known.name) = (what, name);
            match entry {
                Entry::Retried { .. } => known.retried = Some(index),
                Entry::Ran { .. } => {}
                _ => known.begun = Some(index),
            }
        }
        if let Some(op) = entry.ends() {
            known.entry(op).or_default().ended = true;
        }
        if let Entry::Changed { name } = entry {
            changes.push(name.clone());
        }
    }
    (known, changes)
}
