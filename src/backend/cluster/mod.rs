//! The cluster backend: mailboxes in Redis, state in MongoDB, as many nodes as there are.
//!
//! ```text
//! append ─► lane ─► greenroom_1_append ─► :mail:B ─► read           everything of a partition shares
//! commit ─► MongoDB: state + redo  (1)                              a hash tag, and changes by one
//!       └─► greenroom_1_commit  (2) ─► ended, deferred, :out:B      function call at a time
//!                                          └─► greenroom_1_receive (3) ─► :mail:B of another partition
//! ```
//!
//! # One effect across both
//!
//! **(1) Writing the state is the moment a commit becomes true.** The document carries `redo`: all that
//! the commit does in Redis. **(2)** ends its messages, defers, parks, counts, and puts what was sent
//! into the partition's outbox: one function call, under the lease's epoch. A commit that changes no
//! state is (2) alone, and so atomic.
//!
//! * *A crash between (1) and (2).* The next owner opens the actor before it handles anything of it, sees
//!   that the redo's witness (a message that the commit completes) still waits, and does (2). A witness
//!   that is gone means (2) was done, because (2) is all or nothing and a completed message never comes back.
//! * *A lost answer of (1).* The write is asked for again, meets its own key, and finds its own revision
//!   and epoch: one activation writes a key under one epoch, one write at a time.
//! * *A lost answer of (2).* The group is sent again under its serial, which the lease's hash remembers.
//! * *A stale owner's (2)* names an old epoch and is refused.
//! * *A stale owner's (1) that lands late.* Owner B reads the document and then asks Redis whether its
//!   epoch still holds ([`open`](open::open)), so every write after that is on top of what B read. Were
//!   it not refused for its revision, B had not written; and before B makes anything true in Redis of an
//!   actor it has not written, it *claims* the document (`$max epoch`), which refuses every write under an
//!   earlier epoch, and reads it again. So the late write either is seen and finished by B, or refused.
//! * *A message that B read before A's commit was finished* is named by the saved commit, whichever call finished
//!   it and whichever answer was lost ([`touched`]), and B does not handle it.
//! * *Half a group.* Each commit is its own document and its own redo; those that lost the race are
//!   refused one by one, the others go on to (2).
//!
//! **Decided.** So from (1) on nothing but (2) can become of a commit, and whoever waits for its outcome is answered
//! then ([`Commits::commit_early`](crate::backend::Commits::commit_early)), while (2) is on its way:
//!
//! * It is said when the document is written *with its redo on a majority*. An answer of (1) that is lost, late or
//!   names no majority decides nothing; the write is asked for again, and when it turns out to be there (its revision,
//!   epoch and digest, read after a refusal that itself waited for the majority) that decides. A commit without a
//!   state, or whose document carries no redo, is decided by (2).
//! * (2) may still be refused to this owner, because its epoch is over or it died. Its messages wait then, and the
//!   next owner does nothing with one before it has opened the actor, and by that finished the commit: handling and
//!   giving up go through the activation, cancelling and burying claim first. Nothing is answered twice: the message
//!   is one of those that finishing names.
//! * A stale owner's (1) that lands late decides, too, where it is not refused: by the claims above the present owner
//!   either cannot make anything true of the actor any more before it has finished this commit, or has refused it.
//! * What the outcome promises is in the redo to the byte: the result that a client reads later is the one it was
//!   given. If Redis loses what it acknowledged, it may lose that result as it may after (2).
//! * The next commit of the key waits for (2): a document is never more than one commit ahead of Redis, or the redo
//!   of the first would be replaced before it was done.
//!
//! **Journals.** What a running command records is in Redis alone, beside its message, and is written by
//! (2): a commit that changes no state writes its entries with everything else it does, or nothing. One
//! that changes a state has them in its redo, so that whoever finishes it writes them, once: (2) ends the
//! witness in the same call. An old redo, or one of a build that knows no journals, has none, and reads so.
//!
//! **(3) Sequences.** (2) gives each parcel a sequence per receiver, in the call that ends its sender. The
//! receiver keeps the highest it has taken of each sender and takes only the next ones. Sequences are
//! assigned once, in Redis, so it is of no matter which owner sends them, how often, or how late.
//!
//! There is no epoch in (3), and nothing to close or freeze: see ARCHITECTURE.md for what was weighed.

