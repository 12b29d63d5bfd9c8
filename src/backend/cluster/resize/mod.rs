//! Changing how many partitions a store has, while no node serves it.
//!
//! ```text
//! alone ─► marked ─► fenced ─► finished ─► moving ─► settled ─► counted
//!          no node   every     every       every     every      the store has
//!          starts    lease is  commit and  message   epoch is   so many, and
//!                    ours      outbox      moves     higher     the mark is gone
//! ```
//!
//! Invariant: whoever resizes may die between any two calls; the next one does the rest. Each step is
//! either repeated without harm or remembers that it was done where it was done:
//!
//! * **marked** is first and **counted** is last: between them no node starts, and the number of partitions
//!   is the old one. A node joins and then looks for the mark; this marks and then looks for members. So
//!   one of them sees the other.
//! * **fenced**: whoever resizes owns every partition, old and new, under an epoch of its own, which every
//!   function that changes one asks for. So a node that slept, and another resize that slept, change
//!   nothing; and since appending needs no lease, each partition remembers for how many partitions it
//!   takes messages, and refuses those of a node that knows another number.
//! * **finished**: see [`prepare`], with the argument about states.
//! * **moving**: see [`carry`].
//! * **settled**: the epoch of every partition becomes higher than any had. A document has the epoch of a
//!   lease of its key's partition; after the move it is compared with leases of another one, whose epochs
//!   would otherwise be lower, and would never write it again.
//!
//! What stays: results and the sequences between partitions (`:sent`, `:seen`), in partitions too that are
//! no more. A moved message's old position leads to its new one ([`moved`](super::moved)), and it counts
//! as accepted where it is, so that each partition's ledger is balanced and the sum is what it was.

mod alone;
mod carry;
mod contents;
mod fences;
mod plan;
mod prepare;

use std::{collections::BTreeMap, sync::Arc};

use fred::types::Value;
use serde::Serialize;
use tracing::info;

use self::prepare::Prepared;
use super::{
    Cluster, Core, Options, Use,
    meta::Resizing,
    nodes,
    redis::{Fault, arg, number},
};
use crate::{
    backend::{Acquired, Lease, Member},
    error::{Error, Result},
    request::MAX_PARTITIONS,
};

/// What to change, and how.
#[derive(Clone)]
pub struct Resize {
    /// How many partitions there are to be.
    pub to: u16,
    /// The kinds that the product has, and whether each has state. One that is not named is treated as if
    /// it had.
    pub kinds: Vec<(String, bool)>,
    /// Most messages moved at once.
    pub batch: usize,
    /// Told before each step; an error ends it there, as the end of the process would.
    pub step: Arc<dyn Fn(Progress) -> Result<()> + Send + Sync>,
}

impl Resize {
    /// A resize to so many partitions, of a product with these kinds.
    pub fn new(to: u16, kinds: Vec<(String, bool)>) -> Self {
        Self { to, kinds, batch: 1024, step: Arc::new(|_| Ok(())) }
    }
}

/// A step that is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What.
    pub doing: Doing,
    /// In which partition, where it is one.
    pub partition: u16,
    /// How many messages.
    pub messages: usize,
}

/// What a resize does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// Joins as a member, so that no other resize begins.
    Joining,
    /// Says that the store is being resized.
    Marking,
    /// Takes a partition, and keeps others out.
    Fencing,
    /// Waits for what is on its way between partitions.
    Delivering,
    /// Finishes commits of which only the state was written.
    Finishing,
    /// Says that messages move from now on.
    Departing,
    /// Puts messages into a new partition.
    Copying,
    /// Removes them from the old one.
    Removing,
    /// Moves idempotency keys.
    Keys,
    /// Lets a new partition know the newest holders of locks.
    Fences,
    /// Lets a partition go.
    Settling,
    /// Says that the store is resized.
    Counting,
}

