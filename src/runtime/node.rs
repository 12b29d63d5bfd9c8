//! A running node, as the gateway, the command line and tests hold it.

use std::{collections::HashMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    arbiters::Arbiters,
    faults::Faults,
    kind::Kind,
    nodes::Nodes,
    pausing,
    post::Post,
    settings::Settings,
    shared::Shared,
    view::{State, View},
};
use crate::{
    actor::Actor,
    address::{Address, At},
    backend::{Audit, Backend, Dead, DeadFilter, Fence, Idempotency, Ledger, NotAppended, document},
    clock::Clock,
    coordination::{
        RESERVED, builtin,
        limit::{Declarations, Limits},
        live,
        schedule::{Declared, declare},
        session::Sessions,
        topic,
    },
    envelope::Position,
    error::{Error, Result},
    feature::Feature,
    metrics::Metrics,
    query::{Page, Query},
    request::RequestId,
    trace::Trace,
};

pub use super::requests::Cancel;

/// A handle on a running node. Cheap to clone, usable from any thread.
///
/// ```
/// # use greenroom::prelude::*;
/// # struct Counter;
/// # impl Actor for Counter {
/// #     const KIND: &'static str = "counter";
/// #     type State = u64;
/// #     type Command = u64;
/// #     type Reply = u64;
/// #     async fn handle(&self, total: &mut u64, add: u64, _: &Context<Self>) -> Result<u64> {
/// #         *total += add;
/// #         Ok(*total)
/// #     }
/// # }
/// # let dir = tempfile::tempdir()?;
/// App::embedded(dir.path()).feature(Feature::new(Counter)).run_until(|node| async move {
///     assert_eq!(node.ask(Counter::at("visits"), 2).await?, 2);
///     assert_eq!(node.state::<Counter>("visits").await?, Some(2));
///     Ok(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    pub(super) arbiters: Arc<Arbiters>,
    pub(super) post: Option<Arc<Post>>,
    nodes: Option<Arc<Nodes>>,
}

/// What a node is started with.
pub struct Start {
    /// The store.
    pub backend: Arc<dyn Backend>,
    /// The features whose actors it runs.
    pub features: Vec<Feature>,
    /// Its bounds.
    pub settings: Settings,
    /// Its clock.
    pub clock: Clock,
}

/// A message to accept from outside.
#[derive(Clone, Debug)]
pub struct Accept {
    /// The receiving actor.
    pub to: Address,
    /// The command, already known to be one of that actor's.
    pub command: Box<RawValue>,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub due: Option<i64>,
    /// The trace it continues.
    pub trace: Option<Trace>,
    /// Makes a repeat happen once.
    pub idempotency: Option<Idempotency>,
    /// Refuses it when a newer holder of a lock has appended to the same mailbox.
    pub fence: Option<Fence>,
    /// Whether somebody will wait for the result right away.
    pub wait: bool,
}

/// An accepted message: durable from now on.
pub struct Accepted {
    /// Its id.
    pub request: RequestId,
    /// The first answer, when this was a repeat under the same idempotency key.
    pub replayed: Option<String>,
    /// Resolves when it ended, if [`Accept::wait`] was set and it is no repeat.
    pub ended: Option<oneshot::Receiver<View>>,
}

impl Node {
    /// Starts a node; inside an actix system. Terminal error when two features have the same kind.
    pub async fn start(start: Start) -> Result<Self> {
        Self::start_with(start, Faults::of_process(), uuid::Uuid::now_v7().as_u128() as u64).await
    }

    pub(crate) async fn start_with(mut start: Start, faults: Faults, seed: u64) -> Result<Self> {
        start.settings.limits = declarations(&start.features, start.settings.limits);
        let kinds = kinds(&start.features)?;
        let declared = Declared::of(&start.features)?;
        start.backend.declares(declared.digest());
        start.settings.session.check()?;
        let topics = topic::Registry::of(&start.features)?;
        for kind in kinds.values() {
            start.backend.declare(kind.name(), kind.stateful(), &kind.indexes()).await?;
        }
        if matches!(start.clock, Clock::System) {
            start.clock = Clock::Bounded(Arc::default());
        }
        let shared = Arc::new(Shared::new(start.backend, start.clock, start.settings, kinds, faults, seed)?);
        let kinds = shared.kinds.clone();
        shared.backend.tenants(Arc::new(move |address| kinds.get(address.kind())?.belongs(address.key()).tenant));
        // Before any timer is looked at.
        shared.clock.compare(shared.backend.time()).await?;
        // Before anything is read: what was paused stays so.
        pausing::look(&shared).await?;
        let arbiters = Arbiters::start(shared.clone()).await?;
        let post = Post::start(&shared, &arbiters);
        let nodes = Nodes::start(&shared, &arbiters).await?;
        if shared.others.is_some() {
            actix::spawn(pausing::keep_looking(shared.clone()));
        }
        let node = Self { shared, arbiters, post, nodes };
        actix::spawn(node.clone().chores());
        actix::spawn(declare(node.clone(), declared));
        actix::spawn(node.shared.limits.keep());
        topic::announce(topics, node.shared.clone());
        live::hub::start(&node.shared);
        Ok(node)
    }

