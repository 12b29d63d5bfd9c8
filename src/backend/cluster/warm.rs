//! Confirming a partition on a Redis that may have lost some of it: one that was killed before it had synced
//! its last second, a replica that was promoted, a backup, an empty server, the new home of a slot.
//!
//! Such a server answers `COLD` to every call and does nothing (`functions/warm.lua` has how it knows). The
//! node that meets it takes an epoch and a block of numbers from the partition's document in MongoDB
//! ([`partitions`](super::mongo::partitions)), which a majority keeps, and confirms the partition with them:
//!
//! * *Numbers.* Every number of the new era is above all that were ever reserved. So a message never has the
//!   number of a lost one: no document's witness names it, no request id of another client leads to it, and no
//!   reader's front is beyond it.
//! * *Epochs.* No answer of MongoDB is given twice. So no two owners have one epoch, and every document can be
//!   written by the next owner, whatever lease Redis remembers.
//! * *Sequences.* They begin anew in the new era. So what a receiver has seen of the last era is no reason to
//!   take a new parcel for one that it knows.
//! * *The owner* finds its epoch over at its next call, which its reader makes every few seconds at the latest,
//!   and takes the partition anew.
//! * *What was lost* is counted: every node tells which numbers it knows to have been accepted, and those between
//!   the last one there and the new block are remembered, so that `GET` of such an id says so. Of an era that is
//!   lost as a whole, its numbers begin where the node met them first, and not where the server's last era ended.
//!
//! What is not mended is what the server lost: messages that it had accepted are gone, and messages whose end it
//! lost run again, as far as their actor's document does not tell that they have.

use fred::types::Value;
use tracing::{error, warn};

use super::{
    Core,
    mongo::partitions::{self, Ask, Reserved},
    place::Known,
    redis::{Fault, Repeat, int, list, number},
    upgrade,
};

/// Numbers reserved at once. The functions let a call begin only while a quarter of it is left.
pub(super) const BLOCK: u64 = 1 << 22;
/// How often a call is made again for want of one of these.
const TRIES: usize = 4;

/// How a partition stands in Redis.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) cold: bool,
    pub(super) owner: u64,
    pub(super) token: String,
    pub(super) epoch: u64,
    last: u64,
    era: u64,
    /// How far it is on its way from format 1.
    pub(super) age: upgrade::Age,
}

impl Core {
    /// Calls a function that changes a partition, and answers when that is as durable as configured. Confirms the
    /// partition and reserves numbers where the function asks for it: then nothing of it had happened.
    pub(super) async fn written(&self, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        for _ in 0..TRIES {
            match self.durably(partition, function, args.clone()).await {
                Err(Fault::Cold) => self.warm(partition).await?,
                Err(Fault::Reserve) => self.extend(partition).await?,
                answer => return answer,
            }
        }
        Err(Fault::Refused(format!("partition {partition} could not be confirmed")))
    }

    /// The same, as it is asked for.
    async fn durably(&self, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let (lane, key) = (self.redis.lane(partition), self.redis.key(partition));
        self.redis.write(lane, &key, (function, args), Repeat::Once, &self.durable).await
    }

    /// The same, until the answer is known or has been lost several times: for functions that answer a call which
    /// comes again as they did before, or do nothing more.
    pub(super) async fn known(&self, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.known_by(partition, function, args, |_| {}).await
    }

    /// The same, of a call that is to say that it comes again.
    pub(super) async fn known_by(
        &self,
        partition: u16,
        function: &str,
        mut args: Vec<Value>,
        again: impl Fn(&mut [Value]),
    ) -> Result<Value, Fault> {
        let mut sends = 0;
        loop {
            sends += 1;
            match self.written(partition, function, args.clone()).await {
                Err(Fault::Unknown(why)) if sends < TRIES && !self.closed() => {
                    warn!(partition, function, why, "it is not known whether this happened, asking again");
                    again(&mut args);
                }
                answer => return answer,
            }
        }
    }