/// What moves, or has moved.
#[derive(Clone, Debug, Serialize)]
pub struct Resized {
    /// How many partitions there were.
    pub from: u16,
    /// How many there are then.
    pub to: u16,
    /// Whether an interrupted resize was gone on with: what it had moved is not in here.
    pub continued: bool,
    /// The nodes that must be stopped before.
    pub members: Vec<Member>,
    /// Each partition that holds messages, by number.
    pub partitions: Vec<Moves>,
}

/// What moves out of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moves {
    /// The partition.
    pub partition: u16,
    /// Messages in its mailbox that move.
    pub mailbox: u64,
    /// Deferred messages that move: timers, retries, parked ones.
    pub deferred: u64,
    /// Dead letters that move.
    pub dead: u64,
    /// Idempotency keys that move.
    pub keys: u64,
    /// Messages that stay.
    pub stay: u64,
    /// Messages that move, by where to.
    pub to: BTreeMap<u16, u64>,
}

/// A resize under way.
struct Run<'a> {
    core: &'a Arc<Core>,
    resize: &'a Resize,
    /// The lease of every partition there ever was or is to be.
    leases: Vec<Lease>,
}

impl Cluster {
    /// Changes how many partitions a store has, or goes on with that where it was interrupted. Terminal
    /// error (`not_resized`) when it cannot be done now; then nothing has changed.
    ///
    /// # Errors
    /// Any other error leaves the store marked: the same call goes on where it stopped.
    pub fn resize(options: Options, resize: Resize) -> Result<Resized> {
        check(resize.to)?;
        let cluster = Self::start(options, Use::Resize)?;
        cluster.wait(async move |core| run(&core, &resize).await)
    }

    /// Says what [`resize`](Cluster::resize) would move, and changes nothing.
    ///
    /// # Errors
    /// When a server does not answer, or there can be no such number of partitions.
    pub fn plan_resize(options: Options, to: u16) -> Result<Resized> {
        check(to)?;
        let cluster = Self::start(options, Use::Resize)?;
        cluster.wait(async move |core| plan::plan(&core, to).await)
    }

    /// Works on the store's threads until it is done.
    pub(super) fn wait<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Core>) -> F + Send + 'static,
    ) -> Result<T> {
        let (done, answer) = std::sync::mpsc::channel();
        let core = self.core.clone();
        self.core.runtime.spawn(async move {
            // The caller waits for this and nothing else.
            let _ = done.send(work(core).await);
        });
        answer.recv().map_err(|_| Error::new("the store's threads have ended"))?
    }
}

fn check(to: u16) -> Result<()> {
    if (1..=MAX_PARTITIONS).contains(&to) {
        return Ok(());
    }
    Err(refused(format!("a store has 1 to {MAX_PARTITIONS} partitions, and not {to}")))
}

fn refused(why: String) -> Error {
    Error::terminal(why).code("not_resized")
}

/// Whether `to` can be done now: the resize to go on with, if there is one.
fn allowed(core: &Core, to: u16) -> Result<Option<Resizing>> {
    let (from, begun) = (core.meta.partitions, core.meta.resizing);
    match begun {
        Some(begun) if begun.moving && begun.to != to => Err(refused(format!(
            "messages have moved already on the way from {from} to {} partitions: finish that first, with `greenroom \
             partitions resize {}`",
            begun.to, begun.to
        ))),
        None if from == to => Err(refused(format!("the store has {from} partitions already"))),
        begun => Ok(begun),
    }
}

