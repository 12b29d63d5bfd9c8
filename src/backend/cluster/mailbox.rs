//! The mailbox as its owner reads it: from memory when it was accepted here, from Redis otherwise.

use std::{collections::HashSet, sync::Arc};

use fred::types::Value;

use super::{
    Cluster, Core, append, decode,
    pack::Packer,
    redis::{Fault, Repeat, arg, int, list, number},
};
use crate::{
    address::Address,
    backend::{Append, Appended, Due, Fut, Mailbox, Moment, NotAppended, Signals, Stored},
    envelope::Position,
    error::Result,
};

/// Bytes read at once.
const PAGE: u64 = 4 << 20;

impl Core {
    /// Reads what an owner is going to act on: what was read is as durable as configured then, whoever put it there
    /// and whatever became of that call. Else a state could hold the effect of a message that its server loses, and
    /// that its client, who was not told that it was accepted, sends again.
    pub(super) async fn look_durably(&self, partition: u16, name: &str, args: Vec<Value>) -> Result<Value, Fault> {
        if self.durable.wait().is_none() {
            return self.redis.look(partition, name, args).await;
        }
        let (lane, key) = (self.redis.lane(partition), self.redis.key(partition));
        self.redis.write(lane, &key, (name, args), Repeat::Safe, &self.durable).await
    }

    /// Messages in a mailbox after a number, up to another one. Where this node owns the partition, the lease is
    /// looked at too: an owner that has nothing to do finds so that it is one no more.
    pub(super) async fn letters(
        &self,
        partition: u16,
        after: u64,
        to: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Stored>> {
        let place = &self.places[usize::from(partition)];
        let epoch = place.epoch();
        let owner = if epoch == 0 { String::new() } else { epoch.to_string() };
        let to = to.map_or_else(String::new, |to| to.to_string());
        let args = vec![number(owner), number(after), number(to), number(limit), number(PAGE)];
        let found = match self.look_durably(partition, "read", args).await {
            Err(Fault::Cold) => {
                self.warm(partition).await?;
                return Err(Fault::Stale.into());
            }
            found => list(found?),
        };
        Ok(decode::letters(partition, &found, |number| place.attempts(number)))
    }
}

impl Mailbox for Cluster {
    fn partitions(&self) -> u16 {
        self.core.options.partitions
    }

    fn append(&self, batch: Vec<Append>) -> Fut<'_, Vec<Result<Appended, NotAppended>>> {
        let waiting: Vec<_> = batch.into_iter().map(|append| append::queue(&self.core, append)).collect();
        Box::pin(async move {
            let mut answers = Vec::with_capacity(waiting.len());
            for answer in waiting {
                let closing = || Err(NotAppended::Unavailable("the store is closing".into()));
                answers.push(match answer {
                    Ok(answer) => answer.await.unwrap_or_else(|_| closing()),
                    Err(why) => Err(NotAppended::Unavailable(why)),
                });
            }
            answers
        })
    }

    fn read(&self, partition: u16, after: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        let place = &self.core.places[usize::from(partition)];
        if let Some(mut found) = place.tail.take(after, limit) {
            for stored in &mut found {
                stored.attempts = place.attempts(stored.position.number());
            }
            return Box::pin(std::future::ready(Ok(found)));
        }
        Box::pin(async move { self.core.letters(partition, after.number(), None, limit).await })
    }

    fn reread(&self, partition: u16, from: Position, to: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        let after = from.number().saturating_sub(1);
        Box::pin(async move { self.core.letters(partition, after, Some(to.number()), limit).await })
    }

    fn signals(&self, partition: u16) -> Arc<Signals> {
        self.core.places[usize::from(partition)].signals()
    }

    fn due(
        &self,
        partition: u16,
        now: i64,
        from: Option<Moment>,
        handed: HashSet<Position>,
        limit: usize,
    ) -> Fut<'_, Result<Due>> {
        Box::pin(async move {
            let mut packer = Packer::default();
            packer.array(handed.len());
            for position in handed {
                packer.int(position.number() as i64);
            }
            let mut args = vec![number(now), number(limit), arg(packer.done())];
            if let Some(from) = from {
                args.extend([number(from.due), arg(decode::tied(from.tie))]);
            }
            let answer = list(self.core.look_durably(partition, "due", args).await?);
            let next = answer.first().map(int).filter(|next| *next >= 0);
            Ok(Due { messages: decode::deferreds(partition, answer.get(1..).unwrap_or_default()), next })
        })
    }

    fn moment(&self, stored: &Stored) -> Moment {
        Moment { due: stored.due, tie: decode::tie(stored.position.number()) }
    }

    fn parked(&self, address: &Address, from: Position, limit: usize) -> Fut<'_, Result<Vec<Stored>>> {
        let partition = address.partition(self.core.options.partitions);
        let args = vec![arg(format!("{}/{}", address.kind(), address.key())), number(from.number()), number(limit)];
        Box::pin(async move {
            let answer = list(self.core.look_durably(partition, "parked", args).await?);
            Ok(decode::deferreds(partition, &answer))
        })
    }

    fn blocked(&self, partition: u16, after: Option<Address>, limit: usize) -> Fut<'_, Result<Vec<Address>>> {
        let after = after.map(|address| format!("{}/{}", address.kind(), address.key())).unwrap_or_default();
        Box::pin(async move {
            let answer = list(self.core.redis.look(partition, "blocked", vec![arg(after), number(limit)]).await?);
            answer.into_iter().filter_map(|address| address.into_string()).map(|address| address.parse()).collect()
        })
    }
}
