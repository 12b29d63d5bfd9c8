//! Where a message goes: a kind and a key. The same address is always the same actor.

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{actor::Actor, error::Error};

/// The longest key, in bytes. Keys are stored with every message, so they stay short.
pub const MAX_KEY: usize = 512;

/// Kind + key: names one actor for ever, whether or not it is in memory.
///
/// ```
/// use greenroom::Address;
/// let ann = Address::new("customer", "ann").unwrap();
/// assert_eq!(ann.to_string(), "customer/ann");
/// assert_eq!("customer/ann".parse::<Address>().unwrap(), ann);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    kind: Arc<str>,
    key: Arc<str>,
}

impl Address {
    /// Checks and builds an address. Terminal error when the key is empty, longer than
    /// [`MAX_KEY`] bytes or has control characters, or the kind is not `[a-z][a-z0-9_]*`.
    pub fn new(kind: &str, key: &str) -> Result<Self, Error> {
        if !is_kind(kind) {
            return Err(Error::terminal(format!(
                "kind {kind:?} is not a name: expected lower-case letters, digits and _, starting with a letter"
            )));
        }
        if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
            return Err(Error::terminal(format!(
                "key {:?} cannot be used: expected 1 to {MAX_KEY} bytes without control characters",
                key.chars().take(40).collect::<String>()
            )));
        }
        Ok(Self { kind: kind.into(), key: key.into() })
    }

    /// The kind: which actor type handles it.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The key: which one of that kind.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The partition that holds this address's mailbox, of `partitions` in all.
    /// Stable for ever (XXH3-64 of `kind`, a zero byte, `key`): stored data depends on it.
    pub fn partition(&self, partitions: u16) -> u16 {
        let mut bytes = Vec::with_capacity(self.kind.len() + self.key.len() + 1);
        bytes.extend_from_slice(self.kind.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.key.as_bytes());
        (xxh3_64(&bytes) % u64::from(partitions.max(1))) as u16
    }
}

/// Whether `kind` may name an actor kind: it becomes a table, a metric label and a path.
pub(crate) fn is_kind(kind: &str) -> bool {
    kind.len() <= 64
        && kind.starts_with(|c: char| c.is_ascii_lowercase())
        && kind.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, key) = text
            .split_once('/')
            .ok_or_else(|| Error::terminal(format!("address {text:?} has no '/': expected kind/key")))?;
        Self::new(kind, key)
    }
}

/// An address that knows its actor type, so only that actor's commands can be sent to it.
/// Made by [`Actor::at`].
pub struct At<A: Actor> {
    key: Arc<str>,
    actor: PhantomData<fn() -> A>,
}

impl<A: Actor> At<A> {
    pub(crate) fn new(key: impl Into<Arc<str>>) -> Self {
        Self { key: key.into(), actor: PhantomData }
    }

    /// The untyped address. Terminal error when the key cannot be used, see [`Address::new`].
    pub fn address(&self) -> Result<Address, Error> {
        Address::new(A::KIND, &self.key)
    }
}

impl<A: Actor> Clone for At<A> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), actor: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_an_address_never_changes() {
        // Stored data depends on these: a failure here means existing mailboxes are lost from view.
        let of = |text: &str| text.parse::<Address>().unwrap().partition(256);
        assert_eq!([of("order/1"), of("order/2"), of("customer/ann")], [41, 68, 13]);
    }

    #[test]
    fn a_key_that_cannot_be_stored_is_refused_with_the_reason() {
        for (kind, key) in [("order", ""), ("order", "a\nb"), ("Order", "1"), ("", "1"), ("order", &"x".repeat(513))] {
            assert!(Address::new(kind, key).unwrap_err().is_terminal(), "{kind}/{key}");
        }
    }
}
