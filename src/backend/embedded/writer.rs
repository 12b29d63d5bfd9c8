//! The one thread that writes. It takes whatever operations wait, applies them in one transaction,
//! and answers all of them after one fsync: group commit without anybody having to wait for a group.
//!
//! Invariant: an operation is answered with success only after the transaction that holds it has
//! committed. When one operation of a group is refused half-way, the whole group is rolled back and
//! applied again with a savepoint around each: rare, so the common case pays for no savepoints.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
};

use rusqlite::{Connection, params};
use tracing::{error, warn};

use super::tail::{Fresh, Tail};
use crate::backend::{
    Ledger, Tenant,
    turns::{Company, Turns},
};

/// Most messages in one transaction: bounds the time a waiting operation can be delayed. While several tenants
/// are there, what one of them sends at once delays the others no longer than a few of these take.
const GROUP: usize = 2048;
const SHARED: usize = 24;

/// One thing to write.
pub(super) trait Op: Send {
    /// Applies it. Called again from the start when the group is applied again.
    fn apply(&mut self, group: &mut Group<'_>) -> Result<(), Abort>;
    /// Answers whoever waits: `Ok` once durable.
    fn answer(self: Box<Self>, result: Result<(), String>);
    /// How many messages it is about.
    fn weight(&self) -> usize {
        1
    }
    /// Whether it ends work, instead of bringing more.
    fn ends(&self) -> bool {
        false
    }
    /// Whose it is, if it is for one tenant only. What is nobody's keeps its order.
    fn tenant(&self) -> Option<Tenant> {
        None
    }
}

/// Why a group cannot go on as it is.
pub(super) enum Abort {
    /// This operation was refused after it had written: apply the group with savepoints.
    Careful,
    /// SQLite failed.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Abort {
    fn from(error: rusqlite::Error) -> Self {
        Abort::Sql(error)
    }
}

/// What one partition counts. Kept in memory by the writer, stored with each commit.
#[derive(Clone, Copy, Default)]
pub(super) struct Book {
    pub(super) ledger: Ledger,
    pub(super) expired: u64,
    pub(super) swept: i64,
    pub(super) epoch: u64,
    pub(super) clean: bool,
    pub(super) touched: bool,
}

/// A transaction being filled.
pub(super) struct Group<'a> {
    pub(super) db: &'a Connection,
    pub(super) careful: bool,
    books: &'a mut [Book],
    fresh: Vec<Fresh>,
    deferred: Vec<u16>,
}

impl Group<'_> {
    /// A partition's book, to be changed.
    pub(super) fn book(&mut self, partition: u16) -> &mut Book {
        let book = &mut self.books[usize::from(partition)];
        book.touched = true;
        book
    }

    /// How many partitions there are.
    pub(super) fn partitions(&self) -> u16 {
        self.books.len() as u16
    }

    /// To be delivered from the tail once committed.
    pub(super) fn arrived(&mut self, fresh: Fresh) {
        self.fresh.push(fresh);
    }

    /// The partition has a new deferred message.
    pub(super) fn deferred(&mut self, partition: u16) {
        self.deferred.push(partition);
    }

    /// Runs `change` so that a refusal leaves nothing of it behind.
    pub(super) fn atomic<T, R>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<Result<T, R>, Abort>,
    ) -> Result<Result<T, R>, Abort> {
        if !self.careful {
            return match change(self)? {
                Ok(done) => Ok(Ok(done)),
                Err(_) => Err(Abort::Careful),
            };
        }
        let (books, fresh, deferred) = (self.books.to_vec(), self.fresh.len(), self.deferred.len());
        self.db.execute_batch("SAVEPOINT one")?;
        let done = change(self);
        if matches!(done, Ok(Ok(_))) {
            self.db.execute_batch("RELEASE one")?;
        } else {
            self.db.execute_batch("ROLLBACK TO one; RELEASE one")?;
            self.books.copy_from_slice(&books);
            self.fresh.truncate(fresh);
            self.deferred.truncate(deferred);
        }
        done
    }

    fn store_books(&mut self) -> rusqlite::Result<()> {
        let mut update = self.db.prepare_cached(
            "UPDATE ledger SET accepted = ?2, completed = ?3, failed = ?4, dead = ?5, cancelled = ?6, bytes = ?7,
             expired = ?8, swept = ?9, epoch = ?10, clean = ?11 WHERE partition = ?1",
        )?;
        for (partition, book) in self.books.iter_mut().enumerate().filter(|(_, book)| book.touched) {
            book.touched = false;
            let l = &book.ledger;
            update.execute(params![
                partition as i64,
                l.accepted as i64,
                l.completed as i64,
                l.failed as i64,
                l.dead as i64,
                l.cancelled as i64,
                l.bytes as i64,
                book.expired as i64,
                book.swept,
                book.epoch as i64,
                book.clean
            ])?;
        }
        Ok(())
    }
}

/// Where operations are sent.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Op>>,
}

impl Writer {
    /// Starts the thread; it ends when the last `Writer` is gone.
    pub(super) fn start(
        db: Connection,
        books: Vec<Book>,
        tails: Arc<[Tail]>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("greenroom-writer".into())
            .spawn(move || Loop { db, books, tails }.run(&inbox))?;
        Ok((Self { queue }, thread))
    }

