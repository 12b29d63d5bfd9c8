//! What clients were promised, and dead letters: looking, cancelling, redriving, forgetting.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::{
    Cluster, Core, commit, decode, encode,
    mongo::{self, Saved},
    moved,
    open::Opened,
    redis::{Fault, arg, int, list, number, raw},
};
use crate::{
    address::Address,
    backend::{Dead, DeadFilter, DeadLetters, Fut, Lease, Lookup, Requests, Stored},
    envelope::Position,
    error::{Error, Result},
};

async fn lookup(core: &Core, position: Position) -> Result<Lookup> {
    let mut position = position;
    let (what, mut answer) = loop {
        // Results stay where they are, so there may be some in partitions that are no more.
        if position.partition() >= core.ever() {
            return Ok(Lookup::Unknown);
        }
        let answer = core.redis.look(position.partition(), "lookup", vec![number(position.number())]).await?;
        let mut answer = list(answer).into_iter();
        let what = answer.next().and_then(|what| what.into_string()).unwrap_or_default();
        if what != "moved" {
            break (what, answer);
        }
        let to = answer.next().and_then(|to| moved::place(&to));
        position = to.ok_or_else(|| Error::new(format!("where {position} has moved to cannot be read")))?;
    };
    let (found, attempts) = (answer.next(), answer.next().as_ref().map_or(0, int));
    let bytes = || found.clone().map(raw).unwrap_or_default();
    Ok(match what.as_str() {
        "result" => encode::request(&bytes()).map_or(Lookup::Expired, Lookup::Ended),
        "mailbox" => Lookup::Waiting(decode::fresh(position, &bytes(), attempts as u32)),
        "deferred" => Lookup::Waiting(decode::deferred(position, &bytes(), attempts)),
        "dead" => decode::dead(position, &bytes()).map_or(Lookup::Expired, |(dead, ..)| Lookup::Dead(dead)),
        "lost" => Lookup::Lost,
        _ => {
            let last = found.as_ref().map_or(0, int) as u64;
            if (1..=last).contains(&position.number()) { Lookup::Expired } else { Lookup::Unknown }
        }
    })
}

/// Cancels for the owner. Actors whose commits may be half done are claimed first. Stale, when an earlier owner has
/// written such an actor after this one opened it: its state in memory is not the saved one, and this owner does not
/// know which messages that commit has parked.
async fn cancel(core: &Core, lease: Lease, positions: Vec<Position>, now: i64) -> Result<Vec<bool>> {
    let place = &core.places[usize::from(lease.partition)];
    let mut unclaimed: HashSet<Address> = HashSet::new();
    for found in join_all(positions.iter().map(|position| lookup(core, *position))).await {
        let Lookup::Waiting(Stored { envelope: Ok(envelope), .. }) = found? else { continue };
        if core.stateful(envelope.to.kind()) && !place.claimed(lease.epoch, &envelope.to) {
            unclaimed.insert(envelope.to.clone());
        }
    }
    if !unclaimed.is_empty() {
        let unclaimed: Vec<Address> = unclaimed.into_iter().collect();
        let claimed = commit::claim(core, lease, &unclaimed).await?;
        let written = |(address, claimed): (&Address, &Opened)| place.is_behind(lease.epoch, address, claimed);
        if unclaimed.iter().zip(&claimed).any(written) {
            return Err(Fault::Stale.into());
        }
    }
    let _one = place.asking.lock().await;
    let mut args = vec![number(lease.epoch), number(place.next_call()), number(now), arg(encode::cancelled(now))];
    args.extend(positions.iter().map(|position| number(position.number())));
    let answers = list(core.known(lease.partition, "cancel", args).await?);
    let cancelled: Vec<bool> = answers.iter().map(|answer| int(answer) == 1).collect();
    // Whoever reads on from memory does not meet them.
    let gone = positions.iter().zip(&cancelled).filter(|(_, gone)| **gone).map(|(position, _)| position.number());
    place.tail.forget_some(gone.collect());
    Ok(cancelled)
}

/// Forgotten actors of one kind deleted at once.
const FORGET: i64 = 500;

impl Core {
    /// Deletes what is left of forgotten actors, in partitions that this node has owned for long: a late
    /// write of an earlier owner would meet nothing there, and would have to be as late as that.
    async fn forget(&self, now: i64) -> Result<()> {
        let long = self.options.forget;
        let settled = |partition: u16| self.places[usize::from(partition)].owned() >= long;
        if !(0..self.options.partitions).any(settled) {
            return Ok(());
        }
        let before = now.saturating_sub(long.as_millis().min(i64::MAX as u128) as i64);
        let kinds: Vec<String> =
            self.kinds.iter().filter(|kind| *kind.value()).map(|kind| kind.key().clone()).collect();
        for kind in kinds {
            let mut found = Vec::new();
            for saved in mongo::forgotten(&self.states, &kind, before, FORGET).await? {
                let address = Address::new(&kind, &saved.key)?;
                if settled(address.partition(self.options.partitions)) && self.is_done(&saved).await? {
                    found.push(saved);
                }
            }
            mongo::forget(&self.states, &kind, &found).await?;
        }
        Ok(())
    }

    /// Forgets what is over in a partition, some at a time: each call costs a bounded part of the server's time.
    async fn expire(&self, partition: u16, before: i64, now: i64) -> Result<usize> {
        let mut expired = 0;
        loop {
            let answer = match self.redis.call(partition, "expire", vec![number(before), number(now)]).await {
                Err(Fault::Cold) => {
                    self.warm(partition).await?;
                    continue;
                }
                answer => list(answer?),
            };
            let at = |index: usize| answer.get(index).map_or(0, int);
            expired += at(0) as usize;
            if at(1) == 0 || self.closed() {
                return Ok(expired);
            }
        }
    }

