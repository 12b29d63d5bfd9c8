//! Topics: events that are kept for a while, and that each group of subscribers gets once, as commands in
//! its own mailboxes. ([Broadcasts](crate::runtime::broadcast) are the other kind: now, and at most once.)
//!
//! ```text
//! cx.publish ─► greenroom_topic/orders/3 ─► commands of each group that has everything before
//!               one shard: its newest events, where each group is
//!                 │ a page is full                     ▲ a group that is behind reads page by page
//!                 ▼                                    │
//!               greenroom_topic_page/orders/3/257 ─────┘
//! ```
//!
//! * [`log`] is the state of a shard, [`page`] an older part of it; [`actor`] what a shard does with a command.
//! * [`publish`]: an event comes and goes on to the groups. [`behind`]: a group that has not had everything
//!   gets it. [`steer`]: what an operator does to a group. [`tidy`]: what is old goes.
//! * [`declare`]: what features say of topics, and how an event becomes commands; [`announce`] tells the
//!   shards. [`refused`]: events that a group could make nothing of.
//! * [`read`] and [`view`]: looking from outside.
//!
//! Invariant: a shard's commit holds the event, its place in the log and the commands for all groups, so
//! each group gets each event once. Only the shard sends, whether a group is behind or not, and what one
//! actor sends another arrives in order: so the commands of one event key do.

mod actor;
mod announce;
mod behind;
mod declare;
mod log;
mod page;
mod publish;
pub mod read;
mod refused;
mod steer;
#[cfg(test)]
mod tests;
mod tidy;
pub mod view;

use std::{marker::PhantomData, time::Duration};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use self::{
    actor::Topics, announce::announce, declare::Declaration, declare::Registry, page::Pages, refused::Refused,
};
pub use self::{
    declare::{Group, Tells},
    steer::Steer,
};

/// The longest name of a topic or a group, in bytes.
pub const MAX_NAME: usize = 64;
/// The most shards of a topic.
pub const MAX_SHARDS: u16 = 64;
/// The largest event, in bytes of JSON.
pub const MAX_EVENT: usize = 256 << 10;

/// A topic of events of one type: a constant that publishers and subscribers share.
///
/// ```
/// use greenroom::Topic;
/// use std::time::Duration;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum OrderEvent {
///     Placed { total: u64 },
///     Cancelled,
/// }
///
/// const ORDERS: Topic<OrderEvent> = Topic::new("orders").shards(4).keep_for(Duration::from_secs(30 * 24 * 3600));
/// ```
///
/// Its name, and what is stored of an event, are an interface with the past: they never change.
pub struct Topic<T> {
    name: &'static str,
    shards: u16,
    keep: Keep,
    event: PhantomData<fn() -> T>,
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Topic<T> {}

/// How long events are kept that every group has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keep {
    /// For so many milliseconds.
    pub(crate) ms: i64,
    /// And so many bytes of a shard at most.
    pub(crate) bytes: u64,
}

impl<T> Topic<T> {
    /// A topic with one shard, whose events are kept for seven days, and at most 1 GiB of them. The name
    /// has 1 to [`MAX_NAME`] lower-case letters, digits, `_`, `-` and `.`, and begins with a letter; a node
    /// with another one does not start.
    pub const fn new(name: &'static str) -> Self {
        let keep = Keep { ms: 7 * 24 * 3600 * 1000, bytes: 1 << 30 };
        Self { name, shards: 1, keep, event: PhantomData }
    }

    /// How many shards work at once, 1 to [`MAX_SHARDS`]: the keys of events are spread over them. Order
    /// holds within a key. More later are fine, but a key whose shard changes is in order only before and
    /// after the change, and only once no build with the old number publishes.
    pub const fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// How long events are kept: what a new group can catch up on, and what can be replayed. What a group
    /// has not had yet is kept in any case.
    pub const fn keep_for(mut self, time: Duration) -> Self {
        let ms = time.as_millis();
        self.keep.ms = if ms > MOST_MS as u128 { MOST_MS } else { ms as i64 };
        self
    }

    /// How many bytes of events are kept at the most, over all shards.
    pub const fn keep_bytes(mut self, bytes: u64) -> Self {
        self.keep.bytes = bytes;
        self
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// A thousand years: longer than anybody keeps anything, and far from where times overflow.
const MOST_MS: i64 = 1000 * 366 * 24 * 3600 * 1000;

/// An event as its subscribers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<T> {
    /// Which shard of the topic it is in.
    pub shard: u16,
    /// Its number there, from 1: without gaps, and in the order of the log.
    pub sequence: u64,
    /// When the topic took it, in milliseconds since the Unix epoch; never less than the one before.
    pub at: i64,
    /// What it is about: events of one key stay in order.
    pub key: String,
    /// What was published.
    pub value: T,
}

/// Which shard an event key belongs to. Stable for ever (XXH3-64 of the key): logs depend on it.
fn shard_of(key: &str, shards: u16) -> u16 {
    (xxh3_64(key.as_bytes()) % u64::from(shards.max(1))) as u16
}

/// The key of a shard's actor, and what its pages' keys begin with.
fn shard_key(topic: &str, shard: u16) -> String {
    format!("{topic}/{shard}")
}

/// The other way round.
fn parse_shard(key: &str) -> Option<(&str, u16)> {
    let (topic, shard) = key.rsplit_once('/')?;
    Some((topic, shard.parse().ok()?))
}

/// Whether a topic or a group may be called so: it becomes a part of a key, of a path and a label.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.'))
}
