//! A running node, as the gateway, the command line and tests hold it.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::view::{Found, View};
use crate::{
    actor::Actor,
    address::{Address, At},
    backend::{Audit, Backend, Dead, DeadFilter, Idempotency, Ledger, NotAppended},
    clock::Clock,
    envelope::Position,
    error::Result,
    metrics::Metrics,
    query::{Page, Query},
    request::RequestId,
    trace::Trace,
};

/// A handle on a running node. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Arc<dyn Backend>,
    clock: Clock,
    metrics: Metrics,
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
    pub ended: Option<tokio::sync::oneshot::Receiver<View>>,
}

/// What became of a wish to cancel.
#[derive(Clone, Debug)]
pub enum Cancel {
    /// It is cancelled.
    Cancelled,
    /// It is not, because of how it stands.
    Refused(Found),
}

impl Node {
    /// Appends a message durably.
    pub async fn accept(&self, _accept: Accept) -> Result<Accepted, NotAppended> {
        Err(NotAppended::Unavailable("not built yet".into()))
    }

    /// Checks that `command` is one that the kind of `to` understands. Terminal error naming the
    /// kinds there are, or the place in the JSON where it is not a command.
    pub fn check(&self, _to: &Address, _command: &str) -> Result<()> {
        Ok(())
    }

    /// Tells an actor, from outside of any actor.
    pub async fn tell<A: Actor>(&self, _to: At<A>, _command: A::Command) -> Result<RequestId> {
        Err(crate::Error::new("not built yet"))
    }

    /// Tells an actor and waits for its reply.
    pub async fn ask<A: Actor<Reply: DeserializeOwned>>(&self, _to: At<A>, _command: A::Command) -> Result<A::Reply> {
        Err(crate::Error::new("not built yet"))
    }

    /// How a request stands.
    pub async fn request(&self, _id: RequestId) -> Result<Found> {
        Ok(Found::Unknown)
    }

    /// Changes whenever the request may stand differently; look again with [`Node::request`].
    /// Subscribe first, then look. `None` when the id is none of this store's.
    pub fn watch(&self, _id: RequestId) -> Option<tokio::sync::watch::Receiver<u64>> {
        None
    }

    /// Cancels a request of which no attempt has begun.
    pub async fn cancel(&self, _id: RequestId) -> Result<Cancel> {
        Ok(Cancel::Refused(Found::Unknown))
    }

    /// The committed state of one actor; `None` when nothing was ever saved.
    pub async fn state<A: Actor>(&self, _key: &str) -> Result<Option<A::State>> {
        Ok(None)
    }

    /// Actors whose committed state answers `query`.
    pub async fn query<A: Actor>(&self, _query: Query) -> Result<Page<A::State>> {
        Ok(Page { items: Vec::new(), cursor: None })
    }

    /// Dead letters after `after`.
    pub async fn dead(&self, filter: DeadFilter, after: Option<Position>, limit: usize) -> Result<Vec<Dead>> {
        self.shared.backend.dead(filter, after, limit).await
    }

    /// Puts dead letters back to be tried anew; answers how many.
    pub async fn redrive(&self, positions: Vec<Position>) -> Result<usize> {
        self.shared.backend.redrive(positions, self.shared.clock.now()).await
    }

    /// Gives dead letters up for good; answers how many.
    pub async fn discard(&self, positions: Vec<Position>) -> Result<usize> {
        self.shared.backend.discard(positions, self.shared.clock.now()).await
    }

    /// The ledger over all partitions.
    pub async fn ledger(&self) -> Result<Ledger> {
        Ok(self.shared.backend.ledgers().await?.into_iter().fold(Ledger::default(), Ledger::plus))
    }

    /// Counts what is there and compares it with the ledger.
    pub async fn audit(&self) -> Result<Audit> {
        self.shared.backend.audit().await
    }

    /// Fails when this node cannot durably accept: draining, or the store cannot write.
    pub async fn ready(&self) -> Result<()> {
        self.shared.backend.ready().await
    }

    /// The public id of a position.
    pub fn id(&self, position: Position) -> RequestId {
        RequestId::seal(position, &self.shared.backend.secret())
    }

    /// The position behind a public id; `None` when it is none of this store's.
    pub fn position(&self, id: RequestId) -> Option<Position> {
        id.open(&self.shared.backend.secret())
    }

    /// The kinds this node serves.
    pub fn kinds(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The node's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The node's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}

/// What a node is started with.
pub struct Start {
    /// The store.
    pub backend: Arc<dyn Backend>,
    /// The features whose actors it runs.
    pub features: Vec<crate::feature::Feature>,
    /// Its bounds.
    pub settings: super::settings::Settings,
    /// Its clock.
    pub clock: Clock,
}

impl Node {
    /// Starts a node; inside an actix system.
    pub async fn start(start: Start) -> Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared { backend: start.backend, clock: start.clock, metrics: Metrics::default() }),
        })
    }

    /// Stops reading, lets running handlers finish within `deadline`, and lets go of the
    /// partitions in order. From its first moment on [`Node::ready`] fails.
    pub async fn drain(&self, _deadline: std::time::Duration) {}
}
