//! Limits in Redis: buckets and permits are spread over sixteen prefixes, each with a task that calls one
//! function for whatever waits, and while that is on its way the next ones gather. So under load many
//! share a round trip, and where nobody waits nobody is held up.

use std::{collections::HashMap, sync::Arc};

use fred::types::Value;
use futures_util::future::try_join_all;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    Cluster, Core,
    redis::{Fault, int, list, number},
};
use crate::{
    backend::{
        Fut,
        limits::{Enter, Entered, Held, Limits, Measure, Name, Take, Taken},
    },
    error::{Error, Result},
};

/// How many prefixes there are: fixed, or a bucket would be another one.
pub(super) const SHARDS: usize = 16;
/// Most wishes in one call: about a millisecond of Redis.
const BATCH: usize = 256;
/// Names told of at once, before somebody who does not listen misses some.
const TOLD: usize = 1024;

/// A wish and who waits for it.
pub(super) struct Wish {
    take: Take,
    now: Option<i64>,
    reply: oneshot::Sender<Result<Taken, Fault>>,
}

/// The ways to the buckets.
pub(super) struct Ways {
    shards: Vec<mpsc::UnboundedSender<Wish>>,
    freed: broadcast::Sender<Name>,
}

impl Ways {
    /// The ways, and the end of each that [`serve`] serves.
    pub(super) fn new() -> (Self, Vec<mpsc::UnboundedReceiver<Wish>>) {
        let (shards, queues) = (0..SHARDS).map(|_| mpsc::unbounded_channel()).unzip();
        (Self { shards, freed: broadcast::Sender::new(TOLD) }, queues)
    }

    /// What another node said: a permit may have come free.
    pub(super) fn told(&self, name: &[u8]) {
        if let Some(name) = std::str::from_utf8(name).ok().and_then(Name::parse) {
            // Nobody may be listening.
            let _ = self.freed.send(name);
        }
    }
}

fn shard(name: Name) -> usize {
    name.spread() % SHARDS
}

/// The time as the functions take it.
fn time(now: Option<i64>) -> Value {
    now.map_or_else(|| number(""), number)
}

/// Serves the wishes of one prefix for ever.
pub(super) async fn serve(core: Arc<Core>, shard: usize, mut queue: mpsc::UnboundedReceiver<Wish>) {
    let mut wishes = Vec::new();
    while queue.recv_many(&mut wishes, BATCH).await > 0 {
        while let Some(now) = wishes.first().map(|wish| wish.now) {
            // Only tests give times, and so several.
            let same = wishes.iter().position(|wish| wish.now != now).unwrap_or(wishes.len());
            let rest = wishes.split_off(same);
            take(&core, shard, now, std::mem::replace(&mut wishes, rest)).await;
        }
    }
}

async fn take(core: &Core, shard: usize, now: Option<i64>, wishes: Vec<Wish>) {
    let mut args = Vec::with_capacity(1 + wishes.len() * 8);
    args.push(time(now));
    wishes.iter().for_each(|wish| push(&mut args, &wish.take));
    let answer = core.redis.limit(shard, "limit_take", args).await;
    let answer = answer.map(|answer| list(answer).iter().map(|n| int(n).max(0) as u64).collect::<Vec<_>>());
    for (index, wish) in wishes.into_iter().enumerate() {
        let taken =
            answer.as_ref().map_err(Clone::clone).and_then(|numbers| match numbers.get(index * 4..index * 4 + 4) {
                Some(&[given, wait, remaining, resets]) => Ok(Taken { given, wait, remaining, resets }),
                _ => Err(Fault::Unknown("it said nothing of a bucket".into())),
            });
        // Whoever asked may be gone: what was given to it is lost.
        let _ = wish.reply.send(taken);
    }
}

fn push(args: &mut Vec<Value>, take: &Take) {
    args.push(number(take.name));
    let (how, numbers) = match take.of {
        Measure::Rate(rate) => ("r", [rate.tokens(), rate.per(), rate.burst()]),
        Measure::Quota(quota) => ("q", [quota.most(), quota.window(), 0]),
    };
    args.push(Value::from_static_str(how));
    args.extend([take.cost, take.ahead, take.patience].into_iter().chain(numbers).map(number));
}

impl Limits for Cluster {
    fn take_tokens(&self, take: Take, now: Option<i64>) -> Fut<'_, Result<Taken>> {
        let (reply, answer) = oneshot::channel();
        // The way ends with the store; then the answer is dropped.
        let _ = self.core.limits.shards[shard(take.name)].send(Wish { take, now, reply });
        Box::pin(async move {
            let taken = answer.await.map_err(|_| Error::new("the store is closing").code("redis"))?;
            Ok(taken?)
        })
    }

    fn enter_permit(&self, enter: Enter, now: Option<i64>) -> Fut<'_, Result<Entered>> {
        let since = enter.since.map_or_else(|| number(""), number);
        let args = vec![
            time(now),
            number(enter.name),
            number(enter.holder),
            number(enter.most),
            number(enter.lease),
            since,
            number(enter.patience),
        ];
        Box::pin(async move {
            let answer = list(self.core.redis.limit(shard(enter.name), "limit_enter", args).await?);
            let at = |index: usize| answer.get(index).map_or(0, int);
            Ok(match at(0) {
                1 => Entered::In,
                _ => Entered::Wait { since: at(1), next: u64::try_from(at(2)).ok() },
            })
        })
    }

    fn renew_permits(&self, held: Vec<Held>, now: Option<i64>) -> Fut<'_, Result<Vec<bool>>> {
        let mut calls: HashMap<usize, (Vec<usize>, Vec<Value>)> = HashMap::new();
        let count = held.len();
        for (index, held) in held.into_iter().enumerate() {
            let (indexes, args) = calls.entry(shard(held.name)).or_insert_with(|| (Vec::new(), vec![time(now)]));
            indexes.push(index);
            args.extend([number(held.name), number(held.holder), number(held.lease)]);
        }
        Box::pin(async move {
            let calls = calls.into_iter().map(async |(shard, (indexes, args))| {
                let answer = list(self.core.redis.limit(shard, "limit_renew", args).await?);
                Ok::<_, Fault>(indexes.into_iter().zip(answer))
            });
            let mut still = vec![false; count];
            for (index, answer) in try_join_all(calls).await?.into_iter().flatten() {
                still[index] = int(&answer) == 1;
            }
            Ok(still)
        })
    }

    fn leave_permit(&self, name: Name, holder: String, now: Option<i64>) -> Fut<'_, Result<()>> {
        let args = vec![time(now), number(name), number(holder)];
        Box::pin(async move {
            self.core.redis.limit(shard(name), "limit_leave", args).await?;
            Ok(())
        })
    }

    fn permits_freed(&self) -> broadcast::Receiver<Name> {
        self.core.limits.freed.subscribe()
    }
}
