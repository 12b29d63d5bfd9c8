//! The embedded backend: one SQLite file, one writer thread, one transaction for a whole group.
//!
//! ```text
//! append ─┐                    ┌─► tail ─► read (in memory)
//! commit ─┼─► writer ─► commit ┤
//! chores ─┘   (group)   fsync  └─► answers
//! reads ─────► connections of their own, on the blocking pool
//! ```

mod append;
mod apply;
mod asked;
mod audit;
mod chores;
mod journal;
mod limits;
mod lock;
mod nodes;
mod pauses;
mod query;
mod read;
mod schema;
mod sessions;
mod shares;
mod tail;
mod writer;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use dashmap::DashMap;
use rusqlite::Connection;
use tokio::sync::oneshot;

pub use self::lock::LOCK_FILE;
use self::{
    append::{AppendOp, Prepared, prepare},
    apply::{CommitOp, Ready, StateSql},
    shares::Crowds,
    tail::Tail,
    writer::{Book, Writer},
};
use super::{
    Append, Appended, Audit, Books, Commit, Commits, Dead, DeadFilter, DeadLetters, Due, Fut, Home, Lease, Ledger,
    Loaded, Lookup, Mailbox, Moment, NotAppended, Refused, Requests, Rows, Sent, Signals, States, Stored,
};
use crate::{
    address::{Address, is_kind},
    envelope::Position,
    error::{Error, Result},
    query::{Index, Query, declared_fields},
};

/// How the file is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Partitions of a new file; an existing one must have as many.
    pub partitions: u16,
    /// Byte budget of one partition's mailbox (G10).
    pub mailbox_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { partitions: 16, mailbox_bytes: 256 << 20 }
    }
}

/// The store.
pub struct Embedded {
    options: Options,
    secret: [u8; 32],
    tails: Arc<[Tail]>,
    reader: Reader,
    /// `None` when only inspecting.
    writing: Option<Writing>,
    kinds: DashMap<String, Arc<StateSql>>,
    counted: limits::Counted,
    crowds: Arc<Crowds>,
}

struct Writing {
    writer: Option<Writer>,
    thread: Option<std::thread::JoinHandle<()>>,
    lock: Option<lock::Lock>,
    /// Where the sweep of each partition's results goes on.
    sweeps: Mutex<Vec<i64>>,
}

/// A file is read by connections of its own; memory only by the writer's.
enum Reader {
    File(Arc<read::Readers>),
    Memory,
}

impl Embedded {
    /// Opens or creates `greenroom.db` in the directory `data` for this process alone. Terminal
    /// error when another process serves it, or when it was created with other partitions.
    pub fn open(data: &Path, options: Options) -> Result<Self> {
        std::fs::create_dir_all(data)
            .map_err(|e| Error::from(e).into_terminal().context(format!("creating {}", data.display())))?;
        let lock = lock::Lock::take(data)?;
        let path = lock::store_file(data);
        let connection = schema::open_writer(Some(&path), &options)?;
        Self::start(connection, options, Some(lock), Some(path))
    }

    /// A store in memory, for tests: the same code without a file.
    pub fn in_memory(options: Options) -> Result<Self> {
        let connection = schema::open_writer(None, &options)?;
        Self::start(connection, options, None, None)
    }

    fn start(
        connection: Connection,
        options: Options,
        lock: Option<lock::Lock>,
        path: Option<PathBuf>,
    ) -> Result<Self> {
        let (_, secret) = schema::check(&connection, path.as_deref(), None)?;
        let books = books(&connection)?;
        let tails: Arc<[Tail]> = tails(&books);
        let (writer, thread) = Writer::start(connection, books, tails.clone())?;
        let sweeps = Mutex::new(vec![0; usize::from(options.partitions)]);
        let reader = path.map_or(Reader::Memory, |path| Reader::File(Arc::new(read::Readers::new(path))));
        let writing = Writing { writer: Some(writer), thread: Some(thread), lock, sweeps };
        let counted = limits::Counted::default();
        let crowds = Crowds::new(options.partitions);
        Ok(Self { options, secret, tails, reader, writing: Some(writing), kinds: DashMap::new(), counted, crowds })
    }

