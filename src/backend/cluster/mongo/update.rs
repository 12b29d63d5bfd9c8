//! One command of conditional writes: each by its key alone, with the condition in what it writes.
//!
//! ```text
//! q: { _id }   u: if rev is `from` (or there is no document) and epoch ≤ mine: d, else what is there
//! ```
//!
//! A query by `_id` alone needs no plan, which is most of what a write with its condition in the query costs.
//! `d` is a constant: nothing that a state contains is read as an expression. What was written counts as
//! modified or upserted, because its revision is another; when that are as many as there were, all are written.
//! Otherwise each that may not be is read back.

use std::collections::HashMap;

use mongodb::bson::{RawArrayBuf, RawDocumentBuf, doc, rawdoc};
use tracing::warn;

use super::{
    refusal::{self, Meaning},
    wire::{Fault, Find, Wire},
    write::{StateOp, Written},
};

/// How often a write is tried that met its own key and then could have been done: a claim of the same key
/// came between.
const TRIES: usize = 3;

impl StateOp {
    pub(super) fn update(&self) -> RawDocumentBuf {
        let (from, mine) = (self.from as i64, self.epoch as i64);
        // Nothing is less than every number, so a document that is not there has no epoch that forbids.
        let may = rawdoc! { "$and": [{ "$eq": [{ "$ifNull": ["$rev", from] }, from] }, { "$lte": ["$epoch", mine] }] };
        rawdoc! {
            "q": { "_id": self.key.as_str() },
            "u": [{ "$replaceWith": { "$cond": [may, "$$d", "$$ROOT"] } }],
            "c": { "d": self.doc.clone() },
            "upsert": true,
        }
    }
}

/// Writes states of one kind, in one command if it can be: what became of each.
pub(super) async fn update(wire: &Wire, kind: &str, ops: &[StateOp]) -> Vec<Written> {
    let mut answers = vec![Written::Unknown("it met its own key again and again".to_owned()); ops.len()];
    let mut left: Vec<usize> = (0..ops.len()).collect();
    for _ in 0..TRIES {
        let unclear = attempt(wire, kind, ops, left, &mut answers).await;
        if unclear.is_empty() {
            return answers;
        }
        left = match look(wire, kind, ops, &unclear, &mut answers).await {
            Ok(left) => left,
            Err(fault) => {
                unclear.into_iter().for_each(|index| answers[index] = Written::Unknown(fault.to_string()));
                return answers;
            }
        };
        if left.is_empty() {
            return answers;
        }
    }
    answers
}

/// Tries some of the writes: those of which the answers do not tell whether they are there. Where a whole command
/// is refused for something in it, its halves are tried, until what is guilty is alone.
async fn attempt(wire: &Wire, kind: &str, ops: &[StateOp], some: Vec<usize>, answers: &mut [Written]) -> Vec<usize> {
    let (mut unclear, mut parts) = (Vec::new(), vec![some]);
    while let Some(mut part) = parts.pop() {
        match send(wire, kind, ops, &part).await {
            Ok(mut answer) => {
                let failed = answer.errors.len();
                let all = answer.changed + failed == part.len();
                for (at, index) in part.into_iter().enumerate() {
                    answers[index] = match answer.errors.remove(&at) {
                        None if all => Written::Yes,
                        None | Some(Meaning::OwnKey) => {
                            unclear.push(index);
                            continue;
                        }
                        Some(meaning) => said(&ops[index], meaning),
                    };
                }
            }
            Err(Fault::Refused { code, .. }) if refusal::is_poison(code) && part.len() > 1 => {
                let half = part.split_off(part.len() / 2);
                parts.extend([half, part]);
            }
            Err(Fault::Refused { code, why }) if part.len() == 1 => {
                answers[part[0]] = said(&ops[part[0]], refusal::alone(code, &why));
            }
            Err(fault) => part.into_iter().for_each(|index| answers[index] = Written::Unknown(fault.to_string())),
        }
    }
    unclear
}

fn said(op: &StateOp, meaning: Meaning) -> Written {
    let (kind, key) = (&op.kind, &op.key);
    match meaning {
        Meaning::Never { code, why } => {
            warn!(kind, key, code, why, "a state that cannot be saved");
            Written::Refused { code, why }
        }
        Meaning::Passing(why) => {
            warn!(kind, key, why, "MongoDB did not take a state");
            Written::Unknown(why)
        }
        Meaning::OwnKey => Written::Unknown("it met its own key".to_owned()),
    }
}

/// What a command answers.
struct Answer {
    /// Of the writes that it names, by their place, what is said.
    errors: HashMap<usize, Meaning>,
    /// How many documents are others now.
    changed: usize,
}

async fn send(wire: &Wire, kind: &str, ops: &[StateOp], part: &[usize]) -> Result<Answer, Fault> {
    let mut updates = RawArrayBuf::new();
    part.iter().for_each(|index| updates.push(ops[*index].update()));
    let command = rawdoc! {
        "update": kind,
        "updates": updates,
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true, "wtimeout": 10_000 },
    };
    let answer = wire.command("update", command).await?;
    if let Ok(error) = answer.get_document("writeConcernError") {
        return Err(Fault::Unknown(format!("not on a majority: {error:?}")));
    }
    let mut errors = HashMap::new();
    for error in answer.get_array("writeErrors").into_iter().flatten() {
        let Some(error) = error.as_document() else { continue };
        errors.insert(error.get_i32("index").unwrap_or(-1) as usize, refusal::meaning(kind, error));
    }
    let modified = answer.get_i32("nModified").unwrap_or(0) as usize;
    let upserted = answer.get_array("upserted").map_or(0, Vec::len);
    Ok(Answer { errors, changed: modified + upserted })
}

/// Reads back what may be written or not: those that could still be.
///
/// One that is there is this one when revision, epoch and digest are its own: under one lease one activation
/// writes a key, one write at a time. So an answer that was lost is found again.
async fn look(
    wire: &Wire,
    kind: &str,
    ops: &[StateOp],
    unclear: &[usize],
    answers: &mut [Written],
) -> Result<Vec<usize>, Fault> {
    let keys: Vec<&str> = unclear.iter().map(|index| ops[*index].key.as_str()).collect();
    let find = Find { projection: Some(doc! { "rev": 1, "epoch": 1, "digest": 1 }), ..Find::keys(kind, &keys) };
    let found = wire.find("look", &find).await?;
    let mut there = HashMap::new();
    for saved in &found {
        let (rev, epoch) = (saved.get_i64("rev").ok(), saved.get_i64("epoch").ok());
        there.insert(saved.get_str("_id")?, (rev, epoch, saved.get_i64("digest").ok()));
    }
    let mut left = Vec::new();
    for index in unclear {
        let op = &ops[*index];
        let (rev, epoch, digest) = there.get(op.key.as_str()).copied().unwrap_or_default();
        let (from, mine) = (op.from as i64, op.epoch as i64);
        if rev == Some(from + 1) && epoch == Some(mine) && digest == Some(op.digest) {
            answers[*index] = Written::Yes;
        } else if rev.is_none_or(|rev| rev == from) && epoch.is_none_or(|epoch| epoch <= mine) {
            left.push(*index);
        } else {
            answers[*index] = Written::Conflict;
        }
    }
    Ok(left)
}
