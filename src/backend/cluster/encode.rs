//! What commits, messages and results look like in Redis when they are written, and results when they are read:
//! [`decode`](super::decode) reads the rest. Stored names and numbers are an interface with the past: the functions
//! read and write the same.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{journal, pack::Packer};
use crate::{
    backend::{Commit, Done, FENCED, Fence, Home, Idempotency, Outcome, Request, Sent, Status},
    envelope::{Envelope, Position},
    error::Failure,
};

/// The latest time that a message can wait for, in milliseconds since the Unix epoch: the year 142,000.
const FAR: i64 = 1 << 52;

pub(super) fn home(home: Home) -> i64 {
    match home {
        Home::Mailbox => 0,
        Home::Deferred => 1,
    }
}

/// The result of a message that ended, after 16 digits of when.
#[derive(Serialize, Deserialize)]
struct Ended {
    status: Status,
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    reply: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

/// A reply that is there, be it `null`.
fn present<'de, D: serde::Deserializer<'de>>(json: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(json).map(Some)
}

fn ended(at: i64, ended: &Ended) -> Vec<u8> {
    let mut body = format!("{:016}", at.max(0)).into_bytes();
    // Numbers, strings and JSON that was parsed before always serialise.
    body.extend(serde_json::to_vec(ended).unwrap_or_default());
    body
}

/// The result of a cancelled message.
pub(super) fn cancelled(at: i64) -> Vec<u8> {
    ended(at, &Ended { status: Status::Cancelled, attempts: 0, reply: None, error: None })
}

/// Reads a result; `None` when it is none.
pub(super) fn request(body: &[u8]) -> Option<Request> {
    let (at, json) = body.split_at_checked(16)?;
    let ended: Ended = serde_json::from_slice(json).ok()?;
    Some(Request {
        status: ended.status,
        reply: ended.reply,
        error: ended.error,
        attempts: ended.attempts,
        ended: std::str::from_utf8(at).ok()?.parse().ok()?,
    })
}

fn failures(list: &[Failure]) -> Vec<u8> {
    serde_json::to_vec(list).unwrap_or_else(|_| b"[]".to_vec())
}

/// What leaves with a commit, as the receiver's mailbox will hold it.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) to: u16,
    pub(super) head: Bytes,
    pub(super) bytes: Bytes,
    pub(super) envelope: Arc<Envelope>,
}

impl Parcel {
    pub(super) fn new(sent: &Sent, partitions: u16) -> Result<Self, serde_json::Error> {
        let envelope = sent.envelope.clone();
        Ok(Self {
            to: envelope.to.partition(partitions),
            head: head(&envelope, sent.due, None, None).into(),
            bytes: serde_json::to_vec(&*envelope)?.into(),
            envelope,
        })
    }
}

/// What the append function is told of a message besides its bytes: nothing, when there is nothing to
/// tell. A time that has come is no reason to wait.
pub(super) fn head(
    envelope: &Envelope,
    due: Option<i64>,
    idempotency: Option<&Idempotency>,
    fence: Option<&Fence>,
) -> Vec<u8> {
    // Lua's numbers are exact up to 2^53: what is due later than any calendar knows is due then.
    let due = due.filter(|due| *due > envelope.accepted).map(|due| due.min(FAR));
    if due.is_none() && idempotency.is_none() && fence.is_none() {
        return Vec::new();
    }
    let mut packer = Packer::default();
    packer.array(match (idempotency, fence) {
        (_, Some(_)) => 11,
        (Some(_), None) => 8,
        (None, None) => 3,
    });
    packer.int(due.unwrap_or(0)).bytes(envelope.to.kind().as_bytes()).bytes(envelope.to.key().as_bytes());
    if let Some(asked) = idempotency {
        packer.bytes(asked.key.as_bytes()).bytes(format!("{:016x}", asked.fingerprint).as_bytes());
        packer.bytes(asked.answer.as_bytes()).int(asked.expires).int(envelope.accepted);
    } else if fence.is_some() {
        for _ in 0..5 {
            packer.nothing();
        }
    }
    if let Some(fence) = fence {
        packer.bytes(fence.lock.as_bytes()).int(fence.token as i64).int(envelope.accepted.saturating_add(FENCED));
    }
    packer.done()
}

/// A commit's part in Redis, with its outbox. The same bytes lie beside the state as what is still to
/// do, until the next commit.
pub(super) fn commit(commit: &Commit, outbox: &[Parcel]) -> Vec<u8> {
    let mut packer = Packer::default();
    let journals = journal::concerns(commit);
    packer.array(if journals { 10 } else { 7 });
    packer.array(commit.done.len() * 6);
    commit.done.iter().for_each(|one| done(&mut packer, commit.at, one));
    packer.array(commit.deferred.len() * 5);
    for deferral in &commit.deferred {
        packer.int(deferral.position.number() as i64).int(home(deferral.home)).int(deferral.due.clamp(1, FAR));
        packer.int(deferral.attempts.into()).bytes(&failures(&deferral.failures));
    }
    packer.array(commit.parked.len() * 2);
    for (position, at) in &commit.parked {
        packer.int(position.number() as i64).int(home(*at));
    }
    packer.array(outbox.len() * 3);
    for parcel in outbox {
        packer.int(parcel.to.into()).bytes(&parcel.head).bytes(&parcel.bytes);
    }
    packer.bytes(commit.address.kind().as_bytes()).bytes(commit.address.key().as_bytes()).int(commit.at);
    if journals {
        journal::pack(&mut packer, commit);
    }
    packer.done()
}