    /// Opens an existing store only to read it; works beside a serving process.
    pub fn inspect(data: &Path) -> Result<Self> {
        let path = lock::store_file(data);
        if !path.exists() {
            return Err(Error::terminal(format!(
                "{} does not exist: is {} a data directory?",
                path.display(),
                data.display()
            )));
        }
        let connection = schema::open_reader(&path)?;
        let (partitions, secret) = schema::check(&connection, Some(&path), None)?;
        let tails = tails(&books(&connection)?);
        let options = Options { partitions, ..Options::default() };
        let reader = Reader::File(Arc::new(read::Readers::new(path)));
        let counted = limits::Counted::default();
        let crowds = Crowds::new(partitions);
        Ok(Self { options, secret, tails, reader, writing: None, kinds: DashMap::new(), counted, crowds })
    }

    fn writer(&self) -> Result<&Writer> {
        self.writing
            .as_ref()
            .and_then(|writing| writing.writer.as_ref())
            .ok_or_else(|| Error::terminal("the store is open for reading only"))
    }

    async fn read<T: Send + 'static>(&self, read: impl Fn(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        match &self.reader {
            Reader::File(readers) => readers.run(read).await,
            Reader::Memory => chores::write(self.writer()?, move |group| Ok(read(group.db))).await?,
        }
    }
}

impl Drop for Embedded {
    /// Waits for the writer, so that the file is free for the next owner when the lock is.
    fn drop(&mut self) {
        if let Some(writing) = &mut self.writing {
            drop(writing.writer.take());
            if let Some(thread) = writing.thread.take() {
                // A writer that panicked has answered nobody; there is nothing left to save.
                let _ = thread.join();
            }
        }
    }
}

fn books(connection: &Connection) -> Result<Vec<Book>> {
    let mut read = connection.prepare("SELECT expired, swept, epoch, clean FROM ledger ORDER BY partition")?;
    let rows = read.query_map([], |row| {
        Ok(Book {
            expired: row.get::<_, i64>(0)? as u64,
            swept: row.get(1)?,
            epoch: row.get::<_, i64>(2)? as u64,
            clean: row.get(3)?,
            ..Book::default()
        })
    })?;
    let mut books: Vec<Book> = rows.collect::<Result<_, _>>()?;
    for (book, ledger) in books.iter_mut().zip(audit::ledgers(connection)?) {
        book.ledger = ledger;
    }
    Ok(books)
}

fn tails(books: &[Book]) -> Arc<[Tail]> {
    let tail = |(partition, book): (usize, &Book)| Tail::new(Position::new(partition as u16, book.ledger.accepted));
    books.iter().enumerate().map(tail).collect()
}

impl Mailbox for Embedded {
    fn partitions(&self) -> u16 {
        self.options.partitions
    }

    fn append(&self, batch: Vec<Append>) -> Fut<'_, Vec<Result<Appended, NotAppended>>> {
        let count = batch.len();
        let unavailable = move |why: String| (0..count).map(|_| Err(NotAppended::Unavailable(why.clone()))).collect();
        let (reply, answers) = oneshot::channel();
        match (prepare(batch, self.options.partitions), self.writer()) {
            (Ok(batch), Ok(writer)) => writer.send(Box::new(AppendOp {
                batch,
                budget: self.options.mailbox_bytes,
                crowds: self.crowds.clone(),
                answers: Vec::with_capacity(count),
                reply,
            })),
            (Err(error), _) => return Box::pin(std::future::ready(unavailable(error.to_string()))),
            (_, Err(error)) => return Box::pin(std::future::ready(unavailable(error.to_string()))),
        }
        Box::pin(async move { answers.await.unwrap_or_else(|_| unavailable("the writer has stopped".into())) })
    }

    fn read(&self, partition: u16, after: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        if let Some(found) = self.tails[usize::from(partition)].take(after, limit) {
            return Box::pin(std::future::ready(Ok(found)));
        }
        let end = Position::new(partition, u64::MAX);
        Box::pin(self.read(move |db| read::mailbox(db, partition, after, end, limit)))
    }

    fn reread(&self, partition: u16, from: Position, to: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        let after = Position::new(partition, from.number().saturating_sub(1));
        Box::pin(self.read(move |db| read::mailbox(db, partition, after, to, limit)))
    }

    fn signals(&self, partition: u16) -> Arc<Signals> {
        self.tails[usize::from(partition)].signals()
    }

    fn due(
        &self,
        partition: u16,
        now: i64,
        from: Option<Moment>,
        handed: HashSet<Position>,
        limit: usize,
    ) -> Fut<'_, Result<Due>> {
        Box::pin(self.read(move |db| read::due(db, partition, now, from, &handed, limit)))
    }

    fn parked(&self, address: &Address, from: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        let address = address.clone();
        Box::pin(self.read(move |db| read::parked(db, &address, from, limit)))
    }

    fn blocked(&self, partition: u16, after: Option<Address>, limit: usize) -> Fut<'_, Result<Vec<Address>>> {
        Box::pin(self.read(move |db| read::blocked(db, partition, after.as_ref(), limit)))
    }
}

