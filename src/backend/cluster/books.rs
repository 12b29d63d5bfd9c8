//! The accounts: counted by the functions that change things, compared with what is there.

use futures_util::future::join_all;

use super::{
    Cluster, Core,
    redis::{int, list, number},
    sequences,
};
use crate::{
    backend::{Audit, Books, Fut, Ledger, Mismatch},
    error::Result,
};

/// The counts of a partition and what is in it, at one moment.
pub(super) struct Found {
    ledger: Ledger,
    mailbox: u64,
    deferred: u64,
    dead: u64,
    pub(super) outbox: u64,
    due: u64,
}

pub(super) async fn found(core: &Core, partition: u16, now: i64) -> Result<Found> {
    let answer = list(core.redis.look(partition, "books", vec![number(now)]).await?);
    let at = |index: usize| answer.get(index).map_or(0, int) as u64;
    // What has moved to another partition is counted there; what was lost was accepted, and has no number here.
    let accepted = at(0).saturating_sub(at(6)) + at(7);
    let (completed, failed, dead, cancelled, lost) = (at(2), at(3), at(4), at(5), at(7));
    let ledger = Ledger { accepted, bytes: at(1), completed, failed, dead, cancelled, lost };
    Ok(Found { ledger, mailbox: at(8), deferred: at(9), dead: at(10), outbox: at(11), due: at(12) })
}

/// Of all partitions that there ever were: what has ended stays where it was counted.
async fn all(core: &Core, now: i64) -> Result<Vec<Found>> {
    join_all((0..core.ever()).map(|partition| found(core, partition, now))).await.into_iter().collect()
}

fn audit(found: Vec<Found>, mut mismatches: Vec<Mismatch>) -> Audit {
    let total = found.iter().map(|found| found.ledger).fold(Ledger::default(), Ledger::plus);
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
        lost: total.lost,
        in_flight: found.iter().map(|found| found.mailbox + found.deferred).sum(),
        balanced: mismatches.is_empty(),
        mismatches,
    }
}

impl Books for Cluster {
    fn ledgers(&self) -> Fut<'_, Result<Vec<Ledger>>> {
        Box::pin(async move {
            let partitions = usize::from(self.core.options.partitions);
            let mut ledgers = vec![Ledger::default(); partitions];
            // Those that are no more are shown with one that is.
            for (partition, found) in all(&self.core, 0).await?.into_iter().enumerate() {
                let ledger = &mut ledgers[partition % partitions];
                *ledger = ledger.plus(found.ledger);
            }
            Ok(ledgers)
        })
    }

    fn audit(&self) -> Fut<'_, Result<Audit>> {
        Box::pin(async move {
            let between = sequences::mismatches(&self.core).await?;
            Ok(audit(all(&self.core, 0).await?, between))
        })
    }

    fn runnable(&self, now: i64) -> Fut<'_, Result<u64>> {
        Box::pin(async move {
            Ok(all(&self.core, now).await?.iter().map(|found| found.mailbox + found.due + found.outbox).sum())
        })
    }

    fn oldest(&self) -> Fut<'_, Result<Option<i64>>> {
        Box::pin(async move {
            let firsts = (0..self.core.options.partitions).map(async |partition| {
                let first = self.core.letters(partition, 0, None, 1).await?.pop();
                Ok(first.and_then(|stored| stored.envelope.ok()).map(|envelope| envelope.accepted))
            });
            let firsts: Vec<Option<i64>> = join_all(firsts).await.into_iter().collect::<Result<_>>()?;
            Ok(firsts.into_iter().flatten().min())
        })
    }

    fn time(&self) -> Fut<'_, Result<Option<i64>>> {
        Box::pin(async move {
            // Of one server: they are to agree far better than what this is for.
            let Some(server) = self.core.redis.servers().into_iter().next() else { return Ok(None) };
            let answer = list(server.ask("TIME", &[]).await?);
            let at = |index: usize| answer.get(index).map_or(0, int);
            Ok(Some(at(0).saturating_mul(1000).saturating_add(at(1) / 1000)).filter(|time| *time > 0))
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