    /// Whether the commit that wrote a document is done in Redis too.
    async fn is_done(&self, saved: &Saved) -> Result<bool> {
        let Some((witness, _)) = &saved.redo else { return Ok(true) };
        Ok(!matches!(lookup(self, *witness).await?, Lookup::Waiting(_)))
    }
}

impl Requests for Cluster {
    fn lookup(&self, position: Position) -> Fut<'_, Result<Lookup>> {
        Box::pin(lookup(&self.core, position))
    }

    fn cancel_all(&self, lease: Lease, positions: Vec<Position>, now: i64) -> Fut<'_, Result<Vec<bool>>> {
        let core = self.core.clone();
        Box::pin(async move { self.run(async move { cancel(&core, lease, positions, now).await }).await? })
    }

    fn locate(&self, position: Position) -> Fut<'_, Result<Position>> {
        Box::pin(moved::locate(&self.core, position))
    }

    /// Each node forgets what is in the partitions it owns, and in those that are no more and would
    /// be these if they were counted anew.
    fn expire(&self, before: i64, now: i64) -> Fut<'_, Result<usize>> {
        Box::pin(async move {
            let (core, mut expired) = (&self.core, 0);
            for partition in 0..core.ever() {
                if core.places[usize::from(partition % core.options.partitions)].epoch() > 0 {
                    expired += core.expire(partition, before, now).await?;
                    moved::forget(core, partition).await?;
                }
            }
            core.forget(now).await?;
            Ok(expired)
        })
    }

    fn secret(&self) -> [u8; 32] {
        self.core.meta.secret
    }
}

/// A page of one partition's dead letters.
async fn page(core: &Core, partition: u16, after: u64, limit: usize) -> Result<Vec<(Dead, String, String)>> {
    let answer = list(core.redis.look(partition, "dead", vec![number(after), number(limit)]).await?);
    let one = |pair: &[fred::types::Value]| {
        decode::dead(Position::new(partition, int(&pair[0]) as u64), &raw(pair[1].clone()))
    };
    Ok(answer.chunks_exact(2).filter_map(one).collect())
}

async fn dead(core: &Core, filter: DeadFilter, after: Option<Position>, limit: usize) -> Result<Vec<Dead>> {
    const PAGE: usize = 256;
    let mut found = Vec::new();
    let first = filter.position.or(after).map_or(0, Position::partition);
    let last = filter.position.map_or(core.options.partitions.saturating_sub(1), Position::partition);
    for partition in first..=last.min(core.options.partitions.saturating_sub(1)) {
        let mut from = after.filter(|after| after.partition() == partition).map_or(0, Position::number);
        if let Some(only) = filter.position {
            from = from.max(only.number().saturating_sub(1));
        }
        loop {
            let letters = page(core, partition, from, PAGE).await?;
            let full = letters.len() == PAGE;
            from = letters.last().map_or(from, |(dead, ..)| dead.position.number());
            found.extend(letters.into_iter().filter_map(|(dead, kind, key)| {
                let wanted = filter.kind.as_ref().is_none_or(|wanted| *wanted == kind)
                    && filter.key.as_ref().is_none_or(|wanted| *wanted == key)
                    && filter.position.is_none_or(|wanted| wanted == dead.position);
                wanted.then_some(dead)
            }));
            if found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
            if !full || filter.position.is_some() {
                break;
            }
        }
    }
    Ok(found)
}

/// Positions by partition, without those of none.
fn by_partition(core: &Core, positions: Vec<Position>) -> Vec<(u16, Vec<u64>)> {
    let mut all = std::collections::BTreeMap::<u16, Vec<u64>>::new();
    for position in positions.into_iter().filter(|position| position.partition() < core.options.partitions) {
        all.entry(position.partition()).or_default().push(position.number());
    }
    all.into_iter().collect()
}

impl DeadLetters for Cluster {
    fn dead(&self, filter: DeadFilter, after: Option<Position>, limit: usize) -> Fut<'_, Result<Vec<Dead>>> {
        Box::pin(dead(&self.core, filter, after, limit))
    }

    fn redrive(&self, positions: Vec<Position>, now: i64) -> Fut<'_, Result<usize>> {
        Box::pin(async move {
            let moves = by_partition(&self.core, positions).into_iter().map(|(partition, numbers)| async move {
                let mut args = vec![number(self.core.me()), number(self.core.options.partitions), number(now)];
                args.extend(numbers.into_iter().map(number));
                let moved = int(&self.core.written(partition, "redrive", args).await?) as usize;
                self.core.places[usize::from(partition)].notify(false, moved > 0);
                Ok(moved)
            });
            join_all(moves).await.into_iter().sum()
        })
    }

    fn discard(&self, positions: Vec<Position>, now: i64) -> Fut<'_, Result<usize>> {
        Box::pin(async move {
            let discards = by_partition(&self.core, positions).into_iter().map(|(partition, numbers)| async move {
                let mut args = vec![number(self.core.options.partitions), number(now)];
                args.extend(numbers.into_iter().map(number));
                Ok(int(&self.core.written(partition, "discard", args).await?) as usize)
            });
            join_all(discards).await.into_iter().sum()
        })
    }
}
