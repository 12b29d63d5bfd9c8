//! What commits, messages and results look like in Redis, both ways. Stored names and numbers are an
//! interface with the past: the functions read and writes the same.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fred::types::Value;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    journal,
    pack::{Packer, Unpacker},
    redis::{int, raw},
};
use crate::{
    address::Address,
    backend::{
        Commit, Dead, Done, FENCED, Fence, Home, Idempotency, Outcome, Request, Sent, Status, Stored,
        message::Undecodable,
    },
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

fn envelope(bytes: &[u8]) -> Result<Arc<Envelope>, Undecodable> {
    serde_json::from_slice(bytes)
        .map(Arc::new)
        .map_err(|e| Undecodable { reason: format!("the stored bytes are no envelope: {e}"), bytes: bytes.to_vec() })
}

/// A message in the mailbox.
pub(super) fn fresh(position: Position, bytes: &[u8], attempts: u32) -> Stored {
    Stored {
        position,
        envelope: envelope(bytes),
        home: Home::Mailbox,
        size: bytes.len(),
        attempts,
        failures: Vec::new(),
        due: 0,
        parked: false,
    }
}

/// Number and envelope, repeated. What cannot be read is a message that cannot be read.
pub(super) fn letters(partition: u16, values: &[Value], attempts: impl Fn(u64) -> u32) -> Vec<Stored> {
    let one = |pair: &[Value]| {
        let number = int(&pair[0]) as u64;
        fresh(Position::new(partition, number), &raw(pair[1].clone()), attempts(number))
    };
    values.chunks_exact(2).map(one).collect()
}

/// A deferred message: `{due parked kind key failures envelope}`.
pub(super) fn deferred(position: Position, record: &[u8], attempts: i64) -> Stored {
    let fields = || {
        let mut read = Unpacker::array(record, 6)?;
        let (due, parked) = (read.int()?, read.int()?);
        let (_kind, _key) = (read.bytes()?, read.bytes()?);
        Some((due, parked, read.bytes()?, read.bytes()?))
    };
    // A record that cannot be read is a message that cannot be read.
    let (due, parked, causes, bytes) = fields().unwrap_or((0, 1, b"", record));
    Stored {
        position,
        envelope: envelope(bytes),
        home: Home::Deferred,
        size: bytes.len(),
        attempts: attempts as u32,
        failures: serde_json::from_slice(causes).unwrap_or_default(),
        due,
        parked: parked == 1,
    }
}

/// Digits of the longest number of a message.
const DIGITS: u32 = 15;

/// Numbers as a sorted set orders members of equal scores: digit by digit, a shorter one before those that
/// begin with it.
pub(super) fn tie(number: u64) -> u64 {
    let length = number.checked_ilog10().map_or(1, |log| log + 1).min(DIGITS);
    (number * 10u64.pow(DIGITS - length)) * 16 + u64::from(length)
}

/// The digits of such a number.
pub(super) fn tied(tie: u64) -> String {
    let length = (tie % 16) as usize;
    format!("{:015}", tie / 16).chars().take(length).collect()
}

/// A dead letter with its kind and key: `{died attempts kind key failures envelope}`.
pub(super) fn dead(position: Position, record: &[u8]) -> Option<(Dead, String, String)> {
    let mut read = Unpacker::array(record, 6)?;
    let (died, attempts) = (read.int()?, read.int()?);
    let (kind, key) = (read.text()?.to_owned(), read.text()?.to_owned());
    let (causes, bytes) = (read.bytes()?, read.bytes()?);
    let (found, text) = match envelope(bytes) {
        Ok(envelope) => (Some((*envelope).clone()), None),
        Err(_) => (None, Some(String::from_utf8_lossy(bytes).into_owned())),
    };
    let dead = Dead {
        position,
        envelope: found,
        raw: text,
        attempts: attempts as u32,
        failures: serde_json::from_slice(causes).unwrap_or_default(),
        died,
    };
    Some((dead, kind, key))
}

/// Whom a deferred message or a dead letter is for; `None` when the record does not say.
pub(super) fn addressee(record: &[u8]) -> Option<Address> {
    let mut read = Unpacker::array(record, 6)?;
    let (_time, _count) = (read.int()?, read.int()?);
    Address::new(read.text()?, read.text()?).ok()
}

/// Whom a message in the mailbox is for; `None` when it cannot be read.
pub(super) fn receiver(bytes: &[u8]) -> Option<Address> {
    Some(envelope(bytes).ok()?.to.clone())
}

/// A deferred message for nobody, due at once: what a record that cannot be read becomes when it moves.
pub(super) fn unreadable(record: &[u8]) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.array(6).int(1).int(0).bytes(b"").bytes(b"").bytes(b"").bytes(record);
    packer.done()
}

/// Whom an idempotency key was used for: `{fingerprint number answer expires address partition?}`.
pub(super) fn used_for(record: &[u8]) -> Option<Address> {
    let mut read = Unpacker::array(record, 5).or_else(|| Unpacker::array(record, 6))?;
    let (_fingerprint, _number, _answer, _expires) = (read.bytes()?, read.int()?, read.bytes()?, read.int()?);
    read.text()?.parse().ok()
}

/// Number, record and attempts, repeated.
pub(super) fn deferreds(partition: u16, values: &[Value]) -> Vec<Stored> {
    let one = |three: &[Value]| {
        let record = raw(three[1].clone());
        deferred(Position::new(partition, int(&three[0]) as u64), &record, int(&three[2]))
    };
    // A record that is gone was ended between two looks of the function: there is none such.
    values.chunks_exact(3).filter(|three| !three[1].is_null()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_tied_in_the_order_of_their_digits() {
        let mut numbers: Vec<u64> = vec![9, 10, 1, 100, 99, 2, 281_474_976_710_655, 28, 281_474_976_710_656];
        numbers.sort_by_key(|number| tie(*number));
        let mut digits: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        digits.sort();
        assert_eq!(numbers.iter().map(ToString::to_string).collect::<Vec<_>>(), digits);
        assert_eq!(numbers.iter().map(|number| tied(tie(*number))).collect::<Vec<_>>(), digits);
    }

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
