//! One process is the only node: it has every partition, and nobody to talk to.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Embedded, chores};
use crate::{
    backend::{Acquired, Fut, Lease, Leases, Member, NodeInfo, Nodes, Over, Owner},
    error::Result,
};

/// The number of the only node.
const ONLY: u64 = 1;

impl Leases for Embedded {
    fn acquire(&self, partition: u16) -> Fut<'_, Result<Acquired>> {
        Box::pin(async move {
            let lease = chores::write(self.writer()?, move |group| chores::acquire(group, partition)).await?;
            self.tails[usize::from(partition)].renew();
            self.crowds.say(partition, Over::default());
            Ok(Acquired::Taken(lease))
        })
    }

    fn release(&self, lease: Lease) -> Fut<'_, Result<()>> {
        Box::pin(async move { chores::write(self.writer()?, move |group| chores::release(group, lease)).await })
    }

    fn owners(&self) -> Fut<'_, Result<Vec<Owner>>> {
        let epochs = |db: &rusqlite::Connection| {
            let mut read = db.prepare_cached("SELECT epoch FROM ledger ORDER BY partition")?;
            let rows = read.query_map([], |row| row.get::<_, i64>(0))?;
            rows.map(|epoch| Ok(Owner { node: ONLY, epoch: epoch? as u64 })).collect()
        };
        Box::pin(self.read(epochs))
    }
}

impl Nodes for Embedded {
    fn me(&self) -> u64 {
        ONLY
    }

    fn lease_time(&self) -> Option<Duration> {
        None
    }

    fn join(&self) -> Fut<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn beat(&self) -> Fut<'_, Result<Vec<Member>>> {
        let info =
            NodeInfo { pid: std::process::id(), version: env!("CARGO_PKG_VERSION").into(), ..NodeInfo::default() };
        Box::pin(std::future::ready(Ok(vec![Member { id: ONLY, beat: 0, info }])))
    }

    fn give_up(&self, _: Member) -> Fut<'_, Result<bool>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn leave(&self) -> Fut<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn post(&self, _: u64, _: Vec<u8>) -> Fut<'_, Result<bool>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn letters(&self) -> Option<mpsc::UnboundedReceiver<Vec<u8>>> {
        None
    }

    fn announce(&self, listen: &str) -> Fut<'_, Result<()>> {
        let lock = self.writing.as_ref().and_then(|w| w.lock.as_ref());
        Box::pin(std::future::ready(lock.map_or(Ok(()), |lock| lock.announce(Some(listen)))))
    }
}
