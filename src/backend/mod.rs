//! What a store must do to hold the guarantees, as traits that [`embedded`] (SQLite) and later
//! backends implement. `tests/conformance` is their contract in executable form.
//!
//! A message is always in exactly one place, and moves by one atomic [`Commit`]:
//!
//! ```text
//! mailbox ──► (done)  completed │ failed │ cancelled      result kept if promised
//!    │  ▲
//!    ▼  │ never back: deferred messages are delivered from where they are
//! deferred ──► (done)          timers, retries waiting, messages parked behind a blocked key
//!    │
//!    ▼
//! dead letters ──► redriven into deferred, or discarded (= cancelled)
//! ```

pub(crate) mod bucket;
pub mod cluster;
pub mod commit;
mod cursor;
pub mod document;
pub mod embedded;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod nodes;
pub mod pauses;
pub mod sessions;
pub mod shares;
pub(crate) mod turns;

use std::{collections::HashSet, future::Future, pin::Pin, sync::Arc};

use tokio::sync::Notify;

pub use commit::{Commit, Decided, Deferral, Done, JournalWrite, Outcome, Refused, Sent, StateWrite};
pub use ledger::{Audit, Ledger, Mismatch};
pub use limits::Limits;
pub use message::{
    Append, Appended, Dead, DeadFilter, FENCED, Fence, Home, Idempotency, Lookup, NotAppended, Request, Status, Stored,
};
pub use nodes::{Acquired, Lease, Leases, Member, NodeInfo, Nodes, Owner};
pub use pauses::{MOST_PAUSED, Paused, Pauses, Scope};
pub use sessions::Sessions;
pub use shares::{Over, REFUSED, Shares, Tenant, TenantOf};

use crate::{
    address::Address,
    envelope::Position,
    error::Result,
    query::{Index, Query},
};

/// A boxed future: every call is for a batch, so the box is paid once for many messages.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything a node needs of its store.
pub trait Backend:
    Mailbox
    + Shares
    + Commits
    + Journals
    + States
    + Requests
    + DeadLetters
    + Pauses
    + Leases
    + Nodes
    + Books
    + Sessions
    + Limits
{
}

impl<T> Backend for T where
    T: Mailbox
        + Shares
        + Commits
        + Journals
        + States
        + Requests
        + DeadLetters
        + Pauses
        + Leases
        + Nodes
        + Books
        + Sessions
        + Limits
{
}

/// Durable mailboxes, one per partition.
///
/// A page may hold fewer messages than were asked for though more follow (by their bytes, say): a reader goes on
/// after the last one, until a page is empty; a reader of [due](Self::due) messages, until the next one is not due.
pub trait Mailbox: Send + Sync + 'static {
    /// How many partitions there are; that does not change while the store is open.
    fn partitions(&self) -> u16;

    /// Appends each message to the mailbox of its address's partition, or says why not. Answers
    /// only when they are as durable as configured.
    fn append(&self, batch: Vec<Append>) -> Fut<'_, Vec<Result<Appended, NotAppended>>>;

    /// Up to `limit` messages of the partition's mailbox after `after`, in order: whoever reads so goes on
    /// from the last one, and does not go back.
    fn read(&self, partition: u16, after: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>>;

    /// Up to `limit` messages that are still in the partition's mailbox, `from` … `to`, in order: of what was
    /// read before, the part that waits. What ended before this was asked for is not among them.
    fn reread(&self, partition: u16, from: Position, to: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>>;

    /// What tells the partition's reader to look again: of the present owner, so asked for after
    /// [`Leases::acquire`].
    fn signals(&self, partition: u16) -> Arc<Signals>;

    /// Up to `limit` deferred messages of the partition due at `now` or before, in order of their
    /// [moments](Self::moment) beginning `from` one of those (with the first, when `None`), without those
    /// already `handed` out; and when the next one is due.
    fn due(
        &self,
        partition: u16,
        now: i64,
        from: Option<Moment>,
        handed: HashSet<Position>,
        limit: usize,
    ) -> Fut<'_, Result<Due>>;

    /// Where a deferred message that is due at some time is in the order of [`due`](Self::due).
    fn moment(&self, stored: &Stored) -> Moment {
        Moment { due: stored.due, tie: stored.position.number() }
    }

    /// Up to `limit` parked messages of one address at or after `from`, in order.
    fn parked(&self, address: &Address, from: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>>;

    /// Up to `limit` addresses of the partition that have parked messages, in order, after `after`.
    fn blocked(&self, partition: u16, after: Option<Address>, limit: usize) -> Fut<'_, Result<Vec<Address>>>;
}

/// Deferred messages whose time has come.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// The messages.
    pub messages: Vec<Stored>,
    /// When the next one after them is due, in milliseconds since the Unix epoch: at once, where there was no room for
    /// it among them.
    pub next: Option<i64>,
}

/// A place in the order in which deferred messages fall due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Moment {
    /// When, in milliseconds since the Unix epoch.
    pub due: i64,
    /// Among those of the same time, in an order of the store's own.
    pub tie: u64,
}

