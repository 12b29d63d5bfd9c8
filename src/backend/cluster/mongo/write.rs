//! Writing states, many in one command: the group is everything, twenty to thirty times the rate of
//! one by one. While groups are on their way, the next ones gather.

use mongodb::{
    Database,
    bson::{Binary, RawArrayBuf, RawDocument, RawDocumentBuf, doc, raw::cstr, rawdoc, spec::BinarySubtype},
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::warn;
use xxhash_rust::xxh3::Xxh3;

use super::{States, fault, within};
use crate::{address::Address, backend::StateWrite, envelope::Position, error::Result};

/// Most states in one command; MongoDB takes up to 100,000, and 48 MB.
const GROUP: usize = 1000;
const GROUP_BYTES: usize = 24 << 20;
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
    /// Somebody else wrote since, or a newer owner did.
    Conflict,
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

    fn update(&self) -> RawDocumentBuf {
        rawdoc! {
            // A document with another revision does not match, so that the upsert meets its key: a
            // lost race comes back as a duplicate key, with its place in the group.
            "q": { "_id": self.key.as_str(), "rev": self.from as i64, "epoch": { "$lte": self.epoch as i64 } },
            "u": self.doc.clone(),
            "upsert": true,
        }
    }
}

/// Starts writers, and says where they take from.
pub(super) fn start(db: &Database, writers: usize) -> mpsc::UnboundedSender<StateOp> {
    let (sender, queue) = mpsc::unbounded_channel();
    let queue = std::sync::Arc::new(Mutex::new(queue));
    for _ in 0..writers {
        let (db, queue) = (db.clone(), queue.clone());
        tokio::spawn(async move {
            loop {
                let mut group = Vec::new();
                // Whoever has the queue waits; the other one is writing.
                if queue.lock().await.recv_many(&mut group, GROUP).await == 0 {
                    return;
                }
                write(&db, group).await;
            }
        });
    }
    sender
}

/// Writes a group, kind by kind.
async fn write(db: &Database, mut group: Vec<StateOp>) {
    while let Some(first) = group.first() {
        let (kind, mut bytes) = (first.kind.clone(), 0);
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for op in group {
            let size = op.doc.as_bytes().len();
            if op.kind == kind && (now.is_empty() || bytes + size <= GROUP_BYTES) {
                bytes += size;
                now.push(op);
            } else {
                later.push(op);
            }
        }
        group = later;
        let answers = match update(db, &kind, &now).await {
            Ok(answers) => answers,
            Err(why) => vec![Written::Unknown(why); now.len()],
        };
        for (op, answer) in now.into_iter().zip(answers) {
            // The owner has stopped; what is written stays, and the next owner finishes it.
            let _ = op.reply.send(answer);
        }
    }
}

async fn update(db: &Database, kind: &str, ops: &[StateOp]) -> Result<Vec<Written>, String> {
    let mut updates = RawArrayBuf::new();
    ops.iter().for_each(|op| updates.push(op.update()));
    let command = rawdoc! {
        "update": kind,
        "updates": updates,
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true, "wtimeout": 10_000 },
    };
    let answer = within(async { db.run_raw_command(command).await.map_err(fault) }).await.map_err(|e| e.to_string())?;
    if let Ok(error) = answer.get_document("writeConcernError") {
        return Err(format!("not on a majority: {error:?}"));
    }
    let mut answers = vec![Written::Yes; ops.len()];
    let mut lost = Vec::new();
    for error in answer.get_array("writeErrors").into_iter().flatten() {
        let index = error.as_document().and_then(|error| error.get_i32("index").ok()).unwrap_or(-1) as usize;
        let code = error.as_document().and_then(|error| error.get_i32("code").ok()).unwrap_or(0);
        let Some(answer) = answers.get_mut(index) else { continue };
        if code == 11000 {
            lost.push(index);
            *answer = Written::Conflict;
        } else {
            let why = error.as_document().and_then(|error| error.get_str("errmsg").ok()).unwrap_or("no reason");
            warn!(kind, key = ops[index].key, code, why, "MongoDB refused a state");
            *answer = Written::Unknown(format!("{why} (code {code})"));
        }
    }
    if !lost.is_empty() {
        for index in within(ours(db, kind, ops, &lost)).await.map_err(|e| e.to_string())? {
            answers[index] = Written::Yes;
        }
    }
    Ok(answers)
}

/// Of writes that lost a race, those that lost it to themselves: their first answer was lost. Under one
/// lease one activation writes a key, one write at a time, so revision, epoch and digest tell.
async fn ours(db: &Database, kind: &str, ops: &[StateOp], lost: &[usize]) -> Result<Vec<usize>> {
    let keys: Vec<&str> = lost.iter().map(|index| ops[*index].key.as_str()).collect();
    let mut found = db
        .collection::<RawDocumentBuf>(kind)
        .find(doc! { "_id": { "$in": keys } })
        .projection(doc! { "rev": 1, "epoch": 1, "digest": 1 })
        .await
        .map_err(fault)?;
    let mut ours = Vec::new();
    while found.advance().await.map_err(fault)? {
        let saved = found.current();
        let (key, rev, epoch) = (saved.get_str("_id")?, saved.get_i64("rev")?, saved.get_i64("epoch")?);
        let digest = saved.get_i64("digest").ok();
        ours.extend(lost.iter().copied().filter(|index| {
            let op = &ops[*index];
            op.key == key && rev == op.from as i64 + 1 && epoch == op.epoch as i64 && digest == Some(op.digest)
        }));
    }
    Ok(ours)
}

impl States {
    /// Makes every write under an earlier lease impossible from now on: nothing else in the documents
    /// changes.
    pub(in crate::backend::cluster) async fn claim(&self, kind: &str, keys: &[&str], epoch: u64) -> Result<()> {
        for keys in keys.chunks(GROUP) {
            let mut updates = RawArrayBuf::new();
            for key in keys {
                updates.push(rawdoc! {
                    "q": { "_id": *key },
                    "u": { "$max": { "epoch": epoch as i64 }, "$setOnInsert": { "rev": 0_i64 } },
                    "upsert": true,
                });
            }
            let command = rawdoc! {
                "update": kind,
                "updates": updates,
                "ordered": false,
                "writeConcern": { "w": "majority", "j": true, "wtimeout": 10_000 },
            };
            let answer = within(async { self.db.run_raw_command(command).await.map_err(fault) }).await?;
            if answer.get_array("writeErrors").is_ok() || answer.get_document("writeConcernError").is_ok() {
                return Err(crate::Error::new(format!("MongoDB did not claim states: {answer:?}")).code("mongodb"));
            }
        }
        Ok(())
    }
}
