//! What a tenant may have of a mailbox: who is over it is known to the mailbox's owner, who sees every
//! message, and told to the store, which accepts no more from outside for those until there is room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Fut, Lease};
use crate::{address::Address, error::Result};

/// How long the store goes on refusing without being told again: an owner that is gone refuses nobody.
pub const REFUSED: Duration = Duration::from_secs(10);

/// A tenant, by a digest of its name: see [`Actor::tenant`](crate::Actor::tenant).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub(super) u64);

impl Tenant {
    /// The tenant of this name.
    pub fn of(name: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
    }

    /// As the functions of a cluster store know it: 16 hexadecimal digits.
    pub fn digits(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Whose an actor is; `None` where it is nobody's.
pub type TenantOf = Arc<dyn Fn(&Address) -> Option<Tenant> + Send + Sync>;

/// Tenants whose messages take more of a mailbox than their share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Over {
    /// What each may have, in bytes.
    pub share: u64,
    /// What each of them has, in bytes.
    pub tenants: HashMap<Tenant, u64>,
}

/// Sharing mailboxes between tenants.
pub trait Shares: Send + Sync + 'static {
    /// The byte budget of one partition's mailbox (G10).
    fn budget(&self) -> u64;

    /// How to find out whose an actor is; said once, before anything is accepted.
    fn tenants(&self, of: TenantOf);

    /// From now on, and for [`REFUSED`] unless it is said again, messages from outside for actors of these
    /// tenants are not accepted in the lease's partition ([`NotAppended::Full`](super::NotAppended::Full));
    /// those of others are, and so is everything that commits send. Nothing happens when the lease is over.
    fn refuse(&self, lease: Lease, over: Over) -> Fut<'_, Result<()>>;
}
