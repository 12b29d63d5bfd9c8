//! Which tenants' messages are not accepted, as their mailbox's owner says: in memory, since the owner is in
//! this process.

use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::Embedded;
use crate::{
    address::Address,
    backend::{Fut, Lease, Over, REFUSED, Shares, Tenant, TenantOf},
    error::Result,
};

/// Of each partition.
pub(super) struct Crowds {
    of: OnceLock<TenantOf>,
    partitions: Box<[Crowd]>,
}

#[derive(Default)]
struct Crowd {
    any: AtomicBool,
    over: RwLock<Option<(Over, Instant)>>,
}

impl Crowds {
    pub(super) fn new(partitions: u16) -> Arc<Self> {
        Arc::new(Self { of: OnceLock::new(), partitions: (0..partitions).map(|_| Crowd::default()).collect() })
    }

    /// What an actor's tenant has and may have, when no more of it is accepted.
    pub(super) fn refuses(&self, partition: u16, to: &Address) -> Option<(u64, u64)> {
        let crowd = self.partitions.get(usize::from(partition)).filter(|crowd| crowd.any.load(Ordering::Acquire))?;
        let over = crowd.over.read().unwrap_or_else(PoisonError::into_inner);
        let (over, _) = over.as_ref().filter(|(_, said)| said.elapsed() < REFUSED)?;
        let tenant = self.tenant(to)?;
        Some((*over.tenants.get(&tenant)?, over.share))
    }

    /// Whose an actor is.
    pub(super) fn tenant(&self, to: &Address) -> Option<Tenant> {
        (self.of.get()?)(to)
    }

    pub(super) fn say(&self, partition: u16, over: Over) {
        let Some(crowd) = self.partitions.get(usize::from(partition)) else { return };
        crowd.any.store(!over.tenants.is_empty(), Ordering::Release);
        *crowd.over.write().unwrap_or_else(PoisonError::into_inner) = Some((over, Instant::now()));
    }
}

impl Shares for Embedded {
    fn budget(&self) -> u64 {
        self.options.mailbox_bytes
    }

    fn tenants(&self, of: TenantOf) {
        // Said once: whoever says it again serves the same actors.
        let _ = self.crowds.of.set(of);
    }

    fn refuse(&self, lease: Lease, over: Over) -> Fut<'_, Result<()>> {
        // Of two owners in one process the later one says more; what the earlier one said is over soon.
        self.crowds.say(lease.partition, over);
        Box::pin(std::future::ready(Ok(())))
    }
}
