//! What is paused: kinds of actors and single ones, kept with the store.

use serde::{Deserialize, Serialize};

use super::Fut;
use crate::{address::Address, error::Result};

/// How many kinds and keys can be paused at once.
pub const MOST_PAUSED: usize = 10_000;

/// A kind of actors, or one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The kind.
    pub kind: String,
    /// Only this key of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Scope {
    /// Everything of a kind.
    pub fn kind(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), key: None }
    }

    /// Whether an actor is in it.
    pub fn covers(&self, address: &Address) -> bool {
        address.kind() == self.kind && self.key.as_ref().is_none_or(|key| address.key() == key)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}/{key}", self.kind),
            None => f.write_str(&self.kind),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = crate::Error;

    /// `kind` or `kind/key`. Terminal error when that can be no actor's.
    fn from_str(text: &str) -> Result<Self> {
        let (kind, key) = text.split_once('/').map_or((text, None), |(kind, key)| (kind, Some(key)));
        // Checked as if it were an address; any key will do where none is said.
        Address::new(kind, key.unwrap_or("any"))?;
        Ok(Self { kind: kind.to_owned(), key: key.map(str::to_owned) })
    }
}

impl From<Address> for Scope {
    fn from(address: Address) -> Self {
        Self { kind: address.kind().to_owned(), key: Some(address.key().to_owned()) }
    }
}

/// Something that is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// What.
    #[serde(flatten)]
    pub scope: Scope,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: i64,
}

/// Remembering what is paused.
pub trait Pauses: Send + Sync + 'static {
    /// Pauses something; `false` when it was paused already. Terminal error (`too_many_paused`) beyond
    /// [`MOST_PAUSED`].
    fn pause(&self, scope: Scope, at: i64) -> Fut<'_, Result<bool>>;

    /// Resumes something; `false` when it was not paused.
    fn resume(&self, scope: Scope) -> Fut<'_, Result<bool>>;

    /// All that is paused, in order of kind and key.
    fn paused(&self) -> Fut<'_, Result<Vec<Paused>>>;
}

/// Why no more can be paused.
pub(crate) fn too_many() -> crate::Error {
    crate::Error::terminal(format!(
        "{MOST_PAUSED} kinds and keys are paused already: resume some, or pause a whole kind"
    ))
    .code("too_many_paused")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_kind_or_one_of_it() {
        let order: Scope = "order".parse().unwrap();
        let seven: Scope = "order/a/7".parse().unwrap();
        assert_eq!((order.to_string(), seven.to_string()), ("order".into(), "order/a/7".into()));
        let address = |text: &str| text.parse::<Address>().unwrap();
        assert!(order.covers(&address("order/a/7")) && seven.covers(&address("order/a/7")));
        assert!(order.covers(&address("order/8")) && !seven.covers(&address("order/8")));
        assert!(!order.covers(&address("orders/8")));
        for wrong in ["", "Order", "order/", "order/a\nb", "/7"] {
            assert!(wrong.parse::<Scope>().unwrap_err().is_terminal(), "{wrong:?}");
        }
    }
}