mod answer;
mod append;
mod books;
mod calls;
mod commit;
mod decode;
mod durability;
mod encode;
pub mod inject;
mod journal;
mod limits;
mod mailbox;
mod meta;
mod mongo;
mod moved;
mod nodes;
mod open;
mod options;
mod outbox;
mod pack;
mod parcels;
mod pauses;
mod place;
mod redis;
mod requests;
mod resize;
mod sequences;
mod sessions;
mod shares;
mod states;
mod tail;
mod touched;
mod upgrade;
mod warm;

use std::sync::{
    Arc, Mutex, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use dashmap::DashMap;
use fred::types::Value;
use tokio::sync::mpsc;

use self::{
    append::Item,
    meta::Meta,
    mongo::States,
    nodes::Membership,
    place::Place,
    redis::{Fault, Redis, Repeat},
};
pub use self::{
    durability::Accept,
    inject::Injector,
    options::{FORGET, Options, Tls},
    resize::{Doing, Moves, Progress, Resize, Resized},
    upgrade::{Checked, Found, Upgrade, Upgraded},
};
use crate::{
    backend::{TenantOf, turns::Company},
    error::{Error, Result},
    request::MAX_PARTITIONS,
};

/// This node's view of the stores.
pub struct Cluster {
    core: Arc<Core>,
    /// Connections are served by threads of their own, so that no handler holds them up.
    runtime: Option<tokio::runtime::Runtime>,
}

/// What everything in here shares.
struct Core {
    /// Itself, for work that goes on by itself.
    this: Weak<Core>,
    options: Options,
    redis: Redis,
    states: States,
    meta: Meta,
    places: Box<[Arc<Place>]>,
    lanes: Vec<mpsc::UnboundedSender<Item>>,
    /// Kinds that have state.
    kinds: DashMap<String, bool>,
    membership: Membership,
    letters: Mutex<Option<mpsc::UnboundedReceiver<Vec<u8>>>>,
    runtime: tokio::runtime::Handle,
    closed: AtomicBool,
    durable: durability::Durable,
    /// How far through each partition's moved messages the forgetting has come.
    moves: DashMap<u16, String>,
    limits: limits::Ways,
    /// Whose an actor is.
    tenants: OnceLock<TenantOf>,
    /// Whose messages and commits there were lately.
    company: Company,
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Serve,
    Look,
    /// Also one that is being resized.
    Resize,
    /// Only to look, also at one of an older format or one that is being resized.
    Check,
    /// Also one of an older format.
    Upgrade,
}

impl Use {
    /// Whether nothing is changed.
    fn looks(self) -> bool {
        matches!(self, Self::Look | Self::Check)
    }
}

impl Cluster {
    /// Connects to both stores, creating what a new one needs. Terminal error when they cannot keep
    /// what `accept` promises (G13), or when the store has other partitions.
    pub fn open(options: Options) -> Result<Self> {
        Self::start(options, Use::Serve)
    }

    /// Connects only to look.
    pub fn inspect(options: Options) -> Result<Self> {
        Self::start(options, Use::Look)
    }

    /// Connects, checks what opening would check, and says what was found.
    pub fn examine(options: Options) -> Result<String> {
        crate::tls::install();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::from(e).into_terminal().context("starting the store's threads"))?;
        runtime.block_on(async {
            let redis = Redis::connect(&options, 1).await?;
            let states = States::connect(&options).await?;
            durability::check(&redis, &states, options.accept, true).await?;
            states.ready().await?;
            match Meta::read(&redis).await {
                Ok(meta) => {
                    meta.serves(options.partitions)?;
                    if meta.format < meta::FORMAT {
                        return Ok(format!(
                            "Redis and MongoDB answer and write; the store has format {}, and the first start of a \
                             node brings it to format {}",
                            meta.format,
                            meta::FORMAT
                        ));
                    }
                    Ok(format!("Redis and MongoDB answer and write, {} partitions", meta.partitions))
                }
                Err(error) if error.has_code("no_store") => {
                    Ok("Redis and MongoDB answer and write; none yet: the first start makes one".to_owned())
                }
                Err(error) => Err(error),
            }
        })
    }

    fn start(options: Options, what: Use) -> Result<Self> {
        // The drivers of both stores would end the process where they find none.
        crate::tls::install();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("greenroom-store")
            .enable_all()
            .build()
            .map_err(|e| Error::from(e).into_terminal().context("starting the store's threads"))?;
        let (done, connected) = std::sync::mpsc::channel();
        let handle = runtime.handle().clone();
        // Whoever opens a store may be inside another runtime, which must not be blocked on this one.
        runtime.spawn(async move {
            // The opener waits for this and nothing else.
            let _ = done.send(Core::connect(options, what, handle).await);
        });
        let connected = connected.recv().unwrap_or_else(|_| Err(Error::new("the store's threads have ended")));
        match connected {
            Ok(core) => Ok(Self { core, runtime: Some(runtime) }),
            Err(error) => {
                // Waiting for its end is not allowed inside another runtime.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Runs work on the store's threads and waits for it: whoever asked may go away meanwhile.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        self.core.runtime.spawn(work).await.map_err(|_| Error::new("the store is closing"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.core.close();
        if let Some(runtime) = self.runtime.take() {
            let core = self.core.clone();
            runtime.spawn(async move { core.redis.close() });
            // Nothing is owed any more: what was answered is durable.
            runtime.shutdown_background();
        }
    }
}

impl Core {
    async fn connect(options: Options, what: Use, runtime: tokio::runtime::Handle) -> Result<Arc<Self>> {
        let redis = Redis::connect(&options, 2).await?;
        let states = States::connect(&options).await?;
        let durable = durability::check(&redis, &states, options.accept, !what.looks()).await?;
        if what == Use::Serve {
            Meta::create(&redis, &durable, options.partitions).await?;
        }
        let mut meta = Meta::read(&redis).await?;
        match what {
            Use::Serve => {
                meta.serves(options.partitions)?;
                if meta.format < meta::FORMAT {
                    upgrade::begin(&redis, &durable, options.lease, &meta).await?;
                    meta = Meta::read(&redis).await?;
                }
            }
            Use::Look => {
                meta.is_whole()?;
                meta.is_new()?;
            }
            Use::Resize => meta.is_new()?,
            Use::Upgrade => meta.is_whole()?,
            Use::Check => {}
        }
        let options = Options { partitions: meta.partitions, ..options };
        // Results stay in partitions that are no more.
        let ever = meta.ever.unwrap_or(0).max(meta.partitions);
        let places = if what == Use::Resize { MAX_PARTITIONS } else { ever };
        let places = (0..places).map(|_| Arc::default()).collect();
        let (lanes, queues): (Vec<_>, Vec<_>) = (0..redis.lanes()).map(|_| mpsc::unbounded_channel()).unzip();
        let (post, letters) = mpsc::unbounded_channel();
        let (limits, wishes) = limits::Ways::new();
        let core = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            redis,
            states,
            meta,
            places,
            lanes,
            kinds: DashMap::new(),
            membership: Membership::default(),
            letters: Mutex::new(Some(letters)),
            runtime,
            closed: AtomicBool::new(false),
            durable,
            moves: DashMap::new(),
            limits,
            tenants: OnceLock::new(),
            company: Company::default(),
            options,
        });
        for queue in queues {
            tokio::spawn(append::serve(core.clone(), queue));
        }
        for (shard, queue) in wishes.into_iter().enumerate() {
            tokio::spawn(limits::serve(core.clone(), shard, queue));
        }
        if what == Use::Serve && core.meta.upgraded {
            tokio::spawn(upgrade::carry_retired(core.clone()));
        }
        if what == Use::Serve {
            let serving = core.clone();
            tokio::spawn(async move { serving.redis.delete_old_libraries().await });
        }
        if !what.looks() {
            tokio::spawn(nodes::listen(core.clone(), post));
            tokio::spawn(nodes::look_now_and_then(core.clone()));
        }
        Ok(core)
    }

    /// This node's number.
    fn me(&self) -> u64 {
        self.membership.me()
    }

    /// How many partitions there ever were: results stay in those that are no more.
    fn ever(&self) -> u16 {
        self.meta.ever.unwrap_or(self.meta.partitions)
    }

    /// Whether that was ever changed, so that messages may have moved.
    fn was_resized(&self) -> bool {
        self.meta.ever.is_some()
    }

    /// Whether the node has closed the store.
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.places.iter().for_each(|place| place.leave());
    }

    /// Whether actors of a kind have state.
    fn stateful(&self, kind: &str) -> bool {
        self.kinds.get(kind).is_some_and(|stateful| *stateful)
    }

    /// Queues something for a partition's mailbox.
    fn send(&self, partition: u16, item: Item) {
        // The lanes end with the store; whoever waits finds its answer dropped.
        let _ = self.lanes[self.redis.lane(partition)].send(item);
    }

    /// Calls a function about the whole store, and answers when that is as durable as configured.
    async fn declared(&self, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.redis.write(0, &self.redis.meta_key(), (function, args), Repeat::Once, &self.durable).await
    }
}

/// Numbers that rise by themselves.
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}
