//! Writing states, many in one command: the group is everything, twenty to thirty times the rate of
//! one by one. While groups are on their way, the next ones gather.

use std::collections::HashMap;

use futures_util::future::join_all;
use mongodb::bson::{Binary, RawDocument, RawDocumentBuf, raw::cstr, rawdoc, spec::BinarySubtype};
use tokio::sync::{Mutex, mpsc, oneshot};
use xxhash_rust::xxh3::Xxh3;

use super::{update::update, wire::Wire};
use crate::{address::Address, backend::StateWrite, envelope::Position, error::Result};

/// Most states in one command; MongoDB takes up to 100,000, and of bytes no more than of a document: 16 MiB.
const GROUP: usize = 1000;
const GROUP_BYTES: usize = 8 << 20;
/// Bytes of a command for each state that it writes, besides key and document.
const AROUND: usize = 1024;
/// Groups on their way at once; more while several tenants take turns, whose groups are small: the next one need
/// not wait for the last.
pub(super) const WRITERS: usize = 2;
pub(super) const SHARED: usize = 4;

/// A conditional write of one document.
pub(in crate::backend::cluster) struct StateOp {
    pub(in crate::backend::cluster) kind: String,
    pub(in crate::backend::cluster) key: String,
    /// The revision it was made from.
    pub(in crate::backend::cluster) from: u64,
    /// The lease it is made under.
    pub(in crate::backend::cluster) epoch: u64,
    /// What replaces the document.
    pub(in crate::backend::cluster) doc: RawDocumentBuf,
    /// Digest of what is written: tells whether a write that is there is this one.
    pub(in crate::backend::cluster) digest: i64,
    pub(in crate::backend::cluster) reply: oneshot::Sender<Written>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::cluster) enum Written {
    /// It is there, on a majority.
    Yes,
    /// Another write has happened since, or a newer owner has claimed it.
    Conflict,
    /// MongoDB will never take it; the others of its group are not concerned.
    Refused {
        /// What the failure is called.
        code: &'static str,
        /// What its command is told.
        why: String,
    },
    /// It may be there or not.
    Unknown(String),
}

impl StateOp {
    /// Replaces the document of an actor by this state, and what its commit has still to do in Redis.
    pub(in crate::backend::cluster) fn new(
        address: &Address,
        state: &StateWrite,
        epoch: u64,
        redo: Option<(Position, Vec<u8>)>,
        at: i64,
        reply: oneshot::Sender<Written>,
    ) -> Result<Self> {
        let mut digest = Xxh3::new();
        digest.update(&state.doc);
        let (key, rev) = (address.key(), state.from as i64 + 1);
        let mut doc = rawdoc! { "_id": key, "rev": rev, "epoch": epoch as i64 };
        if let Some((witness, redo)) = redo {
            digest.update(&redo);
            doc.append(cstr!("witness"), witness.packed());
            doc.append(cstr!("redo"), Binary { subtype: BinarySubtype::Generic, bytes: redo });
        }
        let digest = digest.digest() as i64;
        doc.append(cstr!("digest"), digest);
        if state.doc.is_empty() {
            doc.append(cstr!("gone"), at);
            let kind = address.kind().to_owned();
            return Ok(Self { kind, key: key.to_owned(), from: state.from, epoch, doc, digest, reply });
        }
        for element in RawDocument::from_bytes(&state.doc)? {
            let (name, value) = element?;
            doc.append(name, value);
        }
        let kind = address.kind().to_owned();
        Ok(Self { kind, key: key.to_owned(), from: state.from, epoch, doc, digest, reply })
    }
}

/// Starts writers, and says where they take from.
pub(super) fn start(wire: &Wire, writers: usize) -> mpsc::UnboundedSender<StateOp> {
    let (sender, queue) = mpsc::unbounded_channel();
    let queue = std::sync::Arc::new(Mutex::new(queue));
    for _ in 0..writers {
        let (wire, queue) = (wire.clone(), queue.clone());
        tokio::spawn(async move {
            loop {
                let mut group = Vec::new();
                // Whoever has the queue waits; the other one is writing.
                if queue.lock().await.recv_many(&mut group, GROUP).await == 0 {
                    return;
                }
                join_all(groups(group).into_iter().map(|group| write(&wire, group))).await;
            }
        });
    }
    sender
}

/// Writes of one kind each, none larger than a command may be.
fn groups(ops: Vec<StateOp>) -> Vec<Vec<StateOp>> {
    let mut groups: Vec<Vec<StateOp>> = Vec::new();
    // The group of each kind that is being filled, and its bytes.
    let mut filling: HashMap<String, (usize, usize)> = HashMap::new();
    for op in ops {
        let size = op.doc.as_bytes().len() + AROUND;
        match filling.get_mut(&op.kind) {
            Some((group, bytes)) if *bytes + size <= GROUP_BYTES => {
                *bytes += size;
                groups[*group].push(op);
            }
            _ => {
                filling.insert(op.kind.clone(), (groups.len(), size));
                groups.push(vec![op]);
            }
        }
    }
    groups
}

async fn write(wire: &Wire, group: Vec<StateOp>) {
    let Some(first) = group.first() else { return };
    let answers = update(wire, &first.kind, &group).await;
    for (op, answer) in group.into_iter().zip(answers) {
        // The owner has stopped; what is written stays, and the next owner finishes it.
        let _ = op.reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(kind: &str, bytes: usize) -> StateOp {
        let state = StateWrite { from: 0, doc: Vec::new(), fields: Vec::new() };
        let address = Address::new(kind, "k").unwrap();
        let redo = Some((Position::new(0, 1), vec![0; bytes]));
        StateOp::new(&address, &state, 1, redo, 0, oneshot::channel().0).unwrap()
    }

    #[test]
    fn groups_are_of_one_kind_and_as_large_as_a_command_may_be() {
        let third = GROUP_BYTES / 3 - 2 * AROUND;
        let ops = [
            ("a", third),
            ("b", 1),
            ("a", third),
            ("a", third),
            ("a", third),
            ("b", 1),
            ("c", GROUP_BYTES + 1),
            ("c", 1),
        ];
        let groups = groups(ops.iter().map(|(kind, bytes)| op(kind, *bytes)).collect());
        let shapes: Vec<(&str, usize)> = groups.iter().map(|group| (group[0].kind.as_str(), group.len())).collect();
        assert_eq!(shapes, [("a", 3), ("b", 2), ("a", 1), ("c", 1), ("c", 1)]);
        assert!(groups.iter().all(|group| group.iter().all(|op| op.kind == group[0].kind)));
    }
}
