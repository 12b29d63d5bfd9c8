//! Locks: one holder of a name at a time, in the order in which it was asked for, each with a fencing
//! token that stores check.
//!
//! ```text
//! cx.lock(name) ──ask──► greenroom_lock/name ◄──claim, renew── node.lock(name), POST /admin/locks/name
//!      ▲                   token, holder, queue                     ▲
//!      └─ answer (a commit) ─────┴──────── broadcast (sooner), or the next renewal
//! ```
//!
//! * [`state`] is what a lock knows, and who is next; [`actor`] is the actor around it.
//! * A command ([`context::lock`](crate::context)) has a lock until it ends, without any lease: [`ends`] lets go
//!   with the commit that ends it. What ends without running is noticed by the lock, which looks.
//! * Everybody else ([`guard`]) has a lease, and knows by a clock of its own that it is over before the lock
//!   gives it to another.
//!
//! Why no lock is safe by itself, and what the token is for: whoever has a lock may be stopped, for any time,
//! between looking at its lease and writing. Then two believe that they have it, and only whoever is written
//! to can refuse the older one: [`Fence`](crate::backend::Fence).

mod actor;
pub(crate) mod claimer;
pub(crate) mod ends;
pub mod guard;
pub(crate) mod list;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use actor::{Command, FULL, Lock, Reply};

use crate::error::Error;

/// The error of whoever does not have a lock any more.
pub(crate) fn lost(name: &str) -> Error {
    Error::terminal(format!("the lock {name:?} was lost: somebody else may have it")).code("lock_lost")
}
