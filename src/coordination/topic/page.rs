//! Older events of a shard: a page is written once, read by whoever is behind, and removed as a whole.
//!
//! Invariant: the pages of a shard follow each other without a gap. One that was just made may still be on
//! its way to where it is kept: then it is not found yet, and whoever looks for it looks again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{log::Sealed, shard_key};
use crate::{
    actor::Actor,
    backend::{Backend, document},
    context::Context,
    error::{Error, Result},
    query::{Index, Query, Value},
    runtime::shared::Shared,
};

/// A page.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    /// The shard it is of.
    log: String,
    /// The number of its first event.
    pub(super) first: u64,
    /// The time of the first event.
    at: i64,
    /// The time of the last one.
    pub(super) until: i64,
    /// How many events there are.
    pub(super) count: u64,
    /// The events, as [`lines`](super::log::lines) reads them.
    pub(super) events: String,
}

impl Page {
    /// The number of the event after its last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.count
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Command {
    /// Keep these events.
    Keep { log: String, first: u64, at: i64, until: i64, count: u64, events: Box<RawValue> },
    /// They are not needed any more.
    Drop,
}

impl Command {
    pub(super) fn keep(log: &str, sealed: Sealed) -> Self {
        let Sealed { first, count, at, until, events } = sealed;
        Self::Keep { log: log.to_owned(), first, at, until, count, events }
    }
}

/// The pages of all topics.
pub(crate) struct Pages;

impl Actor for Pages {
    const KIND: &'static str = "greenroom_topic_page";
    type State = Page;
    type Command = Command;
    type Reply = ();

    async fn handle(&self, page: &mut Page, command: Command, cx: &Context<Self>) -> Result<()> {
        match command {
            Command::Keep { log, first, at, until, count, events } => {
                let events = String::from(Box::<str>::from(events));
                *page = Page { log, first, at, until, count, events };
            }
            Command::Drop => cx.forget(),
        }
        Ok(())
    }

    fn indexes() -> Vec<Index> {
        vec![Index::on(["log", "first"]), Index::on(["log", "at"])]
    }
}

/// The key of a page.
pub(super) fn key(log: &str, first: u64) -> String {
    format!("{log}/{first}")
}

/// How long the store may take to answer a shard: whatever is published to it waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is read, if that does not take too long.
pub(super) async fn within<T>(shared: &Shared, read: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Err(Error::new(format!("the store did not answer within {PATIENCE:?}")).code("timeout"));
    shared.clock.limit(PATIENCE, read).await.unwrap_or_else(late)
}

/// The first page that a query finds.
async fn find(backend: &dyn Backend, query: Query) -> Result<Option<Page>> {
    let (rows, _) = backend.query(Pages::KIND, query.limit(1)).await?;
    rows.into_iter().next().map(|(_, doc)| document::decode(&doc)).transpose()
}

fn of(topic: &str, shard: u16) -> Query {
    Query::new().eq("log", shard_key(topic, shard))
}

fn number(number: u64) -> Option<Value> {
    Some(Value::Int(number as i64))
}

/// The page that holds an event; `None` when it is not there, or not yet.
pub(super) async fn holding(backend: &dyn Backend, topic: &str, shard: u16, event: u64) -> Result<Option<Page>> {
    let query = of(topic, shard).between("first", None, number(event + 1)).newest_by("first");
    Ok(find(backend, query).await?.filter(|page| event < page.end()))
}

/// The oldest page from an event on.
pub(super) async fn from(backend: &dyn Backend, topic: &str, shard: u16, event: u64) -> Result<Option<Page>> {
    find(backend, of(topic, shard).between("first", number(event), None).oldest_by("first")).await
}

/// A page that begins before a time, the newest of them or, where several begin at the same time, one of
/// those; `None` when none does.
pub(super) async fn before(backend: &dyn Backend, topic: &str, shard: u16, time: i64) -> Result<Option<Page>> {
    find(backend, of(topic, shard).between("at", None, Some(Value::Int(time))).newest_by("at")).await
}