    /// Forgets what expired and waits that were given up, now and then.
    async fn chores(self) {
        let Shared { clock, settings, backend, waiting, .. } = &*self.shared;
        while !self.shared.draining() {
            clock.rest(Duration::from_secs(5)).await;
            waiting.sweep();
            self.shared.listeners.sweep();
            if let Err(error) = clock.compare(backend.time()).await {
                warn!(%error, "the store's clock could not be read, trying again later");
                continue;
            }
            let now = clock.now();
            let retention = settings.retention.as_millis().min(i64::MAX as u128) as i64;
            if let Err(error) = backend.expire(now.saturating_sub(retention), now).await {
                warn!(%error, "expired results could not be forgotten, trying again later");
            }
        }
    }

    /// Appends a message durably.
    pub async fn accept(&self, accept: Accept) -> Result<Accepted, NotAppended> {
        let answer = self.accept_all(vec![accept]).await.pop();
        answer.unwrap_or_else(|| Err(NotAppended::Unavailable("the store gave no answer".into())))
    }

    /// Checks that `command` is one that the kind of `to` understands. Terminal error naming the
    /// kinds there are, or the place in the JSON where it is not a command.
    pub fn check(&self, to: &Address, command: &str) -> Result<()> {
        match self.shared.kinds.get(to.kind()) {
            Some(kind) => kind.check(command),
            None => {
                let error = format!("there is no kind {:?}: expected one of {}", to.kind(), self.kinds().join(", "));
                Err(Error::terminal(error).code("unknown_kind"))
            }
        }
    }

    /// Tells an actor, from outside of any actor. Returns once the message is durable.
    pub async fn tell<A: Actor>(&self, to: At<A>, command: A::Command) -> Result<RequestId> {
        Ok(self.send(to, command, false).await?.request)
    }

    /// Tells an actor and waits for its reply. Terminal error when the command failed, was
    /// cancelled or dead-lettered.
    pub async fn ask<A: Actor<Reply: DeserializeOwned>>(&self, to: At<A>, command: A::Command) -> Result<A::Reply> {
        let accepted = self.send(to, command, true).await?;
        let Some(ended) = accepted.ended else { return Err(Error::new("nobody waits for the reply")) };
        let view = self.ended(accepted.request, ended).await?;
        match (view.status, view.result) {
            (State::Completed, Some(reply)) => Ok(serde_json::from_str(reply.get())?),
            (status, _) => {
                let error = view.error.map(|failure| failure.to_error().into_terminal());
                let other = || Error::terminal(format!("request {} ended as {status:?}", accepted.request));
                Err(error.unwrap_or_else(|| other().code("not_completed")))
            }
        }
    }

    async fn send<A: Actor>(&self, to: At<A>, command: A::Command, wait: bool) -> Result<Accepted> {
        let accept = Accept {
            to: to.address()?,
            command: to_raw_value(&command)?,
            due: None,
            trace: Some(Trace::start()),
            idempotency: None,
            fence: None,
            wait,
        };
        Ok(self.accept(accept).await?)
    }

    /// The MongoDB database that holds the states, for what only MongoDB can do: aggregation, text
    /// search, change streams. Each kind has a collection of its name; a document is `{_id: key, state,
    /// …}`. Only read there: the actor does not see what somebody else changes, and its next commit
    /// replaces the document. `None` on the embedded store.
    pub fn mongo(&self) -> Option<mongodb::Database> {
        self.shared.backend.mongo()
    }

    /// The committed state of one actor; `None` when nothing was ever saved.
    pub async fn state<A: Actor>(&self, key: &str) -> Result<Option<A::State>> {
        let address = Address::new(A::KIND, key)?;
        let loaded = self.shared.backend.load(vec![address]).await?.pop().unwrap_or_default();
        if loaded.doc.is_empty() { Ok(None) } else { document::decode(&loaded.doc).map(Some) }
    }

    /// Actors whose committed state answers `query`. Terminal error when no declared index serves
    /// it, or the cursor is none of ours.
    pub async fn query<A: Actor>(&self, query: Query) -> Result<Page<A::State>> {
        query.check(A::KIND, &A::indexes())?;
        let (rows, cursor) = self.shared.backend.query(A::KIND, query).await?;
        let items = rows.into_iter().map(|(key, doc)| Ok((key, document::decode(&doc)?))).collect::<Result<_>>()?;
        Ok(Page { items, cursor })
    }