/// Tells a partition's reader to look again. May be notified for nothing.
#[derive(Debug, Default)]
pub struct Signals {
    /// Something was appended to the mailbox.
    pub arrived: Notify,
    /// Something was deferred.
    pub deferred: Notify,
}

/// Changing what is stored, under a lease.
pub trait Commits: Send + Sync + 'static {
    /// The saved state of each address, for the owner that is going to change it: whatever an earlier
    /// owner had begun to commit for it is finished first. Terminal error (`stale_lease`) when the
    /// lease was lost before the states were read.
    fn open(&self, lease: Lease, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>>;

    /// Counts one more begun attempt of each message, durably, and answers the new counts (0 for
    /// a message that is gone). G6: a message that kills the process was counted before it ran.
    fn begin(&self, lease: Lease, messages: Vec<(Position, Home)>) -> Fut<'_, Result<Vec<u32>>>;

    /// Makes each commit atomic, all of them durable, and answers each in order.
    fn commit(&self, lease: Lease, batch: Arc<Vec<Commit>>) -> Fut<'_, Vec<Result<(), Refused>>>;

    /// Like [`commit`](Self::commit), and says of a commit as soon as it is *decided*: all of it is durable
    /// somewhere, and whatever happens now it becomes true as it is, finished by this owner or the next. Its
    /// answer may even be [`Refused::Stale`] then, when it is the next one. Said at most once of a commit,
    /// before its answer, and never of one that is not; a store that does all at once has nothing to say.
    fn commit_early(
        &self,
        lease: Lease,
        batch: Arc<Vec<Commit>>,
        decided: Decided,
    ) -> Fut<'_, Vec<Result<(), Refused>>> {
        let _ = decided;
        self.commit(lease, batch)
    }
}

/// What running commands have recorded before they went on: written by [commits](JournalWrite), kept
/// until the message is forgotten. A journal is part of its message and no message itself: the ledger
/// does not count it.
pub trait Journals: Send + Sync + 'static {
    /// The journal of a message, in order; empty when it has none (any more).
    fn journal(&self, position: Position) -> Fut<'_, Result<Vec<Vec<u8>>>>;

    /// Messages of the partition that have a journal and have not ended (dead letters included).
    fn journaled(&self, partition: u16) -> Fut<'_, Result<Vec<Position>>>;
}

/// One page of a query: keys and documents, and the cursor of the next page.
pub type Rows = (Vec<(String, Vec<u8>)>, Option<String>);

/// Saved state.
pub trait States: Send + Sync + 'static {
    /// Prepares the store for a kind and its indexes, filling new indexes from what is saved. A kind
    /// that is not `stateful` never writes a state.
    fn declare(&self, kind: &str, stateful: bool, indexes: &[Index]) -> Fut<'_, Result<()>>;

    /// The committed state of each address, to look at: without [`Loaded::parked`].
    fn load(&self, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>>;

    /// The largest state it can save, in bytes, together with what its commit sends and answers.
    fn state_limit(&self) -> usize {
        usize::MAX
    }

    /// The MongoDB database of the states, for what only MongoDB can do; `None` in other stores.
    fn mongo(&self) -> Option<mongodb::Database> {
        None
    }

    /// Keys and states that answer a query already [checked](Query::check), and the next cursor.
    fn query(&self, kind: &str, query: Query) -> Fut<'_, Result<Rows>>;
}

