//! Applying commits: state, ended messages, deferrals and outbox of one actor, all or nothing.

use std::sync::Arc;

use rusqlite::params;
use tokio::sync::oneshot;

use super::{
    append::Prepared,
    journal,
    schema::{column, state_table},
    shares::Crowds,
    writer::{Abort, Group, Op},
};
use crate::backend::{Commit, Deferral, Done, Home, Lease, Outcome, Refused, StateWrite, Status, Tenant};

/// A due time that never comes: messages parked behind a retry are woken by it, not by time.
pub(super) const NEVER: i64 = i64::MAX;

/// What was made ready for one commit by its sender's thread: the outbox encoded.
pub(super) struct Ready {
    pub(super) outbox: Vec<Prepared>,
    /// How its kind's state is written; `None` for a kind without declared state.
    pub(super) sql: Option<Arc<StateSql>>,
}

/// A group of commits under one lease.
pub(super) struct CommitOp {
    pub(super) lease: Lease,
    pub(super) batch: Arc<Vec<Commit>>,
    pub(super) ready: Vec<Ready>,
    pub(super) crowds: Arc<Crowds>,
    pub(super) answers: Vec<Result<(), Refused>>,
    pub(super) reply: oneshot::Sender<Vec<Result<(), Refused>>>,
}

impl Op for CommitOp {
    fn apply(&mut self, group: &mut Group<'_>) -> Result<(), Abort> {
        self.answers.clear();
        let current = group.book(self.lease.partition).epoch == self.lease.epoch;
        for (commit, ready) in self.batch.iter().zip(&self.ready) {
            let answer = if current { group.atomic(|group| apply(group, commit, ready))? } else { Err(Refused::Stale) };
            self.answers.push(answer);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), String>) {
        let answers = match result {
            Ok(()) => self.answers,
            Err(why) => self.batch.iter().map(|_| Err(Refused::Unavailable(why.clone()))).collect(),
        };
        // The activation is gone: what is committed stays committed.
        let _ = self.reply.send(answers);
    }

    fn tenant(&self) -> Option<Tenant> {
        // While there are several a group is of one.
        self.batch.first().and_then(|commit| self.crowds.tenant(&commit.address))
    }

    fn ends(&self) -> bool {
        true
    }

    fn weight(&self) -> usize {
        self.batch.iter().map(Commit::weight).sum()
    }
}

/// The statements that write a kind's state under the condition of its revision.
pub(super) struct StateSql {
    insert: String,
    update: String,
    forget: String,
}

impl StateSql {
    pub(super) fn new(kind: &str, fields: &[String]) -> Self {
        let table = state_table(kind);
        let columns: String = fields.iter().map(|f| format!(", {}", column(f))).collect();
        let values: String = (0..fields.len()).map(|n| format!(", ?{}", n + 4)).collect();
        let set: String = fields.iter().enumerate().map(|(n, f)| format!(", {} = ?{}", column(f), n + 4)).collect();
        Self {
            insert: format!(
                "INSERT INTO {table}(key, rev, doc{columns}) VALUES (?1, ?2 + 1, ?3{values}) ON CONFLICT DO NOTHING"
            ),
            update: format!("UPDATE {table} SET rev = ?2 + 1, doc = ?3{set} WHERE key = ?1 AND rev = ?2"),
            forget: format!("DELETE FROM {table} WHERE key = ?1 AND rev = ?2"),
        }
    }
}

fn apply(group: &mut Group<'_>, commit: &Commit, ready: &Ready) -> Result<Result<(), Refused>, Abort> {
    if let (Some(state), Some(sql)) = (&commit.state, &ready.sql)
        && !write_state(group, commit, state, sql)?
    {
        return Ok(Err(Refused::Stale));
    }
    if let Err(refused) = journal::write(group, commit)? {
        return Ok(Err(refused));
    }
    for done in &commit.done {
        if !end(group, commit, done)? {
            return Ok(Err(Refused::Gone(done.position)));
        }
    }
    for deferral in &commit.deferred {
        if !defer(group, commit, deferral)? {
            return Ok(Err(Refused::Gone(deferral.position)));
        }
    }
    for (position, home) in &commit.parked {
        let parked =
            Deferral { position: *position, home: *home, due: NEVER, attempts: 0, failures: Vec::new(), blocks: true };
        if !park(group, commit, &parked)? {
            return Ok(Err(Refused::Gone(*position)));
        }
    }
    for sent in &ready.outbox {
        sent.store(group)?;
    }
    journal::wake(group, commit)?;
    Ok(Ok(()))
}

fn write_state(group: &mut Group<'_>, commit: &Commit, state: &StateWrite, sql: &StateSql) -> Result<bool, Abort> {
    let run = |sql: &str| -> Result<bool, Abort> {
        let mut write = group.db.prepare_cached(sql)?;
        write.raw_bind_parameter(1, commit.address.key())?;
        write.raw_bind_parameter(2, state.from as i64)?;
        if state.doc.is_empty() {
            return Ok(write.raw_execute()? == 1);
        }
        write.raw_bind_parameter(3, &state.doc)?;
        for (n, field) in state.fields.iter().enumerate() {
            write.raw_bind_parameter(n + 4, super::query::sql(field.clone()))?;
        }
        Ok(write.raw_execute()? == 1)
    };
    if state.doc.is_empty() {
        return run(&sql.forget);
    }
    // Of what was forgotten nothing is there, and its owner still knows the revision.
    Ok(state.from > 0 && run(&sql.update)? || run(&sql.insert)?)
}