    /// Dead letters after `after`, in order of acceptance within each partition.
    pub async fn dead(&self, filter: DeadFilter, after: Option<Position>, limit: usize) -> Result<Vec<Dead>> {
        self.shared.backend.dead(filter, after, limit).await
    }

    /// Puts dead letters back to be tried anew; answers how many.
    pub async fn redrive(&self, positions: Vec<Position>) -> Result<usize> {
        let moved = self.shared.backend.redrive(positions.clone(), self.shared.clock.now()).await?;
        positions.into_iter().for_each(|position| self.shared.changed(position));
        Ok(moved)
    }

    /// Gives dead letters up for good; answers how many.
    pub async fn discard(&self, positions: Vec<Position>) -> Result<usize> {
        let discarded = self.shared.backend.discard(positions.clone(), self.shared.clock.now()).await?;
        positions.into_iter().for_each(|position| self.shared.changed(position));
        Ok(discarded)
    }

    /// The ledger over all partitions.
    pub async fn ledger(&self) -> Result<Ledger> {
        Ok(self.shared.backend.ledgers().await?.into_iter().fold(Ledger::default(), Ledger::plus))
    }

    /// How long the oldest message in a mailbox has waited, in seconds; 0 when none waits.
    pub async fn oldest(&self) -> Result<f64> {
        let oldest = self.shared.backend.oldest().await?;
        Ok(oldest.map_or(0.0, |accepted| (self.shared.clock.now() - accepted).max(0) as f64 / 1000.0))
    }

    /// Counts what is there and compares it with the ledger.
    pub async fn audit(&self) -> Result<Audit> {
        self.shared.backend.audit().await
    }

    /// Fails when this node cannot durably accept: draining, or the store cannot write.
    pub async fn ready(&self) -> Result<()> {
        if self.shared.draining() {
            return Err(Error::new("draining"));
        }
        self.shared.backend.ready().await
    }

    /// The public id of a position.
    pub fn id(&self, position: Position) -> RequestId {
        self.shared.id(position)
    }

    /// Where the message of a public id is now; `None` when the id is none of this store's.
    pub async fn position(&self, id: RequestId) -> Result<Option<Position>> {
        self.shared.position(id).await
    }

    /// The kinds of this node's features, in alphabetical order.
    pub fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<&'static str> =
            self.shared.kinds.keys().copied().filter(|kind| !kind.starts_with(RESERVED)).collect();
        kinds.sort_unstable();
        kinds
    }

    /// Whether no other node can answer for this one.
    pub(crate) fn is_alone(&self) -> bool {
        self.post.is_none()
    }

    /// The sessions of the people who use the product, for code outside of a request.
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// Limits over all nodes, for whoever is no actor.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The node's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The node's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Stops reading, lets running handlers finish within `deadline`, and lets go of the
    /// partitions in order. From its first moment on [`Node::ready`] fails.
    pub async fn drain(&self, deadline: Duration) {
        self.shared.draining.store(true, Ordering::SeqCst);
        let unfinished = match &self.nodes {
            Some(nodes) => nodes.drain(deadline).await,
            None => self.arbiters.drain(deadline, |_| {}).await,
        };
        self.arbiters.stop();
        self.shared.limits.flush().await;
        if unfinished > 0 {
            warn!(partitions = unfinished, "the deadline passed: what still ran is dropped, and will be repeated");
        } else {
            info!("drained");
        }
    }
}

/// The kinds of these features and the built-in ones, by name. Terminal error when two have the same.
pub(super) fn kinds(features: &[Feature]) -> Result<HashMap<&'static str, Arc<dyn Kind>>> {
    let mut kinds: HashMap<&'static str, Arc<dyn Kind>> = HashMap::new();
    for kind in features.iter().flat_map(|feature| &feature.kinds) {
        if kind.name().starts_with(RESERVED) {
            let why = format!("a feature has the kind {:?}: {RESERVED}… are Greenroom's own", kind.name());
            return Err(Error::terminal(why));
        }
        if kinds.insert(kind.name(), kind.clone()).is_some() {
            return Err(Error::terminal(format!("two features have the kind {:?}: kinds are unique", kind.name())));
        }
    }
    kinds.extend(builtin(features)?.kinds.into_iter().map(|kind| (kind.name(), kind)));
    Ok(kinds)
}

/// What features declare of limits, and what is configured: that comes later, and counts.
fn declarations(features: &[Feature], configured: Declarations) -> Declarations {
    let mut all = Declarations::default();
    for feature in features {
        all.named.extend(feature.limits.iter().cloned());
        for kind in &feature.kinds {
            let (of_kind, of_key) = kind.limits();
            all.kinds.extend(of_kind.map(|limit| (kind.name().to_owned(), limit)));
            all.keys.extend(of_key.map(|limit| (kind.name().to_owned(), limit)));
        }
    }
    all.named.extend(configured.named);
    all.kinds.extend(configured.kinds);
    all.keys.extend(configured.keys);
    all
}