    /// Queues an operation.
    pub(super) fn send(&self, op: Box<dyn Op>) {
        if let Err(mpsc::SendError(op)) = self.queue.send(op) {
            op.answer(Err("the store's writer has stopped".into()));
        }
    }
}

struct Loop {
    db: Connection,
    books: Vec<Book>,
    tails: Arc<[Tail]>,
}

impl Loop {
    fn run(mut self, inbox: &mpsc::Receiver<Box<dyn Op>>) {
        let (mut first, mut ending, mut coming) = (VecDeque::new(), Turns::default(), Turns::default());
        let company = Company::default();
        loop {
            // All that has come is looked at, so that who comes last need not wait for who came before.
            let mut next = match first.is_empty() && ending.is_empty() && coming.is_empty() {
                true => match inbox.recv() {
                    Ok(op) => Some(op),
                    Err(_) => return,
                },
                false => inbox.try_recv().ok(),
            };
            while let Some(op) = next {
                match op.tenant() {
                    Some(tenant) => {
                        company.saw(tenant);
                        if op.ends() { &mut ending } else { &mut coming }.push(tenant, op);
                    }
                    None => first.push_back(op),
                }
                next = inbox.try_recv().ok();
            }
            let most = if company.is_several() { SHARED } else { GROUP };
            // Half of it for one of each tenant's, first of what ends work and then of what brings more; the rest for
            // what ends work, and else for what brings more.
            let (mut ops, mut weight) = (Vec::new(), 0);
            let mut round = (ending.tenants(), coming.tenants());
            while weight < most {
                let next = if round.0 > 0 && weight < most / 4 {
                    round.0 -= 1;
                    ending.pop()
                } else if round.1 > 0 && weight < most / 2 {
                    round.1 -= 1;
                    coming.pop()
                } else {
                    first.pop_front().or_else(|| ending.pop()).or_else(|| coming.pop())
                };
                let Some(op) = next else { break };
                weight += op.weight();
                ops.push(op);
            }
            self.execute(ops);
        }
    }

    fn execute(&mut self, mut ops: Vec<Box<dyn Op>>) {
        let mut results = match self.transaction(&mut ops, false) {
            Ok(results) => results,
            Err(Abort::Careful) => self.transaction(&mut ops, true).unwrap_or_else(|abort| failed(abort, ops.len())),
            Err(Abort::Sql(error)) => {
                warn!(%error, "a group was rolled back, applying it one by one");
                self.transaction(&mut ops, true).unwrap_or_else(|abort| failed(abort, ops.len()))
            }
        };
        for op in ops.into_iter().rev() {
            op.answer(results.pop().unwrap_or_else(|| Err("not applied".into())));
        }
    }

    fn transaction(&mut self, ops: &mut [Box<dyn Op>], careful: bool) -> Result<Vec<Result<(), String>>, Abort> {
        let before = self.books.clone();
        let mut group =
            Group { db: &self.db, careful, books: &mut self.books, fresh: Vec::new(), deferred: Vec::new() };
        match fill(&mut group, ops) {
            Ok(results) => {
                let (fresh, deferred) = (group.fresh, group.deferred);
                self.deliver(fresh, deferred);
                Ok(results)
            }
            Err(abort) => {
                self.books = before;
                // A failed COMMIT may have ended the transaction already.
                if !self.db.is_autocommit()
                    && let Err(error) = self.db.execute_batch("ROLLBACK")
                {
                    error!(%error, "rolling back failed");
                }
                Err(abort)
            }
        }
    }

    fn deliver(&self, fresh: Vec<Fresh>, deferred: Vec<u16>) {
        let mut by_partition: Vec<Vec<Fresh>> = Vec::new();
        by_partition.resize_with(self.tails.len(), Vec::new);
        for message in fresh {
            by_partition[usize::from(message.position.partition())].push(message);
        }
        for (tail, fresh) in self.tails.iter().zip(by_partition) {
            if !fresh.is_empty() {
                tail.push(fresh.into_iter());
                tail.signals().arrived.notify_one();
            }
        }
        for partition in deferred {
            self.tails[usize::from(partition)].signals().deferred.notify_one();
        }
    }
}

fn fill(group: &mut Group<'_>, ops: &mut [Box<dyn Op>]) -> Result<Vec<Result<(), String>>, Abort> {
    group.db.execute_batch("BEGIN IMMEDIATE")?;
    let mut results = Vec::with_capacity(ops.len());
    for op in ops.iter_mut() {
        if !group.careful {
            op.apply(group)?;
            results.push(Ok(()));
            continue;
        }
        results.push(match group.atomic(|group| op.apply(group).map(Ok::<(), ()>)) {
            Ok(_) => Ok(()),
            Err(Abort::Sql(error)) => Err(error.to_string()),
            Err(Abort::Careful) => Err("refused".into()),
        });
    }
    group.store_books()?;
    group.db.execute_batch("COMMIT")?;
    Ok(results)
}

fn failed(abort: Abort, ops: usize) -> Vec<Result<(), String>> {
    let why = match abort {
        Abort::Sql(error) => error.to_string(),
        Abort::Careful => "refused".into(),
    };
    error!(error = why, "a group could not be committed");
    vec![Err(why); ops]
}