    /// How a partition stands.
    pub(super) async fn standing(&self, partition: u16) -> Result<Standing, Fault> {
        let answer = list(self.redis.call(partition, "peek", Vec::new()).await?);
        let at = |index: usize| answer.get(index).map_or(0, int) as u64;
        let token = answer.get(2).and_then(|token| token.as_string()).unwrap_or_default();
        Ok(Standing { cold: at(0) == 1, owner: at(1), token, epoch: at(3), last: at(4), era: at(6), age: at(7).into() })
    }

    /// Takes an epoch, and numbers where there are few left or they begin anew.
    pub(super) async fn reserve(&self, partition: u16, standing: &Standing) -> Result<Reserved, Fault> {
        let known = self.places[usize::from(partition)].known();
        let ask = Ask {
            at_least_epoch: standing.epoch,
            at_least_number: standing.last.max(if standing.cold { known.last } else { 0 }),
            at_least_era: standing.era.max(known.era),
            block: BLOCK,
            new_era: standing.cold,
        };
        // A reservation that is not known to have been made is made again: that skips numbers.
        partitions::reserve(&self.states, partition, ask).await.map_err(|error| Fault::Refused(error.to_string()))
    }

    /// Confirms a partition, unless another node just has: on the store's threads, whichever thread asks for it.
    pub(super) async fn warm(&self, partition: u16) -> Result<(), Fault> {
        let closing = || Fault::Refused("the store is closing".into());
        let core = self.this.upgrade().ok_or_else(closing)?;
        let warming = self.runtime.spawn(async move { core.warm_here(partition).await });
        warming.await.map_err(|_| closing())?
    }

    async fn warm_here(&self, partition: u16) -> Result<(), Fault> {
        let place = &self.places[usize::from(partition)];
        let _one = place.warming.lock().await;
        for _ in 0..TRIES {
            let standing = self.standing(partition).await?;
            if !standing.cold {
                // Another node was faster, and knows what it knows.
                let known = place.known();
                if known.era < standing.era && known.last > 0 {
                    self.report(partition, known).await;
                }
                return Ok(());
            }
            if upgrade::seal(self, partition, standing.age).await? {
                continue;
            }
            let reserved = self.reserve(partition, &standing).await?;
            if self.confirm(partition, place.known(), reserved).await? {
                return Ok(());
            }
        }
        Err(Fault::Refused(format!("partition {partition} could not be confirmed")))
    }

    /// Tells a partition that is confirmed what this node knows of the era before.
    pub(super) async fn report(&self, partition: u16, known: Known) {
        let nothing = Reserved { epoch: 0, base: 0, limit: 0, era: 0 };
        if let Err(fault) = self.confirm(partition, known, nothing).await {
            warn!(partition, %fault, number = known.last, "what may be lost up to this number could not be told");
        }
    }

    async fn confirm(&self, partition: u16, known: Known, reserved: Reserved) -> Result<bool, Fault> {
        let Reserved { epoch, base, limit, era } = reserved;
        let args = [epoch, era, base, limit, known.last, known.era, known.first].map(number).into();
        let answer: Vec<i64> = list(self.durably(partition, "warm", args).await?).iter().map(int).collect();
        let &[era, first, last, lost, newest, ..] = answer.as_slice() else { return Ok(false) };
        if era < 0 {
            return Ok(false);
        }
        if first > 0 && lost > 0 {
            error!(
                partition,
                era,
                lost,
                first,
                newest,
                "Redis has lost messages that were accepted: these numbers at least. What is accepted from now on has \
                 numbers above {last}"
            );
        } else if first > 0 {
            warn!(partition, era, "Redis may have lost what it had not synced: numbers go on above {last}");
        }
        Ok(true)
    }

    /// Reserves more numbers.
    async fn extend(&self, partition: u16) -> Result<(), Fault> {
        let standing = self.standing(partition).await?;
        let reserved = self.reserve(partition, &Standing { cold: false, ..standing }).await?;
        match self.redis.call(partition, "extend", vec![number(reserved.limit)]).await {
            // The next call confirms it first.
            Ok(_) | Err(Fault::Cold) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}
