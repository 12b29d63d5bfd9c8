//! Which tenants' messages are not accepted, as their mailbox's owner says: a hash of the partition that goes
//! away by itself, looked at by the function that accepts.

use fred::types::Value;

use super::{
    Cluster,
    redis::{arg, number},
};
use crate::{
    backend::{Fut, Lease, Over, REFUSED, Shares, TenantOf},
    error::Result,
};

impl Shares for Cluster {
    fn budget(&self) -> u64 {
        self.core.options.mailbox_bytes
    }

    fn tenants(&self, of: TenantOf) {
        // Said once: whoever says it again serves the same actors.
        let _ = self.core.tenants.set(of);
    }

    fn refuse(&self, lease: Lease, over: Over) -> Fut<'_, Result<()>> {
        let mut args: Vec<Value> = vec![number(lease.epoch), number(REFUSED.as_millis()), number(over.share)];
        for (tenant, bytes) in over.tenants {
            args.extend([arg(tenant.digits()), number(bytes)]);
        }
        Box::pin(async move {
            // No promise: what is lost of it is said again.
            self.core.redis.call(lease.partition, "refuse", args).await?;
            Ok(())
        })
    }
}