fn end(group: &mut Group<'_>, commit: &Commit, done: &Done) -> Result<bool, Abort> {
    let position = done.position.packed();
    let (status, body) = match &done.outcome {
        Outcome::Completed(reply) => (Status::Completed, done.keep.then(|| reply.get().as_bytes().to_vec())),
        Outcome::Failed(failure) => (Status::Failed, Some(json(failure))),
        Outcome::Cancelled => (Status::Cancelled, None),
        Outcome::Dead(failures) => {
            let from = table(done.home);
            let buried = group
                .db
                .prepare_cached(&format!(
                    "INSERT INTO dead SELECT position, ?2, ?3, ?4, ?5, ?6, envelope FROM {from} WHERE position = ?1"
                ))?
                .execute(params![
                    position,
                    commit.address.kind(),
                    commit.address.key(),
                    done.attempts,
                    json(failures),
                    commit.at
                ])?;
            let gone = buried == 0 || !remove(group, done.home, position)?;
            let book = group.book(done.position.partition());
            book.ledger.dead += 1;
            book.ledger.bytes = book.ledger.bytes.saturating_sub(done.size as u64);
            return Ok(!gone);
        }
    };
    if !remove(group, done.home, position)? {
        return Ok(false);
    }
    group.db.prepare_cached("INSERT INTO results VALUES (?, ?, ?, ?, ?)")?.execute(params![
        position,
        status_code(status),
        done.attempts,
        commit.at,
        body
    ])?;
    let kept = done.keep || !matches!(done.outcome, Outcome::Completed(_));
    if !kept && (done.journal || commit.journals.iter().any(|written| written.position == done.position)) {
        journal::forget(group, position)?;
    }
    let book = group.book(done.position.partition());
    book.ledger.bytes = book.ledger.bytes.saturating_sub(done.size as u64);
    *match status {
        Status::Completed => &mut book.ledger.completed,
        Status::Failed => &mut book.ledger.failed,
        Status::Cancelled => &mut book.ledger.cancelled,
    } += 1;
    Ok(true)
}

fn defer(group: &mut Group<'_>, commit: &Commit, deferral: &Deferral) -> Result<bool, Abort> {
    let moved = match deferral.home {
        Home::Mailbox => from_mailbox(group, commit, deferral, Some(deferral.attempts))?,
        Home::Deferred => {
            group
                .db
                .prepare_cached(
                    "UPDATE deferred SET due = ?2, parked = ?5, attempts = ?3, failures = ?4 WHERE position = ?1",
                )?
                .execute(params![
                    deferral.position.packed(),
                    deferral.due,
                    deferral.attempts,
                    json(&deferral.failures),
                    deferral.blocks
                ])?
                == 1
        }
    };
    group.deferred(deferral.position.partition());
    Ok(moved)
}

fn park(group: &mut Group<'_>, commit: &Commit, parked: &Deferral) -> Result<bool, Abort> {
    match parked.home {
        Home::Mailbox => from_mailbox(group, commit, parked, None),
        Home::Deferred => Ok(group
            .db
            .prepare_cached("UPDATE deferred SET due = ?2, parked = 1 WHERE position = ?1")?
            .execute(params![parked.position.packed(), parked.due])?
            == 1),
    }
}

/// Moves a message out of the mailbox, with the attempts that were counted unless others are said.
fn from_mailbox(group: &mut Group<'_>, commit: &Commit, d: &Deferral, attempts: Option<u32>) -> Result<bool, Abort> {
    let position = d.position.packed();
    let failures = (!d.failures.is_empty()).then(|| json(&d.failures));
    let moved = group
        .db
        .prepare_cached(
            "INSERT INTO deferred SELECT position, ?2, ?3, ?8, coalesce(?4, attempts), ?5, ?6, ?7, envelope
             FROM mailbox WHERE position = ?1",
        )?
        .execute(params![
            position,
            d.position.partition(),
            d.due,
            attempts,
            failures,
            commit.address.kind(),
            commit.address.key(),
            d.blocks
        ])?;
    Ok(moved == 1 && remove(group, Home::Mailbox, position)?)
}

/// Deletes a message from its place; `false` when it is not there.
pub(super) fn remove(group: &Group<'_>, home: Home, position: i64) -> Result<bool, Abort> {
    let sql = match home {
        Home::Mailbox => "DELETE FROM mailbox WHERE position = ?",
        Home::Deferred => "DELETE FROM deferred WHERE position = ?",
    };
    Ok(group.db.prepare_cached(sql)?.execute([position])? == 1)
}

pub(super) fn table(home: Home) -> &'static str {
    match home {
        Home::Mailbox => "mailbox",
        Home::Deferred => "deferred",
    }
}

/// How a status is stored.
pub(super) fn status_code(status: Status) -> i64 {
    match status {
        Status::Completed => 0,
        Status::Failed => 1,
        Status::Cancelled => 2,
    }
}

/// Failures and the like, as stored. Plain strings and numbers always serialise; the empty list
/// stands in should that ever change.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"[]".to_vec())
}