async fn run(core: &Arc<Core>, resize: &Resize) -> Result<Resized> {
    let begun = allowed(core, resize.to)?;
    let (from, to) = (core.meta.partitions, resize.to);
    for (kind, stateful) in &resize.kinds {
        core.kinds.insert(kind.clone(), *stateful);
    }
    let mut run = Run { core, resize, leases: Vec::new() };
    run.step(Doing::Joining, 0, 0)?;
    alone::join(core).await?;
    if let Err(error) = alone::alone(core).await {
        alone::leave(core).await;
        return Err(error);
    }
    let mark = Resizing { to, moving: begun.is_some_and(|begun| begun.moving) };
    if begun != Some(mark) {
        run.step(Doing::Marking, 0, 0)?;
        mark.mark(core).await?;
    }
    if let Err(error) = alone::alone(core).await {
        if !mark.moving {
            Resizing::call_off(core).await?;
        }
        alone::leave(core).await;
        return Err(error);
    }
    let total = core.ever().max(to);
    for partition in 0..total {
        run.fence(partition).await?;
    }
    if !mark.moving {
        match prepare::prepare(&run).await? {
            Prepared::Ready if from == to => return run.call_off(None).await,
            Prepared::Ready => {}
            Prepared::Not(why) => return run.call_off(Some(why)).await,
        }
        run.step(Doing::Departing, 0, 0)?;
        Resizing { moving: true, ..mark }.mark(core).await?;
    }
    let mut partitions = Vec::new();
    for partition in 0..total {
        let mut moves = carry::messages(&run, partition).await?;
        moves.keys = carry::keys(&run, partition).await?;
        partitions.push(moves);
    }
    fences::spread(&run, total).await?;
    partitions.truncate(usize::from(from));
    let epoch = run.leases.iter().map(|lease| lease.epoch).max().unwrap_or(0) + 1;
    // What the last owner of a partition ran when it died may be anywhere now.
    let clean = run.leases.iter().all(|lease| lease.clean);
    for lease in &run.leases {
        run.settle(lease, epoch, clean).await?;
    }
    run.step(Doing::Counting, 0, 0)?;
    mark.finish(core, total).await?;
    alone::leave(core).await;
    info!(from, to, "resized");
    Ok(Resized { from, to, continued: begun.is_some(), members: Vec::new(), partitions })
}

impl Run<'_> {
    fn step(&self, doing: Doing, partition: u16, messages: usize) -> Result<()> {
        (self.resize.step)(Progress { doing, partition, messages })
    }

    fn epoch(&self, partition: u16) -> Value {
        number(self.leases.get(usize::from(partition)).map_or(0, |lease| lease.epoch))
    }

    /// Takes a partition, and keeps out whoever knows another number of them.
    async fn fence(&mut self, partition: u16) -> Result<()> {
        self.step(Doing::Fencing, partition, 0)?;
        match nodes::acquire(self.core, partition).await? {
            Acquired::Taken(lease) => self.leases.push(lease),
            // It joined after it was given up, and found the mark: it goes by itself.
            Acquired::Held(node) => return Err(Error::new(format!("node {node} has partition {partition}"))),
        }
        self.core.written(partition, "fence", vec![self.epoch(partition), number(self.resize.to)]).await?;
        Ok(())
    }

    async fn settle(&self, lease: &Lease, epoch: u64, clean: bool) -> Result<()> {
        self.step(Doing::Settling, lease.partition, 0)?;
        self.core.places[usize::from(lease.partition)].leave();
        let args = vec![number(lease.epoch), number(epoch), number(u8::from(clean))];
        self.core.written(lease.partition, "settle", args).await?;
        Ok(())
    }

    /// Leaves the store as it was: nothing has moved.
    async fn call_off(&self, why: Option<String>) -> Result<Resized> {
        let from = self.core.meta.partitions;
        for lease in &self.leases {
            let args = vec![number(lease.epoch), number(from)];
            self.core.written(lease.partition, "fence", args).await?;
            self.settle(lease, lease.epoch, lease.clean).await?;
        }
        Resizing::call_off(self.core).await?;
        alone::leave(self.core).await;
        match why {
            Some(why) => Err(refused(why)),
            None => Ok(Resized { from, to: from, continued: true, members: Vec::new(), partitions: Vec::new() }),
        }
    }

    /// Calls a function of a partition under its lease.
    async fn call(&self, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let mut all = vec![self.epoch(partition)];
        all.extend(args);
        self.core.written(partition, function, all).await
    }
}

/// A text as an argument.
fn text(text: impl ToString) -> Value {
    arg(text.to_string())
}
