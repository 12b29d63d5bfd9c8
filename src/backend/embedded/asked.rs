//! What clients and operators ask: requests, dead letters, books.

use super::*;

impl Requests for Embedded {
    fn lookup(&self, position: Position) -> Fut<'_, Result<Lookup>> {
        Box::pin(self.read(move |db| read::lookup(db, position)))
    }

    fn cancel_all(&self, lease: Lease, positions: Vec<Position>, now: i64) -> Fut<'_, Result<Vec<bool>>> {
        Box::pin(async move {
            let asked = positions.clone();
            let each = move |group: &mut writer::Group<'_>| {
                asked.iter().map(|position| chores::cancel(group, *position, now)).collect::<Result<Vec<bool>, _>>()
            };
            let cancelled = chores::write(self.writer()?, each).await?;
            // Whoever reads on from memory does not meet them.
            let gone = positions.into_iter().zip(&cancelled).filter(|(_, gone)| **gone).map(|(position, _)| position);
            self.tails[usize::from(lease.partition)].forget(gone.collect());
            Ok(cancelled)
        })
    }

    fn expire(&self, before: i64, now: i64) -> Fut<'_, Result<usize>> {
        Box::pin(async move {
            let (writer, mut expired) = (self.writer()?, 0);
            chores::write(writer, move |group| chores::expire_keys(group, now)).await?;
            chores::write(writer, move |group| sessions::forget(group, now)).await?;
            for partition in 0..self.options.partitions {
                expired += self.sweep(partition, before).await?;
            }
            Ok(expired)
        })
    }

    fn secret(&self) -> [u8; 32] {
        self.secret
    }
}

impl Embedded {
    /// Sweeps one partition's results, some at a time so that no other write waits long.
    async fn sweep(&self, partition: u16, before: i64) -> Result<usize> {
        const AT_ONCE: usize = 1000;
        const ROUNDS: usize = 50;
        let Some(writing) = &self.writing else { return Ok(0) };
        let cursor = |to: Option<i64>| {
            let mut sweeps = writing.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
            let cursor = &mut sweeps[usize::from(partition)];
            std::mem::replace(cursor, to.unwrap_or(*cursor))
        };
        let mut total = 0;
        for _ in 0..ROUNDS {
            let from = cursor(None);
            let (expired, next) =
                chores::write(self.writer()?, move |group| chores::expire(group, partition, from, before, AT_ONCE))
                    .await?;
            total += expired;
            cursor(Some(next.unwrap_or(0)));
            if next.is_none() {
                break;
            }
        }
        Ok(total)
    }
}

impl DeadLetters for Embedded {
    fn dead(&self, filter: DeadFilter, after: Option<Position>, limit: usize) -> Fut<'_, Result<Vec<Dead>>> {
        Box::pin(self.read(move |db| read::dead(db, &filter, after, limit)))
    }

    fn redrive(&self, positions: Vec<Position>, now: i64) -> Fut<'_, Result<usize>> {
        Box::pin(
            async move { chores::write(self.writer()?, move |group| chores::redrive(group, &positions, now)).await },
        )
    }

    fn discard(&self, positions: Vec<Position>, now: i64) -> Fut<'_, Result<usize>> {
        Box::pin(
            async move { chores::write(self.writer()?, move |group| chores::discard(group, &positions, now)).await },
        )
    }
}

impl Books for Embedded {
    fn ledgers(&self) -> Fut<'_, Result<Vec<Ledger>>> {
        Box::pin(self.read(audit::ledgers))
    }

    fn audit(&self) -> Fut<'_, Result<Audit>> {
        Box::pin(self.read(audit::audit))
    }

    fn runnable(&self, now: i64) -> Fut<'_, Result<u64>> {
        Box::pin(self.read(move |db| read::runnable(db, now)))
    }

    fn oldest(&self) -> Fut<'_, Result<Option<i64>>> {
        let partitions = self.options.partitions;
        Box::pin(self.read(move |db| read::oldest(db, partitions)))
    }

    fn ready(&self) -> Fut<'_, Result<()>> {
        Box::pin(async move { chores::write(self.writer()?, chores::probe).await })
    }
}
