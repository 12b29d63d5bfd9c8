//! What a command that ends lets go: every lock that it has, and every place in a queue, as far as its
//! journal knows.
//!
//! Invariant: it leaves with the commit that ends the command, so the lock is free exactly when it ended.

use super::actor::{Command, Lock, Reply};
use crate::{
    actor::Actor,
    address::Address,
    backend::Sent,
    durable::entry::{Entry, Outcome},
    envelope::{Envelope, Position},
};

/// What lets go of the locks of a command that ends.
pub(crate) fn releases<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    key: Option<String>,
    position: Position,
    at: i64,
) -> Vec<Sent> {
    let Some(by) = key else { return Vec::new() };
    let command = serde_json::value::to_raw_value(&Command::Release { by });
    let sent = |to: Address| {
        let command = command.as_ref().ok()?.clone();
        let envelope = Envelope { command, cause: Some(position), accepted: at, ..Envelope::empty(to) };
        Some(Sent { envelope: envelope.into(), due: None })
    };
    open(entries).into_iter().filter_map(sent).collect()
}

/// Locks that the command asked for and that have not said since that it has them no more.
fn open<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Address> {
    let (mut asked, mut open) = (Vec::<(u32, Address)>::new(), Vec::<Address>::new());
    for entry in entries {
        match entry {
            Entry::Called { op, to, .. } if to.kind() == Lock::KIND => {
                asked.push((*op, to.clone()));
                if !open.contains(to) {
                    open.push(to.clone());
                }
            }
            Entry::Answered { op, outcome: Outcome::Ok(reply), .. } => {
                let Some((_, to)) = asked.iter().find(|(known, _)| known == op) else { continue };
                if let Ok(Reply::Released | Reply::Lost) = serde_json::from_str(reply.get()) {
                    open.retain(|known| known != to);
                }
            }
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(op: u32, to: &str) -> Entry {
        Entry::Called { op, to: to.parse().unwrap(), until: None, at: 1 }
    }

    fn answered(op: u32, reply: &Reply) -> Entry {
        let outcome = Outcome::Ok(serde_json::value::to_raw_value(reply).unwrap());
        Entry::Answered { op, outcome, from: Position::new(0, 1), at: 2 }
    }

    #[test]
    fn what_was_let_go_is_not_let_go_again_and_what_was_not_is() {
        let held = |op| answered(op, &Reply::Held { token: 1 });
        let (a, b, other) = ("greenroom_lock/a", "greenroom_lock/b", "order/7");
        let all = [
            called(0, a),
            held(0),
            called(1, other),
            answered(1, &Reply::Released),
            called(2, b),
            called(3, a),
            answered(3, &Reply::Released),
        ];
        let open = |entries: &[Entry]| open(entries.iter()).iter().map(Address::to_string).collect::<Vec<_>>();
        assert_eq!(open(&all), [b], "it may still be given");
        assert_eq!(open(&all[..6]), [a, b]);
        assert_eq!(open(&[&all[..], &[called(4, a), held(4)]].concat()), [b, a]);
        let sent = releases(all[..2].iter(), Some("k".into()), Position::new(0, 5), 9);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].envelope.command.get(), r#"{"Release":{"by":"k"}}"#);
        assert!(sent[0].envelope.note.is_none());
        assert!(releases(all.iter(), None, Position::new(0, 5), 9).is_empty());
    }
}