/// What is saved of one actor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The revision; 0 when nothing is saved.
    pub rev: u64,
    /// The state as a BSON document `{"state": …}`; empty when nothing is saved.
    pub doc: Vec<u8>,
    /// Whether messages of this address are parked.
    pub parked: bool,
    /// Messages that the commit of this state has ended, deferred or parked, and where each was before, as far as it
    /// is not there any more: if it was read there earlier, it must not be handled.
    pub finished: Vec<(Position, Home)>,
}

/// What clients were promised.
pub trait Requests: Send + Sync + 'static {
    /// Where a message is and how it stands.
    fn lookup(&self, position: Position) -> Fut<'_, Result<Lookup>>;

    /// Where a message is now that was accepted at `position`: a store whose partitions were resized
    /// may have moved it. Whatever else is asked of a message is asked by where it is now.
    fn locate(&self, position: Position) -> Fut<'_, Result<Position>> {
        Box::pin(std::future::ready(Ok(position)))
    }

    /// Cancels a message of which no attempt has begun and that has no journal; `false` when there is
    /// none such. Only the owner of its partition may, and must not begin an attempt meanwhile.
    fn cancel(&self, lease: Lease, position: Position, now: i64) -> Fut<'_, Result<bool>> {
        Box::pin(async move { Ok(self.cancel_all(lease, vec![position], now).await?.pop().unwrap_or(false)) })
    }

    /// Cancels messages of the lease's partition, each as [`cancel`](Self::cancel) does, at once.
    fn cancel_all(&self, lease: Lease, positions: Vec<Position>, now: i64) -> Fut<'_, Result<Vec<bool>>>;

    /// Forgets results that ended before `before` and idempotency keys that expired; answers how
    /// many results. Called now and then, does a bounded amount of work.
    fn expire(&self, before: i64, now: i64) -> Fut<'_, Result<usize>>;

    /// The store's secret, from which unguessable request ids are made.
    fn secret(&self) -> [u8; 32];
}

/// Messages that were given up.
pub trait DeadLetters: Send + Sync + 'static {
    /// Dead letters in order of position after `after`.
    fn dead(&self, filter: DeadFilter, after: Option<Position>, limit: usize) -> Fut<'_, Result<Vec<Dead>>>;

    /// Puts dead letters back with their attempts forgotten; answers how many there were.
    fn redrive(&self, positions: Vec<Position>, now: i64) -> Fut<'_, Result<usize>>;

    /// Gives dead letters up for good: they end as cancelled.
    fn discard(&self, positions: Vec<Position>, now: i64) -> Fut<'_, Result<usize>>;
}

/// The accounts.
pub trait Books: Send + Sync + 'static {
    /// The ledger of each partition, as counted with the commits.
    fn ledgers(&self) -> Fut<'_, Result<Vec<Ledger>>>;

    /// Counts what is there and compares it with the ledger (G11).
    fn audit(&self) -> Fut<'_, Result<Audit>>;

    /// How many messages could be handled at `now`, are on their way from one mailbox to another
    /// included: zero when everything is done that can be.
    fn runnable(&self, now: i64) -> Fut<'_, Result<u64>>;

    /// When the oldest message in a mailbox was accepted, in milliseconds since the Unix epoch.
    fn oldest(&self) -> Fut<'_, Result<Option<i64>>>;

    /// What the store's own clock shows, in milliseconds since the Unix epoch; `None` when it has no clock but this
    /// machine's.
    fn time(&self) -> Fut<'_, Result<Option<i64>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Whether the store can accept durably right now, tried by writing.
    fn ready(&self) -> Fut<'_, Result<()>>;
}
