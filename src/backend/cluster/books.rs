//! The accounts: counted by the functions that change things, compared with what is there.

use futures_util::future::join_all;

use super::{
    Cluster, Core, encode,
    redis::{int, list, number},
};
use crate::{
    backend::{Audit, Books, Fut, Ledger, Mismatch},
    error::Result,
};

/// The counts of a partition and what is in it, at one moment.
struct Found {
    ledger: Ledger,
    mailbox: u64,
    deferred: u64,
    dead: u64,
    outbox: u64,
    due: u64,
}

async fn found(core: &Core, partition: u16, now: i64) -> Result<Found> {
    let answer = list(core.redis.look(partition, "books", vec![number(now)]).await?);
    let at = |index: usize| answer.get(index).map_or(0, int) as u64;
    let ledger =
        Ledger { accepted: at(0), bytes: at(1), completed: at(2), failed: at(3), dead: at(4), cancelled: at(5) };
    Ok(Found { ledger, mailbox: at(7), deferred: at(8), dead: at(9), outbox: at(10), due: at(11) })
}

async fn all(core: &Core, now: i64) -> Result<Vec<Found>> {
    join_all((0..core.options.partitions).map(|partition| found(core, partition, now))).await.into_iter().collect()
}

fn audit(found: Vec<Found>) -> Audit {
    let total = found.iter().map(|found| found.ledger).fold(Ledger::default(), Ledger::plus);
    let mut mismatches = Vec::new();
    for (partition, found) in (0..).zip(&found) {
        let (counted, there) = (found.ledger.in_flight(), (found.mailbox + found.deferred) as i64);
        let mut wrong = |what: String| mismatches.push(Mismatch { partition, what, messages: Vec::new() });
        if counted != there {
            wrong(format!("by the counts {counted} messages have not ended, {there} are there"));
        }
        if found.ledger.dead != found.dead {
            wrong(format!("by the counts there are {} dead letters, {} are there", found.ledger.dead, found.dead));
        }
    }
    Audit {
        accepted: total.accepted,
        completed: total.completed,
        failed: total.failed,
        dead: total.dead,
        cancelled: total.cancelled,
        in_flight: found.iter().map(|found| found.mailbox + found.deferred).sum(),
        balanced: mismatches.is_empty(),
        mismatches,
    }
}

impl Books for Cluster {
    fn ledgers(&self) -> Fut<'_, Result<Vec<Ledger>>> {
        Box::pin(async move { Ok(all(&self.core, 0).await?.into_iter().map(|found| found.ledger).collect()) })
    }

    fn audit(&self) -> Fut<'_, Result<Audit>> {
        Box::pin(async move { Ok(audit(all(&self.core, 0).await?)) })
    }

    fn runnable(&self, now: i64) -> Fut<'_, Result<u64>> {
        Box::pin(async move {
            Ok(all(&self.core, now).await?.iter().map(|found| found.mailbox + found.due + found.outbox).sum())
        })
    }

    fn oldest(&self) -> Fut<'_, Result<Option<i64>>> {
        Box::pin(async move {
            let firsts = (0..self.core.options.partitions).map(async |partition| {
                let first = list(self.core.redis.range(partition, "mailbox", 0, 1).await?).pop();
                let stored = first.and_then(|entry| encode::entry(partition, entry, |_| 0));
                Ok(stored.and_then(|stored| stored.envelope.ok()).map(|envelope| envelope.accepted))
            });
            let firsts: Vec<Option<i64>> = join_all(firsts).await.into_iter().collect::<Result<_>>()?;
            Ok(firsts.into_iter().flatten().min())
        })
    }

    fn ready(&self) -> Fut<'_, Result<()>> {
        let core = self.core.clone();
        let ready = async move {
            core.redis.probe().await?;
            core.states.ready().await
        };
        Box::pin(async move { self.run(ready).await? })
    }
}
