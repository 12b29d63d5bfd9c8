//! Accepting messages: from clients (with idempotency and the byte budget) and out of commits.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use tokio::sync::oneshot;

use super::{
    shares::Crowds,
    tail::Fresh,
    writer::{Abort, Group, Op},
};
use crate::{
    backend::{Append, Appended, FENCED, Fence, Idempotency, NotAppended, Tenant},
    envelope::{Envelope, Position},
};

/// A message made ready by the sender's thread, so that the writer only writes.
pub(super) struct Prepared {
    envelope: Arc<Envelope>,
    bytes: Vec<u8>,
    partition: u16,
    due: Option<i64>,
}

impl Prepared {
    pub(super) fn new(envelope: Arc<Envelope>, due: Option<i64>, partitions: u16) -> Result<Self, serde_json::Error> {
        Ok(Self {
            bytes: serde_json::to_vec(&*envelope)?,
            partition: envelope.to.partition(partitions),
            // A time that has come is no reason to wait.
            due: due.filter(|due| *due > envelope.accepted),
            envelope,
        })
    }

    /// Stores it in the mailbox, or among the deferred if its time is still to come.
    pub(super) fn store(&self, group: &mut Group<'_>) -> Result<Position, Abort> {
        let size = self.bytes.len();
        let book = group.book(self.partition);
        book.ledger.accepted += 1;
        book.ledger.bytes += size as u64;
        let position = Position::new(self.partition, book.ledger.accepted);
        match self.due {
            None => {
                group
                    .db
                    .prepare_cached("INSERT INTO mailbox VALUES (?, 0, ?)")?
                    .execute(params![position.packed(), self.bytes])?;
                group.arrived(Fresh { position, envelope: self.envelope.clone(), size });
            }
            Some(due) => {
                group.db.prepare_cached("INSERT INTO deferred VALUES (?, ?, ?, 0, 0, NULL, ?, ?, ?)")?.execute(
                    params![
                        position.packed(),
                        self.partition,
                        due,
                        self.envelope.to.kind(),
                        self.envelope.to.key(),
                        self.bytes
                    ],
                )?;
                group.deferred(self.partition);
            }
        }
        Ok(position)
    }
}

/// A message from outside, and on what conditions.
pub(super) struct Asked {
    message: Prepared,
    idempotency: Option<Idempotency>,
    fence: Option<Fence>,
}

/// A batch of messages from outside.
pub(super) struct AppendOp {
    pub(super) batch: Vec<Asked>,
    pub(super) budget: u64,
    pub(super) crowds: Arc<Crowds>,
    pub(super) answers: Vec<Result<Appended, NotAppended>>,
    pub(super) reply: oneshot::Sender<Vec<Result<Appended, NotAppended>>>,
}

impl Op for AppendOp {
    fn apply(&mut self, group: &mut Group<'_>) -> Result<(), Abort> {
        self.answers.clear();
        for asked in &self.batch {
            self.answers.push(append(group, asked, self.budget, &self.crowds)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), String>) {
        let answers = match result {
            Ok(()) => self.answers,
            Err(why) => self.batch.iter().map(|_| Err(NotAppended::Unavailable(why.clone()))).collect(),
        };
        // Nobody waits any more: the message is accepted all the same.
        let _ = self.reply.send(answers);
    }

    fn weight(&self) -> usize {
        self.batch.len()
    }

    fn tenant(&self) -> Option<Tenant> {
        // A batch is one caller's.
        self.batch.first().and_then(|asked| self.crowds.tenant(&asked.message.envelope.to))
    }
}

fn append(
    group: &mut Group<'_>,
    asked: &Asked,
    budget: u64,
    crowds: &Crowds,
) -> Result<Result<Appended, NotAppended>, Abort> {
    let Asked { message, idempotency, fence } = asked;
    if let Some(asked) = idempotency
        && let Some(answer) = seen(group, asked, message.envelope.accepted)?
    {
        return Ok(answer);
    }
    // What comes for a command that has begun is never too much.
    if message.envelope.note.is_none()
        && let Some((bytes, budget)) = crowds.refuses(message.partition, &message.envelope.to)
    {
        return Ok(Err(NotAppended::Full { bytes, budget }));
    }
    if let Some(fence) = fence
        && let Some(newest) = newer(group, message.partition, fence)?
    {
        return Ok(Err(NotAppended::Fenced { newest }));
    }
    let bytes = group.book(message.partition).ledger.bytes;
    if bytes + message.bytes.len() as u64 > budget {
        return Ok(Err(NotAppended::Full { bytes, budget }));
    }
    let position = message.store(group)?;
    if let Some(asked) = idempotency {
        group.db.prepare_cached("INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)")?.execute(params![
            asked.key,
            asked.fingerprint as i64,
            position.packed(),
            asked.answer,
            asked.expires
        ])?;
    }
    if let Some(fence) = fence {
        let expires = message.envelope.accepted.saturating_add(FENCED);
        group
            .db
            .prepare_cached(
                "INSERT INTO fences VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET token = excluded.token, expires = excluded.expires",
            )?
            .execute(params![message.partition, fence.lock, fence.token as i64, expires])?;
    }
    Ok(Ok(Appended::New(position)))
}

/// The token of a newer holder of the lock that has appended to this mailbox, if there is one.
fn newer(group: &mut Group<'_>, partition: u16, fence: &Fence) -> Result<Option<u64>, Abort> {
    let newest: Option<i64> = group
        .db
        .prepare_cached("SELECT token FROM fences WHERE partition = ? AND lock = ?")?
        .query_row(params![partition, fence.lock], |row| row.get(0))
        .optional()?;
    Ok(newest.map(|newest| newest as u64).filter(|newest| *newest > fence.token))
}

fn seen(group: &mut Group<'_>, asked: &Idempotency, now: i64) -> Result<Option<Result<Appended, NotAppended>>, Abort> {
    let row: Option<(i64, i64, String)> = group
        .db
        .prepare_cached("SELECT fingerprint, position, answer FROM idempotency WHERE key = ? AND expires > ?")?
        .query_row(params![asked.key, now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(row.map(|(fingerprint, position, answer)| {
        if fingerprint as u64 == asked.fingerprint {
            Ok(Appended::Seen(Position::from_packed(position), answer))
        } else {
            Err(NotAppended::Mismatch)
        }
    }))
}

/// Encodes a batch on the caller's thread. A message that cannot be encoded is refused alone.
pub(super) fn prepare(batch: Vec<Append>, partitions: u16) -> Result<Vec<Asked>, serde_json::Error> {
    let one = |Append { envelope, due, idempotency, fence }| {
        Ok(Asked { message: Prepared::new(Arc::new(envelope), due, partitions)?, idempotency, fence })
    };
    batch.into_iter().map(one).collect()
}