impl Commits for Embedded {
    fn open(&self, _: Lease, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>> {
        Box::pin(self.read(move |db| read::load(db, &addresses)))
    }

    fn begin(&self, lease: Lease, messages: Vec<(Position, Home)>) -> Fut<'_, Result<Vec<u32>>> {
        Box::pin(async move {
            chores::write(self.writer()?, move |group| chores::begin(group, lease, &messages))
                .await?
                .ok_or_else(|| Error::terminal("another owner has taken over").code("stale_lease"))
        })
    }

    fn commit(&self, lease: Lease, batch: Arc<Vec<Commit>>) -> Fut<'_, Vec<Result<(), Refused>>> {
        let count = batch.len();
        let unavailable = move |why: String| (0..count).map(|_| Err(Refused::Unavailable(why.clone()))).collect();
        let ready = |commit: &Commit| {
            let encode = |sent: &Sent| Prepared::new(sent.envelope.clone(), sent.due, self.options.partitions);
            let outbox = commit.outbox.iter().map(encode).collect::<Result<_, _>>()?;
            let sql = self.kinds.get(commit.address.kind()).map(|sql| sql.clone());
            Ok::<_, serde_json::Error>(Ready { outbox, sql })
        };
        let (reply, answers) = oneshot::channel();
        match (batch.iter().map(ready).collect::<Result<Vec<_>, _>>(), self.writer()) {
            (Ok(ready), Ok(writer)) => {
                writer.send(Box::new(CommitOp {
                    lease,
                    batch,
                    ready,
                    crowds: self.crowds.clone(),
                    answers: Vec::with_capacity(count),
                    reply,
                }));
            }
            (Err(error), _) => return Box::pin(std::future::ready(unavailable(error.to_string()))),
            (_, Err(error)) => return Box::pin(std::future::ready(unavailable(error.to_string()))),
        }
        Box::pin(async move { answers.await.unwrap_or_else(|_| unavailable("the writer has stopped".into())) })
    }
}

impl States for Embedded {
    fn declare(&self, kind: &str, _: bool, indexes: &[Index]) -> Fut<'_, Result<()>> {
        let (kind, indexes) = (kind.to_owned(), indexes.to_vec());
        Box::pin(async move {
            if !is_kind(&kind) {
                return Err(Error::terminal(format!("kind {kind:?} is not a name")));
            }
            let sql = Arc::new(StateSql::new(&kind, &declared_fields(&indexes)));
            let named = kind.clone();
            chores::write(self.writer()?, move |group| Ok(schema::declare(group.db, &named, &indexes)?)).await?;
            self.kinds.insert(kind, sql);
            Ok(())
        })
    }

    fn load(&self, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>> {
        Box::pin(self.read(move |db| read::load(db, &addresses)))
    }

    fn query(&self, kind: &str, query: Query) -> Fut<'_, Result<Rows>> {
        let kind = kind.to_owned();
        Box::pin(self.read(move |db| query::run(db, &kind, &query)))
    }
}