fn done(packer: &mut Packer, at: i64, done: &Done) {
    let (status, body) = outcome(at, done);
    packer.int(done.position.number() as i64).int(home(done.home)).int(status);
    packer.int(done.attempts.into()).int(done.size as i64);
    match body {
        Some(body) => packer.bytes(&body),
        None => packer.nothing(),
    };
}

/// How a message ended, as the functions number it, and what is kept of it.
fn outcome(at: i64, done: &Done) -> (i64, Option<Vec<u8>>) {
    match &done.outcome {
        Outcome::Completed(reply) => {
            let reply = Some(reply.clone());
            let result = Ended { status: Status::Completed, attempts: done.attempts, reply, error: None };
            (0, done.keep.then(|| ended(at, &result)))
        }
        Outcome::Failed(failure) => {
            let error = Some(failure.clone());
            (1, Some(ended(at, &Ended { status: Status::Failed, attempts: done.attempts, reply: None, error })))
        }
        Outcome::Cancelled => {
            let result = Ended { status: Status::Cancelled, attempts: done.attempts, reply: None, error: None };
            (2, Some(ended(at, &result)))
        }
        Outcome::Dead(list) => (3, Some(failures(list))),
    }
}

/// Whether all a commit does is to end messages of the mailbox, so that it can be done together with
/// others like it.
pub(super) fn plain(commit: &Commit) -> bool {
    let ends = |done: &Done| {
        let counted = matches!(done.outcome, Outcome::Completed(_) | Outcome::Failed(_));
        counted && done.home == Home::Mailbox && !done.journal
    };
    let only = commit.deferred.is_empty() && commit.parked.is_empty() && commit.outbox.is_empty();
    only && commit.journals.is_empty() && !commit.done.is_empty() && commit.done.iter().all(ends)
}

/// So many numbers lie in one hash; the functions know it too.
const SLAB: u64 = 512;

/// All [plain] commits of a group as one: `{completed failed bytes slabs results ended}`.
pub(super) fn ends<'a>(commits: impl Iterator<Item = &'a Commit>) -> Vec<u8> {
    let (mut completed, mut failed, mut bytes, mut at) = (0, 0, 0, 0);
    let mut slabs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut results: BTreeMap<u64, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
    for commit in commits {
        at = at.max(commit.at);
        for done in &commit.done {
            let number = done.position.number();
            slabs.entry(number / SLAB).or_default().push(number);
            bytes += done.size;
            match done.outcome {
                Outcome::Completed(_) => completed += 1,
                _ => failed += 1,
            }
            if let (_, Some(body)) = outcome(commit.at, done) {
                results.entry(number / SLAB).or_default().push((number, body));
            }
        }
    }
    let mut packer = Packer::default();
    packer.array(6).int(completed).int(failed).int(bytes as i64);
    packer.array(slabs.len() * 2);
    for (slab, numbers) in slabs {
        packer.int(slab as i64).array(numbers.len());
        for number in numbers {
            packer.bytes(number.to_string().as_bytes());
        }
    }
    packer.array(results.len() * 2);
    for (slab, pairs) in &results {
        packer.int(*slab as i64).array(pairs.len() * 2);
        for (number, body) in pairs {
            packer.bytes(number.to_string().as_bytes()).bytes(body);
        }
    }
    let kept: usize = results.values().map(Vec::len).sum();
    packer.array(if kept > 0 { kept + 1 } else { 0 });
    if kept > 0 {
        packer.int(at);
        results.values().flatten().for_each(|(number, _)| {
            packer.int(*number as i64);
        });
    }
    packer.done()
}

/// A message that a commit ends for good by completing it: while it waits, the commit is not done.
pub(super) fn witness(commit: &Commit) -> Option<Position> {
    let completed = commit.done.iter().find(|done| matches!(done.outcome, Outcome::Completed(_)))?;
    Some(completed.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_of_nothing_is_still_a_result() {
        for reply in ["null", "7"] {
            let reply = Some(RawValue::from_string(reply.to_owned()).unwrap());
            let body = ended(5, &Ended { status: Status::Completed, attempts: 1, reply: reply.clone(), error: None });
            let read = request(&body).unwrap().reply.map(|reply| reply.get().to_owned());
            assert_eq!(read.as_deref(), reply.as_ref().map(|reply| reply.get()));
        }
        assert!(request(&cancelled(5)).unwrap().reply.is_none());
    }
}
