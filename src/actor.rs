//! The one trait a user writes: state, commands, and a handler that runs one command at a time.

use std::{future::Future, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{address::At, context::Context, coordination::limit::Limit, error::Result, query::Index, retry::Retry};

/// What the next commands of a key do while one waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waits {
    /// They wait too, in order: the command has the state for itself.
    #[default]
    Alone,
    /// They are handled meanwhile, each on the state as it is. The waiting command keeps seeing the state
    /// it began with and must not change it: what it wants changed, it asks its own actor for.
    Shared,
}

/// How large the part of a mailbox's memory is that a [tenant](Actor::tenant), or a kind without tenants, may
/// fill while others want some too, and so how much of the work done is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Four times as much as [`Normal`](Self::Normal), and read first.
    High,
    /// What everything has that says nothing.
    #[default]
    Normal,
    /// A quarter of [`Normal`](Self::Normal): it waits for the others and always goes on.
    Low,
}

/// A kind of durable actor.
///
/// One value of the type serves all keys of its kind: `&self` holds shared dependencies
/// (clients, configuration), `State` is what each key remembers. Commands of one key are handled
/// one at a time in the order accepted; different keys run at once.
///
/// ```
/// use greenroom::prelude::*;
///
/// struct Counter;
///
/// impl Actor for Counter {
///     const KIND: &'static str = "counter";
///     type State = u64;
///     type Command = u64;
///     type Reply = u64;
///
///     async fn handle(&self, total: &mut u64, add: u64, _: &Context<Self>) -> Result<u64> {
///         *total += add;
///         Ok(*total)
///     }
/// }
/// ```
pub trait Actor: Send + Sync + Sized + 'static {
    /// The stored name of the kind: `[a-z][a-z0-9_]*`. Renaming it orphans its data.
    const KIND: &'static str;

    /// What one key remembers. Saved as BSON (so no unsigned number above `i64::MAX`), at most
    /// 16 MB. A type of size zero, such as `()`, is not stored at all.
    type State: Default + Clone + Serialize + DeserializeOwned + 'static;

    /// What it can be told, as stored in its mailbox: a serde enum, usually.
    type Command: Serialize + DeserializeOwned + 'static;

    /// What a completed command answers.
    type Reply: Serialize + 'static;

    /// Handles one command. On `Ok`, the changed state and everything sent through `cx` commit
    /// together with the reply, or not at all. On `Err`, nothing of it remains: see
    /// [`Error`](crate::Error) for what happens next. May run again after a crash, so effects
    /// outside of Greenroom must be repeatable.
    fn handle(
        &self,
        state: &mut Self::State,
        command: Self::Command,
        cx: &Context<Self>,
    ) -> impl Future<Output = Result<Self::Reply>>;

    /// What happens to the key's next commands while this one waits (in a step, for an answer, for a
    /// time or a signal).
    fn waits(command: &Self::Command) -> Waits {
        let _ = command;
        Waits::Alone
    }

    /// For whom an actor works: a customer, an account. Tenants share a mailbox fairly, whatever each of them
    /// floods it with. Of the key alone, so that a key always belongs to the same one; commands of actors
    /// without a tenant share what their kind is given.
    fn tenant(key: &str) -> Option<&str> {
        let _ = key;
        None
    }

    /// How much an actor's commands may have of what is shared. Of the key alone, as [`tenant`](Self::tenant).
    fn priority(key: &str) -> Priority {
        let _ = key;
        Priority::Normal
    }

    /// How retryable errors are retried.
    fn retry(&self) -> Retry {
        Retry::default()
    }

    /// The longest one attempt may take; longer counts as a retryable failure.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How many of its commands may begin in a time, and run at once, over all keys and nodes. Those that
    /// may not yet wait in their mailboxes; `[[limits.kind]]` of the configuration wins over it.
    fn limit(&self) -> Option<Limit> {
        None
    }

    /// How many commands of each key may begin in a time.
    fn key_limit(&self) -> Option<Limit> {
        None
    }

    /// Fields of the state that [`Query`](crate::Query) can filter and sort by.
    fn indexes() -> Vec<Index> {
        Vec::new()
    }

    /// The address of one actor of this kind.
    fn at(key: impl Into<Arc<str>>) -> At<Self> {
        At::new(key)
    }
}
